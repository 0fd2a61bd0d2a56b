"""Invite people by mail; resend, cancel, accept, decline and expire what was sent.

The token is told to the mail only.  Its SHA-256 names the invitation; a resent one has another token, and the read model
knows which invitation it belongs to.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from commands.bus import Once, Principal, load, transact
from commands.members import actor_of, add_member
from commands.sessions.facts import person_id_of
from domain.invitations import decide
from domain.invitations.decide import (
    NO_INVITATION,
    PENDING,
    Invitation,
    InvitationState,
    evolve,
    existing,
    invitation_stream,
)
from domain.invitations.events import InvitationCreated, InvitationResent
from domain.kernel import DomainError, Event, NotFoundError, Sealed, Stream, tag_of
from domain.organizations.members import check_grant
from domain.organizations.state import (
    NO_ORGANIZATION,
    ORG_ROLE_DEFAULT,
    OWNER,
    PERMISSION_DEFAULT,
    Actor,
    EscalationError,
    Organization,
    evolve_organization,
    living,
    organization_stream,
)
from eventstore.port import Claim, EventStore, NameTakenError, Outcome, Status, StreamMovedError
from eventstore.sealing import KeyRing

EMAIL_CLAIM = "invitation.email"
JOIN_TRIES_MAX = 10
JOIN_PAUSE_S = 0.02
SYSTEM = Actor(None, OWNER)  # joining was decided when the invitation was made

_LABEL = b"crewkit invitation 1 "
_SENT = (InvitationCreated, InvitationResent)


class AlreadyMemberError(DomainError):
    """Who belongs to the organization leaves the invitation to others."""

    code = "conflict"


class UnvouchedError(DomainError):
    """Whoever sent the invitation was removed or has less to give by now; somebody else may send it again."""

    code = "conflict"


def token_hash(token: str) -> str:
    """What is stored of a token: SHA-256, hex.  Enough, because it has 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


async def invite(
    store: EventStore,
    principal: Principal,
    email: str,
    *,
    secret: bytes,
    permission: str = PERMISSION_DEFAULT,
    org_role: str = ORG_ROLE_DEFAULT,
    once: Once | None = None,
) -> tuple[str, Outcome]:
    """Invite the holder of an address; the invitation's id and what was appended.  `secret` keys the ids of people.

    Raises:
        EscalationError: the caller may not give this permission.
        InvalidFieldError: address, permission or role cannot be accepted.
        NameTakenError: the address has a pending invitation already.
    """
    address = decide.check_email(email)
    organization = await _organization(store, principal.org_id)
    check_grant(organization, actor_of(principal), permission, org_role)
    token = _token(secret, once)
    invitation_id, recipient = token_hash(token), person_id_of(secret, principal.org_id, address)
    outcome = await _transact(
        store,
        principal,
        invitation_id,
        lambda state: decide.create(
            state,
            invitation_id=invitation_id,
            permission=permission,
            org_role=org_role,
            organization_name=organization.name,
            email=Sealed(recipient, address),
            token=Sealed(recipient, token),
            invited_by=principal.user_id,
            at=datetime.now(UTC),
        ),
        claims=[_claim(principal.org_id, recipient)],
        once=once,
    )
    if outcome is None:
        raise AssertionError("a fresh token met an existing invitation")
    return invitation_id, outcome


async def resend(
    store: EventStore,
    ring: KeyRing,
    principal: Principal,
    invitation_id: str,
    *,
    secret: bytes,
    once: Once | None = None,
) -> Outcome:
    """Mail it again with another token.

    Raises:
        NotFoundError: there is no such invitation, or its person was erased.
        EscalationError: the caller manages no members, or gives less than it does.
        InvitationOverError: it is not pending.
    """
    organization, invitation = await _managed(store, principal, invitation_id)
    address = await _address(ring, principal.org_id, invitation)
    token, recipient = _token(secret, once), invitation.email.subject
    outcome = await _transact(
        store,
        principal,
        invitation_id,
        lambda state: decide.resend(
            state,
            token_sha256=token_hash(token),
            organization_name=organization.name,
            email=Sealed(recipient, address),
            token=Sealed(recipient, token),
            at=datetime.now(UTC),
        ),
        once=once,
    )
    if outcome is None:
        raise AssertionError("resending is decided without an event")
    return outcome


