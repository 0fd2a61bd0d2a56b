"""Facts about device authorizations, magic links, password resets, passkey challenges and attempts to guess."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.kernel import Event, Sealed


class DeviceAuthorizationStarted(Event, frozen=True, kw_only=True, tag="device_authorization.started.v1"):
    """A program without a browser asks to be signed in.  `device_id` is the SHA-256 of its device code, `user_code_key` a
    keyed hash of what the user will type.
    """

    device_id: str
    user_code_key: str
    client: str
    interval_s: int
    started_at: datetime
    expires_at: datetime


class DeviceAuthorizationApproved(Event, frozen=True, kw_only=True, tag="device_authorization.approved.v1"):
    """A signed-in user lets it in as themselves."""

    device_id: str
    user_id: UUID
    approved_at: datetime


class DeviceAuthorizationDenied(Event, frozen=True, kw_only=True, tag="device_authorization.denied.v1"):
    """A signed-in user refused it."""

    device_id: str
    user_id: UUID
    denied_at: datetime


class DeviceAuthorizationClaimed(Event, frozen=True, kw_only=True, tag="device_authorization.claimed.v1"):
    """The program fetched its tokens, once and for ever."""

    device_id: str
    user_id: UUID
    family_id: UUID
    claimed_at: datetime


class DeviceAuthorizationExpired(Event, frozen=True, kw_only=True, tag="device_authorization.expired.v1"):
    """Nobody decided, or nobody came back, in time."""

    device_id: str
    expired_at: datetime


class MagicLinkRequested(Event, frozen=True, kw_only=True, tag="magic_link.requested.v1"):
    """A login link is to be mailed.  `link_id` is the SHA-256 of `token`, which only the mail tells."""

    link_id: str
    user_id: UUID
    email: Sealed
    token: Sealed
    requested_at: datetime
    expires_at: datetime


class MagicLinkRedeemed(Event, frozen=True, kw_only=True, tag="magic_link.redeemed.v1"):
    """The link was used, once and for ever."""

    link_id: str
    user_id: UUID
    redeemed_at: datetime


class PasswordResetRequested(Event, frozen=True, kw_only=True, tag="password_reset.requested.v1"):
    """A reset link is to be mailed.  `reset_id` is the SHA-256 of `token`, which only the mail tells."""

    reset_id: str
    user_id: UUID
    email: Sealed
    token: Sealed
    requested_at: datetime
    expires_at: datetime


class PasswordResetCompleted(Event, frozen=True, kw_only=True, tag="password_reset.completed.v1"):
    """The reset was used, once and for ever."""

    reset_id: str
    user_id: UUID
    completed_at: datetime


class WebAuthnChallengeIssued(Event, frozen=True, kw_only=True, tag="webauthn_challenge.issued.v1"):
    """A random challenge (base64url) for an authenticator to sign.  `purpose`: `login` or `register`."""

    challenge_id: UUID
    purpose: str
    challenge: str
    user_id: UUID | None = None
    issued_at: datetime
    expires_at: datetime


class WebAuthnChallengeConsumed(Event, frozen=True, kw_only=True, tag="webauthn_challenge.consumed.v1"):
    """The challenge was answered, rightly or wrongly: it is worth nothing any more."""

    challenge_id: UUID
    consumed_at: datetime


class SignInAttempted(Event, frozen=True, kw_only=True, tag="sign_in.attempted.v1"):
    """Somebody tries `purpose` for an address; `account` is its keyed hash, whether there is such an account or not."""

    account: str
    purpose: str
    attempted_at: datetime


class SignInCleared(Event, frozen=True, kw_only=True, tag="sign_in.cleared.v1"):
    """The right one came: earlier attempts no longer count."""

    account: str
    purpose: str
    cleared_at: datetime
