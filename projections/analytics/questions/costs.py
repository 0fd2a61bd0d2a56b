"""Where the money goes: by model, place, subagent and tool; what the cache saves and loses; what has no price."""

from __future__ import annotations

from fractions import Fraction
from typing import Any
from uuid import UUID

import msgspec

from domain.contracts.decide import BASIS_POINTS_MAX, Discount, basis_points_of
from domain.pricing import micro_usd
from projections.analytics.kpis import BY_NAME, USAGE_KPIS, How, Kpi, computed
from projections.analytics.questions import base
from projections.analytics.questions.base import Cursor, Question, Scope, Where
from projections.analytics.schema import CALL_COST

_RUNS = Kpi(
    "runs", "subagents", "usage", "different subagents", How("count(DISTINCT llm_session_id || ' ' || agent_id)")
)
PARTS_MAX = 100  # rows of each table of the breakdown
TOOLS_MAX = 200

# Upper bounds of the histogram's buckets, micro-USD; what costs more is in a last one without a bound.
BOUNDS = (0, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000,
          50_000_000, 100_000_000)  # fmt: skip


class BreakdownParams(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows."""

    scope: Scope = Scope()


def breakdown(cursor: Cursor, org_id: UUID, params: BreakdownParams) -> dict[str, Any]:
    """The cost of a range, taken apart every way the facts allow without looking at single calls."""
    where = base.usage(org_id, params.scope)
    return {
        "total": base.one(cursor, computed(USAGE_KPIS, f"agg_usage WHERE {where.sql}"), where.values),
        "by_model": _by(cursor, where, "model"),
        **contract(cursor, org_id, where),
        "by_agent": _by(cursor, where, "agent"),
        "by_subagent": _by(cursor, where, "agent_type", "agent_id IS NOT NULL"),
        "by_skill": _by(cursor, where, "skill", "skill IS NOT NULL"),
        "by_repo": _by(cursor, where, "repo"),
        "by_branch": _by(cursor, where, "repo, branch", "branch IS NOT NULL"),
        "pull_requests": pull_requests(cursor, org_id, params.scope),
        "cache": cache(cursor, where),
        "unpriced": unpriced(cursor, where),
        "price_versions": [
            row["price_version"]
            for row in base.rows(
                cursor,
                f"SELECT DISTINCT price_version FROM agg_usage WHERE {where.sql}"  # noqa: S608
                " AND price_version IS NOT NULL ORDER BY price_version",
                where.values,
            )
        ],
    }


def _by(cursor: Cursor, where: Where, columns: str, also: str = "TRUE") -> list[dict[str, Any]]:
    """Usage KPIs per value of `columns`, the most expensive first.

    Rests are in, as in every other slice: they have the place of their conversation, and no model.
    """
    return base.rows(
        cursor,
        computed(USAGE_KPIS, f"agg_usage WHERE {where.sql} AND {also}", columns)
        + f" ORDER BY total_cost_usd_micros DESC, {columns} LIMIT {PARTS_MAX}",
        where.values,
    )


def contract(cursor: Cursor, org_id: UUID, where: Where) -> dict[str, Any]:
    """The cost after the discounts of the organization's contracts, each sum rounded once, and what the discounts took off.

    A rest names no model: only discounts for every model reach it, so the part without a model is told apart.
    """
    agreed = [
        Discount(**row)
        for row in base.rows(
            cursor,
            "SELECT discount_id, pattern, basis_points, valid_from, valid_until FROM dim_discount WHERE org_id = ?",
            [org_id],
        )
    ]
    total = off = unnamed = 0  # pico-USD, the last two in basis points of it
    for row in base.rows(
        cursor,
        "SELECT model, CAST(slot_at AS DATE) AS day, sum(cost_pico_usd) AS cost FROM agg_usage"  # noqa: S608
        f" WHERE {where.sql} AND cost_pico_usd IS NOT NULL GROUP BY model, day",
        where.values,
    ):
        points = basis_points_of(agreed, row["model"], row["day"])
        total += row["cost"]
        off += row["cost"] * points
        if row["model"] is None:
            unnamed += row["cost"] * (BASIS_POINTS_MAX - points)
    rounded = _after_discount(total * BASIS_POINTS_MAX - off)
    return {
        "contract_cost_usd_micros": rounded,
        "contract_cost_without_model_usd_micros": _after_discount(unnamed),
        "discount_usd_micros": (micro_usd(total) or 0) - rounded,
    }


def _after_discount(pico_points: int) -> int:
    """Micro-USD of pico-USD times basis points: the exact fraction, rounded half to even once."""
    return round(Fraction(pico_points, BASIS_POINTS_MAX * 1_000_000))


def pull_requests(cursor: Cursor, org_id: UUID, scope: Scope) -> dict[str, Any]:
    """Sessions that opened pull requests, and what those sessions cost."""
    where = base.sessions(org_id, scope)
    found = base.one(
        cursor,
        "SELECT count(*) AS sessions, coalesce(sum(pull_requests), 0)::BIGINT AS pull_requests,"  # noqa: S608
        " coalesce(sum(cost_usd_micros), 0)::BIGINT AS cost_usd_micros"
        f" FROM fact_session WHERE {where.sql} AND pull_requests > 0",
        where.values,
    )
    opened, cost = found["pull_requests"], found["cost_usd_micros"]
    return {**found, "cost_per_pull_request_usd_micros": round(Fraction(cost, opened)) if opened else None}


_DEARER = "m.input_pico_usd - m.cache_read_pico_usd"
_REWRITTEN = tuple((length, f"m.cache_write_{length}_pico_usd - m.cache_read_pico_usd") for length in ("5m", "1h"))
_PROMPT = " + ".join(f"sum({name}_tokens)" for name in ("input", "cache_read", "cache_write_5m", "cache_write_1h"))


def cache(cursor: Cursor, where: Where) -> dict[str, Any]:
    """What the prompt cache did, at today's list prices: money it saved, and what calls that found it cold wrote anew.

    Tokens without a price are left out of the money; where none has one, it is unknown.
    """
    lost = {
        name: _worth(*((f"u.{name}_write_{length}_tokens", price) for length, price in _REWRITTEN))
        for name in ("cold", "switch")
    }
    found = base.one(
        cursor,
        f"SELECT sum(cache_read_tokens)::DOUBLE / nullif({_PROMPT}, 0) AS hit_rate,"  # noqa: S608
        f" {_worth(('u.cache_read_tokens', _DEARER))} AS saved_usd_micros,"
        " coalesce(sum(cold_calls), 0)::BIGINT AS cold_calls,"
        f" {lost['cold']} AS cold_usd_micros,"
        " coalesce(sum(switch_calls), 0)::BIGINT AS switch_calls,"
        f" {lost['switch']} AS switch_usd_micros"
        f" FROM (SELECT * FROM agg_usage WHERE {where.sql}) u LEFT JOIN dim_model m USING (model)",
        where.values,
    )
    return {name: micro_usd(value) if name.endswith("_usd_micros") else value for name, value in found.items()}


def _worth(*parts: tuple[str, str]) -> str:
    """Pico-USD of columns of tokens times their prices: of no tokens 0, of tokens none of which has a price NULL.

    HUGEINT: what a row tells are only numbers that somebody sent, and their product may be larger than a BIGINT.
    """
    told = " + ".join(f"coalesce(sum({tokens}), 0)" for tokens, _ in parts)
    sums = ", ".join(f"sum({tokens}::HUGEINT * ({price})) FILTER (WHERE {tokens} <> 0)" for tokens, price in parts)
    return f"coalesce(list_sum([{sums}]), CASE WHEN {told} = 0 THEN 0 END)"


def unpriced(cursor: Cursor, where: Where) -> list[dict[str, Any]]:
    """Models with calls that have no price of ours."""
    return base.rows(
        cursor,
        "SELECT model, sum(unpriced_calls)::BIGINT AS calls, sum(uncosted_calls)::BIGINT AS uncosted_calls"  # noqa: S608
        f" FROM agg_usage WHERE {where.sql} AND unpriced_calls > 0 GROUP BY model ORDER BY calls DESC, model LIMIT {PARTS_MAX}",
        where.values,
    )


class ToolParams(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows."""

    scope: Scope = Scope()


def by_tool(cursor: Cursor, org_id: UUID, params: ToolParams) -> dict[str, Any]:
    """Tool calls, and the cost of the model calls that asked for them, shared among the tools one call asked for.

    Shares are whole pico-USD that add up to the call's cost; a tool call has the same share whatever range is asked for.
    """
    scope = params.scope
    where = Where("t.org_id = ? AND t.stand_in = l.tools_stand_in", [org_id])
    if scope.since is not None:
        where = where.plus("t.called_at >= ?", base.utc(scope.since))
    if scope.until is not None:
        where = where.plus("t.called_at < ?", base.utc(scope.until))
    for name in ("person_id", "agent", "project", "repo", "branch"):
        if (wanted := getattr(scope, name)) is not None:
            where = where.plus(f"l.{name} = ?", wanted)
    asked_by = "" if scope.model is None else "WHERE model = ?"
    found = base.rows(
        cursor,
        f"""
        WITH told AS (
            SELECT t.llm_session_id, t.tool_use_id, t.name, t.mcp_server, t.status, t.duration_ms, t.request_id
              FROM fact_tool_call t JOIN fact_llm_session l USING (org_id, llm_session_id)
             WHERE {where.sql}
        ),
        sharing AS (
            SELECT t.llm_session_id, t.tool_use_id, t.request_id,
                   row_number() OVER (PARTITION BY t.request_id ORDER BY t.llm_session_id, t.tool_use_id) AS place,
                   count(*) OVER (PARTITION BY t.request_id) AS sharers
              FROM fact_tool_call t JOIN fact_llm_session l USING (org_id, llm_session_id)
             WHERE t.org_id = ? AND t.stand_in = l.tools_stand_in AND t.request_id IN (SELECT request_id FROM told)
        ),
        asked AS (
            SELECT c.request_id, any_value(c.model) AS model, max({CALL_COST}) AS cost_pico_usd
              FROM fact_llm_call c JOIN fact_llm_session l USING (org_id, llm_session_id)
             WHERE c.org_id = ? AND c.counts AND c.request_id IN (SELECT request_id FROM told)
             GROUP BY c.request_id
        )
        SELECT coalesce(name, '(not named)') AS tool, mcp_server, count(*) AS calls,
               count(*) FILTER (WHERE status = 'failed') AS failed,
               count(*) FILTER (WHERE status = 'denied') AS denied,
               coalesce(sum(duration_ms), 0)::BIGINT AS duration_ms,
               coalesce(sum(cost_pico_usd // sharers
                   + CASE WHEN place <= cost_pico_usd % sharers THEN 1 ELSE 0 END), 0)::HUGEINT AS cost_pico_usd,
               count(*) FILTER (WHERE cost_pico_usd IS NULL) AS uncosted_calls
          FROM told LEFT JOIN sharing USING (llm_session_id, tool_use_id, request_id) LEFT JOIN asked USING (request_id)
          {asked_by}
         GROUP BY ALL ORDER BY cost_pico_usd DESC, calls DESC, tool, mcp_server
        """,  # noqa: S608
        [*where.values, org_id, org_id, *([] if scope.model is None else [scope.model])],
    )
    servers: dict[str, dict[str, Any]] = {}
    for row in found:
        if (server := row["mcp_server"]) is not None:
            sums = servers.setdefault(server, {"mcp_server": server, **dict.fromkeys(_OF_SERVER, 0)})
            for name in _OF_SERVER:
                sums[name] += row[name]
    ordered = sorted(servers.values(), key=lambda row: (-row["cost_pico_usd"], row["mcp_server"]))
    return {"tools": [_costed(row) for row in found[:TOOLS_MAX]], "mcp_servers": [_costed(row) for row in ordered]}


_OF_SERVER = ("calls", "failed", "denied", "duration_ms", "cost_pico_usd", "uncosted_calls")


def _costed(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "cost_usd_micros": micro_usd(int(row["cost_pico_usd"]))}


class SubagentParams(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows."""

    scope: Scope = Scope()


def by_subagent(cursor: Cursor, org_id: UUID, params: SubagentParams) -> dict[str, Any]:
    """Usage per kind of subagent, and that of the main threads."""
    where = base.usage(org_id, params.scope)
    kind = "coalesce(agent_type, '(not named)') AS subagent"
    named = f"(SELECT *, {kind} FROM agg_usage WHERE {where.sql} AND agent_id IS NOT NULL)"  # noqa: S608
    return {
        "subagents": base.rows(
            cursor,
            computed((_RUNS, *USAGE_KPIS), named, "subagent")
            + f" ORDER BY total_cost_usd_micros DESC, subagent LIMIT {PARTS_MAX}",
            where.values,
        ),
        "main": base.one(
            cursor,
            computed(USAGE_KPIS, f"agg_usage WHERE {where.sql} AND agent_id IS NULL"),
            where.values,
        ),
    }


class HistogramParams(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows."""

    scope: Scope = Scope()


def histogram(cursor: Cursor, org_id: UUID, params: HistogramParams) -> dict[str, Any]:
    """Sessions by what they cost; those without model calls that have no cost are not told of."""
    where = base.sessions(org_id, params.scope)
    found = {
        row["bucket"]: row
        for row in base.rows(
            cursor,
            "SELECT len(list_filter(?::BIGINT[], lambda x: cost_usd_micros > x)) AS bucket, count(*) AS sessions,"  # noqa: S608
            f" sum(cost_usd_micros)::BIGINT AS cost_usd_micros FROM fact_session WHERE {where.sql}"
            " AND cost_usd_micros IS NOT NULL GROUP BY bucket",
            [list(BOUNDS), *where.values],
        )
    }
    empty = {"sessions": 0, "cost_usd_micros": 0}
    shares = base.one(
        cursor,
        f"SELECT {BY_NAME['sessions_without_cost'].sql} AS without_cost,"  # noqa: S608
        " quantile_disc(cost_usd_micros, 0.5) AS p50_usd_micros, quantile_disc(cost_usd_micros, 0.9) AS p90_usd_micros,"
        " quantile_disc(cost_usd_micros, 0.99) AS p99_usd_micros, max(cost_usd_micros) AS max_usd_micros"
        f" FROM fact_session WHERE {where.sql}",
        where.values,
    )
    lows = (None, *BOUNDS)
    highs = (*BOUNDS, None)
    return {
        "buckets": [
            {
                "above_usd_micros": low,
                "up_to_usd_micros": high,
                "sessions": found.get(n, empty)["sessions"],
                "cost_usd_micros": found.get(n, empty)["cost_usd_micros"],
            }
            for n, (low, high) in enumerate(zip(lows, highs, strict=True))
        ],
        **shares,
    }


BREAKDOWN = Question("cost-breakdown", BreakdownParams, breakdown)
BY_TOOL = Question("cost-by-tool", ToolParams, by_tool)
BY_SUBAGENT = Question("cost-by-subagent", SubagentParams, by_subagent)
HISTOGRAM = Question("cost-histogram", HistogramParams, histogram)
