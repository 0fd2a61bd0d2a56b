"""One week beside the one before."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.analytics.asking import YEAR_MAX, YEAR_MIN, AnyRequest, Tenant, answered, ask, out_of_calendar
from api.analytics.kpis import Zone
from api.answers import json_answer
from api.errors import ApiError
from projections.analytics.periods import begin, zone
from projections.analytics.questions.base import Scope
from projections.analytics.questions.summary import GroupParams, SeriesParams, SummaryParams
from schemas.analytics import Grouped, Kpis, Series, Weekly

TOP_MAX = 5
Filters = NamedDependency[Scope]


@get(
    ["/api/v1/{organization_id:str}/sessions/summary/weekly", "/api/v2/sessions/summary/weekly"],
    summary="A week beside the one before",
)
async def weekly(
    request: AnyRequest,
    filters: Filters,
    organization_id: Tenant = None,  # noqa: ARG001
    week: Annotated[date | None, QueryParameter(description="a day of the week; today if not given")] = None,
    time_zone: Zone = "UTC",
) -> Response[Weekly]:
    """Monday to Sunday of the time zone."""
    try:
        place = zone(time_zone)
    except LookupError as error:
        raise ApiError(400, f"time_zone: {error}", details={"field": "time_zone"}) from error
    if week is not None and not YEAR_MIN <= week.year <= YEAR_MAX:
        raise out_of_calendar("week")
    noon = datetime.now(UTC) if week is None else datetime(week.year, week.month, week.day, 12, tzinfo=place)
    start = begin(noon, "weekly", place)
    end = begin(start + timedelta(days=9), "weekly", place)
    scope = msgspec.structs.replace(filters, since=start, until=end)
    earlier = msgspec.structs.replace(filters, since=begin(start - timedelta(days=3), "weekly", place), until=start)
    told = await ask(request, "summary", SummaryParams(scope=scope), Kpis)
    before = await ask(request, "summary", SummaryParams(scope=earlier), Kpis, after=told.position)
    days = await ask(
        request, "timeseries", SeriesParams(scope=scope, length="daily", zone=time_zone), Series, after=told.position
    )
    projects = await ask(
        request, "grouped", GroupParams(scope=scope, by="project", limit=TOP_MAX), Grouped, after=told.position
    )
    agents = await ask(
        request, "grouped", GroupParams(scope=scope, by="agent", limit=TOP_MAX), Grouped, after=told.position
    )
    found = Weekly(
        time_zone=time_zone,
        kpis=told.value,
        before=before.value,
        change={name: _change(told.value, before.value, name) for name in Kpis.__struct_fields__},
        days=days.value.points,
        by_project=projects.value.groups,
        by_agent=agents.value.groups,
    )
    return json_answer(answered(request, found, told, scope, "sessions/summary/weekly"))


def _change(now: Kpis, before: Kpis, name: str) -> float | None:
    one, other = getattr(now, name), getattr(before, name)
    return None if one is None or other is None else one - other


HANDLERS = (weekly,)
