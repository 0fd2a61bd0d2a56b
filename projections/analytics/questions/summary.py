"""All KPIs at once, over time, and grouped by agent, user, project and more."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec

from projections.analytics import periods
from projections.analytics.kpis import SESSION_KPIS, USAGE_KPIS
from projections.analytics.periods import Length, cut, zone
from projections.analytics.questions import base, sums
from projections.analytics.questions.base import GROUPS_MAX, Cursor, Question, QuestionError, Scope
from projections.analytics.questions.sums import ALL, By

Group = Literal["agent", "person_id", "project", "repo", "branch"]


class SummaryParams(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows."""

    scope: Scope = Scope()


def summary(cursor: Cursor, org_id: UUID, params: SummaryParams) -> dict[str, Any]:
    """Every KPI by name."""
    begun, spent = base.beside(
        cursor,
        lambda cursor: sums.session_kpis(cursor, org_id, params.scope),
        lambda cursor: sums.usage_kpis(cursor, org_id, params.scope),
    )
    return {**begun[ALL], **spent[ALL]}


class SeriesParams(msgspec.Struct, frozen=True, kw_only=True):
    """`scope` needs both ends; `zone` is the caller's time zone."""

    scope: Scope
    length: Length = "daily"
    zone: str = "UTC"


def series(cursor: Cursor, org_id: UUID, params: SeriesParams) -> dict[str, Any]:
    """Every KPI for each period of the range, those in which nothing happened included."""
    found = periods_of(params)
    by = By.periods(found)
    begun, spent = base.beside(
        cursor,
        lambda cursor: sums.session_kpis(cursor, org_id, params.scope, by),
        lambda cursor: sums.usage_kpis(cursor, org_id, params.scope, by),
    )
    return {
        "period": params.length,
        "time_zone": params.zone,
        "points": [
            {
                "label": period.label,
                "start": period.start,
                "end": period.end,
                **begun.get(number, NOT_BEGUN),
                **spent.get(number, NOT_SPENT),
            }
            for number, period in enumerate(found)
        ],
    }


# What a period shows in which nothing happened: counts and sums of nothing are 0, shares and averages are unknown.
NOT_BEGUN, NOT_SPENT = ({kpi.name: None if kpi.is_share else 0 for kpi in kpis} for kpis in (SESSION_KPIS, USAGE_KPIS))


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
    by = By(params.by)
    begun, spent = base.beside(
        cursor,
        lambda cursor: sums.session_kpis(cursor, org_id, params.scope, by),
        lambda cursor: sums.usage_kpis(cursor, org_id, params.scope, by),
    )
    found = [
        {"key": key, **begun.get(key, NOT_BEGUN), **spent.get(key, NOT_SPENT)}
        for key in dict.fromkeys((*begun, *spent))
    ]
    ordered = sorted(
        found,
        key=lambda row: (-row["total_cost_usd_micros"], -row["total_sessions"], str(row["key"] or "")),
    )
    return {"by": params.by, "total": len(ordered), "groups": ordered[: max(1, min(params.limit, GROUPS_MAX))]}


SUMMARY = Question("summary", SummaryParams, summary)
SERIES = Question("timeseries", SeriesParams, series)
GROUPED = Question("grouped", GroupParams, grouped)
