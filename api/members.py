"""Members of an organization: list, look at, change, remove, hand ownership over."""

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
from api.services import services_of
from commands import members as commands
from domain.organizations.state import PERMISSIONS
from eventstore.port import Outcome, Status
from projections.members import PROJECTION, queries
from projections.members.queries import MemberFound
from schemas.members import MemberPage, MemberPatch, MemberView, NewInvitation

AnyRequest = Request[Any, Any, Any]
Word = Annotated[str | None, QueryParameter(max_length=63, pattern="^[a-z][a-z0-9_-]*$")]

PATHS = ["/api/v1/{organization_id:str}/members", "/api/v1/organizations/{organization_id:str}/members"]
ONE = [f"{path}/{{user_id:uuid}}" for path in PATHS]
_patch = msgspec.json.Decoder(MemberPatch)


def view(found: MemberFound, base: str) -> MemberView:
    """The member with their links."""
    row = found.row
    path = f"{base}/members/{row.user_id}"
    return MemberView(
        user_id=row.user_id,
        email=found.email,
        name=found.name,
        permission=row.permission,
        role=row.permission,
        org_role=row.org_role,
        added_at=row.added_at,
        changed_at=row.changed_at,
        links={
            "self": path,
            "transfer_ownership": f"{path}/transfer_ownership",
            "effective_role": f"{base}/effective-role?user_id={row.user_id}",
            "organization": f"/api/v1/organizations/{base.rpartition('/')[2]}",
        },
    )


def wanted_role(body: MemberPatch | NewInvitation) -> tuple[str | None, str | None]:
    """Permission and working role that a request means; the older field `role` may name either.

    Raises:
        ApiError: 422, `role` contradicts the field it means.
    """
    permission, org_role = body.permission, body.org_role
    if body.role is not None:
        known = permission if body.role in PERMISSIONS else org_role
        if known not in {None, body.role}:
            raise ApiError(422, "role: contradicts what is sent beside it", details={"field": "role"})
        permission, org_role = (body.role, org_role) if body.role in PERMISSIONS else (permission, body.role)
    return permission, org_role


@get(PATHS, summary="List members")
async def list_members(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    permission: Word = None,
    org_role: Word = None,
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    sort_by: SortBy = None,
    sort_dir: SortDir = "asc",
    as_of: AsOf = None,
) -> Response[MemberPage]:
    """Sorted by `added_at`, `changed_at`, `permission` (by rank) or `org_role`."""
    services, org_id = services_of(request), principal_of(request).org_id
    if permission is not None and permission not in PERMISSIONS:
        expected = ", ".join(PERMISSIONS)
        raise ApiError(
            400, f"permission: expected one of {expected}", details={"field": "permission", "expected": expected}
        )
    paging = paging_of(page, page_size, sort_by, sort_dir, columns=queries.MEMBER_SORTS, tie="m.user_id")
    until = await position_as_of(services, as_of)
    if until is None:
        await wait_until_fresh(request, PROJECTION.name)
        found, total = await queries.members(
            services.pool, services.keyring, org_id, paging, permission=permission, org_role=org_role
        )
    else:
        found, total = await queries.members_at(
            services.store, services.keyring, org_id, paging, until, permission=permission, org_role=org_role
        )
    base = base_path(request)
    return json_answer(
        MemberPage(
            items=[view(one, base) for one in found],
            page=page,
            page_size=page_size,
            total=total,
            links=page_links(request, f"{base}/members", paging, total),
        )
    )


@get(ONE, summary="One member")
async def show(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    user_id: FromPath[UUID],
    as_of: AsOf = None,
) -> Response[MemberView]:
    """As in the list."""
    services, org_id = services_of(request), principal_of(request).org_id
    until = await position_as_of(services, as_of)
    if until is None:
        await wait_until_fresh(request, PROJECTION.name)
        found = await queries.member(services.pool, services.keyring, org_id, user_id)
    else:
        found = await queries.member_at(services.store, services.keyring, org_id, user_id, until)
    if found is None:
        raise not_found("member")
    return json_answer(view(found, base_path(request)))


async def _told(request: AnyRequest, user_id: UUID, outcome: Outcome | None) -> Response[MemberView]:
    services, org_id = services_of(request), principal_of(request).org_id
    position = outcome.position if outcome else None
    await services.settle_members(position)
    found = await queries.member_at(services.store, services.keyring, org_id, user_id, position)
    if found is None:
        raise not_found("member")
    again = {"Idempotency-Replayed": "true"} if outcome and outcome.status is Status.DUPLICATE else {}
    return json_answer(view(found, base_path(request)), position=position, headers=again)


@patch(ONE, summary="Change a member", operation_class=body_of(MemberPatch))
async def change(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    user_id: FromPath[UUID],
) -> Response[MemberView]:
    """Permission, working role, or both.  Nobody gives more than they have, or changes a member above them."""
    body = await read_json(request, _patch)
    permission, org_role = wanted_role(body)
    if permission is None and org_role is None:
        raise ApiError(422, "permission or org_role: expected at least one", details={"field": "permission"})
    outcome = await commands.change_member(
        services_of(request).store, principal_of(request), user_id, permission=permission, org_role=org_role
    )
    return await _told(request, user_id, outcome)


@delete(ONE, status_code=204, summary="Remove a member")
async def remove(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    user_id: FromPath[UUID],
) -> Response[None]:
    """Everybody may leave; the last owner cannot."""
    services = services_of(request)
    outcome = await commands.remove_member(services.store, principal_of(request), user_id)
    await services.settle_members(outcome.position if outcome else None)
    return Response(None, status_code=204, headers={POSITION: str(outcome.position)} if outcome else {})


@post([f"{path}/transfer_ownership" for path in ONE], status_code=200, summary="Hand ownership over")
async def transfer_ownership(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    user_id: FromPath[UUID],
) -> Response[MemberView]:
    """The calling owner becomes an admin, that member an owner; the answer is the new owner.

    With an `Idempotency-Key` a repeat is answered as the first time, also though the caller owns nothing any more.
    """
    principal = principal_of(request)
    outcome = await commands.transfer_ownership(
        services_of(request).store, principal, user_id, once=once_of(request, f"members.transfer {user_id}")
    )
    return await _told(request, user_id, outcome)


ROUTER = Router("/", route_handlers=[list_members, show, change, remove, transfer_ownership], tags=["members"])
