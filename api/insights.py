"""What can be learned from a session."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response, Router, get
from litestar.params import FromPath

from api.answers import json_answer
from api.auth import base_path, principal_of
from api.errors import not_found
from api.fresh import wait_until_fresh
from api.services import services_of
from api.sessions import READ_MODEL
from eventstore.database import tenant
from projections import summaries
from projections.sessions import queries
from projections.sessions.insights import insights, model_time
from schemas.insights import InsightsAnswer
from schemas.linked import linked


@get("/api/v1/{organization_id:str}/sessions/{session_id:str}/insights", summary="What a session teaches")
async def session_insights(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    session_id: FromPath[str],
) -> Response[InsightsAnswer]:
    """Efficiency, recommendations, tips and a summary by documented rules; `ai` is what a model wrote, where one is asked."""
    services, org_id, base = services_of(request), principal_of(request).org_id, base_path(request)
    await wait_until_fresh(request, READ_MODEL)
    async with tenant(services.pool, org_id) as connection:
        found = await queries.session_detail(connection, org_id, session_id)
        model_ms = await model_time(connection, org_id, found) if found else None
        row = await summaries.find_summary(connection, org_id, found.session.id) if found else None
    if found is None:
        raise not_found("session")
    answer = insights(found, model_ms)
    if row is not None:
        ai = await summaries.opened(services.keyring, row, found.session.last_activity_at)
        answer = msgspec.structs.replace(answer, ai=ai)
    session = f"{base}/sessions/{quote(found.session.id, safe='')}"
    links = {"self": f"{session}/insights", "session": session}
    return json_answer(linked(InsightsAnswer, answer, links))


ROUTER = Router("/", route_handlers=[session_insights], tags=["sessions"])
