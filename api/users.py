"""The caller's own account."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, patch, post
from litestar.params import QueryParameter

from api.answers import body_of, json_answer
from api.auth import claims_of, principal_of
from api.bodies import read_json
from api.erasure import certificate_view, eraser_of
from api.errors import ApiError, bad_cursor, not_found, unavailable
from api.fresh import wait_until_fresh
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, cursor_links, page_links
from api.people import COOKIE, CSRF_HEADER, csrf_token
from api.services import services_of
from commands.bus import Principal
from commands.erasure import erase_user
from commands.members import leave_all
from commands.sessions.facts import person_id_of
from commands.users import accounts
from domain.erasure.events import ErasureCertified
from domain.kernel import PLATFORM, tag_of
from domain.users.events import UserLoggedIn, UserLoginFailed, UserRegistered
from eventstore.erasure import organizations_that_know
from eventstore.sealing import unboxed
from projections import members
from projections.paging import Paging
from projections.users import PROJECTION, queries
from projections.users.tables import LoginRow, UserRow
from schemas.erasure import CertificateView
from schemas.users import (
    FirstProfile,
    LoginPage,
    LoginView,
    MembershipPage,
    MembershipView,
    ProfileChange,
    UserView,
)

A = "/api/v1/auth"
ACTIVITY_DEFAULT = 50
ACTIVITY_MAX = 200
_change = msgspec.json.Decoder(ProfileChange)
_first = msgspec.json.Decoder(FirstProfile)
_EMAIL_TAG = tag_of(UserRegistered)
_LOGIN_TAGS = {"succeeded": tag_of(UserLoggedIn), "failed": tag_of(UserLoginFailed)}

Limit = Annotated[int, QueryParameter(ge=1, le=ACTIVITY_MAX)]
CursorText = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before", max_length=200)]


def user_id_of(principal: Principal) -> UUID:
    """The signed-in user who asks.

    Raises:
        ApiError: 403, an API key asks.
    """
    if principal.user_id is None:
        raise ApiError(403, "this is for signed-in users, not for API keys")
    return principal.user_id


async def view_of(request: Request[Any, Any, Any], row: UserRow) -> UserView:
    """The account with its sealed texts opened."""
    ring = services_of(request).keyring
    boxes = [(_EMAIL_TAG, row.email_box), (row.name_tag or "", row.name_box)]
    opened = iter(await ring.open_many(PLATFORM, [(tag, unboxed(box)) for tag, box in boxes if box]))
    email, name = (next(opened) if box else None for _, box in boxes)
    return UserView(
        user_id=row.user_id,
        email=email,
        name=name,
        locale=row.locale,
        timezone=row.timezone,
        status=row.status,
        email_verified=row.verified,
        profile_completed=row.completed,
        has_password=row.has_password,
        platform_role=row.platform_role,
        registered_at=row.registered_at,
        last_login_at=row.last_login_at,
        links={
            "self": f"{A}/me",
            "organizations": f"{A}/organizations",
            "passkeys": f"{A}/passkeys",
            "activity": f"{A}/activity",
        },
    )


@get(f"{A}/me", summary="The signed-in user")
async def me(request: Request[Any, Any, Any]) -> Response[UserView]:
    """Name and address are opened for their owner.

    To a browser that is signed in by cookie, `X-CSRF-Token` tells what its other requests must repeat.
    """
    await wait_until_fresh(request, PROJECTION.name)
    services, user_id = services_of(request), user_id_of(principal_of(request))
    row = await queries.user(services.pool, user_id) or await queries.user_now(services.store, user_id)
    if row is None:
        raise not_found("user")
    answer = json_answer(await view_of(request, row), headers={"Cache-Control": "no-store"})
    if COOKIE in request.cookies:
        answer.headers[CSRF_HEADER] = csrf_token(services.person_secret, str(claims_of(request).family_id))
    return answer


@patch(f"{A}/me", summary="Change one's profile", operation_class=body_of(ProfileChange))
async def update(request: Request[Any, Any, Any]) -> Response[UserView]:
    """What is not given stays as it is."""
    body = await read_json(request, _change)
    services, principal = services_of(request), principal_of(request)
    position = await accounts.update_profile(
        services.tools,
        user_id_of(principal),
        name=body.name,
        locale=body.locale,
        timezone=body.timezone,
        meta=principal.meta(),
    )
    return await _changed(request, position)


@post(f"{A}/complete_profile", status_code=200, summary="Finish the first steps", operation_class=body_of(FirstProfile))
async def complete(request: Request[Any, Any, Any]) -> Response[UserView]:
    """A new user tells their name."""
    body = await read_json(request, _first)
    services, principal = services_of(request), principal_of(request)
    position = await accounts.complete_profile(
        services.tools,
        user_id_of(principal),
        name=body.name,
        locale=body.locale,
        timezone=body.timezone,
        meta=principal.meta(),
    )
    return await _changed(request, position)


async def _changed(request: Request[Any, Any, Any], position: int | None) -> Response[UserView]:
    """The account as its own events tell it, so that what was just changed is there."""
    row = await queries.user_now(services_of(request).store, user_id_of(principal_of(request)))
    if row is None:
        raise not_found("user")
    return json_answer(await view_of(request, row), position=position)


@delete(f"{A}/me", status_code=200, summary="Close one's account")
async def close(request: Request[Any, Any, Any]) -> Response[CertificateView]:
    """For ever: memberships and logins end, the address becomes free, and everything sealed for the user becomes unreadable.

    Refused, and nothing changed, while one of their organizations has no other owner.  The answer is the certificate: nobody
    can sign in to ask for it later.
    """
    principal = principal_of(request)

    def as_member(org_id: UUID) -> Principal:
        return msgspec.structs.replace(principal, org_id=org_id)

    certificate = await close_and_erase(request, user_id_of(principal), as_member, reason="subject_request")
    services = services_of(request)
    position = max(one.position for one in certificate.subjects)
    services.people.end(claims_of(request).family_id)
    await services.settle_users(position)
    view = certificate_view(certificate, {})
    return json_answer(view, position=position, headers={"Cache-Control": "no-store"})


async def close_and_erase(
    request: Request[Any, Any, Any], user_id: UUID, acting: Callable[[UUID], Principal], *, reason: str
) -> ErasureCertified:
    """End every membership, close the account and erase its user everywhere; `acting` is who does it in an organization.

    Raises:
        DomainError: an organization would be left without an owner, or refuses the actor.
    """
    services = services_of(request)
    emails, ever = await traces_of(request, user_id)
    found = await members.organizations_of(services.pool, user_id)
    # Organizations one owns first: only they can refuse, also where somebody else left while we asked.
    living = [one.org_id for one in sorted(found, key=lambda one: one.permission != "owner")]
    places = [*living, *(org_id for org_id in ever if org_id not in living)]
    await leave_all(services.store, [acting(org_id) for org_id in places], user_id)
    return await erase_user(
        eraser_of(request),
        user_id,
        emails=emails,
        organizations=ever,
        secret=services.person_secret,
        reason=reason,
        meta=principal_of(request).meta(),
    )


async def traces_of(request: Request[Any, Any, Any], user_id: UUID) -> tuple[list[str], list[UUID]]:
    """By which addresses, and in which organizations, the user may have left something.

    An address counts only once its holder has proven that it is theirs: it stands for what others told about it.
    """
    services = services_of(request)
    row = await queries.user(services.pool, user_id)
    if row is None:
        raise unavailable("the read model has not heard of this user yet")
    boxes = [(_EMAIL_TAG, unboxed(row.email_box))] if row.email_box and row.verified else []
    emails = [text for text in await services.keyring.open_many(PLATFORM, boxes) if text]
    found = set(await members.organizations_ever(services.pool, user_id))
    for email in emails:
        told = partial(person_id_of, services.person_secret, email=email)
        found.update(await organizations_that_know(services.pool, told))
    return emails, sorted(found - {PLATFORM})


@get(f"{A}/organizations", summary="One's organizations")
async def organizations(
    request: Request[Any, Any, Any], page: Page = 1, page_size: PageSize = PAGE_SIZE_DEFAULT
) -> Response[MembershipPage]:
    """By slug, with the caller's permission in each."""
    await wait_until_fresh(request, members.PROJECTION.name)
    found = await members.organizations_of(services_of(request).pool, user_id_of(principal_of(request)))
    paging = Paging(page=page, page_size=page_size, order="slug", tie="org_id")
    items = [
        MembershipView(
            organization_id=one.org_id,
            slug=one.slug,
            name=one.name,
            permission=one.permission,
            org_role=one.org_role,
            links={"self": f"/api/v1/organizations/{one.slug}"},
        )
        for one in paging.cut(found)
    ]
    links = page_links(request, f"{A}/organizations", paging, len(found))
    return json_answer(MembershipPage(items=items, page=page, page_size=page_size, total=len(found), links=links))


