"""Signing in: requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class _Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    pass


class Registration(_Request, frozen=True, kw_only=True):
    """An account to open; the address is verified by a link in a mail."""

    email: str
    password: str
    name: str | None = None


class PasswordLogin(_Request, frozen=True, kw_only=True):
    """Address and password."""

    email: str
    password: str


class EmailOnly(_Request, frozen=True, kw_only=True):
    """Where a mail goes, if there is an account."""

    email: str


class MailedToken(_Request, frozen=True, kw_only=True):
    """The secret of a mail."""

    token: str


class NewPassword(_Request, frozen=True, kw_only=True):
    """The secret of a reset mail, and the password to be."""

    token: str
    new_password: str


class PasswordChange(_Request, frozen=True, kw_only=True):
    """`current_password` null: where there is none yet."""

    new_password: str
    current_password: str | None = None


class Refresh(_Request, frozen=True, kw_only=True):
    """A refresh token, good once."""

    refresh_token: str


class Revocation(_Request, frozen=True, kw_only=True):
    """`token` null: the login of the access token that asks; else a refresh or access token of the same user."""

    token: str | None = None


class DeviceStart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 8628, section 3.1; `client_id` is what the user is shown, for example the host name."""

    client_id: str = "crewkit"
    scope: str | None = None


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 8628, section 3.4 (and RFC 6749, section 6, with a refresh token)."""

    grant_type: str | None = None
    device_code: str | None = None
    refresh_token: str | None = None
    client_id: str | None = None


class DeviceVerification(_Request, frozen=True, kw_only=True):
    """`user_code` as the device shows it; `approve` false: no."""

    user_code: str
    approve: bool = True


class PasskeyChallengeRequest(_Request, frozen=True, kw_only=True):
    """`email` null: whichever passkey the authenticator knows for this site."""

    email: str | None = None


class PasskeyAnswer(_Request, frozen=True, kw_only=True):
    """`credential` is the browser's PublicKeyCredential as JSON (`toJSON()`); `name` is for a new one."""

    challenge_id: UUID
    credential: dict[str, Any]
    name: str | None = None


class TokenPair(msgspec.Struct, frozen=True, kw_only=True):
    """What every way to sign in ends with.  `expires_in` is the access token's, in seconds."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str
    refresh_expires_at: datetime
    user_id: UUID
    links: dict[str, str] = msgspec.field(name="_links")


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The same words whether there is such an account or not."""

    status: str
    message: str
    links: dict[str, str] = msgspec.field(name="_links")


class DeviceStarted(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 8628, section 3.2."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int
    links: dict[str, str] = msgspec.field(name="_links")


class DeviceDecided(msgspec.Struct, frozen=True, kw_only=True):
    """`status`: approved or denied."""

    status: str
    client: str
    links: dict[str, str] = msgspec.field(name="_links")


class PasskeyChallenge(msgspec.Struct, frozen=True, kw_only=True):
    """`options` is the argument of `navigator.credentials.get` or `create` in JSON."""

    challenge_id: UUID
    options: dict[str, Any]
    links: dict[str, str] = msgspec.field(name="_links")


class PasskeyView(msgspec.Struct, frozen=True, kw_only=True):
    """One passkey; `name` null: its owner was erased."""

    passkey_id: UUID
    name: str | None
    transports: list[str]
    registered_at: datetime
    last_used_at: datetime | None
    links: dict[str, str] = msgspec.field(name="_links")


class PasskeyPage(msgspec.Struct, frozen=True, kw_only=True):
    """All passkeys of the caller, oldest first."""

    items: list[PasskeyView]
    links: dict[str, str] = msgspec.field(name="_links")


class PasskeyRegistered(msgspec.Struct, frozen=True, kw_only=True):
    """The passkey that was added."""

    passkey_id: UUID
    links: dict[str, str] = msgspec.field(name="_links")
