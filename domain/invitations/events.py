"""Facts about invitations.  Addresses and tokens are sealed for the invited person; of a token only the SHA-256 is readable."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.kernel import Event, Sealed


class InvitationCreated(Event, frozen=True, kw_only=True, tag="invitation.created.v1"):
    """Somebody is invited.  `invitation_id` is the SHA-256 (hex) of `token`, which only the mail tells."""

    invitation_id: str
    permission: str
    org_role: str
    organization_name: str
    email: Sealed
    token: Sealed
    invited_by: UUID | None = None
    created_at: datetime
    expires_at: datetime


class InvitationResent(Event, frozen=True, kw_only=True, tag="invitation.resent.v1"):
    """Another mail with another token; the earlier one opens nothing any more."""

    invitation_id: str
    token_sha256: str
    permission: str
    organization_name: str
    email: Sealed
    token: Sealed
    resent_at: datetime
    expires_at: datetime


class InvitationCancelled(Event, frozen=True, kw_only=True, tag="invitation.cancelled.v1"):
    """The organization took it back."""

    invitation_id: str
    cancelled_at: datetime


class InvitationAccepted(Event, frozen=True, kw_only=True, tag="invitation.accepted.v1"):
    """A user took it: the one who becomes a member."""

    invitation_id: str
    user_id: UUID
    accepted_at: datetime


class InvitationDeclined(Event, frozen=True, kw_only=True, tag="invitation.declined.v1"):
    """A user refused it."""

    invitation_id: str
    user_id: UUID | None = None
    declined_at: datetime


class InvitationExpired(Event, frozen=True, kw_only=True, tag="invitation.expired.v1"):
    """Nobody took it in time."""

    invitation_id: str
    expired_at: datetime
