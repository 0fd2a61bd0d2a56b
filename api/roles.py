"""Working roles of an organization, and the one that holds for the caller."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, patch, post
from litestar.params import FromPath, QueryParameter

from api.answers import POSITION, body_of, json_answer
from api.auth import base_path, principal_of
from api.bodies import read_json
from api.errors import ApiError, not_found
from api.fresh import wait_until_fresh
from api.idempotency import once_of
from api.moments import AsOf, position_as_of
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, SortBy, SortDir, page_links, paging_of
from api.paths import checked_id
from api.services import services_of
from commands import roles as commands
from commands.bus import Principal
from commands.members import permission_of
from domain.organizations.roles import RoleFields, effective
from domain.organizations.state import MANAGER, RANK, Role
from eventstore.port import Status
from projections.members import PROJECTION, OrgRoleRow, queries
from schemas.roles import EffectiveRoleView, NewRole, RolePage, RolePatch, RoleView

AnyRequest = Request[Any, Any, Any]
Whose = Annotated[UUID | None, QueryParameter(description="another member, for managers and above")]

PATH = "/api/v1/{organization_id:str}/roles"
ONE = f"{PATH}/{{role_id:str}}"
EFFECTIVE = [
    "/api/v1/{organization_id:str}/effective-role",
    "/api/v1/organizations/{organization_id:str}/effective-role",
]
_new = msgspec.json.Decoder(NewRole)
_patch = msgspec.json.Decoder(RolePatch)


def role_of(row: OrgRoleRow) -> Role:
    """The role as the domain knows it."""
    tools = None if row.tools is None else tuple(row.tools)
    return Role(row.role_id, row.key, row.level, row.custom_name, row.coaching_mode_enabled, tools, row.built_in)


def view(row: OrgRoleRow, base: str) -> RoleView:
    """The role with its links."""
    return RoleView(
        role_id=row.role_id,
        key=row.key,
        level=row.level,
        custom_name=row.custom_name,
        coaching_mode_enabled=row.coaching_mode_enabled,
        mode=role_of(row).mode,
        tools=row.tools,
        built_in=row.built_in,
        created_at=row.created_at,
        updated_at=row.updated_at,
        links={"self": f"{base}/roles/{row.role_id}", "members": f"{base}/members?org_role={row.key}"},
    )


@get(PATH, summary="List working roles")
async def list_roles(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    sort_by: SortBy = None,
    sort_dir: SortDir = "asc",
    as_of: AsOf = None,
) -> Response[RolePage]:
    """Sorted by `level`, `key` or `created_at`."""
    services, org_id, base = services_of(request), principal_of(request).org_id, base_path(request)
    paging = paging_of(page, page_size, sort_by, sort_dir, columns=queries.ROLE_SORTS, tie="r.role_id")
    until = await position_as_of(services, as_of)
    if until is None:
        await wait_until_fresh(request, PROJECTION.name)
        found, total = await queries.roles(services.pool, org_id, paging)
    else:
        every = await queries.roles_at(services.store, org_id, until)
        column = paging.order.removeprefix("r.")
        every.sort(key=lambda row: (getattr(row, column), row.role_id), reverse=paging.descending)
        found, total = list(paging.cut(every)), len(every)
    links = page_links(request, f"{base}/roles", paging, total)
    items = [view(row, base) for row in found]
    return json_answer(RolePage(items=items, page=page, page_size=page_size, total=total, links=links))


async def _one(request: AnyRequest, named: str, until: int | None) -> OrgRoleRow:
    services, org_id = services_of(request), principal_of(request).org_id
    for row in await queries.roles_at(services.store, org_id, until):
        if named in {row.key, str(row.role_id)}:
            return row
    raise not_found("role")


@get(ONE, summary="One working role")
async def show(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    role_id: FromPath[str],
    as_of: AsOf = None,
) -> Response[RoleView]:
    """By key or id."""
    until = await position_as_of(services_of(request), as_of)
    return json_answer(view(await _one(request, checked_id(role_id, "role_id"), until), base_path(request)))


@post(PATH, summary="Create a working role", operation_class=body_of(NewRole))
async def create(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
) -> Response[RoleView]:
    """Its key is for ever; everything else can be changed."""
    body = await read_json(request, _new)
    fields = RoleFields(
        level=body.level,
        custom_name=body.custom_name,
        coaching_mode_enabled=body.coaching_mode_enabled,
        tools=body.tools,
    )
    role_id, outcome = await commands.create_role(
        services_of(request).store,
        principal_of(request),
        body.key,
        fields,
        once=once_of(request, "roles.create", body),
    )
    row = await _one(request, str(role_id), outcome.position)
    again = {"Idempotency-Replayed": "true"} if outcome.status is Status.DUPLICATE else {}
    return json_answer(view(row, base_path(request)), 201, position=outcome.position, headers=again)


@patch(ONE, summary="Change a working role", operation_class=body_of(RolePatch))
async def update(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    role_id: FromPath[str],
) -> Response[RoleView]:
    """Level, name, coaching mode, tools; built-in roles too."""
    body, named = await read_json(request, _patch), checked_id(role_id, "role_id")
    fields = RoleFields(
        level=body.level,
        custom_name=body.custom_name,
        coaching_mode_enabled=body.coaching_mode_enabled,
        tools=body.tools if isinstance(body.tools, list) else None,
        all_tools=body.tools is None,
    )
    outcome = await commands.update_role(services_of(request).store, principal_of(request), named, fields)
    position = outcome.position if outcome else None
    return json_answer(view(await _one(request, named, position), base_path(request)), position=position)


@delete(ONE, status_code=204, summary="Delete a working role")
async def remove(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    role_id: FromPath[str],
) -> Response[None]:
    """Not while members have it; built-in roles stay."""
    named = checked_id(role_id, "role_id")
    outcome = await commands.delete_role(services_of(request).store, principal_of(request), named)
    return Response(None, status_code=204, headers={POSITION: str(outcome.position)} if outcome else {})


def _whose(principal: Principal, user_id: UUID | None) -> UUID:
    own = principal.user_id or principal.person_id
    if user_id is None or user_id == own:
        return own
    if RANK.get(permission_of(principal) or "", 0) < RANK[MANAGER]:
        message = f"another member's role needs permission {MANAGER} or more"
        raise ApiError(403, message, details={"permission": MANAGER})
    return user_id


@get(EFFECTIVE, summary="The working role that holds for the caller")
async def effective_role(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    user_id: Whose = None,
    as_of: AsOf = None,
) -> Response[EffectiveRoleView]:
    """Role and the organization's enforcement, resolved: mode, tools, and what the agent is to be told."""
    services, principal, base = services_of(request), principal_of(request), base_path(request)
    whose = _whose(principal, user_id)
    until = await position_as_of(services, as_of)
    if until is None:
        await wait_until_fresh(request, PROJECTION.name)
        found = await queries.role_in_force(services.pool, principal.org_id, whose)
    else:
        found = await queries.role_in_force_at(services.store, principal.org_id, whose, until)
    if found is None or (user_id is not None and found.user_id is None):
        raise not_found("member" if user_id is not None else "organization")
    told = effective(role_of(found.role), found.coaching_enforcement)
    return json_answer(
        EffectiveRoleView(
            user_id=found.user_id,
            permission=found.permission,
            **msgspec.structs.asdict(told),
            links={"self": f"{base}/effective-role", "role": f"{base}/roles/{found.role.role_id}"},
        )
    )


ROUTER = Router("/", route_handlers=[list_roles, show, create, update, remove, effective_role], tags=["roles"])
