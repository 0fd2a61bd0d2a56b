"""After a session came to rest a model writes about it, once for each time there was new activity.

The model is asked at least once: a process killed between its answer and our commit asks again.  What is kept is kept once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec
from asyncpg import UndefinedTableError

from commands.summaries import last_summary, record_summary
from commands.tenants import organization_settings
from domain.kernel import Sealed
from domain.pricing import micro_usd, price
from domain.sessions.events import HookRecorded, SessionEnded, SessionTimedOut
from domain.summaries.decide import is_due
from domain.summaries.events import SessionSummarized
from eventstore.database import Connection
from eventstore.port import Recorded
from projections.installation import checkpoint
from projections.prices import price_book
from projections.sessions import queries
from projections.sessions.insights import model_time
from schemas.sessions import SessionDetail
from workers.reactor.base import DAY_S, Done, Later, On, Reaction, Result, Skipped, Tools
from workers.reactor.insights.model import Answer, ask
from workers.reactor.insights.question import PROMPT_VERSION, PROMPTS_TOLD_MAX, WITH_PROMPTS, message
from workers.reactor.table import spend

KIND = "session.summary"
READ_MODEL = "sessions"
PROMPTS_SETTING = "insights.prompts"  # of the organization; true: prompts may be told to the model
BEHIND_S = 1.0  # until the next look, while the read model has not passed the event
BUSY_S = 2.0
TRIED_MAX_S = 120.0
VALID_S = 7 * DAY_S

_FACTS = """
SELECT max(last_position), max(last_recorded_at), clock_timestamp() FROM crewkit.llm_session
 WHERE org_id = $1 AND session_id = $2
"""
_PROMPTS = """
SELECT p.text FROM crewkit.prompt p
  JOIN crewkit.llm_session l ON l.org_id = p.org_id AND l.llm_session_id = p.llm_session_id
  LEFT JOIN crewkit.person e ON e.org_id = p.org_id AND e.person_id = p.person_id
 WHERE p.org_id = $1 AND l.session_id = $2 AND p.text IS NOT NULL AND e.shredded_at IS NULL
 ORDER BY p.submitted_at NULLS LAST, p.prompt_id LIMIT $3
"""
_GONE = "SELECT destroyed_at IS NOT NULL FROM crewkit.subject_key WHERE org_id = $1 AND subject = $2"


class State(msgspec.Struct, frozen=True):
    """A session at rest: everything known about it, up to which fact, since when, and whose it is."""

    detail: SessionDetail
    model_ms: int | None
    facts_position: int
    activity_at: datetime
    person_id: UUID
    prompts: tuple[str, ...] = ()


async def summarize(tools: Tools, recorded: Recorded) -> Result:
    """React to the end of a session."""
    if await checkpoint(tools.pool, READ_MODEL) < recorded.position:
        return Later(BEHIND_S)
    try:
        found = await _at_rest(tools, recorded.org_id, _session_of(recorded))
    except UndefinedTableError:  # a read model that sessions are shown with has not been made yet
        return Later(BEHIND_S)
    if not isinstance(found, State):
        return found
    mark = f"{KIND} {recorded.org_id} {found.detail.session.id}"
    if mark in tools.busy:  # two ends of one session: the second sees what the first wrote
        return Later(BUSY_S)
    tools.busy.add(mark)
    try:
        return await _write(tools, recorded, found)
    finally:
        tools.busy.discard(mark)


def _session_of(recorded: Recorded) -> str:
    match recorded.event:
        case SessionEnded(session_id=session_id) | SessionTimedOut(session_id=session_id):
            return session_id
        case HookRecorded(llm_session_id=llm_session_id):
            return llm_session_id
        case _:
            return recorded.stream.id


async def _at_rest(tools: Tools, org_id: UUID, session_id: str) -> State | Later | Skipped:
    async with tools.pool.acquire() as connection:
        detail = await queries.session_detail(connection, org_id, session_id)
        if detail is None:
            return Skipped("there is no such session")
        top = detail.session
        facts = await connection.fetchrow(_FACTS, org_id, top.id)
        if (reason := _nothing_to_say(detail)) or facts is None or facts[0] is None:
            return Skipped(reason or "nothing happened in the session")
        quiet_s = (facts[2] - facts[1]).total_seconds()
        if quiet_s < tools.settings.insights_settle_s:
            return Later(tools.settings.insights_settle_s - quiet_s)
        person_id = top.person_id or next((llm.person_id for llm in detail.llm_sessions if llm.person_id), None)
        if person_id is None or top.last_activity_at is None:
            return Skipped("nobody is known to have worked")
        if await connection.fetchval(_GONE, org_id, person_id):
            return Skipped("the person was erased")
        model_ms = await model_time(connection, org_id, detail)
        prompts = await _prompts(tools, connection, org_id, top.id)
    return State(detail, model_ms, facts[0], top.last_activity_at, person_id, prompts)


async def _prompts(tools: Tools, connection: Connection, org_id: UUID, session_id: str) -> tuple[str, ...]:
    """Prompts, where the organization's setting allows to tell them; without it none."""
    if (await organization_settings(tools.store, org_id)).get(PROMPTS_SETTING) is not True:
        return ()
    return tuple(record[0] for record in await connection.fetch(_PROMPTS, org_id, session_id, PROMPTS_TOLD_MAX))


def _nothing_to_say(detail: SessionDetail) -> str:
    if detail.session.status == "active":
        return "the session goes on"
    counts = detail.session.counts
    return "" if counts.model_calls or counts.tool_calls else "nothing happened in the session"


async def _write(tools: Tools, recorded: Recorded, found: State) -> Result:
    session_id = found.detail.session.id
    last = await last_summary(tools.store, recorded.org_id, session_id)
    if not is_due(last, facts_position=found.facts_position, activity_at=found.activity_at):
        return Skipped("no activity since the last summary")
    if not await spend(tools.pool, KIND, recorded.org_id, tools.settings.insights_per_day_max):
        return Skipped("the organization's daily limit is reached (CREWKIT_INSIGHTS_PER_DAY_MAX)")
    answer = await ask(tools.settings, message(found.detail, found.model_ms, found.prompts))
    written = _event(found, answer, datetime.now(UTC))
    kept = await record_summary(tools.store, recorded.org_id, written, causation_id=recorded.event_id)
    return Done() if kept is not None else Skipped("a later state was written about meanwhile")


def _event(found: State, answer: Answer, at: datetime) -> SessionSummarized:
    tokens = answer.tokens
    cost = price(price_book(), answer.model, tokens, at, service_tier=answer.service_tier)
    return SessionSummarized(
        session_id=found.detail.session.id,
        person_id=found.person_id,
        facts_position=found.facts_position,
        activity_at=found.activity_at,
        model=answer.model,
        prompt_version=WITH_PROMPTS if found.prompts else PROMPT_VERSION,
        text=Sealed(found.person_id, msgspec.json.encode(answer.written).decode()),
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write_5m + tokens.cache_write_1h,
        cost_usd_micros=micro_usd(cost.pico_usd),
        price_version=cost.version,
        summarized_at=at,
    )


REACTION = Reaction(
    kind=KIND,
    lane="insights",
    lane_max=2,
    on=(On(SessionEnded), On(SessionTimedOut), On(HookRecorded, '"kind":"SessionEnd"')),
    run=summarize,
    enabled=lambda settings: bool(settings.anthropic_api_key),
    delay_s=lambda settings: settings.insights_settle_s,
    timeout_s=TRIED_MAX_S,
    valid_s=VALID_S,
)
