"""From facts to rows: `build` makes the projection.  What is merged how: calls.py, turns.py, settle.py and tables.py.

One fact touches its conversation and crewkit session and the rows of the ids it names, nothing else: totals that a row of
another session could move (tokens, money, subagents' own totals) are summed when they are read (totals.py), so a call that
changes its owner needs no correction anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from importlib.resources import files
from typing import Any, TypeAlias

import msgspec

from domain.organizations.events import SubjectShredded
from domain.sessions import observations as seen_
from domain.sessions.events import (
    ChannelFact,
    HookRecorded,
    SessionEnded,
    SessionReset,
    SessionStarted,
    SessionTimedOut,
    TelemetryRecorded,
    TranscriptRecorded,
)
from domain.sessions.observations import Seen
from eventstore.port import Recorded
from projections.base import Key, Projection, Rows, Services, Table
from projections.sessions import calls, process, turns
from projections.sessions.calls import Pricing
from projections.sessions.life import fold_life
from projections.sessions.merge import ident, larger, newest, short, smaller
from projections.sessions.notes import HANDLERS, tally_of
from projections.sessions.settle import settle_llm, settle_session, take_state
from projections.sessions.tables import (
    LLM_SESSION,
    MODEL_CALL,
    MODEL_CALL_ALIAS,
    PROMPT,
    SESSION,
    SUBAGENT,
    TABLES,
    TALLY,
    TOOL_CALL,
    LlmSessionRow,
    SessionRow,
)
from projections.sessions.work import HOOK, TELEMETRY, TRANSCRIPT, Work

Touch: TypeAlias = tuple[Table[Any], Key]
Observe: TypeAlias = Callable[[ChannelFact], list[Seen]]
Open: TypeAlias = Callable[[Recorded], dict[str, Any] | None]

VERSION = 6
MEMO_EVENTS_MAX = 8_192  # readings kept between `touches` and `fold`; more only costs reading again
CHANNELS: dict[type, str] = {HookRecorded: HOOK, TelemetryRecorded: TELEMETRY, TranscriptRecorded: TRANSCRIPT}
# Surroundings and totals are no activity: lines without a time (cost-state, a subagent's meta) carry that of their import.
QUIET = frozenset(
    {
        seen_.SourceSeen,
        seen_.TotalsStated,
        seen_.TitleGiven,
        seen_.Unknown,
        seen_.Counted,
        seen_.LinesChanged,
        seen_.SubagentStarted,
        seen_.SubagentEnded,
    }
)
LIFE = (SessionStarted, SessionEnded, SessionTimedOut, SessionReset)

# As if the texts had never been opened, which is what a rebuild finds.
ERASE = """
UPDATE crewkit.prompt__g{g} SET text = NULL, text_rank = 0 WHERE org_id = $1 AND person_id = $2 AND text IS NOT NULL
"""


def untold(_: Recorded) -> dict[str, Any] | None:
    """Open nothing: titles and prompt texts stay unknown."""
    return None


class SessionsFold:
    """`touches` and `fold` of the sessions projection; keeps a bounded memo so that a fact is read once for both."""

    __slots__ = ("_memo", "_observe", "_open", "_pricing")

    def __init__(self, observe: Observe, pricing: Pricing, open_text: Open) -> None:
        self._observe = observe
        self._pricing = pricing
        self._open = open_text
        self._memo: dict[int, tuple[Recorded, list[Seen]]] = {}

    def touches(self, recorded: Recorded) -> list[Touch]:
        """Every row that the fold of this event may get."""
        event: Any = recorded.event
        org = recorded.org_id
        if type(event) not in CHANNELS:  # quicker than isinstance, which asks the metaclass
            return [(SESSION, (org, ident(event.session_id)))] if isinstance(event, LIFE) else []
        lid = ident(event.llm_session_id)
        own = (org, lid)
        found: list[Touch] = [(LLM_SESSION, own), (SESSION, own)]
        work_id = event.context.work_id
        if work_id and work_id != lid:
            found.append((SESSION, (org, ident(work_id))))
        told = self._observe(event)
        if len(self._memo) >= MEMO_EVENTS_MAX:
            self._memo.clear()
        self._memo[recorded.position] = (recorded, told)
        for seen in told:
            if (touch := TOUCHES.get(type(seen))) is not None:
                touch(found, seen, recorded, lid)
        return found

    def fold(self, rows: Rows, recorded: Recorded) -> None:
        """Apply one event; one at or below the conversation's last position changes nothing."""
        event: Any = recorded.event
        if type(event) in CHANNELS:
            read = self._memo.pop(recorded.position, None)
            told = read[1] if read is not None and read[0] is recorded else self._observe(event)
            self._fold_fact(rows, recorded, event, told)
        elif isinstance(event, LIFE):
            fold_life(rows, recorded, event)

    def _fold_fact(self, rows: Rows, recorded: Recorded, fact: ChannelFact, told: list[Seen]) -> None:
        org, lid, position = recorded.org_id, ident(fact.llm_session_id), recorded.position
        llm = rows.get(LLM_SESSION, (org, lid))
        if llm is None:
            llm = LlmSessionRow(org, lid, "", short(fact.agent) or "unknown")
        elif position <= llm.last_position:
            return
        llm.last_position = position
        channel = CHANNELS.get(type(fact), TELEMETRY)
        work = Work(rows, recorded, fact, llm, channel)
        _take_fact(work)
        first: datetime | None = None
        last: datetime | None = None
        if channel == HOOK:
            llm.hook_facts += 1
            first = last = work.now
        elif channel == TELEMETRY:
            llm.telemetry_facts += 1
        else:
            llm.transcript_facts += 1
        for one in told:
            kind = type(one)
            if (handler := HANDLERS.get(kind)) is not None:
                handler(work, one)
            elif kind is seen_.ModelCalled:
                self._model_called(work, one)
            elif kind is seen_.PromptSubmitted:
                turns.fold_prompt(work, one, self._open)  # type: ignore[arg-type]
            if channel != HOOK and kind not in QUIET:
                at = work.at(one.at)
                first, last = smaller(first, at), larger(last, at)
        self._finish(work, first, last)

    def _model_called(self, work: Work, seen: Any) -> None:
        calls.fold_model_call(work, seen, self._pricing)
        if seen.agent_id is not None:
            source = seen.query_source
            real = source is not None and source.startswith(("agent", "subagent"))
            row = turns.subagent(work, seen.agent_id)
            row.model = larger(row.model, short(seen.model))
            turns.put_subagent(work, row, real=real)

    @staticmethod
    def _finish(work: Work, first: datetime | None, last: datetime | None) -> None:
        """Write the conversation back and carry what changed into its crewkit session."""
        rows, llm, at = work.rows, work.llm, work.now
        if llm.seen_last_at is None or at > llm.seen_last_at:
            llm.seen_last_at = at
        if llm.seen_first_at is None or at < llm.seen_first_at:
            llm.seen_first_at = at
        if last is not None and (llm.acted_last_at is None or last > llm.acted_last_at):
            llm.acted_last_at = last
        if first is not None and (llm.acted_first_at is None or first < llm.acted_first_at):
            llm.acted_first_at = first
        was: str | None = llm.status
        work_id = work.fact.context.work_id
        if llm.session_id == "" or (work_id and llm.session_id == work.lid and ident(work_id) != work.lid):
            if llm.session_id:
                _leave_default(rows, llm)
            llm.session_id = ident(work_id) if work_id else work.lid
            was, work.moved = None, True
        if work.changed or was is None:
            settle_llm(llm)
        rows.put(LLM_SESSION, llm)
        session = _session_of(work)
        if session is not None:
            _bring_up_to_date(work, session, was)
            rows.put(SESSION, session)


