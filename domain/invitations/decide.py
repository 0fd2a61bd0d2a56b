"""Rules about invitations: pending until exactly one thing happens to them."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec

from domain.invitations.events import (
    InvitationAccepted,
    InvitationCancelled,
    InvitationCreated,
    InvitationDeclined,
    InvitationExpired,
    InvitationResent,
)
from domain.kernel import DomainError, Event, NotFoundError, Sealed, Stream
from domain.organizations.state import InvalidFieldError

OPEN_FOR = timedelta(days=7)
RESENDS_MAX = 20
EMAIL_CHARS_MAX = 320
PENDING, ACCEPTED, DECLINED, CANCELLED, EXPIRED = "pending", "accepted", "declined", "cancelled", "expired"
STATUSES = (PENDING, ACCEPTED, DECLINED, CANCELLED, EXPIRED)


class InvitationOverError(DomainError):
    """It is not pending any more; `details["status"]` says what became of it."""

    code = "conflict"


class Absent(msgspec.Struct, frozen=True):
    """Nobody was invited."""


class Invitation(msgspec.Struct, frozen=True):
    """An invitation.  `email` is still boxed; `user_id` whoever accepted."""

    invitation_id: str
    token_sha256: str
    permission: str
    org_role: str
    email: Sealed
    expires_at: datetime
    status: str = PENDING
    user_id: UUID | None = None
    resends: int = 0


InvitationState: TypeAlias = Absent | Invitation
NO_INVITATION: InvitationState = Absent()


def invitation_stream(invitation_id: str) -> Stream:
    """Where one invitation's facts live."""
    return Stream("Invitation", invitation_id)


def evolve(state: InvitationState, event: Event) -> InvitationState:
    """Apply one fact; facts of other kinds change nothing."""
    if isinstance(event, InvitationCreated):
        return Invitation(
            event.invitation_id, event.invitation_id, event.permission, event.org_role, event.email, event.expires_at
        )
    if isinstance(state, Absent):
        return state
    if isinstance(event, InvitationResent):
        return msgspec.structs.replace(
            state, token_sha256=event.token_sha256, expires_at=event.expires_at, resends=state.resends + 1
        )
    if isinstance(event, InvitationAccepted):
        return msgspec.structs.replace(state, status=ACCEPTED, user_id=event.user_id)
    ended = _ENDS.get(type(event))
    return state if ended is None else msgspec.structs.replace(state, status=ended)


_ENDS: dict[type[Event], str] = {
    InvitationDeclined: DECLINED,
    InvitationCancelled: CANCELLED,
    InvitationExpired: EXPIRED,
}


def check_email(email: str) -> str:
    """The address as it is stored: trimmed, in lower case.

    Raises:
        InvalidFieldError: nothing can be mailed there.
    """
    text = email.strip().lower()
    local, at, host = text.rpartition("@")
    odd = any(character.isspace() or not character.isprintable() for character in text)
    if odd or not at or not local or "." not in host.strip(".") or len(text) > EMAIL_CHARS_MAX:
        raise InvalidFieldError("email must be an e-mail address", field="email")
    return text


def existing(state: InvitationState) -> Invitation:
    """The invitation, where there is one.

    Raises:
        NotFoundError: there is none.
    """
    if isinstance(state, Absent):
        raise NotFoundError("invitation not found")
    return state


def create(
    state: InvitationState,
    *,
    invitation_id: str,
    permission: str,
    org_role: str,
    organization_name: str,
    email: Sealed,
    token: Sealed,
    invited_by: UUID | None,
    at: datetime,
) -> list[Event]:
    """Invite somebody, for `OPEN_FOR`.  The same invitation again changes nothing."""
    if isinstance(state, Invitation):
        return []
    return [
        InvitationCreated(
            invitation_id=invitation_id,
            permission=permission,
            org_role=org_role,
            organization_name=organization_name,
            email=email,
            token=token,
            invited_by=invited_by,
            created_at=at,
            expires_at=at + OPEN_FOR,
        )
    ]


def resend(
    state: InvitationState, *, token_sha256: str, organization_name: str, email: Sealed, token: Sealed, at: datetime
) -> list[Event]:
    """Mail it again with another token and a fresh time limit, also when nobody took it in time.

    Raises:
        NotFoundError: there is no such invitation.
        InvitationOverError: something has become of it, or it was mailed often enough.
    """
    invitation = existing(state)
    _check_pending(invitation)
    if invitation.resends >= RESENDS_MAX:
        raise InvitationOverError(f"it was mailed {RESENDS_MAX} times; invite anew", status=invitation.status)
    return [
        InvitationResent(
            invitation_id=invitation.invitation_id,
            token_sha256=token_sha256,
            permission=invitation.permission,
            organization_name=organization_name,
            email=email,
            token=token,
            resent_at=at,
            expires_at=at + OPEN_FOR,
        )
    ]


def cancel(state: InvitationState, *, at: datetime) -> list[Event]:
    """Take it back.  Twice changes nothing.

    Raises:
        NotFoundError: there is no such invitation.
        InvitationOverError: something else has become of it.
    """
    invitation = existing(state)
    if invitation.status == CANCELLED:
        return []
    _check_pending(invitation)
    return [InvitationCancelled(invitation_id=invitation.invitation_id, cancelled_at=at)]


def accept(state: InvitationState, *, token_sha256: str, user_id: UUID, at: datetime) -> list[Event]:
    """Take it, as the only one.  Who took it already changes nothing by taking it again.

    Raises:
        NotFoundError: there is no such invitation, or its token is another by now.
        InvitationOverError: somebody else took it, or something else has become of it.
    """
    invitation = _shown(state, token_sha256)
    if invitation.status == ACCEPTED and invitation.user_id == user_id:
        return []
    _check_open(invitation, at)
    return [InvitationAccepted(invitation_id=invitation.invitation_id, user_id=user_id, accepted_at=at)]


def decline(state: InvitationState, *, token_sha256: str, user_id: UUID | None, at: datetime) -> list[Event]:
    """Refuse it.  Twice changes nothing.

    Raises:
        NotFoundError: there is no such invitation, or its token is another by now.
        InvitationOverError: something else has become of it.
    """
    invitation = _shown(state, token_sha256)
    if invitation.status == DECLINED:
        return []
    _check_open(invitation, at)
    return [InvitationDeclined(invitation_id=invitation.invitation_id, user_id=user_id, declined_at=at)]


def expire(state: InvitationState, *, at: datetime) -> list[Event]:
    """Note that nobody took it in time; nothing where something became of it, or there is time left."""
    if isinstance(state, Absent) or state.status != PENDING or at < state.expires_at:
        return []
    return [InvitationExpired(invitation_id=state.invitation_id, expired_at=at)]


def _shown(state: InvitationState, token_sha256: str) -> Invitation:
    invitation = existing(state)
    if not hmac.compare_digest(invitation.token_sha256, token_sha256):
        raise NotFoundError("invitation not found")
    return invitation


def _check_pending(invitation: Invitation) -> None:
    if invitation.status != PENDING:
        raise InvitationOverError(f"this invitation is {invitation.status}", status=invitation.status)


def _check_open(invitation: Invitation, at: datetime) -> None:
    _check_pending(invitation)
    if at >= invitation.expires_at:
        raise InvitationOverError("this invitation is expired", status=EXPIRED)