@get(f"{A}/activity", summary="One's logins")
async def activity(
    request: Request[Any, Any, Any], limit: Limit = ACTIVITY_DEFAULT, cursor: CursorText = None
) -> Response[LoginPage]:
    """Logins and refused logins, newest first."""
    services, principal = services_of(request), principal_of(request)
    await wait_until_fresh(request, PROJECTION.name)
    try:
        before = None if cursor is None else queries.parse_cursor(cursor)
    except ValueError as error:
        raise bad_cursor(error) from error
    rows = await queries.activity(services.pool, user_id_of(principal), limit=limit + 1, before=before)
    shown, more = rows[:limit], len(rows) > limit
    items = await _logins(request, shown)
    after = queries.cursor_of(shown[-1]) if more else None
    links = cursor_links(request, f"{A}/activity", after)
    page = LoginPage(items=items, next_cursor=after, links=links)
    return json_answer(page)


async def _logins(request: Request[Any, Any, Any], rows: list[LoginRow]) -> list[LoginView]:
    services, family_id = services_of(request), claims_of(request).family_id
    boxes = [
        (_LOGIN_TAGS[row.outcome], unboxed(box)) for row in rows for box in (row.ip_box, row.user_agent_box) if box
    ]
    opened = iter(await services.keyring.open_many(PLATFORM, boxes))
    views: list[LoginView] = []
    for row in rows:
        ip, user_agent = (next(opened) if box else None for box in (row.ip_box, row.user_agent_box))
        views.append(
            LoginView(
                at=row.at,
                method=row.method,
                outcome=row.outcome,
                reason=row.reason,
                ip=ip,
                user_agent=user_agent,
                current=row.family_id == family_id,
            )
        )
    return views


ROUTER = Router("/", route_handlers=[me, update, complete, close, organizations, activity], tags=["signing in"])
