"""All KPIs at once, over time, and grouped by agent, user, project and more."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec

from projections.analytics import periods
from projections.analytics.kpis import SESSION_KPIS, USAGE_KPIS
from projections.analytics.periods import Length, cut, zone
from projections.analytics.questions import base
from projections.analytics.questions.base import GROUPS_MAX, Cursor, Question, QuestionError, Scope, Where, utc

Group = Literal["agent", "person_id", "project", "repo", "branch"]


class SummaryParams(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows."""

    scope: Scope = Scope()


def summary(cursor: Cursor, org_id: UUID, params: SummaryParams) -> dict[str, Any]:
    """Every KPI by name."""
    told, used = base.sessions(org_id, params.scope), base.used(org_id, params.scope)
    begun, spent = base.beside(
        cursor,
        lambda cursor: base.kpi_rows(cursor, SESSION_KPIS, Where(f"fact_session WHERE {told.sql}", told.values)),
        lambda cursor: base.kpi_rows(cursor, USAGE_KPIS, used),
    )
    return {**begun[0], **spent[0]}


class SeriesParams(msgspec.Struct, frozen=True, kw_only=True):
    """`scope` needs both ends; `zone` is the caller's time zone."""

    scope: Scope
    length: Length = "daily"
    zone: str = "UTC"


def series(cursor: Cursor, org_id: UUID, params: SeriesParams) -> dict[str, Any]:
    """Every KPI for each period of the range, those in which nothing happened included."""
    found = periods_of(params)
    starts = [utc(period.start) for period in found]
    told, used = base.sessions(org_id, params.scope), base.used(org_id, params.scope, "slot_at")
    # Which period each quarter of an hour belongs to; every period but the first begins with one.
    quarters = (
        "(SELECT start_at, unnest(generate_series(time_bucket(INTERVAL 15 MINUTES, start_at),"
        " end_at - INTERVAL 1 MICROSECOND, INTERVAL 15 MINUTES)) AS quarter_at"
        " FROM (SELECT unnest(?::TIMESTAMP[]) AS start_at, unnest(?::TIMESTAMP[]) AS end_at)) p"
    )
    bounds = [starts, [utc(period.end) for period in found]]
    sessions = (
        f"(SELECT *, time_bucket(INTERVAL 15 MINUTES, started_at) AS quarter_at FROM fact_session WHERE {told.sql}) s"  # noqa: S608
    )
    usage = f"(SELECT *, slot_at AS quarter_at FROM {used.sql}) u"  # noqa: S608
    begun, spent = base.beside(
        cursor,
        lambda cursor: base.kpi_rows(
            cursor,
            SESSION_KPIS,
            Where(f"{sessions} JOIN {quarters} USING (quarter_at)", [*told.values, *bounds]),
            "start_at",
        ),
        lambda cursor: base.kpi_rows(
            cursor,
            USAGE_KPIS,
            Where(f"{usage} JOIN {quarters} USING (quarter_at)", [*used.values, *bounds]),
            "start_at",
        ),
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
EMPTY: dict[str, Any] = {kpi.name: None if kpi.is_share else 0 for kpi in (*SESSION_KPIS, *USAGE_KPIS)}


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
    by = params.by
    told, used = base.sessions(org_id, params.scope), base.used(org_id, params.scope, by)
    found: dict[Any, dict[str, Any]] = {}
    begun, spent = base.beside(
        cursor,
        lambda cursor: base.kpi_rows(cursor, SESSION_KPIS, Where(f"fact_session WHERE {told.sql}", told.values), by),
        lambda cursor: base.kpi_rows(cursor, USAGE_KPIS, used, by),
    )
    for part in (begun, spent):
        for row in part:
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
