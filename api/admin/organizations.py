"""Organizations: list, show, restore, end for ever."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath, QueryParameter

from api.admin.notes import BASE, AnyRequest, noted, noted_deed, optional_body, reasoned, registered
from api.answers import POSITION, json_answer
from api.auth import principal_of
from api.contacts import contact_of
from api.fresh import wait_until_fresh
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, SortBy, SortDir, page_links, paging_of
from api.services import services_of
from commands import admin as commands
from projections.admin import PROJECTION, register
from projections.admin.register import Inside, RegisterRow
from projections.freshness import wait_for
from schemas.admin import AdminOrganizationPage, AdminOrganizationView, Purge, Restore

Status = Annotated[str | None, QueryParameter(pattern="^(active|deleted|purged)$")]
Text = Annotated[str | None, QueryParameter(max_length=100, description="part of the slug or the name")]
Confirm = Annotated[str | None, QueryParameter(max_length=100, description="the slug of what is to be ended")]

PATH = f"{BASE}/organizations"
_restore = msgspec.json.Decoder(Restore)
_purge = msgspec.json.Decoder(Purge)


def _view(row: RegisterRow, inside: Inside | None = None) -> AdminOrganizationView:
    path, named = f"{PATH}/{row.tenant_id}", f"organization={row.tenant_id}"
    return AdminOrganizationView(
        organization_id=row.tenant_id,
        slug=row.slug,
        name=row.name,
        region=row.region,
        status=row.status,
        created_at=row.created_at,
        deleted_at=row.deleted_at,
        purged_at=row.purged_at,
        members=inside.members if inside else None,
        api_keys=inside.api_keys if inside else None,
        coaching_enforcement=inside.coaching_enforcement if inside else None,
        links={
            "self": path,
            "restore": f"{path}/restore",
            "audit_logs": f"{BASE}/audit_logs?{named}",
            "events": f"{BASE}/events?{named}",
        },
    )


@get(PATH, summary="All organizations", operation_class=reasoned())
async def list_organizations(
    request: AnyRequest,
    status: Status = None,
    text: Text = None,
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    sort_by: SortBy = None,
    sort_dir: SortDir = "asc",
) -> Response[AdminOrganizationPage]:
    """The installation's register, deleted and purged ones included; sorted by `slug`, `name`, `created_at`, `status`."""
    paging = paging_of(page, page_size, sort_by, sort_dir, columns=register.SORTS, tie=register.TIE)
    await noted(request, "organizations.list")
    await wait_until_fresh(request, PROJECTION.name)
    found, total = await register.organizations(services_of(request).pool, paging, status=status, text=text)
    links = page_links(request, PATH, paging, total)
    items = [_view(one) for one in found]
    return json_answer(AdminOrganizationPage(items=items, page=page, page_size=page_size, total=total, links=links))


@get(f"{PATH}/{{organization_id:str}}", summary="One organization, whoever it belongs to", operation_class=reasoned())
async def show_organization(request: AnyRequest, organization_id: FromPath[str]) -> Response[AdminOrganizationView]:
    """Needs a reason; its auditor sees who looked and why."""
    await wait_until_fresh(request, PROJECTION.name)
    row = await registered(request, organization_id)
    await noted(request, "organization.show", organization=row, target=f"Organization:{row.tenant_id}")
    return json_answer(_view(row, await register.inside(services_of(request).pool, row.tenant_id)))


@delete(
    f"{PATH}/{{organization_id:str}}",
    status_code=204,
    summary="End an organization for ever",
    operation_class=reasoned(Purge),
)
async def purge_organization(
    request: AnyRequest, organization_id: FromPath[str], confirm: Confirm = None
) -> Response[None]:
    """Cannot be undone: every key its data was sealed with is destroyed and its read models are emptied.

    The events stay, unreadable, so that proofs still hold.  `confirm` (query or body) must be its slug.
    """
    body = await optional_body(request, _purge, Purge())
    services = services_of(request)
    row = await registered(request, organization_id)
    await noted_deed(
        request, "organization.purge", body.reason, organization=row, target=f"Organization:{row.tenant_id}"
    )
    outcome = await commands.purge_organization(
        services.store,
        services.keyring,
        principal_of(request),
        row.tenant_id,
        slug=row.slug,
        confirm=confirm if confirm is not None else body.confirm,
    )
    return Response(None, status_code=204, headers=await _caught_up(request, outcome.position if outcome else None))


@post(
    f"{PATH}/{{organization_id:str}}/restore",
    status_code=200,
    summary="Restore a deleted organization",
    operation_class=reasoned(Restore),
)
async def restore_organization(request: AnyRequest, organization_id: FromPath[str]) -> Response[AdminOrganizationView]:
    """As it was, with its members and keys.  One that is not deleted stays as it is; a purged one is gone.

    Where every owner has closed their account meanwhile, `owner_id` names the user who owns it from now on.
    """
    body = await optional_body(request, _restore, Restore())
    services = services_of(request)
    row = await registered(request, organization_id)
    await noted_deed(
        request, "organization.restore", body.reason, organization=row, target=f"Organization:{row.tenant_id}"
    )
    email, name = await contact_of(request, body.owner_id)
    outcome = await commands.restore_organization(
        services.store, principal_of(request), row.tenant_id, owner_id=body.owner_id, email=email, name=name
    )
    headers = await _caught_up(request, outcome.position if outcome else None)
    return json_answer(_view(await registered(request, str(row.tenant_id))), headers=headers)


async def _caught_up(request: AnyRequest, position: int | None) -> dict[str, str]:
    """Headers that tell the position, once the register has passed it (or the wait is over)."""
    services = services_of(request)
    if position is None:
        return {}
    await wait_for(services.pool, PROJECTION.name, position, services.settings.read_after_wait_s)
    services.people.forget()
    return {POSITION: str(position)}


HANDLERS = [list_organizations, show_organization, purge_organization, restore_organization]
