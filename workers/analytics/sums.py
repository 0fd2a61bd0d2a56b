"""How usage is put together inside the file: sums of calls take their conversation's dimensions and its choice of cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from projections.analytics.kpis import SESSION_PARTS, USAGE_PARTS, Part
from projections.analytics.schema import AGG_USAGE, DIMENSIONS
from projections.sessions.merge import SUM_MAX

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
_REST = "l.cost_usd_micros::HUGEINT * 1000000 - coalesce(t.cost, 0)"
_REST_VALUES = {
    "slot_at": "time_bucket(INTERVAL 15 MINUTES, l.last_activity_at)",
    "kind": "'rest'",
    "cost_pico_usd": f"greatest(least({_REST}, {SUM_MAX}), -{SUM_MAX})",
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
   AND {_REST} <> 0
"""  # noqa: S608

_DAY, _BEGAN = "CAST({} AS DATE)", "time_bucket(INTERVAL 15 MINUTES, started_at)"
_THESE = "row_hash IN (SELECT hash(?::UUID, unnest(?::VARCHAR[])))"
_THEIRS = "org_id = ? AND person_id IN (SELECT unnest(?::UUID[]))"
DAYS_AT_ONCE_MAX = 31  # of which one scan makes all sums; beside each other they take too much memory for more


class Sums:
    """The statements that keep two tables of sums: rows of `table` per quarter of an hour, and per day and dimension.

    `moment` is the column that says when a row of it is from.  Sums are made again for whole days; those in question are
    noted before and after rows change.
    """

    def __init__(self, table: str, moment: str, slot: str, parts: Sequence[Part], slots: str, days: str) -> None:
        moved, made = f"moved_{table}", f"made_{table}"
        names = ", ".join(part.name for part in parts)
        given = f"SELECT org_id, day FROM {moved}"  # noqa: S608
        day = _DAY.format(moment)
        note = f"INSERT INTO {moved} SELECT DISTINCT org_id, {day} FROM {table} WHERE {moment} IS NOT NULL AND "  # noqa: S608
        self.mark = f"CREATE OR REPLACE TEMP TABLE {moved} (org_id UUID, day DATE)"
        self.note_these, self.note_theirs = note + _THESE, note + _THEIRS
        self.span = f"SELECT count(DISTINCT day), min(day), max(day) + 1 FROM {moved}"  # noqa: S608
        self.clear = (
            f"DELETE FROM {slots} WHERE (org_id, {_DAY.format('slot_at')}) IN ({given})",  # noqa: S608
            f"DELETE FROM {days} WHERE (org_id, day) IN ({given})",  # noqa: S608
        )
        # The span is said as numbers too: blocks of rows that lie outside are passed over.
        every, some = f"{moment} IS NOT NULL", f"{moment} >= ? AND {moment} < ? AND (org_id, {day}) IN ({given})"
        sums = ", ".join(f"{part.sql} AS {part.name}" for part in parts)
        one_by_one = (
            f"INSERT INTO {slots} SELECT org_id, {slot} AS slot, {sums} FROM {table} WHERE {{0}} GROUP BY org_id, slot",  # noqa: S608
            *(
                f"INSERT INTO {days} SELECT org_id, {day} AS day, '{name}', CAST({name} AS VARCHAR), {sums}"  # noqa: S608
                f" FROM {table} WHERE {{0}} GROUP BY org_id, day, {name}"
                for name in DIMENSIONS
            ),
        )
        self.make_all = tuple(statement.format(every) for statement in one_by_one)
        self.make_many = tuple(statement.format(some) for statement in one_by_one)
        which = " ".join(f"WHEN GROUPING({name}) = 0 THEN '{name}'" for name in DIMENSIONS)
        value = ", ".join(f"CAST({name} AS VARCHAR)" for name in DIMENSIONS)
        sets = ", ".join(f"(org_id, day, {name})" for name in DIMENSIONS)
        # One scan for all of them: scans are what a few days cost.
        self.make_few = (
            f"CREATE OR REPLACE TEMP TABLE {made} AS"  # noqa: S608
            f" SELECT CASE {which} END AS dimension, coalesce({value}) AS value, org_id, slot, day, {sums}"
            f" FROM (SELECT *, {slot} AS slot, {day} AS day FROM {table} WHERE {some})"
            f" GROUP BY GROUPING SETS ((org_id, slot), {sets})"
        )
        self.put_few = (
            f"INSERT INTO {slots} SELECT org_id, slot, {names} FROM {made} WHERE dimension IS NULL",  # noqa: S608
            f"INSERT INTO {days} SELECT org_id, day, dimension, value, {names} FROM {made} WHERE dimension IS NOT NULL",  # noqa: S608
            f"DROP TABLE {made}",
        )

    def again(self, run: Callable[..., Any]) -> None:
        """Make the sums of the days that were noted."""
        days, first, last = run(self.span).fetchone()
        if not days:
            return
        for statement in self.clear:
            run(statement)
        if days > DAYS_AT_ONCE_MAX:
            for statement in self.make_many:
                run(statement, [first, last])
            return
        run(self.make_few, [first, last])
        for statement in self.put_few:
            run(statement)


SUMS = (
    Sums("agg_usage", "slot_at", "slot_at", USAGE_PARTS, "agg_slot", "agg_day"),
    Sums("fact_session", "started_at", _BEGAN, SESSION_PARTS, "agg_begun", "agg_begun_day"),
)
OF_USAGE, OF_SESSIONS = SUMS
# Everything, for a file that was filled from nothing.
SUM_UP = tuple(statement for sums in SUMS for statement in sums.make_all)
