"""How usage is put together inside the file: sums of calls take their conversation's dimensions and its choice of cost."""

from __future__ import annotations

from projections.analytics.kpis import SESSION_PARTS
from projections.analytics.schema import AGG_USAGE, DIMENSIONS, SUMMED

_DIMENSIONS = (
    "l.session_id, u.slot_at, 'call', u.agent_id, s.agent_type, u.model, l.person_id, l.agent, l.project, l.repo"
)
_SUMS = (
    "u.calls, u.input_tokens, u.output_tokens, u.cache_read_tokens, u.cache_write_5m_tokens, u.cache_write_1h_tokens,"
    " u.reasoning_tokens, u.web_searches, u.duration_ms, u.reported_pico_usd, u.priced_pico_usd"
)
_END = (
    "u.compared_reported_pico_usd, u.compared_priced_pico_usd, u.price_version, u.cold_calls, u.cold_write_5m_tokens,"
    " u.cold_write_1h_tokens, u.switch_calls, u.switch_write_5m_tokens, u.switch_write_1h_tokens, u.skill"
)
USAGE = f"""
INSERT INTO agg_usage
SELECT u.org_id, u.llm_session_id, {_DIMENSIONS}, l.branch, {_SUMS},
       CASE l.cost_source WHEN 'telemetry' THEN u.reported_pico_usd WHEN 'priced' THEN u.priced_pico_usd
            ELSE u.known_pico_usd END,
       u.unreported_calls, u.unpriced_calls,
       CASE l.cost_source WHEN 'telemetry' THEN u.unreported_calls WHEN 'priced' THEN u.unpriced_calls
            ELSE u.unknown_calls END,
       {_END}, l.row_hash
  FROM {{source}} u
  JOIN fact_llm_session l ON l.row_hash = hash(u.org_id, u.llm_session_id)
  LEFT JOIN fact_subagent s ON s.row_hash = hash(u.org_id, u.llm_session_id, u.agent_id)
"""  # noqa: S608
_ZERO = {
    "calls",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "web_searches",
    "duration_ms",
    "unreported_calls",
    "unpriced_calls",
    "uncosted_calls",
    "compared_reported_pico_usd",
    "compared_priced_pico_usd",
    "cold_calls",
    "cold_write_5m_tokens",
    "cold_write_1h_tokens",
    "switch_calls",
    "switch_write_5m_tokens",
    "switch_write_1h_tokens",
}
_OF_CONVERSATION = {
    "org_id",
    "llm_session_id",
    "session_id",
    "person_id",
    "agent",
    "project",
    "repo",
    "branch",
    "row_hash",
}
_REST_VALUES = {
    "slot_at": "time_bucket(INTERVAL 15 MINUTES, l.last_activity_at)",
    "kind": "'rest'",
    "cost_pico_usd": "l.cost_usd_micros * 1000000 - coalesce(t.cost, 0)",
}


def _rest_value(name: str) -> str:
    if name in _ZERO:
        return "0"
    return f"l.{name}" if name in _OF_CONVERSATION else _REST_VALUES.get(name, "NULL")


# What a conversation's cost holds beyond its calls (or, by rounding to micro-USD once, less than they).
REST = f"""
INSERT INTO agg_usage
WITH wanted AS (SELECT hash(?::UUID, unnest(?::VARCHAR[])) AS row_hash),
told AS (SELECT row_hash, sum(cost_pico_usd) AS cost FROM agg_usage SEMI JOIN wanted USING (row_hash) GROUP BY row_hash)
SELECT {", ".join(_rest_value(column.name) for column in AGG_USAGE.columns)}
  FROM fact_llm_session l SEMI JOIN wanted USING (row_hash) LEFT JOIN told t USING (row_hash)
 WHERE l.cost_usd_micros IS NOT NULL AND l.last_activity_at IS NOT NULL
   AND l.cost_usd_micros * 1000000 <> coalesce(t.cost, 0)
"""  # noqa: S608

