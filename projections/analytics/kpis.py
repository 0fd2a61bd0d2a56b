"""Every KPI once: its unit, its formula for people, and the same formula as SQL over the star schema.

The API, the views of exports and docs/reference/kpis.md all come from this list.  KPIs of `sessions` are about the sessions
that began in the range; KPIs of `usage` are about the model calls made in it, and the cost no known call accounts for.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Kpi(msgspec.Struct, frozen=True):
    """One number.  `sql` aggregates rows of `fact_session` (source `sessions`) or `agg_usage` (source `usage`).

    Sums of pico-USD (`pico`) are rounded to micro-USD after that: rounding inside would be planned for every occurrence.
    """

    name: str
    unit: str
    source: Literal["sessions", "usage"]
    formula: str
    sql: str

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


def _share(part: str, whole: str) -> str:
    return f"{part}::DOUBLE / nullif({whole}, 0)"


def _money(pico: str) -> str:
    return f"coalesce({pico}, 0)"


def _sum(column: str) -> str:
    return f"coalesce(sum({column}), 0)::BIGINT"


_COMPLETED = "count(*) FILTER (WHERE outcome = 'completed')"
_FAILED = "count(*) FILTER (WHERE outcome = 'failed')"
_ABANDONED = "count(*) FILTER (WHERE outcome = 'abandoned')"
_FINISHED = "count(*) FILTER (WHERE status <> 'active')"
_PROMPT_TOKENS = "sum(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens)"

KPIS = (
    Kpi("total_sessions", "sessions", "sessions", "number of sessions", "count(*)"),
    Kpi("active_sessions", "sessions", "sessions", "sessions whose status is active now", "count(*) FILTER (WHERE status = 'active')"),
    Kpi("finished_sessions", "sessions", "sessions", "sessions that ended or timed out", _FINISHED),
    Kpi("completed_sessions", "sessions", "sessions", "finished sessions whose outcome is completed", _COMPLETED),
    Kpi("failed_sessions", "sessions", "sessions", "finished sessions whose outcome is failed", _FAILED),
    Kpi("abandoned_sessions", "sessions", "sessions", "finished sessions whose outcome is abandoned", _ABANDONED),
    Kpi("success_rate", "share of 1", "sessions", "completed_sessions / finished_sessions; null without finished sessions", _share(_COMPLETED, _FINISHED)),
    Kpi("failure_rate", "share of 1", "sessions", "failed_sessions / finished_sessions; null without finished sessions", _share(_FAILED, _FINISHED)),
    Kpi("people", "people", "sessions", "different people who worked; erased ones are not told apart and not counted", "count(DISTINCT person_id)"),
    Kpi("average_duration_ms", "milliseconds", "sessions", "sum of durations / total_sessions, rounded; null without sessions", "round(avg(duration_ms))::BIGINT"),
    Kpi("average_cost_usd_micros", "micro-USD", "sessions", "sum of the sessions' costs / sessions with a cost, rounded; null without such", "round(avg(cost_usd_micros))::BIGINT"),
    Kpi("sessions_cost_usd_micros", "micro-USD", "sessions", "sum of the sessions' costs, whenever it arose", _sum("cost_usd_micros")),
    Kpi("sessions_without_cost", "sessions", "sessions", "sessions with model calls and no known cost", "count(*) FILTER (WHERE cost_usd_micros IS NULL AND model_calls > 0)"),
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
    Kpi("tool_failure_rate", "share of 1", "sessions", "tool_failures / tool_calls; null without tool calls", _share("sum(tool_failures)", "sum(tool_calls)")),
    Kpi("subagents", "subagents", "sessions", "sum of subagents", _sum("subagents")),
    Kpi("compactions", "compactions", "sessions", "sum of compactions", _sum("compactions")),
    Kpi("total_cost_usd_micros", "micro-USD", "usage", "sum of cost over calls and rests, rounded half to even once", _money("sum(cost_pico_usd)")),
    Kpi("rest_usd_micros", "micro-USD", "usage", "the part of total_cost_usd_micros that no known call accounts for", _money("sum(cost_pico_usd) FILTER (WHERE kind = 'rest')")),
    Kpi("model_calls", "calls", "usage", "number of model calls that count", _sum("calls")),
    Kpi("input_tokens", "tokens", "usage", "sum of tokens sent outside the cache", _sum("input_tokens")),
    Kpi("output_tokens", "tokens", "usage", "sum of tokens answered, reasoning included", _sum("output_tokens")),
    Kpi("cache_read_tokens", "tokens", "usage", "sum of tokens read from the cache", _sum("cache_read_tokens")),
    Kpi("cache_write_5m_tokens", "tokens", "usage", "sum of tokens cached for 5 minutes", _sum("cache_write_5m_tokens")),
    Kpi("cache_write_1h_tokens", "tokens", "usage", "sum of tokens cached for an hour", _sum("cache_write_1h_tokens")),
    Kpi("reasoning_tokens", "tokens", "usage", "sum of tokens of reasoning, a part of output_tokens", _sum("reasoning_tokens")),
    Kpi("cache_hit_rate", "share of 1", "usage", "cache_read_tokens / (input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens); null without tokens", _share("sum(cache_read_tokens)", _PROMPT_TOKENS)),
    Kpi("uncosted_calls", "calls", "usage", "calls whose cost is not known: total_cost_usd_micros is a lower bound while this is not 0", _sum("uncosted_calls")),
    Kpi("unpriced_calls", "calls", "usage", "calls without a price of ours", _sum("unpriced_calls")),
    Kpi("reported_usd_micros", "micro-USD", "usage", "sum of the costs that agents reported per call", _money("sum(reported_pico_usd)")),
    Kpi("priced_usd_micros", "micro-USD", "usage", "sum of our prices times the tokens", _money("sum(priced_pico_usd)")),
    Kpi("drift_usd_micros", "micro-USD", "usage", "reported minus priced, over calls that have both", _money("sum(compared_reported_pico_usd - compared_priced_pico_usd)")),
)  # fmt: skip
BY_NAME = {kpi.name: kpi for kpi in KPIS}
SESSION_KPIS = tuple(kpi for kpi in KPIS if kpi.source == "sessions")
USAGE_KPIS = tuple(kpi for kpi in KPIS if kpi.source == "usage")

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
