"""Fold what belongs to a conversation as a whole: surroundings, runs, totals, and what is only counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from domain.sessions import observations as seen_
from domain.sessions.observations import Seen
from projections.sessions import calls, turns
from projections.sessions.merge import PICO_MAX, bounded, ident, larger, newest, short, smaller, summed
from projections.sessions.process import fold_process
from projections.sessions.tables import TALLY, TallyRow
from projections.sessions.work import Work

ONE_EACH: dict[type, str] = {
    seen_.PermissionRequested: "permission_request",
    seen_.ModelSwitched: "model_switch",
    seen_.ModelFailed: "model_failure",
}
METRIC_COST = "metric_cost_pico_usd"


def tally_of(seen: Seen) -> tuple[str, str | None, int] | None:
    """Name, phase (None: the fact's channel) and amount of what is only counted."""
    if (name := ONE_EACH.get(type(seen))) is not None:
        return name, None, 1
    match seen:
        case seen_.Compacted(phase=phase):
            return "compaction", short(phase), 1
        case seen_.Counted(what=what, amount=amount) if what != METRIC_COST:
            return ident(what), None, bounded(amount) or 0
        case seen_.Unknown(kind=kind):
            return ident(f"unknown:{kind}"), None, 1
        case _:
            return None


def _source(work: Work, seen: seen_.SourceSeen) -> None:
    llm, at = work.llm, work.at(seen.at)
    if seen.agent_version is not None:
        newest(llm, "agent_version", seen.agent_version, at)
    if seen.permission_mode is not None:
        newest(llm, "permission_mode", seen.permission_mode, at)
    if seen.model is not None and seen.agent_id is None:
        newest(llm, "model", seen.model, at)
        if seen.prompt_id is not None:
            turns.note_model(work, seen.prompt_id, seen.model, at)
    if seen.branch is not None:
        work.moved |= newest(llm, "branch", seen.branch, at)
    if seen.entrypoint is not None:
        llm.entrypoint = larger(llm.entrypoint, short(seen.entrypoint))
    if seen.team is not None:
        llm.team = larger(llm.team, short(seen.team))


def _run_started(work: Work, seen: seen_.RunStarted) -> None:
    llm, at = work.llm, work.at(seen.at)
    llm.runs += not seen.stand_in and seen.source != "compact"
    llm.started_at = smaller(llm.started_at, at)
    llm.last_work_at = larger(llm.last_work_at, at)
    newest(llm, "model", seen.model, at)
    work.changed = True


def _run_ended(work: Work, seen: seen_.RunEnded) -> None:
    llm, at = work.llm, work.at(seen.at)
    if llm.ended_at is None or at > llm.ended_at:
        llm.ended_at, llm.end_reason = at, short(seen.reason)
    elif at == llm.ended_at:
        llm.end_reason = larger(llm.end_reason, short(seen.reason))
    work.changed = True


def _model_failed(work: Work, seen: seen_.ModelFailed) -> None:
    llm, at = work.llm, work.at(seen.at)
    if llm.last_error_at is None or at > llm.last_error_at:
        llm.last_error_at, llm.last_error = at, short(seen.error)
    elif at == llm.last_error_at:
        llm.last_error = larger(llm.last_error, short(seen.error))
    work.changed = True
    _tally(work, seen)


def _model_switched(work: Work, seen: seen_.ModelSwitched) -> None:
    newest(work.llm, "model", seen.to_model, work.at(seen.at))
    _tally(work, seen)


def _tool_called(work: Work, seen: seen_.ToolCalled) -> None:
    calls.fold_tool_call(work, seen)
    if seen.agent_id is not None:
        row = turns.subagent(work, seen.agent_id)
        if not row.real:
            turns.put_subagent(work, row, real=True)


def _lines(work: Work, seen: seen_.LinesChanged) -> None:
    llm = work.llm
    llm.metric_lines_added = summed(llm.metric_lines_added, bounded(seen.added))
    llm.metric_lines_removed = summed(llm.metric_lines_removed, bounded(seen.removed))
    llm.metric_lines_told = True


def _counted(work: Work, seen: seen_.Counted) -> None:
    if seen.what == METRIC_COST:
        cost = bounded(seen.amount, PICO_MAX)
        work.llm.metric_cost_pico_usd = summed(work.llm.metric_cost_pico_usd, cost)
    else:
        _tally(work, seen)


def _totals(work: Work, seen: seen_.TotalsStated) -> None:
    """The newest statement counts; it is cumulative, so of two at one time the larger is the newer."""
    llm, at = work.llm, work.at(seen.at)
    cost = bounded(seen.cost_pico_usd, PICO_MAX) or 0
    if llm.stated_at is not None and (at, cost) < (llm.stated_at, llm.stated_cost_pico_usd or 0):
        return
    llm.stated_at, llm.stated_cost_pico_usd = at, cost
    llm.stated_lines_added, llm.stated_lines_removed = bounded(seen.lines_added), bounded(seen.lines_removed)
    llm.stated_api_ms, llm.stated_tool_ms = bounded(seen.api_ms), bounded(seen.tool_ms)
    llm.stated_unknown_model = seen.unknown_model_cost


def _tally(work: Work, seen: Any) -> None:
    if (counted := tally_of(seen)) is None:
        return
    name, phase, amount = counted
    key = (work.org, work.lid, name, phase or work.channel)
    row = work.rows.get(TALLY, key) or TallyRow(*key)
    row.n = summed(row.n, amount)
    work.rows.put(TALLY, row)


HANDLERS: dict[type, Callable[[Work, Any], None]] = {
    seen_.SourceSeen: _source,
    seen_.RunStarted: _run_started,
    seen_.RunEnded: _run_ended,
    seen_.TurnEnded: turns.fold_turn,
    seen_.ModelFailed: _model_failed,
    seen_.ToolCalled: _tool_called,
    seen_.PermissionRequested: _tally,
    seen_.PermissionDecided: calls.fold_decision,
    seen_.SubagentStarted: turns.fold_subagent_start,
    seen_.SubagentEnded: turns.fold_subagent_end,
    seen_.Compacted: _tally,
    seen_.ModelSwitched: _model_switched,
    seen_.LinesChanged: _lines,
    seen_.Counted: _counted,
    seen_.TotalsStated: _totals,
    seen_.ProcessMeasured: fold_process,
    seen_.Unknown: _tally,
}
