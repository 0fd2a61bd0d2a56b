"""Accounts: list, show, change, disable, enable."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, get, patch, post
from litestar.params import FromPath, QueryParameter

from api.admin.certificates import links_of
from api.admin.notes import BASE, AnyRequest, noted, noted_deed, optional_body, reasoned
from api.answers import POSITION, json_answer
from api.auth import principal_of
from api.bodies import read_json
from api.erasure import certificate_view
from api.errors import not_found
from api.fresh import wait_until_fresh
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, SortBy, page_links, paging_of
from api.services import services_of
from api.users import close_and_erase
from commands import admin as commands
from commands.sessions.facts import person_id_of
from domain.erasure.decide import erasure_id_of
from domain.kernel import PLATFORM
from domain.users.decide import clean_email
from eventstore.port import Outcome
from projections.admin import accounts
from projections.admin.accounts import Account
from projections.freshness import wait_for
from projections.members import organizations_of
from projections.users import PROJECTION
from schemas.admin import AdminUserPage, AdminUserView, Erase, MembershipView, Reason, UserPatch
from schemas.erasure import CertificateView

SortDir = Annotated[str, QueryParameter(pattern="^(asc|desc)$", description="`asc` or `desc`")]
Status = Annotated[str | None, QueryParameter(pattern="^(active|disabled|deleted)$")]
Role = Annotated[str | None, QueryParameter(pattern="^(org_user|crewkit_staff|crewkit_owner)$")]
Email = Annotated[str | None, QueryParameter(max_length=254, description="the whole address")]

_patch = msgspec.json.Decoder(UserPatch)
_erase = msgspec.json.Decoder(Erase)
_reason = msgspec.json.Decoder(Reason)


def _view(found: Account, memberships: list[MembershipView] | None = None) -> AdminUserView:
    row = found.row
    path = f"{BASE}/users/{row.user_id}"
    certificate = links_of(erasure_id_of(PLATFORM, row.user_id))
    return AdminUserView(
        user_id=row.user_id,
        email=found.email,
        name=found.name,
        status=row.status,
        platform_role=row.platform_role,
        verified=row.verified,
        completed=row.completed,
        has_password=row.has_password,
        locale=row.locale,
        timezone=row.timezone,
        registered_at=row.registered_at,
        last_login_at=row.last_login_at,
        memberships=memberships,
        links={
            "self": path,
            "disable": f"{path}/disable",
            "enable": f"{path}/enable",
            "erase": f"{path}/erase",
            "history": f"{BASE}/events?stream=User:{row.user_id}",
            **({"certificate": certificate["self"]} if row.status == "deleted" else {}),
        },
    )


@get(f"{BASE}/users", summary="All accounts", operation_class=reasoned())
async def list_users(
    request: AnyRequest,
    status: Status = None,
    platform_role: Role = None,
    email: Email = None,
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    sort_by: SortBy = None,
    sort_dir: SortDir = "desc",
) -> Response[AdminUserPage]:
    """Sorted by `registered_at`, `last_login_at` or `status`.  Noted in the platform's history."""
    services = services_of(request)
    paging = paging_of(page, page_size, sort_by, sort_dir, columns=accounts.SORTS, tie=accounts.TIE)
    key = None if email is None else person_id_of(services.person_secret, PLATFORM, clean_email(email)).hex
    await noted(request, "users.list")
    await wait_until_fresh(request, PROJECTION.name)
    found, total = await accounts.accounts(
        services.pool, services.keyring, paging, status=status, platform_role=platform_role, email_key=key
    )
    links = page_links(request, f"{BASE}/users", paging, total)
    return json_answer(
        AdminUserPage(items=[_view(one) for one in found], page=page, page_size=page_size, total=total, links=links)
    )


@get(f"{BASE}/users/{{user_id:uuid}}", summary="One account", operation_class=reasoned())
async def show_user(request: AnyRequest, user_id: FromPath[UUID]) -> Response[AdminUserView]:
    """With the organizations it belongs to.  Noted in the platform's history."""
    await noted(request, "user.show", target=f"User:{user_id}")
    await wait_until_fresh(request, PROJECTION.name)
    return json_answer(await _shown(request, user_id))


