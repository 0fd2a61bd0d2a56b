"""Analytics over HTTP: each route asks one question of an analytics worker."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath

from api.analytics.asking import Told, ask, scope_of
from api.answers import json_answer
from api.auth import base_path
from projections.analytics.questions.base import Scope
from projections.analytics.questions.summary import SummaryParams
from schemas.analytics import Kpis, Summary

AnyRequest = Request[Any, Any, Any]
Tenant = FromPath[str | None]
_T = "/api/v1/{organization_id:str}"


def about(scope: Scope, told: Told) -> dict[str, Any]:
    """What every answer says about itself."""
    return {"since": scope.since, "until": scope.until, "position": told.position, "as_of": told.as_of}


@get(
    [f"{_T}/sessions/analytics/summary", f"{_T}/analytics/summary", "/api/analytics/summary"],
    summary="All KPIs of a range",
)
async def summary(
    request: AnyRequest,
    part: NamedDependency[Scope],
    organization_id: Tenant = None,  # noqa: ARG001  checked by the guard
) -> Response[Summary]:
    """Sessions count in the range in which they began, calls and cost in the range in which they were made."""
    told = await ask(request, "summary", SummaryParams(scope=part), Kpis)
    base = base_path(request)
    links = {"self": f"{base}/sessions/analytics/summary", "timeseries": f"{base}/sessions/analytics/timeseries"}
    return json_answer(Summary(kpis=told.value, links=links, **about(part, told)))


ROUTER = Router("/", route_handlers=[summary], dependencies={"part": Provide(scope_of)}, tags=["analytics"])