def _bring_up_to_date(work: Work, session: SessionRow, was: str | None) -> None:
    """Carry a conversation's changes into its session; `was` is its status before, None when it is new there."""
    llm = work.llm
    old_last = session.last_activity_at
    _span(session, llm)
    told = work.recorded.recorded_at
    if session.last_recorded_at is None or told > session.last_recorded_at:
        session.last_recorded_at = told
    if work.moved:
        _carry_context(session, llm)
    if work.changed or was is None:
        take_state(session, llm, was)
        settle_session(session)
        return
    session.first_activity_at = session.acted_first_at or session.seen_first_at or session.started_at
    session.last_activity_at = session.acted_last_at or session.seen_last_at or session.started_at
    if session.silent_since is not None and session.last_activity_at != old_last:
        settle_session(session)


def _touch_tool(found: list[Touch], seen: Any, recorded: Recorded, lid: str) -> None:
    org = recorded.org_id
    if seen.tool_use_id is not None:
        found.append((TOOL_CALL, (org, lid, ident(seen.tool_use_id))))
    if seen.agent_id is not None:
        found.append((SUBAGENT, (org, lid, ident(seen.agent_id))))


def _touch_agent(found: list[Touch], seen: Any, recorded: Recorded, lid: str) -> None:
    if seen.agent_id is not None:
        found.append((SUBAGENT, (recorded.org_id, lid, ident(seen.agent_id))))


