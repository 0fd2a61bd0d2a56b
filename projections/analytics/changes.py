"""Which rows of the sessions read model a run of events touched, and the SQL that reads them out of Postgres.

Every statement is for one organization ($1), and for the keys given or for whole conversations (`…_OF`).  Results are read by COPY, so that
rows go from Postgres into DuckDB without becoming Python objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import msgspec

from domain.organizations.events import OrganizationPurged, SubjectShredded
from eventstore.port import Recorded
from projections.base import Key, Table
from projections.sessions.merge import SUM_MAX
from projections.sessions.tables import (
    LLM_SESSION,
    MODEL_CALL,
    MODEL_CALL_ALIAS,
    PROMPT,
    SESSION,
    SUBAGENT,
    TALLY,
    TOOL_CALL,
)
from projections.sessions.totals import COUNTED

Touches = Callable[[Recorded], Iterable[tuple[Table[Any], Key]]]
COLD_AFTER = "5 minutes"  # how long a pause is before the prompt cache may have gone cold


class Touched(msgspec.Struct):
    """Keys of one organization's rows that may have changed."""

    sessions: set[str] = msgspec.field(default_factory=set[str])
    llm_sessions: set[str] = msgspec.field(default_factory=set[str])
    calls: set[str] = msgspec.field(default_factory=set[str])
    messages: set[str] = msgspec.field(default_factory=set[str])
    tools: set[tuple[str, str]] = msgspec.field(default_factory=set[tuple[str, str]])
    prompts: set[tuple[str, str]] = msgspec.field(default_factory=set[tuple[str, str]])
    erased: set[UUID] = msgspec.field(default_factory=set[UUID])
    purged: bool = False  # there are no rows any more, whatever else was touched

    def __len__(self) -> int:
        parts = (self.sessions, self.llm_sessions, self.calls, self.messages, self.tools, self.prompts, self.erased)
        return sum(len(part) for part in parts) + self.purged


def note(found: dict[UUID, Touched], recorded: Recorded, touches: Touches) -> None:
    """Add what one event touched."""
    org = recorded.org_id
    event = recorded.event
    if isinstance(event, SubjectShredded):
        found.setdefault(org, Touched()).erased.add(event.person_id)
    elif isinstance(event, OrganizationPurged):
        found.setdefault(org, Touched()).purged = True
    else:
        for table, key in touches(recorded):
            mine = found.get(key[0])
            if mine is None:
                mine = found[key[0]] = Touched()
            _note_key(mine, table, key)


def _note_key(mine: Touched, table: Table[Any], key: Key) -> None:
    if table is LLM_SESSION or table is SUBAGENT or table is TALLY:
        mine.llm_sessions.add(key[1])
    elif table is SESSION:
        mine.sessions.add(key[1])
    elif table is MODEL_CALL:
        mine.calls.add(key[1])
    elif table is MODEL_CALL_ALIAS:
        mine.messages.add(key[1])
    elif table is TOOL_CALL:
        mine.tools.add((key[1], key[2]))
        mine.llm_sessions.add(key[1])
    elif table is PROMPT:
        mine.prompts.add((key[1], key[2]))
        mine.llm_sessions.add(key[1])


_AT = "(c.at AT TIME ZONE 'UTC') AS called_at"
_TOKENS = (
    "input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, reasoning_tokens"
)
_CALL = (
    f"c.org_id, call_key, llm_session_id, agent_id, prompt_id, request_id, message_id, model, {_AT}, {_TOKENS},"
    " web_searches, reported_pico_usd, priced_pico_usd, price_version, unpriced_reason, counts, telemetry, transcript,"
    " copied, duration_ms, ttft_ms, query_source, speed, effort, service_tier, skill"
)
CALLS_OF = f"SELECT {_CALL} FROM ({COUNTED} AND c.llm_session_id = ANY ($2::text[])) AS c"  # noqa: S608  all texts here are ours
CALLS = f"SELECT {_CALL} FROM ({COUNTED} AND c.call_key = ANY ($2::text[])) AS c"  # noqa: S608
# Whether a stand-in counts depends on the other calls of its conversation ($2); those in $3 are read anyway.
STAND_INS = (
    f"SELECT {_CALL} FROM ({COUNTED} AND c.llm_session_id = ANY ($2::text[]) AND c.stand_in"  # noqa: S608
    " AND c.call_key <> ALL ($3::text[])) AS c"
)

_TOOL = (
    f"c.org_id, llm_session_id, tool_use_id, {_AT}, name, status, agent_id, prompt_id, request_id, mcp_server,"
    " duration_ms, lines_added, lines_removed, decision, decision_source, stand_in"
)
_OF = "WHERE c.org_id = $1 AND llm_session_id = ANY ($2::text[])"
TOOLS_OF = f"SELECT {_TOOL} FROM crewkit.tool_call c {_OF}"  # noqa: S608
_PAIRS = "USING (llm_session_id, {id}) WHERE c.org_id = $1"
TOOLS = (
    f"SELECT {_TOOL} FROM crewkit.tool_call c JOIN unnest($2::text[], $3::text[]) AS w(llm_session_id, tool_use_id) "  # noqa: S608
    + _PAIRS.format(id="tool_use_id")
)

