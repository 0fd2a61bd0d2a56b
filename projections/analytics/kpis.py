"""Every KPI once: its unit, its formula for people, and the same formula as SQL over the star schema.

The API, the views of exports and docs/reference/kpis.md all come from this list.  KPIs of `sessions` are about the sessions
that began in the range; KPIs of `usage` are about the model calls made in it, and the cost no known call accounts for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from domain.pricing import micro_usd


class Part(msgspec.Struct, frozen=True):
    """An aggregate of rows that KPIs are made of.  Added up over disjoint rows, it is that of all of them (`people` apart)."""

    name: str
    sql: str


def _same(part: Any) -> Any:
    return part


class How(msgspec.Struct, frozen=True):
    """A formula twice: as one expression of SQL, and as parts and what to make of them, NULL being None.

    DuckDB plans every expression of every question anew; parts are fewer and simpler, and finishing them here costs nothing.
    """

    sql: str
    parts: tuple[Part, ...] = ()
    make: Callable[..., Any] = _same


class Kpi(msgspec.Struct, frozen=True):
    """One number, out of rows of `fact_session` (source `sessions`) or `agg_usage` (source `usage`).

    Sums of pico-USD (`pico`) are rounded to micro-USD after that: rounding inside would be planned for every occurrence.
    """

    name: str
    unit: str
    source: Literal["sessions", "usage"]
    formula: str
    how: How

    @property
    def sql(self) -> str:
        """The formula as SQL, money in pico-USD."""
        return self.how.sql

    @property
    def whole_sql(self) -> str:
        """The whole formula: what `computed` computes in two steps."""
        return f"micro_usd({self.sql})" if self.pico else self.sql

    @property
    def is_share(self) -> bool:
        """Whether nothing to compute it of makes it unknown, where counts and sums are 0."""
        return self.unit == "share of 1" or self.name.startswith("average_")

    @property
    def pico(self) -> bool:
        """Whether `sql` answers pico-USD."""
        return self.source == "usage" and self.unit == "micro-USD"


def _whole(number: int | None) -> int:
    return number or 0


def _divided(part: int | None, whole: int | None) -> float | None:
    return float(part) / float(whole) if part is not None and whole else None


def _rounded(total: int | None, count: int | None) -> int | None:
    """Half away from zero, as DuckDB rounds."""
    mean = _divided(total, count)
    if mean is None:
        return None
    whole = int(mean)  # towards zero
    return whole + (mean - whole >= 0.5) - (mean - whole <= -0.5)


def _count(name: str, condition: str = "") -> How:
    sql = f"count(*) FILTER (WHERE {condition})" if condition else "count(*)"
    return How(sql, (Part(name, sql),), _whole)


def _sum(column: str) -> How:
    return How(f"coalesce(sum({column}), 0)::BIGINT", (_total(column),), _whole)


def _total(column: str) -> Part:
    return Part(column, f"sum({column})")


def _money(name: str, pico: str) -> How:
    return How(f"coalesce({pico}, 0)", (Part(name, pico),), _micro_usd)


def _share(part: Part, whole: Part) -> How:
    return How(f"{part.sql}::DOUBLE / nullif({whole.sql}, 0)", (part, whole), _divided)


def _mean(column: str, counted: str) -> How:
    return How(f"round(avg({column}))::BIGINT", (_total(column), Part(counted, f"count({column})")), _rounded)


def _micro_usd(pico: int | None) -> int:
    return micro_usd(pico or 0) or 0


def _hit_rate(read: int | None, sent: int | None, kept_5m: int | None, kept_1h: int | None) -> float | None:
    if read is None or sent is None or kept_5m is None or kept_1h is None:
        return None
    return _divided(read, read + sent + kept_5m + kept_1h)


PEOPLE = Part("people", "count(DISTINCT person_id)")
_COMPLETED = _count("completed_sessions", "outcome = 'completed'")
_FAILED = _count("failed_sessions", "outcome = 'failed'")
_FINISHED = _count("finished_sessions", "status <> 'active'")
_PROMPT = tuple(
    _total(column) for column in ("cache_read_tokens", "input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
)
_HIT_RATE = How(f"{_PROMPT[0].sql}::DOUBLE / nullif({' + '.join(part.sql for part in _PROMPT)}, 0)", _PROMPT, _hit_rate)

KPIS = (
    Kpi("total_sessions", "sessions", "sessions", "number of sessions", _count("total_sessions")),
    Kpi("active_sessions", "sessions", "sessions", "sessions whose status is active now", _count("active_sessions", "status = 'active'")),
    Kpi("finished_sessions", "sessions", "sessions", "sessions that ended or timed out", _FINISHED),
    Kpi("completed_sessions", "sessions", "sessions", "finished sessions whose outcome is completed", _COMPLETED),
    Kpi("failed_sessions", "sessions", "sessions", "finished sessions whose outcome is failed", _FAILED),
    Kpi("abandoned_sessions", "sessions", "sessions", "finished sessions whose outcome is abandoned", _count("abandoned_sessions", "outcome = 'abandoned'")),
    Kpi("success_rate", "share of 1", "sessions", "completed_sessions / finished_sessions; null without finished sessions", _share(*_COMPLETED.parts, *_FINISHED.parts)),
    Kpi("failure_rate", "share of 1", "sessions", "failed_sessions / finished_sessions; null without finished sessions", _share(*_FAILED.parts, *_FINISHED.parts)),
    Kpi("people", "people", "sessions", "different people who worked; erased ones are not told apart and not counted", How(PEOPLE.sql, (PEOPLE,), _whole)),
    Kpi("average_duration_ms", "milliseconds", "sessions", "sum of durations / total_sessions, rounded; null without sessions", _mean("duration_ms", "timed_sessions")),
    Kpi("average_cost_usd_micros", "micro-USD", "sessions", "sum of the sessions' costs / sessions with a cost, rounded; null without such", _mean("cost_usd_micros", "costed_sessions")),
    Kpi("sessions_cost_usd_micros", "micro-USD", "sessions", "sum of the sessions' costs, whenever it arose", _sum("cost_usd_micros")),
    Kpi("sessions_without_cost", "sessions", "sessions", "sessions with model calls and no known cost", _count("sessions_without_cost", "cost_usd_micros IS NULL AND model_calls > 0")),
    Kpi("lines_added", "lines", "sessions", "sum of lines added", _sum("lines_added")),
    Kpi("lines_removed", "lines", "sessions", "sum of lines removed", _sum("lines_removed")),
    Kpi("commits", "commits", "sessions", "sum of commits", _sum("commits")),
    Kpi("pull_requests", "pull requests", "sessions", "sum of pull requests", _sum("pull_requests")),
    Kpi("prompts", "prompts", "sessions", "sum of prompts", _sum("prompts")),
    Kpi("turns", "turns", "sessions", "sum of turns", _sum("turns")),
    Kpi("failed_turns", "turns", "sessions", "sum of turns that ended with an error", _sum("failed_turns")),
    Kpi("tool_calls", "tool calls", "sessions", "sum of tool calls", _sum("tool_calls")),
    Kpi("tool_failures", "tool calls", "sessions", "sum of tool calls that failed", _sum("tool_failures")),
    Kpi("tool_denials", "tool calls", "sessions", "sum of tool calls that were denied", _sum("tool_denials")),
    Kpi("tool_failure_rate", "share of 1", "sessions", "tool_failures / tool_calls; null without tool calls", _share(_total("tool_failures"), _total("tool_calls"))),
    Kpi("subagents", "subagents", "sessions", "sum of subagents", _sum("subagents")),
    Kpi("compactions", "compactions", "sessions", "sum of compactions", _sum("compactions")),
    Kpi("total_cost_usd_micros", "micro-USD", "usage", "sum of cost over calls and rests, rounded half to even once", _money("total_cost_pico_usd", "sum(cost_pico_usd)")),
    Kpi("rest_usd_micros", "micro-USD", "usage", "the part of total_cost_usd_micros that no known call accounts for", _money("rest_pico_usd", "sum(cost_pico_usd) FILTER (WHERE kind = 'rest')")),
    Kpi("model_calls", "calls", "usage", "number of model calls that count", _sum("calls")),
    Kpi("input_tokens", "tokens", "usage", "sum of tokens sent outside the cache", _sum("input_tokens")),
    Kpi("output_tokens", "tokens", "usage", "sum of tokens answered, reasoning included", _sum("output_tokens")),
    Kpi("cache_read_tokens", "tokens", "usage", "sum of tokens read from the cache", _sum("cache_read_tokens")),
    Kpi("cache_write_5m_tokens", "tokens", "usage", "sum of tokens cached for 5 minutes", _sum("cache_write_5m_tokens")),
    Kpi("cache_write_1h_tokens", "tokens", "usage", "sum of tokens cached for an hour", _sum("cache_write_1h_tokens")),
    Kpi("reasoning_tokens", "tokens", "usage", "sum of tokens of reasoning, a part of output_tokens", _sum("reasoning_tokens")),
    Kpi("cache_hit_rate", "share of 1", "usage", "cache_read_tokens / (input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens); null without tokens", _HIT_RATE),
    Kpi("uncosted_calls", "calls", "usage", "calls whose cost is not known: total_cost_usd_micros is a lower bound while this is not 0", _sum("uncosted_calls")),
    Kpi("unpriced_calls", "calls", "usage", "calls without a price of ours", _sum("unpriced_calls")),
    Kpi("reported_usd_micros", "micro-USD", "usage", "sum of the costs that agents reported per call", _money("reported_pico_usd", "sum(reported_pico_usd)")),
    Kpi("priced_usd_micros", "micro-USD", "usage", "sum of our prices times the tokens", _money("priced_pico_usd", "sum(priced_pico_usd)")),
    Kpi("drift_usd_micros", "micro-USD", "usage", "reported minus priced, over calls that have both", _money("drift_pico_usd", "sum(compared_reported_pico_usd - compared_priced_pico_usd)")),
)  # fmt: skip
BY_NAME = {kpi.name: kpi for kpi in KPIS}
SESSION_KPIS = tuple(kpi for kpi in KPIS if kpi.source == "sessions")
USAGE_KPIS = tuple(kpi for kpi in KPIS if kpi.source == "usage")


def parts(kpis: tuple[Kpi, ...]) -> tuple[Part, ...]:
    """What they are made of, each once."""
    return tuple({part.name: part for kpi in kpis for part in kpi.how.parts}.values())


def made(kpis: tuple[Kpi, ...], told: tuple[Part, ...], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """The KPIs of each row, which holds the parts in the order of `told`.

    Tables have hundreds of rows, and a formula that is applied to a whole column costs half of what it costs row by row.
    """
    columns = dict(zip(told, zip(*rows, strict=True), strict=False))  # none where there is no row
    found = [map(kpi.how.make, *(columns.get(part, ()) for part in kpi.how.parts)) for kpi in kpis]
    names = [kpi.name for kpi in kpis]
    return [dict(zip(names, row, strict=True)) for row in zip(*found, strict=True)]


# Those that can be added up: what the tables hold that sum sessions and usage.
SESSION_PARTS = tuple(part for part in parts(SESSION_KPIS) if part != PEOPLE)
USAGE_PARTS = parts(USAGE_KPIS)

# Half to even, as every rounding of money here; whole numbers all the way, so nothing is lost on large sums.
MICRO_USD = (
    "CREATE MACRO micro_usd(pico) AS CAST((pico - ((pico % 1000000) + 1000000) % 1000000) // 1000000"
    " + CASE WHEN ((pico % 1000000) + 1000000) % 1000000 > 500000 THEN 1"
    " WHEN ((pico % 1000000) + 1000000) % 1000000 = 500000"
    " AND ((pico - ((pico % 1000000) + 1000000) % 1000000) // 1000000) % 2 <> 0 THEN 1 ELSE 0 END AS BIGINT)"
)


def summed(kpis: tuple[Kpi, ...], source: str, by: str = "") -> str:
    """The query that sums them over `source` (what follows FROM), per value of the columns `by`; money is pico-USD."""
    columns = ", ".join([*([by] if by else []), *(f"{kpi.sql} AS {kpi.name}" for kpi in kpis)])
    return f"SELECT {columns} FROM {source}{f' GROUP BY {by}' if by else ''}"  # noqa: S608  our own texts


def computed(kpis: tuple[Kpi, ...], source: str, by: str = "") -> str:
    """The same with money rounded to micro-USD."""
    names = [
        *(by.split(", ") if by else []),
        *(f"micro_usd({kpi.name}) AS {kpi.name}" if kpi.pico else kpi.name for kpi in kpis),
    ]
    return f"SELECT {', '.join(names)} FROM ({summed(kpis, source, by)})"  # noqa: S608