async def cancel(store: EventStore, principal: Principal, invitation_id: str) -> Outcome | None:
    """Take it back; None where that was done already.

    Raises:
        NotFoundError: there is no such invitation.
        EscalationError: the caller manages no members, or gives less than it does.
        InvitationOverError: something else has become of it.
    """
    _, invitation = await _managed(store, principal, invitation_id)
    return await _transact(
        store,
        principal,
        invitation_id,
        lambda state: decide.cancel(state, at=datetime.now(UTC)),
        releases=[_claim(principal.org_id, invitation.email.subject)],
    )


async def accept(
    store: EventStore, ring: KeyRing, principal: Principal, invitation_id: str, token: str, *, name: str | None = None
) -> Outcome:
    """Take it for the calling user, who becomes a member; by as many callers at once as there are, one gets it.

    `principal.org_id` is the inviting organization.  Repeating it after a failure half-way finishes the joining.

    Raises:
        NotFoundError: the organization, or an invitation of this token, does not exist.
        AlreadyMemberError: the user needs no invitation.
        UnvouchedError: who sent it last could not send it now.
        InvitationOverError: somebody else took it, or something else has become of it.
    """
    user_id = _user(principal)
    organization = await _organization(store, principal.org_id)
    stream = invitation_stream(invitation_id)
    invitation = existing((await load(store, principal.org_id, stream, evolve, NO_INVITATION))[0])
    if user_id in organization.members and invitation.user_id != user_id:
        raise AlreadyMemberError("you belong to this organization already")
    if invitation.status == PENDING:
        _check_vouched(organization, await _sender(store, principal.org_id, stream), invitation)
    taken = await _transact(
        store,
        principal,
        invitation_id,
        lambda state: decide.accept(state, token_sha256=token_hash(token), user_id=user_id, at=datetime.now(UTC)),
        releases=[_claim(principal.org_id, invitation.email.subject)],
    )
    joined = await join(store, ring, principal, invitation, user_id, name=name)
    known = joined or taken
    if known is not None:
        return known
    recorded = (await store.read_stream(principal.org_id, stream, newest_first=True, limit=1))[0]
    return Outcome(status=Status.DUPLICATE, version=recorded.version, position=recorded.position)


async def join(
    store: EventStore,
    ring: KeyRing,
    principal: Principal,
    invitation: Invitation,
    user_id: UUID,
    *,
    name: str | None = None,
) -> Outcome | None:
    """Make who accepted a member; None where they are one.  Also run for those whose acceptance broke off half-way.

    Raises:
        NotFoundError: the organization is gone.
        StreamMovedError: the organization kept changing.
    """
    address = await _address(ring, principal.org_id, invitation, gone_is_fine=True)
    for tries in range(1, JOIN_TRIES_MAX + 1):
        organization = await _organization(store, principal.org_id)
        try:
            return await add_member(
                store,
                principal,
                user_id,
                permission=invitation.permission,
                org_role=_role(organization, invitation),
                email=address or None,
                name=name,
                invitation_id=invitation.invitation_id,
                actor=SYSTEM,
            )
        except StreamMovedError:  # many join at once: whoever accepted shall not have to come back
            if tries == JOIN_TRIES_MAX:
                raise
            await asyncio.sleep(JOIN_PAUSE_S * secrets.randbelow(tries * 4))
    raise AssertionError("the last try returns or raises")


async def decline(store: EventStore, principal: Principal, invitation_id: str, token: str) -> Outcome | None:
    """Refuse it; None where that was done already.

    Raises:
        NotFoundError: there is no invitation of this token.
        InvitationOverError: something else has become of it.
    """
    stream = invitation_stream(invitation_id)
    invitation = existing((await load(store, principal.org_id, stream, evolve, NO_INVITATION))[0])
    return await _transact(
        store,
        principal,
        invitation_id,
        lambda state: decide.decline(
            state, token_sha256=token_hash(token), user_id=principal.user_id, at=datetime.now(UTC)
        ),
        releases=[_claim(principal.org_id, invitation.email.subject)],
    )