def _touch_prompt(found: list[Touch], seen: Any, recorded: Recorded, lid: str) -> None:
    channel = CHANNELS.get(type(recorded.event), TELEMETRY)
    found.append((PROMPT, (recorded.org_id, lid, turns.prompt_key(seen.prompt_id, channel, recorded.event_id))))


def _touch_named_prompt(found: list[Touch], seen: Any, recorded: Recorded, lid: str) -> None:
    if seen.prompt_id is not None:
        found.append((PROMPT, (recorded.org_id, lid, ident(seen.prompt_id))))


def _touch_call(found: list[Touch], seen: Any, recorded: Recorded, lid: str) -> None:
    org = recorded.org_id
    _touch_agent(found, seen, recorded, lid)
    if seen.model is None:
        _touch_named_prompt(found, seen, recorded, lid)
    found.append((MODEL_CALL, (org, calls.call_key(seen, f"@{recorded.event_id}"))))
    if seen.message_id is not None:
        found.append((MODEL_CALL_ALIAS, (org, ident(seen.message_id))))


def _touch_tally(found: list[Touch], seen: Any, recorded: Recorded, lid: str) -> None:
    if (counted := tally_of(seen)) is not None:
        channel = CHANNELS.get(type(recorded.event), TELEMETRY)
        found.append((TALLY, (recorded.org_id, lid, counted[0], counted[1] or channel)))


def _touch_process(found: list[Touch], seen: Any, recorded: Recorded, lid: str) -> None:
    found += [(TALLY, key) for key in process.touched((recorded.org_id, lid), seen)]


# The rows that one observation may change, beside those of its conversation and session.
TOUCHES: dict[type, Callable[[list[Touch], Any, Recorded, str], None]] = {
    seen_.ToolCalled: _touch_tool,
    seen_.PermissionDecided: _touch_tool,
    seen_.SubagentStarted: _touch_agent,
    seen_.SubagentEnded: _touch_agent,
    seen_.PromptSubmitted: _touch_prompt,
    seen_.TurnEnded: _touch_prompt,
    seen_.SourceSeen: _touch_named_prompt,
    seen_.ModelCalled: _touch_call,
    seen_.PermissionRequested: _touch_tally,
    seen_.ModelSwitched: _touch_tally,
    seen_.ModelFailed: _touch_tally,
    seen_.Compacted: _touch_tally,
    seen_.Counted: _touch_tally,
    seen_.ProcessMeasured: _touch_process,
    seen_.Unknown: _touch_tally,
}


def _take_fact(work: Work) -> None:
    """Who worked, when it arrived, and repo, branch, commit and project as the developer's side saw them."""
    llm, fact = work.llm, work.fact
    told = work.recorded.recorded_at
    if llm.last_recorded_at is None or told > llm.last_recorded_at:
        llm.last_recorded_at = told
    person = fact.person_id
    if llm.person_id is None or person.int < llm.person_id.int:  # comparing ints spares UUID's slow operators
        llm.person_id = person
    context = fact.context
    repo, branch, commit, project = context.repo, context.branch, context.commit, context.project
    if repo is None and branch is None and commit is None and project is None:
        return
    at = work.now
    if repo == llm.repo and branch == llm.branch and commit == llm.commit_hash and project == llm.project:
        # The same place as before: only the times move.
        if llm.repo_at is not None and at > llm.repo_at:
            llm.repo_at = at
        if llm.branch_at is not None and at > llm.branch_at:
            llm.branch_at = at
        if llm.commit_hash_at is not None and at > llm.commit_hash_at:
            llm.commit_hash_at = at
        if llm.project_at is not None and at > llm.project_at:
            llm.project_at = at
        return
    changed = newest(llm, "repo", repo, at)
    changed |= newest(llm, "branch", branch, at)
    changed |= newest(llm, "commit_hash", commit, at)
    changed |= newest(llm, "project", project, at)
    work.moved |= changed