_SUMS_OF = ", ".join(f"sum({column.name}) AS {column.name}" for column in SUMMED)
_SLOT = f"SELECT org_id, slot_at, kind, {_SUMS_OF} FROM agg_usage"  # noqa: S608
_DAY = {
    name: f"SELECT org_id, CAST(slot_at AS DATE) AS day, '{name}', CAST({name} AS VARCHAR), kind, {_SUMS_OF} FROM agg_usage"  # noqa: S608
    for name in DIMENSIONS
}
_SLOT_GROUPS = "GROUP BY org_id, slot_at, kind"
_DAY_GROUPS = {name: f"GROUP BY org_id, day, {name}, kind" for name in DIMENSIONS}
_PARTS = ", ".join(f"{part.sql} AS {part.name}" for part in SESSION_PARTS)
_BEGAN = "time_bucket(INTERVAL 15 MINUTES, started_at)"
_TOLD = f"{_PARTS} FROM fact_session WHERE started_at IS NOT NULL"
_BEGUN = f"SELECT org_id, {_BEGAN}, {_TOLD}"
_BEGUN_GROUPS = f"GROUP BY org_id, {_BEGAN}"
_BEGUN_DAY = {
    name: f"SELECT org_id, CAST(started_at AS DATE), '{name}', CAST({name} AS VARCHAR), {_TOLD}" for name in DIMENSIONS
}
_BEGUN_DAY_GROUPS = {name: f"GROUP BY org_id, CAST(started_at AS DATE), {name}" for name in DIMENSIONS}
# Everything, for a file that was filled from nothing.
SUM_UP = (
    f"INSERT INTO agg_slot {_SLOT} {_SLOT_GROUPS}",
    *(f"INSERT INTO agg_day {_DAY[name]} {_DAY_GROUPS[name]}" for name in DIMENSIONS),
    f"INSERT INTO agg_begun {_BEGUN} {_BEGUN_GROUPS}",
    *(f"INSERT INTO agg_begun_day {_BEGUN_DAY[name]} {_BEGUN_DAY_GROUPS[name]}" for name in DIMENSIONS),
)
# What changes: the quarters of an hour in which the conversations of a batch had usage before, and those in which they have now;
# and the same of those in which its sessions began.
MARK = (
    "CREATE OR REPLACE TEMP TABLE moved_slot (org_id UUID, slot_at TIMESTAMP)",
    "CREATE OR REPLACE TEMP TABLE moved_begun (org_id UUID, slot_at TIMESTAMP)",
)
MOVED = (
    "INSERT INTO moved_slot SELECT DISTINCT org_id, slot_at FROM agg_usage"
    " WHERE row_hash IN (SELECT hash(?::UUID, unnest(?::VARCHAR[])))"
)
MOVED_BEGUN = (
    f"INSERT INTO moved_begun SELECT DISTINCT org_id, {_BEGAN} FROM fact_session"  # noqa: S608
    " WHERE row_hash IN (SELECT hash(?::UUID, unnest(?::VARCHAR[])))"
)
_THEIRS = "WHERE org_id = ? AND person_id IN (SELECT unnest(?::UUID[]))"
MOVED_PEOPLE = (
    f"INSERT INTO moved_slot SELECT DISTINCT org_id, slot_at FROM agg_usage {_THEIRS}",  # noqa: S608
    f"INSERT INTO moved_begun SELECT DISTINCT org_id, {_BEGAN} FROM fact_session {_THEIRS}",  # noqa: S608
)
_DAYS = "(SELECT DISTINCT org_id, CAST(slot_at AS DATE) AS day FROM moved_slot)"
_BEGUN_SLOTS = "(SELECT org_id, slot_at FROM moved_begun)"
_BEGUN_DAYS = "(SELECT DISTINCT org_id, CAST(slot_at AS DATE) AS day FROM moved_begun)"
SUM_AGAIN = (
    "DELETE FROM agg_slot WHERE (org_id, slot_at) IN (SELECT org_id, slot_at FROM moved_slot)",
    f"INSERT INTO agg_slot {_SLOT} WHERE (org_id, slot_at) IN (SELECT org_id, slot_at FROM moved_slot) {_SLOT_GROUPS}",  # noqa: S608
    f"DELETE FROM agg_day WHERE (org_id, day) IN {_DAYS}",  # noqa: S608
    *(
        f"INSERT INTO agg_day {_DAY[name]} WHERE (org_id, CAST(slot_at AS DATE)) IN {_DAYS} {_DAY_GROUPS[name]}"
        for name in DIMENSIONS
    ),
    f"DELETE FROM agg_begun WHERE (org_id, slot_at) IN {_BEGUN_SLOTS}",  # noqa: S608
    f"INSERT INTO agg_begun {_BEGUN} AND (org_id, {_BEGAN}) IN {_BEGUN_SLOTS} {_BEGUN_GROUPS}",
    f"DELETE FROM agg_begun_day WHERE (org_id, day) IN {_BEGUN_DAYS}",  # noqa: S608
    *(
        f"INSERT INTO agg_begun_day {_BEGUN_DAY[name]} AND (org_id, CAST(started_at AS DATE)) IN {_BEGUN_DAYS}"
        f" {_BEGUN_DAY_GROUPS[name]}"
        for name in DIMENSIONS
    ),
)
