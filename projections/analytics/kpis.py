"""Every KPI once: its unit, its formula for people, and the same formula as SQL over the star schema.

The API, the views of exports and docs/reference/kpis.md all come from this list.  KPIs of `sessions` are about the sessions
that began in the range; KPIs of `usage` are about the model calls made in it, and the cost no known call accounts for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import itemgetter
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
    return int(number or 0)


def _divided(part: int | None, whole: int | None) -> float | None:
    return float(part) / float(whole) if part is not None and whole else None


def _rounded(total: int | None, count: int | None) -> int | None:
    """Half away from zero, as DuckDB rounds."""
    mean = _divided(total, count)
    return None if mean is None else int(math.copysign(math.floor(abs(mean)) + (abs(mean) % 1 >= 0.5), mean))


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


PEOPLE = Part("people", "count(DISTINCT person_id)")
_COMPLETED = _count("completed_sessions", "outcome = 'completed'")
_FAILED = _count("failed_sessions", "outcome = 'failed'")
_FINISHED = _count("finished_sessions", "status <> 'active'")
_PROMPT_TOKENS = Part(
    "prompt_tokens", "sum(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens)"
)

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
    Kpi("cache_hit_rate", "share of 1", "usage", "cache_read_tokens / (input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens); null without tokens", _share(_total("cache_read_tokens"), _PROMPT_TOKENS)),
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


def maker(kpis: tuple[Kpi, ...]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What makes the KPIs out of their parts by name.  A table has hundreds of rows, so which parts each needs is settled here."""
    plain: list[tuple[str, str]] = []  # counts and sums, which are most of them
    plan: list[tuple[str, Callable[..., Any], str, Callable[[Any], Any] | None]] = []
    for kpi in kpis:
        first, *others = (part.name for part in kpi.how.parts)
        if kpi.how.make is _whole:
            plain.append((kpi.name, first))
        else:
            plan.append((kpi.name, kpi.how.make, first, itemgetter(first, *others) if others else None))

    def made(told: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {name: told[part] or 0 for name, part in plain}
        for name, make, part, several in plan:
            found[name] = make(told[part]) if several is None else make(*several(told))
        return found

    return made


# Of sessions, and those of them that can be added up: what agg_begun and agg_begun_day hold.
SESSION_PARTS = tuple(part for part in parts(SESSION_KPIS) if part != PEOPLE)

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