_PROMPT = (
    "c.org_id, llm_session_id, prompt_id,"
    " CASE WHEN NOT EXISTS (SELECT FROM crewkit.subject_key k WHERE k.org_id = c.org_id AND k.subject = c.person_id"
    " AND k.wrapped IS NULL) THEN person_id END AS person_id,"
    " (submitted_at AT TIME ZONE 'UTC') AS submitted_at, (ended_at AT TIME ZONE 'UTC') AS ended_at, error, chars, source,"
    " stand_in"
)
PROMPTS_OF = f"SELECT {_PROMPT} FROM crewkit.prompt c {_OF}"  # noqa: S608
PROMPTS = (
    f"SELECT {_PROMPT} FROM crewkit.prompt c JOIN unnest($2::text[], $3::text[]) AS w(llm_session_id, prompt_id) "  # noqa: S608
    + _PAIRS.format(id="prompt_id")
)


def _most(sum_: str) -> str:
    """A sum of money within a quarter of an hour of one conversation, as its column holds it: 9 million dollars at most."""
    return f"(CASE WHEN {sum_} > {SUM_MAX} THEN {SUM_MAX} ELSE {sum_} END)::bigint"  # LEAST would make NULL the most


# Calls that count of some conversations, summed per subagent, model, skill and quarter of an hour.  A call of the main thread is cold
# when after a pause it read less than half of what the call before it had in the cache; one that changed the model is no such.
USAGE = f"""
WITH told AS MATERIALIZED (SELECT * FROM ({COUNTED} AND c.llm_session_id = ANY ($2::text[])) AS t WHERE counts),
main AS (
    SELECT call_key,
           model <> lag(model) OVER w AS switched,
           at - lag(at) OVER w > interval '{COLD_AFTER}'
               AND cache_read_tokens * 2
                   < lag(cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens) OVER w AS cold
      FROM told
     WHERE agent_id IS NULL AND model IS NOT NULL
       AND (query_source IS NULL OR query_source ~ '^(main|sdk|repl_main_thread)')
    WINDOW w AS (PARTITION BY llm_session_id ORDER BY at, call_key)
),
marked AS (
    SELECT t.*, coalesce(m.switched, false) AS switched, coalesce(m.cold AND NOT m.switched, false) AS cold
      FROM told t LEFT JOIN main m USING (call_key)
)
SELECT org_id, llm_session_id, date_bin('15 minutes', at AT TIME ZONE 'UTC', timestamp '2000-01-01') AS slot_at,
       agent_id, model, count(*) AS calls,
       sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(cache_read_tokens)::bigint,
       sum(cache_write_5m_tokens)::bigint, sum(cache_write_1h_tokens)::bigint, sum(reasoning_tokens)::bigint,
       sum(web_searches)::bigint, coalesce(sum(duration_ms), 0)::bigint,
       {_most("sum(reported_pico_usd)")}, {_most("sum(priced_pico_usd)")},
       {_most("sum(coalesce(reported_pico_usd, priced_pico_usd))")},
       count(*) FILTER (WHERE reported_pico_usd IS NULL),
       count(*) FILTER (WHERE priced_pico_usd IS NULL),
       count(*) FILTER (WHERE coalesce(reported_pico_usd, priced_pico_usd) IS NULL),
       {_most("coalesce(sum(reported_pico_usd) FILTER (WHERE priced_pico_usd IS NOT NULL), 0)")},
       {_most("coalesce(sum(priced_pico_usd) FILTER (WHERE reported_pico_usd IS NOT NULL), 0)")},
       max(price_version),
       count(*) FILTER (WHERE cold),
       coalesce(sum(cache_write_5m_tokens) FILTER (WHERE cold), 0)::bigint,
       coalesce(sum(cache_write_1h_tokens) FILTER (WHERE cold), 0)::bigint,
       count(*) FILTER (WHERE switched),
       coalesce(sum(cache_write_5m_tokens) FILTER (WHERE switched), 0)::bigint,
       coalesce(sum(cache_write_1h_tokens) FILTER (WHERE switched), 0)::bigint,
       skill
  FROM marked GROUP BY org_id, llm_session_id, slot_at, agent_id, model, skill
"""  # noqa: S608
USAGE_COLUMNS = {
    "org_id": "UUID",
    "llm_session_id": "VARCHAR",
    "slot_at": "TIMESTAMP",
    "agent_id": "VARCHAR",
    "model": "VARCHAR",
    **dict.fromkeys(
        (
            "calls",
            *_TOKENS.split(", "),
            "web_searches",
            "duration_ms",
            "reported_pico_usd",
            "priced_pico_usd",
            "known_pico_usd",
            "unreported_calls",
            "unpriced_calls",
            "unknown_calls",
            "compared_reported_pico_usd",
            "compared_priced_pico_usd",
        ),
        "BIGINT",
    ),
    "price_version": "VARCHAR",
    **dict.fromkeys(
        (
            "cold_calls",
            "cold_write_5m_tokens",
            "cold_write_1h_tokens",
            "switch_calls",
            "switch_write_5m_tokens",
            "switch_write_1h_tokens",
        ),
        "BIGINT",
    ),
    "skill": "VARCHAR",
}
