"""API keys of an organization."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.params import FromPath

from api.answers import body_of, json_answer
from api.auth import base_path, principal_of
from api.bodies import read_json
from api.fresh import wait_until_fresh
from api.idempotency import idempotency_key
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, SortBy, SortDir, page_links, paging_of
from api.services import services_of
from commands import organizations as commands
from commands.organizations import KeyIssued, KeyKnown
from projections import directory
from projections.directory import ApiKeyRow
from projections.freshness import wait_for
from schemas.organizations import ApiKeyPage, ApiKeyView, IssuedApiKey, NewApiKey

_new_key = msgspec.json.Decoder(NewApiKey)


def _view(row: ApiKeyRow, base: str) -> ApiKeyView:
    status = "active"
    if row.revoked_at is not None:
        status = "revoked"
    elif row.expires_at is not None and row.expires_at <= datetime.now(UTC):
        status = "expired"
    return ApiKeyView(
        key_id=row.key_id,
        label=row.label,
        scopes=row.scopes.split(),
        person_id=row.person_id,
        status=status,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        links={"self": f"{base}/api_keys/{row.key_id}"},
    )


@post("/api/v1/{organization_id:str}/api_keys", summary="Make an API key", operation_class=body_of(NewApiKey))
async def issue(request: Request[Any, Any, Any], organization_id: FromPath[str]) -> Response[IssuedApiKey]:  # noqa: ARG001
    """The key's text is told in this answer and never again; with an `Idempotency-Key` a repeat makes no second key."""
    body = await read_json(request, _new_key)
    services, principal = services_of(request), principal_of(request)
    once = idempotency_key(request)
    wish = (services.store, principal.org_id, body.person_id or principal.person_id, body.label, body.scopes)
    issued: KeyIssued | KeyKnown
    if once is None:
        issued = await commands.issue(*wish, expires_at=body.expires_at, meta=principal.meta())
    else:
        issued = await commands.issue_once(
            *wish, idempotency_key=once, expires_at=body.expires_at, meta=principal.meta()
        )
    repeated = isinstance(issued, KeyKnown)
    answer = IssuedApiKey(
        key_id=issued.key_id,
        key=None if isinstance(issued, KeyKnown) else issued.key,
        repeated=repeated,
        label=body.label,
        scopes=issued.scopes,
        issued_at=issued.issued_at,
        expires_at=body.expires_at,
        position=issued.position,
        links={"self": f"{base_path(request)}/api_keys/{issued.key_id}"},
    )
    return json_answer(
        answer, 200 if repeated else 201, position=issued.position, headers={"Cache-Control": "no-store"}
    )


@get("/api/v1/{organization_id:str}/api_keys", summary="List API keys")
async def keys(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    sort_by: SortBy = None,
    sort_dir: SortDir = "desc",
) -> Response[ApiKeyPage]:
    """Newest first; never their text.  Sorted by `issued_at`, `label`, `last_used_at` or `expires_at`."""
    services, base = services_of(request), base_path(request)
    paging = paging_of(page, page_size, sort_by, sort_dir, columns=directory.KEY_SORTS, tie=directory.KEY_TIE)
    await wait_until_fresh(request, directory.PROJECTION.name)
    rows, total = await directory.list_keys(services.pool, principal_of(request).org_id, paging)
    links = page_links(request, f"{base}/api_keys", paging, total)
    items = [_view(row, base) for row in rows]
    return json_answer(ApiKeyPage(items=items, page=page, page_size=page_size, total=total, links=links))


@delete("/api/v1/{organization_id:str}/api_keys/{key_id:uuid}", status_code=204, summary="Revoke an API key")
async def revoke(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001
    key_id: FromPath[UUID],
) -> Response[None]:
    """The key stops working at once, for ever.  Revoking twice is no error."""
    services, principal = services_of(request), principal_of(request)
    position = await commands.revoke_key(services.store, principal.org_id, key_id, meta=principal.meta())
    services.auth.revoke(key_id)
    await services.bus.revoked(key_id)
    headers: dict[str, str] = {}
    if position is not None:
        headers["Crewkit-Position"] = str(position)
        # Processes that the notice does not reach ask the directory again after a few seconds: it must know by then.
        await wait_for(services.pool, directory.PROJECTION.name, position, services.settings.read_after_wait_s)
    return Response(None, status_code=204, headers=headers)


ROUTER = Router("/", route_handlers=[issue, keys, revoke], tags=["organizations"])
