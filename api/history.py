"""History and the audit view, straight from the event store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, Router, get
from litestar.params import FromPath, QueryParameter

from api.answers import json_answer
from api.auth import base_path, principal_of
from api.choices import one_of, unknown
from api.errors import ApiError, bad_cursor, not_found
from api.moments import AsOf, in_utc, position_as_of
from api.paging import cursor_links
from api.services import services_of
from domain.kernel import Stream
from projections import history
from projections.history import LIMIT_DEFAULT, LIMIT_MAX, CursorError, Query
from schemas.history import AuditEntry, AuditPage, HistoryEvent, HistoryPage, Names

Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)]
CursorText = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before", max_length=200)]
StreamName = Annotated[str | None, QueryParameter(name="stream", description="`Kind:id`, for example `Session:42`")]
TypeName = Annotated[str | None, QueryParameter(name="type", description="for example `session.started.v1`")]
Actor = Annotated[str | None, QueryParameter(description="`key:<id>`, `user:<id>` or `system:<name>`")]
After = Annotated[int, QueryParameter(ge=0, description="only events after this position")]
Since = Annotated[datetime | None, QueryParameter(description="recorded at or after")]
Until = Annotated[datetime | None, QueryParameter(description="recorded at or before")]
Order = Annotated[str, QueryParameter(description="`oldest` or `newest` first", pattern="^(oldest|newest)$")]


def parse_stream(text: str | None, name: str = "stream") -> Stream | None:
    """`Kind:id` as a stream; `name` is the parameter's.

    Raises:
        ApiError: 400, it is none, or of a kind that no event can have.
    """
    if text is None:
        return None
    try:
        stream = Stream.parse(text)
    except ValueError as error:
        raise ApiError(400, f"{name}: {error}", details={"field": name, "expected": "Kind:id"}) from error
    one_of(name, stream.kind, (*history.RESOURCE_TYPES, *history.PLATFORM_TYPES))
    return stream


def known_type(value: str | None, released: Iterable[str], *, name: str = "type", versioned: bool = True) -> str | None:
    """A type of events, if there can be events of it: of any version, because other releases may have written to the log.

    `versioned` False: an action will do, which is a type without its version.

    Raises:
        ApiError: 400, there is no such type.
    """
    if value is None:
        return None
    tags = set(released)
    actions = {history.action_of(tag) for tag in tags}
    bare = history.action_of(value)
    if bare not in actions or (versioned and bare == value):
        raise unknown(name, value, tags if versioned else actions)
    return value


@get("/api/v1/{organization_id:str}/events", summary="The organization's history")
async def list_events(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    stream: StreamName = None,
    type_: TypeName = None,
    actor: Actor = None,
    since: Since = None,
    until: Until = None,
    after: After = 0,
    as_of: AsOf = None,
    order: Order = "oldest",
    cursor: CursorText = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response[HistoryPage]:
    """Every event as stored.  Sealed values are opened for keys of scope `audit` only, and shown as sealed otherwise.

    A short page with a `next_cursor` is not the last one: what an actor did is looked for in the whole log, some seconds per request.
    """
    services, principal = services_of(request), principal_of(request)
    query = Query(
        stream=parse_stream(stream),
        type=known_type(type_, services.store.mapper.types),
        actor=actor,
        since=in_utc(since),
        until=in_utc(until),
        after=after,
        as_of=await position_as_of(services, as_of),
        newest_first=order == "newest",
        limit=limit,
        cursor=cursor,
    )
    try:
        page = await history.events(
            services.store,
            services.keyring,
            principal.org_id,
            query,
            base=base_path(request),
            links=partial(cursor_links, request, f"{base_path(request)}/events"),
            reveal="audit" in principal.scopes,
        )
    except CursorError as error:
        raise bad_cursor(error) from error
    return json_answer(page)


@get("/api/v1/{organization_id:str}/events/{event_id:uuid}", summary="One event")
async def one_event(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    event_id: FromPath[UUID],
) -> Response[HistoryEvent]:
    """As in the list."""
    services, principal = services_of(request), principal_of(request)
    found = await history.event(
        services.store,
        services.keyring,
        principal.org_id,
        event_id,
        base=base_path(request),
        reveal="audit" in principal.scopes,
    )
    if found is None:
        raise not_found("event")
    return json_answer(found)


@get(
    "/api/v1/{organization_id:str}/audit_logs",
    summary="Who did what to which thing, and when",
)
async def list_audit(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    action: Annotated[str | None, QueryParameter(description="for example `session.started`")] = None,
    resource_type: Annotated[str | None, QueryParameter(description="for example `Session`")] = None,
    resource: Annotated[str | None, QueryParameter(description="`Kind:id`")] = None,
    actor: Actor = None,
    since: Since = None,
    until: Until = None,
    as_of: AsOf = None,
    facts: Annotated[bool, QueryParameter(description="also what agents reported, not only what was decided")] = False,
    order: Order = "newest",
    cursor: CursorText = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response[AuditPage]:
    """The same stream as `/events`, in words, newest first.  A short page with a `next_cursor` is not the last one."""
    services, principal = services_of(request), principal_of(request)
    action = known_type(action, services.store.mapper.types, name="action", versioned=False)
    one_of("resource_type", resource_type, history.RESOURCE_TYPES)
    query = Query(
        stream=parse_stream(resource, "resource"),
        actor=actor,
        since=in_utc(since),
        until=in_utc(until),
        as_of=await position_as_of(services, as_of),
        newest_first=order == "newest",
        limit=limit,
        cursor=cursor,
    )
    try:
        page = await history.audit(
            services.store,
            services.keyring,
            principal.org_id,
            query,
            base=base_path(request),
            links=partial(cursor_links, request, f"{base_path(request)}/audit_logs"),
            action=action,
            resource_type=resource_type,
            facts=facts,
        )
    except CursorError as error:
        raise bad_cursor(error) from error
    return json_answer(page)


@get(
    "/api/v1/{organization_id:str}/audit_logs/{event_id:uuid}",
    summary="One audit entry",
)
async def one_audit(
    request: Request[Any, Any, Any],
    event_id: FromPath[UUID],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
) -> Response[AuditEntry]:
    """As in the list."""
    services = services_of(request)
    found = await history.audit_one(
        services.store, services.keyring, principal_of(request).org_id, event_id, base=base_path(request)
    )
    if found is None:
        raise not_found("audit entry")
    return json_answer(found)


@get(
    "/api/v1/{organization_id:str}/audit_logs/actions",
    summary="What can be done",
)
async def actions(request: Request[Any, Any, Any], organization_id: FromPath[str]) -> Names:  # noqa: ARG001
    """Every action the audit view may show, for filters."""
    known = services_of(request).store.mapper.types
    return Names(items=sorted({history.action_of(tag) for tag in known}))


@get(
    "/api/v1/{organization_id:str}/audit_logs/resource_types",
    summary="What things can be done to",
)
async def resource_types(
    organization_id: FromPath[str],  # noqa: ARG001
) -> Names:
    """Every kind of thing the audit view may show, for filters."""
    return Names(items=list(history.RESOURCE_TYPES))


ROUTER = Router(
    "/",
    route_handlers=[list_events, one_event, list_audit, one_audit, actions, resource_types],
    tags=["history"],
)
