"""Invitations: sent, listed, resent and cancelled by members; looked at, accepted and declined by who holds the token."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.params import FromPath, QueryParameter

from api.answers import POSITION, body_of, json_answer
from api.auth import base_path, principal_of
from api.bodies import read_json
from api.contacts import contact_of
from api.errors import ApiError, not_found
from api.fresh import wait_until_fresh
from api.idempotency import idempotency_key, once_of
from api.members import PATHS as MEMBER_PATHS
from api.members import wanted_role
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, SortBy, SortDir, page_links, paging_of
from api.services import services_of
from commands import invitations as commands
from commands.bus import Principal
from domain.invitations.decide import PENDING, STATUSES
from domain.organizations.state import ORG_ROLE_DEFAULT, PERMISSION_DEFAULT
from eventstore.port import Outcome, Status
from projections import invitations
from projections.invitations import PROJECTION, InvitationFound, status_of
from projections.members.queries import member_at
from schemas.members import InvitationPage, InvitationView, Joined, NewInvitation, OpenInvitation

AnyRequest = Request[Any, Any, Any]
WantedStatus = Annotated[str, QueryParameter(max_length=20, description="`pending` unless said otherwise, or `all`")]

PATHS = [f"{path}/invitations" for path in MEMBER_PATHS]
ONE = [f"{path}/{{token:str}}" for path in PATHS]
OPEN = "/api/v1/invitations/{token:str}"
TOKEN_CHARS_MAX = 200
NO_STORE = {"Cache-Control": "no-store"}
_new = msgspec.json.Decoder(NewInvitation)
_ID = re.compile(r"[0-9a-f]{64}")


def view(found: InvitationFound) -> InvitationView:
    """The invitation with its links, which name it by id: nobody but the invited knows the token."""
    row, path = found.row, f"/api/v1/{found.slug}/members/invitations"
    return InvitationView(
        invitation_id=row.invitation_id,
        email=found.email,
        permission=row.permission,
        role=row.permission,
        org_role=row.org_role,
        status=status_of(row, datetime.now(UTC)),
        invited_by=row.invited_by,
        resends=row.resends,
        created_at=row.created_at,
        sent_at=row.sent_at,
        expires_at=row.expires_at,
        links={
            "self": f"{path}/{row.invitation_id}",
            "resend": f"{path}/{row.invitation_id}/resend",
            "invitations": path,
        },
    )


async def _found(request: AnyRequest, token: str) -> InvitationFound:
    """The invitation that the holder of `token` may see."""
    services = services_of(request)
    found = None
    if 0 < len(token) <= TOKEN_CHARS_MAX and token.isascii() and token.isprintable():
        found = await invitations.find_by_token(services.pool, services.keyring, commands.token_hash(token))
    if found is None:
        raise not_found("invitation")
    return found


async def _id(request: AnyRequest, token: str) -> str:
    """The id of an invitation of the caller's organization, named by its id or its token."""
    if _ID.fullmatch(token):
        return token
    found = await _found(request, token)
    if found.row.org_id != principal_of(request).org_id:
        raise not_found("invitation")
    return found.row.invitation_id


async def _told(request: AnyRequest, invitation_id: str, outcome: Outcome, status: int) -> Response[InvitationView]:
    services = services_of(request)
    found = await invitations.invitation_at(
        services.store,
        services.keyring,
        services.pool,
        principal_of(request).org_id,
        invitation_id,
        outcome.position,
    )
    if found is None:
        raise not_found("invitation")
    again = {"Idempotency-Replayed": "true"} if outcome.status is Status.DUPLICATE else {}
    return json_answer(view(found), status, position=outcome.position, headers=again)


@post(PATHS, summary="Invite somebody", operation_class=body_of(NewInvitation))
async def invite(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
) -> Response[InvitationView]:
    """By e-mail, open for 7 days.  The token goes to that address and nowhere else."""
    body = await read_json(request, _new)
    services = services_of(request)
    permission, org_role = wanted_role(body)
    invitation_id, outcome = await commands.invite(
        services.store,
        principal_of(request),
        body.email,
        secret=services.person_secret,
        permission=permission or PERMISSION_DEFAULT,
        org_role=org_role or ORG_ROLE_DEFAULT,
        once=once_of(request, "invitations.create", body),
    )
    return await _told(request, invitation_id, outcome, 201)


