"""Organizations: found, list, look at, change, delete."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, delete, get, patch, post
from litestar.params import FromPath, QueryParameter

from api.answers import POSITION, body_of, json_answer
from api.auth import principal_of
from api.bodies import read_body, read_json
from api.contacts import contact_of
from api.errors import ApiError, malformed, not_found
from api.fresh import wait_until_fresh
from api.idempotency import once_of
from api.moments import AsOf, position_as_of
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, SortBy, SortDir, page_links, paging_of
from api.services import services_of
from commands import tenants as commands
from commands.members import permission_of
from commands.organizations import SLUG_CLAIM
from domain.organizations.manage import OrganizationChanges
from eventstore.port import Status
from projections import tenants
from projections.members import PROJECTION, TenantRow
from projections.tenants import Visible
from schemas.tenants import (
    Confirmation,
    NewOrganization,
    OrganizationPage,
    OrganizationPatch,
    OrganizationView,
    SlugAnswer,
)

AnyRequest = Request[Any, Any, Any]
Confirm = Annotated[str | None, QueryParameter(max_length=100, description="the slug of what is to be deleted")]
WantedSlug = Annotated[str, QueryParameter(min_length=1, max_length=100)]

PATH = "/api/v1/organizations"
_new = msgspec.json.Decoder(NewOrganization)
_patch = msgspec.json.Decoder(OrganizationPatch)
_confirmation = msgspec.json.Decoder(Confirmation)
_NO_SLUG = re.compile(r"[^a-z0-9]+")


def view(request: AnyRequest, row: TenantRow, permission: str | None) -> OrganizationView:
    """The organization with its links."""
    path, base = f"{PATH}/{row.slug}", f"/api/v1/{row.slug}"
    return OrganizationView(
        organization_id=row.org_id,
        org_id=row.org_id,
        slug=row.slug,
        external_id=row.slug,
        name=row.name,
        region=row.region,
        api_base_url=f"{str(request.base_url).rstrip('/')}{base}",
        settings=row.settings,
        coaching_enforcement=row.coaching_enforcement,
        permission=permission,
        created_at=row.created_at,
        updated_at=row.updated_at,
        links={
            "self": path,
            "members": f"{base}/members",
            "invitations": f"{base}/members/invitations",
            "roles": f"{base}/roles",
            "effective_role": f"{base}/effective-role",
            "projects": f"{base}/projects",
            "sessions": f"{base}/sessions",
            "history": f"{base}/events?stream=Organization:{row.org_id}",
        },
    )


async def confirmed(request: AnyRequest, confirm: str | None) -> str | None:
    """What the caller typed to confirm: in the query or in the body."""
    if confirm is not None:
        return confirm
    raw = await read_body(request)
    if not raw.strip():
        return None
    try:
        return _confirmation.decode(raw).confirm
    except msgspec.DecodeError as error:
        raise malformed(error) from error


def slug_from(name: str) -> str:
    """A slug that looks like the name.

    Raises:
        ApiError: 422, the name holds nothing a slug could be made of.
    """
    slug = _NO_SLUG.sub("-", name.lower()).strip("-")[:63].strip("-")
    if not slug:
        raise ApiError(422, "slug: none can be made of this name; send one", details={"field": "slug"})
    return slug


@post([PATH, "/orgs"], summary="Found an organization", operation_class=body_of(NewOrganization))
async def create(request: AnyRequest) -> Response[OrganizationView]:
    """The calling user becomes its owner.  With an `Idempotency-Key` a repeat founds no second one."""
    body = await read_json(request, _new)
    services, principal = services_of(request), principal_of(request)
    email, name = await contact_of(request, principal.user_id)
    org_id, outcome = await commands.create_organization(
        services.store,
        principal,
        slug=body.slug if body.slug is not None else slug_from(body.name),
        name=body.name,
        region=body.region,
        email=email,
        owner_name=name,
        once=once_of(request, "organizations.create", body),
    )
    await services.settle_members(outcome.position)
    row = await tenants.tenant_at(services.store, org_id, outcome.position)
    if row is None:
        raise not_found("organization")
    again = {"Idempotency-Replayed": "true"} if outcome.status is Status.DUPLICATE else {}
    return json_answer(view(request, row, "owner"), 201, position=outcome.position, headers=again)


@get(PATH, summary="List organizations")
async def list_organizations(
    request: AnyRequest,
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    sort_by: SortBy = None,
    sort_dir: SortDir = "asc",
) -> Response[OrganizationPage]:
    """Those the caller belongs to; a key belongs to one.  Sorted by `slug`, `name` or `created_at`."""
    services, principal = services_of(request), principal_of(request)
    paging = paging_of(page, page_size, sort_by, sort_dir, columns=tenants.SORTS, tie=tenants.TIE)
    await wait_until_fresh(request, PROJECTION.name)
    if principal.user_id is not None:
        found, total = await tenants.tenants_of(services.pool, principal.user_id, paging)
    else:
        row = await tenants.find_tenant(services.pool, principal.org_id)
        found = [Visible(row=row, permission=permission_of(principal))] if row and page == 1 else []
        total = int(row is not None)
    items = [view(request, one.row, one.permission) for one in found]
    links = page_links(request, PATH, paging, total)
    return json_answer(OrganizationPage(items=items, page=page, page_size=page_size, total=total, links=links))


@get(f"{PATH}/slug-available", summary="Is an organization slug free?")
async def slug_available(request: AnyRequest, slug: WantedSlug) -> Response[SlugAnswer]:
    """Asks the very names that founding claims, so the answer is never stale."""
    reason = commands.check_slug(slug)
    if reason is None and await tenants.name_taken(services_of(request).pool, SLUG_CLAIM, slug):
        reason = "this slug is taken"
    return json_answer(SlugAnswer(slug=slug, available=reason is None, reason=reason, links={"organizations": PATH}))


@get(f"{PATH}/{{organization_id:str}}", summary="One organization")
async def show(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    as_of: AsOf = None,
) -> Response[OrganizationView]:
    """By slug or id; `as_of` shows it as it was."""
    services, principal = services_of(request), principal_of(request)
    until = await position_as_of(services, as_of)
    if until is None:
        await wait_until_fresh(request, PROJECTION.name)
        row = await tenants.find_tenant(services.pool, principal.org_id)
    else:
        row = await tenants.tenant_at(services.store, principal.org_id, until)
    if row is None:
        raise not_found("organization")
    return json_answer(view(request, row, permission_of(principal)))


@patch(f"{PATH}/{{organization_id:str}}", summary="Change an organization", operation_class=body_of(OrganizationPatch))
async def update(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
) -> Response[OrganizationView]:
    """Name, slug, settings, coaching enforcement; what is not sent stays.  After a new slug the old paths lead nowhere."""
    body = await read_json(request, _patch)
    services, principal = services_of(request), principal_of(request)
    changes = OrganizationChanges(**msgspec.structs.asdict(body))
    outcome = await commands.update_organization(services.store, principal, changes)
    row = await tenants.tenant_at(services.store, principal.org_id, outcome.position if outcome else None)
    if row is None:
        raise not_found("organization")
    return json_answer(view(request, row, permission_of(principal)), position=outcome.position if outcome else None)


@delete(f"{PATH}/{{organization_id:str}}", status_code=204, summary="Delete an organization")
async def remove(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    confirm: Confirm = None,
) -> Response[None]:
    """Hides it and all its keys stop working; it can be restored for 90 days.  `confirm` (query or body) must be its slug."""
    services = services_of(request)
    typed = await confirmed(request, confirm)
    outcome = await commands.delete_organization(services.store, principal_of(request), typed)
    await services.settle_members(outcome.position if outcome else None)
    headers = {POSITION: str(outcome.position)} if outcome else {}
    return Response(None, status_code=204, headers=headers)


ROUTER = Router(
    "/",
    route_handlers=[create, list_organizations, slug_available, show, update, remove],
    tags=["organizations"],
)
