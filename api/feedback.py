"""What people say about sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import msgspec
from litestar import Request, Response, Router, post
from litestar.params import FromPath

from api.answers import body_of, json_answer
from api.auth import base_path, principal_of
from api.bodies import read_json
from api.errors import not_found
from api.fresh import wait_until_fresh
from api.idempotency import once_of
from api.services import services_of
from api.sessions import READ_MODEL
from commands import sessions
from eventstore.database import tenant
from projections.sessions import queries
from schemas.feedback import FeedbackSubmitted, SubmitFeedback

_submit = msgspec.json.Decoder(SubmitFeedback)


@post(
    "/api/v1/{organization_id:str}/sessions/{session_id:str}/feedback",
    status_code=201,
    summary="Say how a session went",
    operation_class=body_of(SubmitFeedback),
)
async def submit_feedback(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    session_id: FromPath[str],
) -> Response[FeedbackSubmitted]:
    """A rating, a comment (sealed for who says it), or both; the id may be the agent's own."""
    body = await read_json(request, _submit)
    services, principal = services_of(request), principal_of(request)
    await wait_until_fresh(request, READ_MODEL)
    async with tenant(services.pool, principal.org_id) as connection:
        found = await queries.find_session(connection, principal.org_id, session_id)
    if found is None:
        raise not_found("session")
    once = once_of(request, f"sessions.feedback {found.session_id}", body)
    feedback_id = once.new_id() if once else uuid4()
    outcome = await sessions.submit_feedback(
        services.store,
        principal,
        found.session_id,
        feedback_id,
        rating=body.rating,
        comment=body.comment,
        at=datetime.now(UTC),
        once=once,
    )
    position = outcome.position if outcome else 0
    links = {"session": f"{base_path(request)}/sessions/{quote(found.session_id, safe='')}"}
    answer = FeedbackSubmitted(id=feedback_id, session_id=found.session_id, position=position, links=links)
    return json_answer(answer, 201, position=position)


ROUTER = Router("/", route_handlers=[submit_feedback], tags=["sessions"])