@get(PATHS, summary="Pending invitations")
async def list_invitations(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    status: WantedStatus = PENDING,
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    sort_by: SortBy = None,
    sort_dir: SortDir = "asc",
) -> Response[InvitationPage]:
    """Those that nobody took yet; `status` shows others.  Sorted by `created_at`, `expires_at` or `sent_at`."""
    if status not in {*STATUSES, "all"}:
        expected = ", ".join([*STATUSES, "all"])
        message = f"status: expected one of {expected}, got {status!r}"
        raise ApiError(400, message, details={"field": "status", "expected": expected})
    services = services_of(request)
    paging = paging_of(page, page_size, sort_by, sort_dir, columns=invitations.SORTS, tie=invitations.TIE)
    await wait_until_fresh(request, PROJECTION.name)
    found, total = await invitations.invitations(
        services.pool,
        services.keyring,
        principal_of(request).org_id,
        paging,
        status=None if status == "all" else status,
        now=datetime.now(UTC),
    )
    links = page_links(request, f"{base_path(request)}/members/invitations", paging, total)
    items = [view(one) for one in found]
    return json_answer(InvitationPage(items=items, page=page, page_size=page_size, total=total, links=links))


@post([f"{path}/resend" for path in ONE], status_code=200, summary="Send an invitation again")
async def resend(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    token: FromPath[str],
) -> Response[InvitationView]:
    """Named by id or token.  The new mail has a new token, and the old one opens nothing any more."""
    services, named = services_of(request), await _id(request, token)
    outcome = await commands.resend(
        services.store,
        services.keyring,
        principal_of(request),
        named,
        secret=services.person_secret,
        once=once_of(request, f"invitations.resend {named}"),
    )
    return await _told(request, named, outcome, 200)


@delete(ONE, status_code=204, summary="Cancel an invitation")
async def cancel(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    token: FromPath[str],
) -> Response[None]:
    """Named by id or token.  Twice is no error."""
    named = await _id(request, token)
    outcome = await commands.cancel(services_of(request).store, principal_of(request), named)
    return Response(None, status_code=204, headers={POSITION: str(outcome.position)} if outcome else {})


@get(OPEN, summary="Look at an invitation")
async def show(request: AnyRequest, token: FromPath[str]) -> Response[OpenInvitation]:
    """For who holds the token: nothing else is asked."""
    await wait_until_fresh(request, PROJECTION.name)
    found = await _found(request, token)
    row = found.row
    answer = OpenInvitation(
        organization=found.organization,
        slug=found.slug,
        email=found.email,
        permission=row.permission,
        role=row.permission,
        org_role=row.org_role,
        status=status_of(row, datetime.now(UTC)),
        expires_at=row.expires_at,
        links={
            "self": f"/api/v1/invitations/{token}",
            "accept": f"/api/v1/invitations/{token}/accept",
            "decline": f"/api/v1/invitations/{token}/decline",
        },
    )
    return json_answer(answer, headers=NO_STORE)


def _there(principal: Principal, found: InvitationFound) -> Principal:
    """The caller as one who acts in the inviting organization."""
    return msgspec.structs.replace(principal, org_id=found.row.org_id, permission=None)


@post(f"{OPEN}/accept", status_code=200, summary="Accept an invitation")
async def accept(request: AnyRequest, token: FromPath[str]) -> Response[Joined]:
    """The calling user becomes a member.  Of all who try, one gets it; for that one a repeat is answered as before."""
    services = services_of(request)
    found = await _found(request, token)
    idempotency_key(request)  # the token is one already
    principal, row = _there(principal_of(request), found), found.row
    user_id = principal.user_id
    _, name = await contact_of(request, user_id)
    outcome = await commands.accept(services.store, services.keyring, principal, row.invitation_id, token, name=name)
    await services.settle_members(outcome.position)
    member = user_id and await member_at(services.store, services.keyring, row.org_id, user_id, None)
    if not member:
        raise not_found("member")
    base = f"/api/v1/{found.slug}"
    answer = Joined(
        organization_id=row.org_id,
        org_id=row.org_id,
        organization=found.organization,
        slug=found.slug,
        user_id=member.row.user_id,
        permission=member.row.permission,
        role=member.row.permission,
        org_role=member.row.org_role,
        links={
            "self": f"{base}/members/{member.row.user_id}",
            "organization": f"/api/v1/organizations/{found.slug}",
            "effective_role": f"{base}/effective-role",
        },
    )
    return json_answer(answer, position=outcome.position, headers=NO_STORE)


@post(f"{OPEN}/decline", status_code=204, summary="Decline an invitation")
async def decline(request: AnyRequest, token: FromPath[str]) -> Response[None]:
    """Nobody can accept it any more.  Twice is no error."""
    idempotency_key(request)
    found = await _found(request, token)
    principal = _there(principal_of(request), found)
    outcome = await commands.decline(services_of(request).store, principal, found.row.invitation_id, token)
    return Response(None, status_code=204, headers={POSITION: str(outcome.position)} if outcome else {})


ROUTER = Router(
    "/",
    route_handlers=[invite, list_invitations, resend, cancel, show, accept, decline],
    tags=["invitations"],
)