async def expire(store: EventStore, principal: Principal, invitation_id: str, *, at: datetime) -> Outcome | None:
    """Note that nobody took it in time; None where that is not so."""
    state = (await load(store, principal.org_id, invitation_stream(invitation_id), evolve, NO_INVITATION))[0]
    if not isinstance(state, Invitation):
        return None
    return await _transact(
        store,
        principal,
        invitation_id,
        lambda now: decide.expire(now, at=at),
        releases=[_claim(principal.org_id, state.email.subject)],
    )


def _token(secret: bytes, once: Once | None) -> str:
    """256 bits nobody can guess; for a wish that may be repeated, always the same ones."""
    if once is None:
        return secrets.token_urlsafe(32)
    return urlsafe_b64encode(hmac.digest(secret, _LABEL + once.key.encode(), "sha256")).decode().rstrip("=")


def _claim(org_id: UUID, recipient: UUID) -> Claim:
    return Claim(EMAIL_CLAIM, f"{org_id}:{recipient}")


def _user(principal: Principal) -> UUID:
    if principal.user_id is None:
        raise EscalationError("only a signed-in user accepts an invitation")
    return principal.user_id


async def _organization(store: EventStore, org_id: UUID) -> Organization:
    return living((await load(store, org_id, organization_stream(org_id), evolve_organization, NO_ORGANIZATION))[0])


async def _sender(store: EventStore, org_id: UUID, stream: Stream) -> str | None:
    """Who mailed the token that is good now, as the envelope tells."""
    told = await store.read_stream(org_id, stream)
    return next((one.meta.actor for one in reversed(told) if isinstance(one.event, _SENT)), None)


def _check_vouched(organization: Organization, sender: str | None, invitation: Invitation) -> None:
    """What a user offered holds while they could offer it; what a key or the installation did, the organization itself did."""
    kind, _, user_id = (sender or "").partition(":")
    if kind != "user":
        return
    try:
        check_grant(organization, Actor(UUID(user_id)), invitation.permission, _role(organization, invitation))
    except EscalationError as error:
        message = "who sent this invitation cannot give so much any more; ask somebody else there to send it again"
        raise UnvouchedError(message) from error


def _role(organization: Organization, invitation: Invitation) -> str:
    """The working role that was offered, or, where that is gone, the usual one."""
    return invitation.org_role if invitation.org_role in organization.roles else ORG_ROLE_DEFAULT


async def _managed(store: EventStore, principal: Principal, invitation_id: str) -> tuple[Organization, Invitation]:
    organization = await _organization(store, principal.org_id)
    state = (await load(store, principal.org_id, invitation_stream(invitation_id), evolve, NO_INVITATION))[0]
    invitation = existing(state)
    check_grant(organization, actor_of(principal), invitation.permission, _role(organization, invitation))
    return organization, invitation


async def _address(ring: KeyRing, org_id: UUID, invitation: Invitation, *, gone_is_fine: bool = False) -> str:
    [address] = await ring.open_many(org_id, [(tag_of(InvitationCreated), invitation.email)])
    if address is None and not gone_is_fine:
        raise NotFoundError("invitation not found")
    return address or ""


async def _transact(
    store: EventStore,
    principal: Principal,
    invitation_id: str,
    decided: Callable[[InvitationState], Sequence[Event]],
    *,
    claims: Sequence[Claim] = (),
    releases: Sequence[Claim] = (),
    once: Once | None = None,
) -> Outcome | None:
    try:
        return await transact(
            store,
            principal.org_id,
            invitation_stream(invitation_id),
            evolve,
            NO_INVITATION,
            decided,
            meta=principal.meta(),
            claims=claims,
            releases=releases,
            once=once,
        )
    except NameTakenError as taken:
        raise NameTakenError("this address is invited already; resend that invitation", field="email") from taken
