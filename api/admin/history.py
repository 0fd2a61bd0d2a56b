"""The event stream for staff: one organization at a time, or the platform's own; two views of the same events."""

from __future__ import annotations

from functools import partial
from typing import Annotated
from uuid import UUID

from litestar import Response, get
from litestar.params import FromPath, QueryParameter

from api.admin.notes import BASE, AnyRequest, noted, reasoned, registered
from api.answers import json_answer
from api.choices import one_of
from api.errors import bad_cursor, not_found
from api.history import (
    Actor,
    After,
    CursorText,
    Limit,
    Order,
    Since,
    StreamName,
    TypeName,
    Until,
    known_type,
    parse_stream,
)
from api.moments import AsOf, in_utc, position_as_of
from api.paging import cursor_links
from api.services import services_of
from domain.kernel import PLATFORM
from projections import history
from projections.admin.register import RegisterRow
from projections.history import LIMIT_DEFAULT, CursorError, Query
from schemas.history import AuditEntry, AuditPage, HistoryEvent, HistoryPage, Names

Organization = Annotated[
    str | None, QueryParameter(max_length=100, description="whose events, by slug or id; else the platform's own")
]
KINDS = tuple(sorted((*history.RESOURCE_TYPES, *history.PLATFORM_TYPES)))
Kind = Annotated[str | None, QueryParameter(max_length=100, description="for example `Session`")]


async def chosen(request: AnyRequest, name: str | None) -> tuple[RegisterRow | None, UUID, str]:
    """The organization that is asked for, its id, and what links have to repeat."""
    if name is None:
        return None, PLATFORM, ""
    row = await registered(request, name)
    return row, row.tenant_id, f"organization={row.tenant_id}"


@get(f"{BASE}/events", summary="Events of an organization, or of the platform", operation_class=reasoned())
async def list_events(
    request: AnyRequest,
    organization: Organization = None,
    stream: StreamName = None,
    type_: TypeName = None,
    aggregate_type: Kind = None,
    actor: Actor = None,
    since: Since = None,
    until: Until = None,
    after: After = 0,
    as_of: AsOf = None,
    order: Order = "newest",
    cursor: CursorText = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response[HistoryPage]:
    """As stored, sealed values closed.  Another's events need a reason; its auditor sees who looked and why."""
    services = services_of(request)
    row, org_id, tail = await chosen(request, organization)
    query = Query(
        stream=parse_stream(stream),
        type=known_type(type_, services.store.mapper.types),
        kind=one_of("aggregate_type", aggregate_type, KINDS),
        actor=actor,
        since=in_utc(since),
        until=in_utc(until),
        after=after,
        as_of=await position_as_of(services, as_of),
        newest_first=order == "newest",
        limit=limit,
        cursor=cursor,
        tail=tail,
    )
    await noted(request, "events.list", organization=row, target=stream)
    try:
        page = await history.events(
            services.store,
            services.keyring,
            org_id,
            query,
            base=BASE,
            links=partial(cursor_links, request, f"{BASE}/events", pinned={"organization": str(org_id)}),
            reveal=False,
        )
    except CursorError as error:
        raise bad_cursor(error) from error
    return json_answer(page)


@get(f"{BASE}/events/{{event_id:uuid}}", summary="One event", operation_class=reasoned())
async def one_event(
    request: AnyRequest, event_id: FromPath[UUID], organization: Organization = None
) -> Response[HistoryEvent]:
    """As in the list."""
    services = services_of(request)
    row, org_id, tail = await chosen(request, organization)
    await noted(request, "event.show", organization=row, target=f"Event:{event_id}")
    found = await history.event(services.store, services.keyring, org_id, event_id, base=BASE, reveal=False, tail=tail)
    if found is None:
        raise not_found("event")
    return json_answer(found)


@get(f"{BASE}/audit_logs", summary="Who did what in an organization, or on the platform", operation_class=reasoned())
async def list_audit(
    request: AnyRequest,
    organization: Organization = None,
    action: Annotated[str | None, QueryParameter(description="for example `session.started`")] = None,
    resource_type: Kind = None,
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
    """Sealed values are opened, so a reason is always needed; those concerned see who looked and why."""
    services = services_of(request)
    action = known_type(action, services.store.mapper.types, name="action", versioned=False)
    one_of("resource_type", resource_type, KINDS)
    row, org_id, tail = await chosen(request, organization)
    query = Query(
        stream=parse_stream(resource, "resource"),
        actor=actor,
        since=in_utc(since),
        until=in_utc(until),
        as_of=await position_as_of(services, as_of),
        newest_first=order == "newest",
        limit=limit,
        cursor=cursor,
        tail=tail,
    )
    await noted(request, "audit_logs.list", organization=row, target=resource, needed=True)
    try:
        page = await history.audit(
            services.store,
            services.keyring,
            org_id,
            query,
            base=BASE,
            links=partial(cursor_links, request, f"{BASE}/audit_logs", pinned={"organization": str(org_id)}),
            action=action,
            resource_type=resource_type,
            facts=facts,
        )
    except CursorError as error:
        raise bad_cursor(error) from error
    return json_answer(page)


@get(f"{BASE}/audit_logs/{{event_id:uuid}}", summary="One audit entry", operation_class=reasoned())
async def one_audit(
    request: AnyRequest, event_id: FromPath[UUID], organization: Organization = None
) -> Response[AuditEntry]:
    """As in the list."""
    services = services_of(request)
    row, org_id, tail = await chosen(request, organization)
    await noted(request, "audit_log.show", organization=row, target=f"Event:{event_id}", needed=True)
    found = await history.audit_one(services.store, services.keyring, org_id, event_id, base=BASE, tail=tail)
    if found is None:
        raise not_found("audit entry")
    return json_answer(found)


@get(f"{BASE}/audit_logs/actions", summary="What can be done")
async def actions(request: AnyRequest) -> Names:
    """Every action the audit view may show, for filters."""
    return Names(items=sorted({history.action_of(tag) for tag in services_of(request).store.mapper.types}))


@get(f"{BASE}/events/event_types", summary="Types of events")
async def event_types(request: AnyRequest) -> Names:
    """Every type that can be stored, for filters."""
    return Names(items=sorted(services_of(request).store.mapper.types))


@get([f"{BASE}/audit_logs/resource_types", f"{BASE}/events/aggregate_types"], summary="Kinds of things")
async def kinds() -> Names:
    """Every kind of thing that has events, for filters."""
    return Names(items=list(KINDS))


HANDLERS = [list_events, one_event, list_audit, one_audit, actions, event_types, kinds]
