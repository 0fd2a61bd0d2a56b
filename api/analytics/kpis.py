"""KPIs: all at once, over time, per agent, person and project, and what coaching does."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from api.analytics.asking import AnyRequest, Tenant, answered, ask
from api.answers import json_answer
from projections.analytics.periods import Length
from projections.analytics.questions.base import Scope
from projections.analytics.questions.coaching import CoachingParams
from projections.analytics.questions.summary import Group, GroupParams, SeriesParams, SummaryParams
from schemas.analytics import Coaching, Grouped, Kpis, Point, Series, SuccessPoint, SuccessTrend, Summary

_T = "/api/v1/{organization_id:str}"
_S = f"{_T}/sessions/analytics"
Period = Annotated[Length, QueryParameter(description="`hourly`, `daily`, `weekly` (from Monday) or `monthly`")]
Zone = Annotated[str, QueryParameter(max_length=64, description="time zone whose clock and calendar cut the periods")]
Part = NamedDependency[Scope]


@get(
    [f"{_S}/summary", f"{_T}/analytics/summary", "/api/analytics/summary"],
    summary="All KPIs of a range",
)
async def summary(
    request: AnyRequest,
    part: Part,
    organization_id: Tenant = None,  # noqa: ARG001  checked by the guard
) -> Response[Summary]:
    """Sessions count in the range in which they began, calls and cost in the range in which they were made."""
    told = await ask(request, "summary", SummaryParams(scope=part), Kpis)
    return json_answer(
        answered(
            request, Summary(kpis=told.value), told, part, "sessions/analytics/summary", "sessions/analytics/timeseries"
        )
    )


@get(f"{_S}/timeseries", summary="KPIs over time")
async def timeseries(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001
    part: Part,
    period: Period = "daily",
    time_zone: Zone = "UTC",
) -> Response[Series]:
    """Every period of the range; the first and last are as long as the range lets them be."""
    told = await ask(request, "timeseries", SeriesParams(scope=part, length=period, zone=time_zone), Series)
    return json_answer(answered(request, told.value, told, part, "sessions/analytics/timeseries"))


@get(f"{_S}/success-trend", summary="Success over time")
async def success_trend(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001
    part: Part,
    period: Period = "weekly",
    time_zone: Zone = "UTC",
) -> Response[SuccessTrend]:
    """By the period in which sessions began."""
    told = await ask(request, "timeseries", SeriesParams(scope=part, length=period, zone=time_zone), Series)
    series: Series = told.value
    half = len(series.points) // 2
    earlier, later = _rate(series.points[:half]), _rate(series.points[half:])
    trend = SuccessTrend(
        period=series.period,
        time_zone=series.time_zone,
        success_rate=_rate(series.points),
        change=None if earlier is None or later is None else later - earlier,
        points=[
            SuccessPoint(**{name: getattr(point, name) for name in SuccessPoint.__struct_fields__})
            for point in series.points
        ],
    )
    return json_answer(answered(request, trend, told, part, "sessions/analytics/success-trend"))


def _rate(points: list[Point]) -> float | None:
    finished = sum(point.finished_sessions for point in points)
    return sum(point.completed_sessions for point in points) / finished if finished else None


async def _grouped(request: Request[Any, Any, Any], part: Scope, by: Group, name: str) -> Response[Grouped]:
    told = await ask(request, "grouped", GroupParams(scope=part, by=by), Grouped)
    return json_answer(answered(request, told.value, told, part, f"sessions/analytics/{name}"))


@get(f"{_S}/by-agent", summary="KPIs per agent")
async def by_agent(request: AnyRequest, organization_id: FromPath[str], part: Part) -> Response[Grouped]:  # noqa: ARG001
    """The most expensive first."""
    return await _grouped(request, part, "agent", "by-agent")


@get(f"{_S}/by-user", summary="KPIs per person")
async def by_user(request: AnyRequest, organization_id: FromPath[str], part: Part) -> Response[Grouped]:  # noqa: ARG001
    """Keys are person ids; null stands for people who were erased or are not known."""
    return await _grouped(request, part, "person_id", "by-user")


@get(f"{_S}/by-project", summary="KPIs per project")
async def by_project(request: AnyRequest, organization_id: FromPath[str], part: Part) -> Response[Grouped]:  # noqa: ARG001
    """The most expensive first; null stands for work outside of projects."""
    return await _grouped(request, part, "project", "by-project")


@get(f"{_S}/coaching", summary="The effect of coaching")
async def coaching(request: AnyRequest, organization_id: FromPath[str], part: Part) -> Response[Coaching]:  # noqa: ARG001
    """A session is coached when the working role of its person had coaching mode when it began."""
    told = await ask(request, "coaching", CoachingParams(scope=part), Coaching)
    return json_answer(answered(request, told.value, told, part, "sessions/analytics/coaching"))


HANDLERS = (summary, timeseries, success_trend, by_agent, by_user, by_project, coaching)