async def _shown(request: AnyRequest, user_id: UUID) -> AdminUserView:
    services = services_of(request)
    found = await accounts.account(services.pool, services.keyring, user_id)
    if found is None:
        raise not_found("user")
    memberships = [
        MembershipView(organization_id=one.org_id, slug=one.slug, permission=one.permission, org_role=one.org_role)
        for one in await organizations_of(services.pool, user_id)
    ]
    return _view(found, memberships)


@patch(
    f"{BASE}/users/{{user_id:uuid}}", summary="Change an account", operation_class=reasoned(UserPatch, required=True)
)
async def update_user(request: AnyRequest, user_id: FromPath[UUID]) -> Response[AdminUserView]:
    """Name, locale, time zone; the rank only by an owner of the installation, and never one's own."""
    body = await read_json(request, _patch)
    services, principal = services_of(request), principal_of(request)
    await noted_deed(request, "user.update", body.reason, target=f"User:{user_id}")
    outcome = await commands.update_user(
        services.store,
        principal,
        user_id,
        name=body.name,
        locale=body.locale,
        timezone=body.timezone,
        platform_role=body.platform_role,
    )
    return await _done(request, user_id, outcome)


@post(
    f"{BASE}/users/{{user_id:uuid}}/disable",
    status_code=200,
    summary="Lock an account",
    operation_class=reasoned(Reason),
)
async def disable_user(request: AnyRequest, user_id: FromPath[UUID]) -> Response[AdminUserView]:
    """Every login of theirs ends and none begins, until it is enabled again.  Twice is no error."""
    body = await optional_body(request, _reason, Reason())
    await noted_deed(request, "user.disable", body.reason, target=f"User:{user_id}")
    outcome = await commands.disable_user(services_of(request).store, principal_of(request), user_id)
    return await _done(request, user_id, outcome)


@post(
    f"{BASE}/users/{{user_id:uuid}}/enable",
    status_code=200,
    summary="Unlock an account",
    operation_class=reasoned(Reason),
)
async def enable_user(request: AnyRequest, user_id: FromPath[UUID]) -> Response[AdminUserView]:
    """They can sign in again.  Twice is no error."""
    body = await optional_body(request, _reason, Reason())
    await noted_deed(request, "user.enable", body.reason, target=f"User:{user_id}")
    outcome = await commands.enable_user(services_of(request).store, principal_of(request), user_id)
    return await _done(request, user_id, outcome)


@post(
    f"{BASE}/users/{{user_id:uuid}}/erase",
    status_code=200,
    summary="Close an account and erase its user",
    operation_class=reasoned(Erase, required=True),
)
async def erase_account(request: AnyRequest, user_id: FromPath[UUID]) -> Response[CertificateView]:
    """For ever, as if they had closed it themselves: for those who ask for it and cannot sign in.

    Refused while an organization has no other owner.  Asking again answers the same certificate.
    """
    body = await read_json(request, _erase)
    services, principal = services_of(request), principal_of(request)
    await noted_deed(request, "user.erase", body.reason, target=f"User:{user_id}")
    await commands.check_erasable(services.store, principal, user_id, ground=body.ground, confirm=body.confirm)
    found = await close_and_erase(
        request, user_id, lambda org_id: commands.acting_in(principal, org_id), reason=body.ground
    )
    position = max(one.position for one in found.subjects)
    await services.settle_users(position)
    return json_answer(certificate_view(found, links_of(found.erasure_id)), position=position)


async def _done(request: AnyRequest, user_id: UUID, outcome: Outcome | None) -> Response[AdminUserView]:
    """The account as it is now, once the guard's read model has caught up (or the wait is over)."""
    services = services_of(request)
    headers: dict[str, str] = {}
    if outcome is not None:
        headers[POSITION] = str(outcome.position)
        await wait_for(services.pool, PROJECTION.name, outcome.position, services.settings.read_after_wait_s)
        services.people.forget()
    return json_answer(await _shown(request, user_id), headers=headers)


HANDLERS = [list_users, show_user, update_user, disable_user, enable_user, erase_account]