def _carry_context(session: SessionRow, llm: LlmSessionRow) -> None:
    """A session shows the surroundings of the conversation heard of last."""
    latest = session.seen_last_at == llm.seen_last_at
    for name in ("repo", "branch", "commit_hash", "project"):
        if (value := getattr(llm, name)) is not None and (latest or getattr(session, name) is None):
            setattr(session, name, value)
    session.agent = smaller(session.agent, llm.agent)
    session.person_id = smaller(session.person_id, llm.person_id)


def _span(session: SessionRow, llm: LlmSessionRow) -> None:
    """The span of a session is that of its conversations.  A row's first and last are set together."""
    first, last = llm.acted_first_at, llm.acted_last_at
    if last is not None and (session.acted_last_at is None or last > session.acted_last_at):
        session.acted_last_at = last
    if first is not None and (session.acted_first_at is None or first < session.acted_first_at):
        session.acted_first_at = first
    first, last = llm.seen_first_at, llm.seen_last_at
    if last is not None and (session.seen_last_at is None or last > session.seen_last_at):
        session.seen_last_at = last
    if first is not None and (session.seen_first_at is None or first < session.seen_first_at):
        session.seen_first_at = first


def _session_of(work: Work) -> SessionRow | None:
    """The crewkit session to bring up to date, or None.

    Telemetry and transcripts may not know the work id.  Then only the conversation's row moves; the next record that knows
    the work carries everything over.
    """
    sid, work_id = work.llm.session_id, work.fact.context.work_id
    if sid not in (work.lid, ident(work_id) if work_id else None):
        return None
    return work.rows.get(SESSION, (work.org, sid)) or SessionRow(work.org, sid)


def _leave_default(rows: Rows, llm: LlmSessionRow) -> None:
    """A conversation that was its own session turns out to belong to a larger work: its own session disappears from lists."""
    session = rows.get(SESSION, (llm.org_id, llm.session_id))
    if session is None:
        return
    session.llm_sessions -= 1
    session.active_llm_sessions -= llm.status == "active"
    settle_session(session)
    rows.put(SESSION, session)


def notice(recorded: Recorded) -> dict[str, Any] | None:
    """What a live stream may say about an event: ids, kinds and times, never text."""
    event: Any = recorded.event
    if type(event) in CHANNELS:
        return {
            "type": recorded.type,
            "position": recorded.position,
            "session_id": event.context.work_id or event.llm_session_id,
            "llm_session_id": event.llm_session_id,
            "agent": event.agent,
            "kind": event.kind,
            "version": recorded.version,
            "occurred_at": event.occurred_at,
        }
    if isinstance(event, LIFE):
        return {"type": recorded.type, "position": recorded.position, "session_id": event.session_id}
    return None


def build(observe: Observe, pricing: Pricing, open_text: Open = untold) -> Projection:
    """The projection over a reader of facts, a price book and a way to open sealed records.

    `open_text` answers the opened record of a fact, or None where the person is erased; the runtime's services take its
    place through `Projection.bound`.
    """
    fold = SessionsFold(observe, pricing, open_text)
    return Projection(
        "sessions",
        VERSION,
        tables=TABLES,
        ddl=(files(__package__ or "projections.sessions") / "schema.sql").read_text(encoding="utf-8"),
        touches=fold.touches,
        fold=fold.fold,
        reads=(*CHANNELS, *LIFE, SubjectShredded),
        erase=ERASE,
        notice=notice,
        bind=lambda services: build(observe, pricing, opener(services)),
    )


def opener(services: Services) -> Open:
    """Open a fact's sealed content with the runtime's keys."""

    def open_text(recorded: Recorded) -> dict[str, Any] | None:
        content = getattr(recorded.event, "content", None)
        text = services.open_text(recorded, content) if content is not None else None
        if text is None:
            return None
        try:
            return msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError:
            return None  # cut or foreign content has no text for a title

    return open_text
