"""Facts about token families and signing keys.  Of a refresh token only its SHA-256 (hex) is kept."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.kernel import Event, Sealed


class TokenFamilyOpened(Event, frozen=True, kw_only=True, tag="token_family.opened.v1"):
    """A login began.  `expires_at` is when its first refresh token does."""

    family_id: UUID
    user_id: UUID
    method: str
    refresh_sha256: str
    opened_at: datetime
    expires_at: datetime


class RefreshTokenRotated(Event, frozen=True, kw_only=True, tag="refresh_token.rotated.v1"):
    """The refresh token was spent and replaced."""

    family_id: UUID
    user_id: UUID
    spent_sha256: str
    refresh_sha256: str
    rotated_at: datetime
    expires_at: datetime


class RefreshTokenReuseDetected(Event, frozen=True, kw_only=True, tag="refresh_token.reuse_detected.v1"):
    """A spent refresh token came back: somebody has a copy, so the family is closed."""

    family_id: UUID
    user_id: UUID
    spent_sha256: str
    detected_at: datetime


class AccessTokenDenied(Event, frozen=True, kw_only=True, tag="access_token.denied.v1"):
    """This one access token is refused until it expires by itself."""

    family_id: UUID
    user_id: UUID
    jti: UUID
    expires_at: datetime
    denied_at: datetime


class TokenFamilyRevoked(Event, frozen=True, kw_only=True, tag="token_family.revoked.v1"):
    """The login is over.  `reason`: `logout`, `reuse` or `revoked`."""

    family_id: UUID
    user_id: UUID
    reason: str
    revoked_at: datetime


class SigningKeyMade(Event, frozen=True, kw_only=True, tag="signing_key.made.v1"):
    """An Ed25519 key that signs access tokens from `active_at` on.  Both halves are 32 bytes as base64url."""

    kid: str
    public_key: str
    private_key: Sealed
    made_at: datetime
    active_at: datetime


class SigningKeyWithdrawn(Event, frozen=True, kw_only=True, tag="signing_key.withdrawn.v1"):
    """Nothing signed by this key is believed any more: it may have leaked."""

    kid: str
    withdrawn_at: datetime
