"""Where the money goes."""

from __future__ import annotations

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from api.analytics.asking import AnyRequest, Tenant, answered, ask
from api.answers import json_answer
from projections.analytics.questions.base import Scope
from projections.analytics.questions.costs import BreakdownParams, HistogramParams, SubagentParams, ToolParams
from schemas.analytics import Breakdown, Histogram, SubagentCosts, ToolCosts

_T = "/api/v1/{organization_id:str}"
Part = NamedDependency[Scope]


@get(f"{_T}/sessions/analytics/cost-breakdown", summary="Cost taken apart")
async def breakdown(request: AnyRequest, organization_id: FromPath[str], part: Part) -> Response[Breakdown]:  # noqa: ARG001
    """By model, agent, subagent, skill, repository, branch and pull request; the cache; what has no price; contract discounts."""
    told = await ask(request, "cost-breakdown", BreakdownParams(scope=part), Breakdown)
    links = ("sessions/analytics/cost-breakdown", "analytics/costs/by-tool", "contract_discounts")
    return json_answer(answered(request, told.value, told, part, *links))


@get(f"{_T}/analytics/costs/by-tool", summary="Cost by tool and MCP server")
async def by_tool(request: AnyRequest, organization_id: FromPath[str], part: Part) -> Response[ToolCosts]:  # noqa: ARG001
    """A tool's cost is its share of the model calls that asked for it."""
    told = await ask(request, "cost-by-tool", ToolParams(scope=part), ToolCosts)
    return json_answer(answered(request, told.value, told, part, "analytics/costs/by-tool"))


@get([f"{_T}/analytics/costs/by-subagent", "/api/analytics/costs/by-subagent"], summary="Cost by subagent")
async def by_subagent(
    request: AnyRequest,
    part: Part,
    organization_id: Tenant = None,  # noqa: ARG001
) -> Response[SubagentCosts]:
    """Kinds of subagents, the most expensive first."""
    told = await ask(request, "cost-by-subagent", SubagentParams(scope=part), SubagentCosts)
    return json_answer(answered(request, told.value, told, part, "analytics/costs/by-subagent"))


@get([f"{_T}/analytics/costs/histogram", "/api/analytics/costs/histogram"], summary="Cost histogram")
async def histogram(
    request: AnyRequest,
    part: Part,
    organization_id: Tenant = None,  # noqa: ARG001
) -> Response[Histogram]:
    """Sessions that began in the range, by what they cost."""
    told = await ask(request, "cost-histogram", HistogramParams(scope=part), Histogram)
    return json_answer(answered(request, told.value, told, part, "analytics/costs/histogram"))


HANDLERS = (breakdown, by_tool, by_subagent, histogram)
