"""From rows and sums to answers.  Pure: what the queries loaded goes in, what the API shows comes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from projections.sessions.merge import smaller
from projections.sessions.process import use_of
from projections.sessions.reconcile import PRICED, TELEMETRY, add_costs, add_lines, cost_of, lines_of
from projections.sessions.tables import LlmSessionRow, SessionRow, SubagentRow
from projections.sessions.totals import CallTotals, micros, plus, tokens_of
from schemas.sessions import (
    Cost,
    Happenings,
    LlmSessionDetail,
    ModelTotals,
    SessionDetail,
    SessionLive,
    SessionSummary,
    SubagentDetail,
    ToolTotals,
    TreeNode,
)

UNKNOWN = "unknown:"
SUBAGENT_DEPTH_MAX = 32


class Parts(msgspec.Struct):
    """What lies below some sessions, by conversation id (`llms`: by session id)."""

    llms: dict[str, list[LlmSessionRow]] = {}
    ids: list[str] = []
    totals: dict[str, list[CallTotals]] = {}
    tallies: dict[str, dict[str, int]] = {}
    titles: dict[str, str] = {}
    tools: dict[str, list[dict[str, Any]]] = {}
    subagents: dict[str, list[SubagentRow]] = {}
    parents: dict[tuple[str, str], str] = {}
    switches: dict[str, int] = {}  # changes of model seen between calls: not every agent tells of them


def happenings(llm: LlmSessionRow, parts: Parts) -> Happenings:
    """Counts of one conversation; stand-ins count only where nothing else tells of their kind."""
    tally = parts.tallies.get(llm.llm_session_id, {})
    prompts, tools = llm.prompts > 0, llm.tool_calls > 0
    turns = llm.turns > 0
    return Happenings(
        prompts=llm.prompts if prompts else llm.stand_in_prompts,
        turns=llm.turns if turns else llm.stand_in_turns,
        failed_turns=llm.failed_turns if turns else llm.stand_in_failed_turns,
        tool_calls=llm.tool_calls if tools else llm.stand_in_tool_calls,
        tool_failures=llm.tool_failures if tools else llm.stand_in_tool_failures,
        tool_denials=llm.tool_denials if tools else llm.stand_in_tool_denials,
        model_calls=sum(sums.calls for sums in parts.totals.get(llm.llm_session_id, ())),
        model_failures=tally.get("model_failure", 0),
        permission_requests=tally.get("permission_request", 0),
        compactions=tally.get("compaction", 0),
        model_switches=max(tally.get("model_switch", 0), parts.switches.get(llm.llm_session_id, 0)),
        subagents=llm.subagents,
        runs=llm.runs or tally.get("runs") or 1,
        commits=tally.get("commits", 0),
        pull_requests=tally.get("pull_requests", 0),
        active_ms=tally.get("active_ms", 0),
    )


def add_happenings(parts: Sequence[Happenings]) -> Happenings:
    """Counts of several conversations."""
    if len(parts) == 1:
        return parts[0]
    return Happenings(**{name: sum(getattr(part, name) for part in parts) for name in Happenings.__struct_fields__})


def status_of(llm: LlmSessionRow, session: SessionRow) -> tuple[str, str]:
    """A conversation that never said goodbye shares the fate of its session."""
    if llm.status == "active" and session.status != "active":
        return session.status, session.status_rule
    return llm.status, llm.status_rule


def summary(session: SessionRow, parts: Parts) -> SessionSummary:
    """One line of the list."""
    llms = parts.llms.get(session.session_id, [])
    sums = [total for llm in llms for total in parts.totals.get(llm.llm_session_id, ())]
    cost = add_costs([cost_of(llm, parts.totals.get(llm.llm_session_id, [])) for llm in llms])
    return SessionSummary(
        id=session.session_id,
        kind=session.kind,
        agent=session.agent,
        status=session.status,
        status_rule=session.status_rule,
        outcome=session.outcome,
        outcome_rule=session.outcome_rule,
        title=next((parts.titles[llm.llm_session_id] for llm in llms if llm.llm_session_id in parts.titles), None),
        person_id=session.person_id,
        repo=session.repo,
        branch=session.branch,
        commit=session.commit_hash,
        project=session.project,
        models=models_of(sums),
        started_at=smaller(session.started_at, session.first_activity_at),
        last_activity_at=session.last_activity_at,
        duration_ms=_milliseconds(session.first_activity_at, session.last_activity_at) or 0,
        counts=add_happenings([happenings(llm, parts) for llm in llms]),
        tokens=tokens_of(sums),
        cost_usd_micros=cost.cost_usd_micros,
        cost_source=cost.source,
        cost_complete=cost.complete,
        cost_verdict=cost.reconciliation.verdict,
        lines=add_lines([lines_of(llm) for llm in llms]),
        llm_sessions=len(llms),
    )


def detail(session: SessionRow, parts: Parts) -> SessionDetail:
    """Everything about one session."""
    llms = [llm_detail(llm, session, parts) for llm in parts.llms.get(session.session_id, ())]
    return SessionDetail(
        session=summary(session, parts),
        cost=add_costs([llm.cost for llm in llms]) if llms else Cost(),
        llm_sessions=llms,
    )


def llm_detail(llm: LlmSessionRow, session: SessionRow, parts: Parts) -> LlmSessionDetail:
    """Everything about one conversation."""
    key = llm.llm_session_id
    sums = parts.totals.get(key, [])
    status, status_rule = status_of(llm, session)
    ended = llm.status == "ended"
    cost = cost_of(llm, sums)
    return LlmSessionDetail(
        id=key,
        session_id=llm.session_id,
        agent=llm.agent,
        agent_version=llm.agent_version,
        entrypoint=llm.entrypoint,
        permission_mode=llm.permission_mode,
        model=llm.model,
        models=models_of(sums),
        team=llm.team,
        forked_from=llm.forked_from,
        status=status,
        status_rule=status_rule,
        outcome=llm.outcome if ended else session.outcome,
        outcome_rule=llm.outcome_rule if ended else session.outcome_rule,
        person_id=llm.person_id,
        repo=llm.repo,
        branch=llm.branch,
        commit=llm.commit_hash,
        project=llm.project,
        started_at=smaller(llm.started_at, llm.acted_first_at or llm.seen_first_at),
        ended_at=llm.ended_at if ended else None,
        last_activity_at=llm.acted_last_at or llm.seen_last_at,
        counts=happenings(llm, parts),
        tokens=tokens_of(sums),
        cost=cost,
        lines=lines_of(llm),
        tools=tools_of(parts.tools.get(key, ())),
        by_model=by_model(sums),
        subagents=[subagent(row, status, parts, cost.source) for row in parts.subagents.get(key, ())],
        facts={"hook": llm.hook_facts, "telemetry": llm.telemetry_facts, "transcript": llm.transcript_facts},
        unknown_kinds={
            name.removeprefix(UNKNOWN): n for name, n in parts.tallies.get(key, {}).items() if name.startswith(UNKNOWN)
        },
        clock_skew_ms=llm.clock_skew_ms,
        process=use_of(parts.tallies.get(key, {})),
    )


def subagent(row: SubagentRow, session_status: str, parts: Parts, source: str | None = None) -> SubagentDetail:
    """A subagent with its own totals; one that still runs when its session is over is unfinished.

    `source` says where the cost of its conversation is from.
    """
    sums = [total for total in parts.totals.get(row.llm_session_id, ()) if total.agent_id == row.agent_id]
    tools = [tool for tool in parts.tools.get(row.llm_session_id, ()) if tool["agent_id"] == row.agent_id]
    running = row.status == "running"
    return SubagentDetail(
        agent_id=row.agent_id,
        agent_type=row.agent_type,
        status="unfinished" if running and session_status != "active" else row.status,
        background=row.background,
        parent_tool_use_id=row.parent_tool_use_id,
        model=next((total.model for total in sums if total.model), None) or row.model,  # a name told may be an alias
        started_at=row.started_at,
        ended_at=row.ended_at,
        duration_ms=row.told_duration_ms
        if row.told_duration_ms is not None
        else _milliseconds(row.started_at, row.ended_at),
        model_calls=sum(total.calls for total in sums),
        tool_calls=sum(tool["calls"] for tool in tools),
        tool_failures=sum(tool["failed"] for tool in tools),
        tokens=tokens_of(sums),
        cost_usd_micros=_cost(sums, source),
    )


def _cost(sums: Iterable[CallTotals], source: str | None) -> int | None:
    """What part of a conversation cost by the `source` that the conversation's cost is from, where that tells all of it.

    Where that one tells no single calls: as reported where all of it is, else by our prices where all of it is.
    """
    reported: int | None = None
    priced: int | None = None
    unreported = unpriced = 0
    for total in sums:
        reported, priced = plus(reported, total.reported), plus(priced, total.priced)
        unreported, unpriced = unreported + total.unreported, unpriced + total.unpriced
    if source != PRICED and reported is not None and not unreported:
        return micros(reported)
    return None if unpriced or source == TELEMETRY else micros(priced)


def tools_of(found: Iterable[dict[str, Any]]) -> list[ToolTotals]:
    """Calls by tool, over all agents of a conversation; most used first."""
    sums: dict[str, ToolTotals] = {}
    for tool in found:
        name = tool["name"]
        old = sums.get(name) or ToolTotals(name, 0)
        sums[name] = ToolTotals(
            name,
            old.calls + tool["calls"],
            old.failed + tool["failed"],
            old.denied + tool["denied"],
            old.unfinished + tool["unfinished"],
            old.duration_ms + tool["duration_ms"],
            tool["mcp_server"] or old.mcp_server,
        )
    return sorted(sums.values(), key=lambda tool: (-tool.calls, tool.name))


def by_model(sums: Sequence[CallTotals]) -> list[ModelTotals]:
    """Calls by model, over all agents of a conversation; most used first."""
    found: list[ModelTotals] = []
    for model in {total.model for total in sums}:
        mine = [total for total in sums if total.model == model]
        reported: int | None = None
        priced: int | None = None
        for total in mine:
            reported, priced = plus(reported, total.reported), plus(priced, total.priced)
        found.append(
            ModelTotals(
                model,
                sum(total.calls for total in mine),
                tokens_of(mine),
                micros(reported),
                micros(priced),
                sum(total.unpriced for total in mine),
            )
        )
    return sorted(found, key=lambda entry: (-entry.calls, entry.model or ""))


def models_of(sums: Iterable[CallTotals]) -> list[str]:
    """The models used, by name."""
    return sorted({total.model for total in sums if total.model is not None})


def tree(session: SessionRow, parts: Parts) -> TreeNode:
    """Session, conversations, subagents; a subagent started by a subagent stands below it."""
    return tree_of(detail(session, parts), parts)


def tree_of(shown: SessionDetail, parts: Parts) -> TreeNode:
    """The tree of a session that `detail` assembled from the same parts."""
    nodes = [
        TreeNode(
            kind="llm_session",
            id=llm.id,
            label=llm.agent,
            status=llm.status,
            model_calls=llm.counts.model_calls,
            tool_calls=llm.counts.tool_calls,
            tokens=llm.tokens,
            cost_usd_micros=llm.cost.cost_usd_micros,
            children=_below(llm, None, parts, 0),
        )
        for llm in shown.llm_sessions
    ]
    top = shown.session
    return TreeNode(
        kind="session",
        id=top.id,
        label=top.title,
        status=top.status,
        model_calls=top.counts.model_calls,
        tool_calls=top.counts.tool_calls,
        tokens=top.tokens,
        cost_usd_micros=top.cost_usd_micros,
        children=nodes,
    )


def _below(llm: LlmSessionDetail, parent: str | None, parts: Parts, depth: int) -> list[TreeNode]:
    known = {entry.agent_id for entry in llm.subagents}
    found: list[TreeNode] = []
    for entry in llm.subagents:
        above = parts.parents.get((llm.id, entry.agent_id))
        if (above if above in known and above != entry.agent_id else None) != parent:
            continue
        found.append(
            TreeNode(
                kind="subagent_session",
                id=entry.agent_id,
                label=entry.agent_type,
                status=entry.status,
                model_calls=entry.model_calls,
                tool_calls=entry.tool_calls,
                tokens=entry.tokens,
                cost_usd_micros=entry.cost_usd_micros,
                children=_below(llm, entry.agent_id, parts, depth + 1) if depth < SUBAGENT_DEPTH_MAX else [],
            )
        )
    return found


def live(session: SessionRow, parts: Parts, running_tools: list[str]) -> SessionLive:
    """What a session is doing now."""
    shown = summary(session, parts)
    llms = parts.llms.get(session.session_id, [])
    active = session.status == "active"
    running = [row for llm in llms for row in parts.subagents.get(llm.llm_session_id, ()) if row.status == "running"]
    return SessionLive(
        id=session.session_id,
        status=session.status,
        turn_state=session.turn_state,
        last_activity_at=session.last_activity_at,
        counts=shown.counts,
        tokens=shown.tokens,
        cost_usd_micros=shown.cost_usd_micros,
        running_tools=running_tools,
        running_subagents=len(running) if active else 0,
        position=max((llm.last_position for llm in llms), default=session.last_position),
    )


def _milliseconds(start: datetime | None, end: datetime | None) -> int | None:
    if start is None or end is None:
        return None
    return max(0, round((end - start).total_seconds() * 1000))
