"""All KPIs at once, over time, and grouped by agent, user, project and more."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec

from projections.analytics import periods
from projections.analytics.kpis import SESSION_KPIS, USAGE_KPIS, computed
from projections.analytics.periods import Length, cut, zone
from projections.analytics.questions import base
from projections.analytics.questions.base import GROUPS_MAX, Cursor, Question, QuestionError, Scope, utc

Group = Literal["agent", "person_id", "project", "repo", "branch"]
_SUMMED = [
    "cost_pico_usd",
    "calls",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "uncosted_calls",
    "unpriced_calls",
    "reported_pico_usd",
    "priced_pico_usd",
    "compared_reported_pico_usd",
    "compared_priced_pico_usd",
]


class SummaryParams(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows."""

    scope: Scope = Scope()


def summary(cursor: Cursor, org_id: UUID, params: SummaryParams) -> dict[str, Any]:
    """Every KPI by name."""
    told, used = base.sessions(org_id, params.scope), base.usage(org_id, params.scope)
    return {
        **base.one(cursor, computed(SESSION_KPIS, f"fact_session WHERE {told.sql}"), told.values),
        **base.one(cursor, computed(USAGE_KPIS, f"agg_usage WHERE {used.sql}"), used.values),
    }


class SeriesParams(msgspec.Struct, frozen=True, kw_only=True):
    """`scope` needs both ends; `zone` is the caller's time zone."""

    scope: Scope
    length: Length = "daily"
    zone: str = "UTC"


def series(cursor: Cursor, org_id: UUID, params: SeriesParams) -> dict[str, Any]:
    """Every KPI for each period of the range, those in which nothing happened included."""
    found = periods_of(params)
    starts = [utc(period.start) for period in found]
    told, used = base.sessions(org_id, params.scope), base.usage(org_id, params.scope)
    begun = base.rows(
        cursor,
        computed(
            SESSION_KPIS,
            f"(SELECT * FROM fact_session WHERE {told.sql}) s"  # noqa: S608
            " ASOF JOIN (SELECT unnest(?::TIMESTAMP[]) AS start_at) p ON s.started_at >= p.start_at",
            "start_at",
        ),
        [*told.values, starts],
    )
    sums = ", ".join(f"sum({name}) AS {name}" for name in _SUMMED)
    spent = base.rows(
        cursor,
        computed(
            USAGE_KPIS,
            f"(SELECT slot_at, kind, {sums} FROM agg_usage WHERE {used.sql} GROUP BY slot_at, kind) u"  # noqa: S608
            " ASOF JOIN (SELECT unnest(?::TIMESTAMP[]) AS start_at) p ON u.slot_at >= p.start_at",
            "start_at",
        ),
        [*used.values, starts],
    )
    by_start: dict[Any, dict[str, Any]] = {}
    for row in (*begun, *spent):
        by_start.setdefault(utc(row.pop("start_at")), {}).update(row)
    return {
        "period": params.length,
        "time_zone": params.zone,
        "points": [
            {"label": period.label, "start": period.start, "end": period.end, **EMPTY, **by_start.get(start, {})}
            for period, start in zip(found, starts, strict=True)
        ],
    }


# What a period shows in which nothing happened: counts and sums of nothing are 0, shares and averages are unknown.
EMPTY: dict[str, Any] = {
    kpi.name: None if kpi.unit == "share of 1" or kpi.name.startswith("average_") else 0
    for kpi in (*SESSION_KPIS, *USAGE_KPIS)
}


def periods_of(params: SeriesParams) -> list[periods.Period]:
    """The periods of a range.

    Raises:
        QuestionError: a bound is missing, the zone is unknown, or there would be too many periods.
    """
    scope = params.scope
    if scope.since is None or scope.until is None:
        raise QuestionError("since", "since and until: expected both ends of the range")
    try:
        return cut(scope.since, scope.until, params.length, zone(params.zone))
    except LookupError as error:
        raise QuestionError("time_zone", f"time_zone: {error}") from error
    except periods.TooManyPeriodsError as error:
        raise QuestionError("period", f"period: {error}") from error


class GroupParams(msgspec.Struct, frozen=True, kw_only=True):
    """`by` is the dimension."""

    scope: Scope = Scope()
    by: Group = "agent"
    limit: int = GROUPS_MAX


def grouped(cursor: Cursor, org_id: UUID, params: GroupParams) -> dict[str, Any]:
    """Every KPI per value of a dimension, the most expensive first; None is a value too: not known."""
    told, used, by = base.sessions(org_id, params.scope), base.usage(org_id, params.scope), params.by
    found: dict[Any, dict[str, Any]] = {}
    for table, kpis, where in (("fact_session", SESSION_KPIS, told), ("agg_usage", USAGE_KPIS, used)):
        for row in base.rows(cursor, computed(kpis, f"{table} WHERE {where.sql}", by), where.values):
            key = row.pop(by)
            found.setdefault(key, {"key": key, **EMPTY}).update(row)
    ordered = sorted(
        found.values(),
        key=lambda row: (-row["total_cost_usd_micros"], -row["total_sessions"], str(row["key"] or "")),
    )
    return {"by": by, "total": len(ordered), "groups": ordered[: max(1, min(params.limit, GROUPS_MAX))]}


SUMMARY = Question("summary", SummaryParams, summary)
SERIES = Question("timeseries", SeriesParams, series)
GROUPED = Question("grouped", GroupParams, grouped)
