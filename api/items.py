"""The records of agent sessions: transcript lines sent in, and everything that is known read back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.params import FromPath, QueryParameter

from api.answers import BATCHES_INGESTED, INGEST_HEADERS, INGESTED, accepted, body_of, json_answer
from api.auth import base_path, principal_of
from api.bodies import read_json
from api.errors import ApiError, bad_cursor, not_found
from api.fresh import wait_until_fresh
from api.paths import checked_id, items_path
from api.services import services_of
from commands import sessions
from eventstore.batches import PostgresBatches
from projections import subagents
from projections.consolidation import stream_status
from projections.sessions import items as items_query
from projections.sessions.queries import CursorError
from schemas.ingest import BatchesAnswer, ItemBatch, ItemBatches
from schemas.linked import ItemList

ITEMS_MAX = 20_000  # transcript lines in one request
BATCHED_ITEMS_MAX = 2_000  # transcript lines, and batches, in one request for many sessions
LIMIT_DEFAULT = 100
CURSOR_CHARS_MAX = 400
READ_MODEL = "sessions"

_batch = msgspec.json.Decoder(ItemBatch)
_batches = msgspec.json.Decoder(ItemBatches)
AnyRequest = Request[Any, Any, Any]
Limit = Annotated[int, QueryParameter(ge=1, le=items_query.PAGE_ITEMS_MAX)]
Cursor = Annotated[
    str | None, QueryParameter(description="`next_cursor` of an earlier answer", max_length=CURSOR_CHARS_MAX)
]
Tenant = FromPath[str | None]
_T = "/api/v1/{organization_id:str}"


@post(
    [
        "/api/v1/{organization_id:str}/observability/llm_sessions/{llm_session_id:str}/items",
        "/llm_sessions/{llm_session_id:str}/items",
    ],
    status_code=202,
    summary="Send transcript lines of one agent session",
    operation_class=body_of(ItemBatch),
    responses=INGESTED,
    response_headers=INGEST_HEADERS,
)
async def send_items(
    request: AnyRequest,
    llm_session_id: FromPath[str],
    organization_id: FromPath[str | None] = None,  # noqa: ARG001
) -> Response[bytes]:
    """Lines as found in the agent's file.  Sending lines again, in other batches too, is safe."""
    batch = await read_json(request, _batch)
    if len(batch.items) > ITEMS_MAX:
        message = f"$.items: expected at most {ITEMS_MAX} lines, got {len(batch.items)}"
        raise ApiError(400, message, details={"field": "$.items", "expected": f"at most {ITEMS_MAX} lines"})
    services = services_of(request)
    answer = await sessions.ingest_items(
        services.store,
        principal_of(request),
        checked_id(llm_session_id, "llm_session_id"),
        batch,
        received_at=datetime.now(UTC),
        person_secret=services.person_secret,
        names=PostgresBatches(services.pool),
    )
    return accepted(answer)


async def ingest_batches(request: AnyRequest) -> BatchesAnswer:
    """Store the lines of many sessions in the body."""
    found = await read_json(request, _batches)
    _check(found)
    services = services_of(request)
    answers = await sessions.ingest_batches(
        services.store,
        principal_of(request),
        found.batches,
        received_at=datetime.now(UTC),
        person_secret=services.person_secret,
        names=PostgresBatches(services.pool),
    )
    return BatchesAnswer(answers[0].position if answers else 0, answers)


def _check(found: ItemBatches) -> None:
    lines = sum(len(batch.items) for batch in found.batches)
    for what, count in (("batches", len(found.batches)), ("lines", lines)):
        if count > BATCHED_ITEMS_MAX:
            expected = f"at most {BATCHED_ITEMS_MAX} {what} in all"
            details = {"field": "$.batches", "expected": expected}
            raise ApiError(400, f"$.batches: expected {expected}, got {count}", details=details)
    for index, batch in enumerate(found.batches):
        checked_id(batch.llm_session_id, f"$.batches[{index}].llm_session_id")


@post(
    "/api/v1/{organization_id:str}/observability/items",
    status_code=202,
    summary="Send transcript lines of many agent sessions",
    operation_class=body_of(ItemBatches),
    responses=BATCHES_INGESTED,
    response_headers=INGEST_HEADERS,
)
async def send_batches(request: AnyRequest, organization_id: FromPath[str]) -> Response[bytes]:  # noqa: ARG001
    """Answered after the commit, with one answer per batch, in order.  Sending them again is safe."""
    return accepted(await ingest_batches(request))


async def _items(
    request: AnyRequest, llm_session_id: str, path: str, *, cursor: str | None, limit: int, subagent_id: str | None
) -> Response[ItemList]:
    services = services_of(request)
    try:
        page = await items_query.items(
            services.store,
            services.keyring,
            principal_of(request).org_id,
            llm_session_id,
            after=cursor,
            limit=limit,
            subagent_id=subagent_id,
        )
    except CursorError as error:
        raise bad_cursor(error) from error
    if cursor is None and not page.items and not page.more and subagent_id is None:
        raise not_found("agent session")
    links = {"self": path, "next": f"{path}?{urlencode({'cursor': page.next_cursor, 'limit': limit})}"}
    status = await stream_status(services.store, principal_of(request).org_id, llm_session_id)
    return json_answer(
        ItemList(stream_status=status, items=page.items, next_cursor=page.next_cursor, more=page.more, links=links)
    )


@get(
    [f"{_T}/observability/llm_sessions/{{llm_session_id:str}}/items", "/llm_sessions/{llm_session_id:str}/items"],
    summary="The records of an agent session",
)
async def llm_items(
    request: AnyRequest,
    llm_session_id: FromPath[str],
    organization_id: Tenant = None,  # noqa: ARG001
    subagent_id: Annotated[str | None, QueryParameter(description="only this subagent's", max_length=200)] = None,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response[ItemList]:
    """Hook events, telemetry and transcript lines in the order of arrival, straight from the event store."""
    path = items_path(base_path(request), llm_session_id)
    return await _items(request, llm_session_id, path, cursor=cursor, limit=limit, subagent_id=subagent_id)


@get(f"{_T}/observability/subagent_sessions/{{subagent_session_id:str}}/items", summary="The records of a subagent")
async def subagent_items(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001
    subagent_session_id: FromPath[str],
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response[ItemList]:
    """As those of an agent session, only the subagent's."""
    await wait_until_fresh(request, READ_MODEL)
    found = await subagents.find(services_of(request).pool, principal_of(request).org_id, subagent_session_id)
    if found is None:
        raise not_found("subagent")
    path = f"{base_path(request)}/observability/subagent_sessions/{quote(subagent_session_id, safe='')}/items"
    return await _items(
        request, found.llm_session_id, path, cursor=cursor, limit=limit, subagent_id=subagent_session_id
    )


ROUTER = Router("/", route_handlers=[send_items, send_batches, llm_items, subagent_items], tags=["items"])
