"""Facts about users.  Whatever tells who somebody is, is sealed for the user's own id under `PLATFORM`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.kernel import Event, Sealed


class UserRegistered(Event, frozen=True, kw_only=True, tag="user.registered.v1"):
    """Somebody has an account.  `email_key` is a keyed hash of the address, unique among living accounts.

    `token` is the one-time secret that verifies the address by mail; only its SHA-256 (hex) is compared.  None: no mail.
    """

    user_id: UUID
    email: Sealed
    email_key: str
    name: Sealed | None = None
    password_hash: Sealed | None = None
    token: Sealed | None = None
    token_sha256: str | None = None
    token_expires_at: datetime | None = None
    platform_role: str = "org_user"
    registered_at: datetime


class UserEmailVerified(Event, frozen=True, kw_only=True, tag="user.email_verified.v1"):
    """The address is the user's.  `by`: `registration`, `magic_link`, `password_reset` or `operator`."""

    user_id: UUID
    by: str
    verified_at: datetime


class UserPasswordChanged(Event, frozen=True, kw_only=True, tag="user.password_changed.v1"):
    """`password_hash` is argon2's text; None: the password was taken away.

    `by`: `change`, `reset`, or `unverified` (whoever set it never proved to own the address, and now its owner came).
    """

    user_id: UUID
    by: str
    password_hash: Sealed | None = None
    changed_at: datetime


class UserSignInsEnded(Event, frozen=True, kw_only=True, tag="user.sign_ins_ended.v1"):
    """Every token family opened before is void.  `reason`: `password_changed`, `password_reset`, `disabled` or `deleted`."""

    user_id: UUID
    reason: str
    ended_at: datetime


class UserProfileUpdated(Event, frozen=True, kw_only=True, tag="user.profile_updated.v1"):
    """What changed; None: as before."""

    user_id: UUID
    name: Sealed | None = None
    locale: str | None = None
    timezone: str | None = None
    updated_at: datetime


class UserProfileCompleted(Event, frozen=True, kw_only=True, tag="user.profile_completed.v1"):
    """The first steps are done."""

    user_id: UUID
    name: Sealed
    locale: str | None = None
    timezone: str | None = None
    completed_at: datetime


class UserLoggedIn(Event, frozen=True, kw_only=True, tag="user.logged_in.v1"):
    """A login succeeded.  `method`: `password`, `magic_link`, `passkey` or `device`; `device` a keyed hash of the browser."""

    user_id: UUID
    method: str
    family_id: UUID
    device: str
    ip: Sealed | None = None
    user_agent: Sealed | None = None
    logged_in_at: datetime


class UserLoginFailed(Event, frozen=True, kw_only=True, tag="user.login_failed.v1"):
    """A login was refused.  `reason`: `password`, `unverified`, `sign_count`."""

    user_id: UUID
    method: str
    reason: str
    ip: Sealed | None = None
    user_agent: Sealed | None = None
    failed_at: datetime


class NewDeviceLogin(Event, frozen=True, kw_only=True, tag="user.new_device_login.v1"):
    """A login came from a browser or program that this user never signed in from before; the user is told by mail."""

    user_id: UUID
    email: Sealed
    method: str
    device: str
    ip: Sealed | None = None
    user_agent: Sealed | None = None
    logged_in_at: datetime


class UserPlatformRoleChanged(Event, frozen=True, kw_only=True, tag="user.platform_role_changed.v1"):
    """`platform_role`: `org_user`, `crewkit_staff` or `crewkit_owner`."""

    user_id: UUID
    platform_role: str
    changed_at: datetime


class UserDisabled(Event, frozen=True, kw_only=True, tag="user.disabled.v1"):
    """The user can no longer sign in."""

    user_id: UUID
    disabled_at: datetime


class UserEnabled(Event, frozen=True, kw_only=True, tag="user.enabled.v1"):
    """The user can sign in again."""

    user_id: UUID
    enabled_at: datetime


class UserDeleted(Event, frozen=True, kw_only=True, tag="user.deleted.v1"):
    """The account is gone for ever; its address may be registered again."""

    user_id: UUID
    deleted_at: datetime


class PasskeyRegistered(Event, frozen=True, kw_only=True, tag="passkey.registered.v1"):
    """`credential_id` and `public_key` (COSE) are base64url; `sign_count` as the authenticator counted at registration."""

    user_id: UUID
    passkey_id: UUID
    credential_id: str
    public_key: str
    sign_count: int
    transports: list[str]
    name: Sealed
    registered_at: datetime


class PasskeyUsed(Event, frozen=True, kw_only=True, tag="passkey.used.v1"):
    """A login with it; `sign_count` must rise with every use, or stay 0 where the authenticator does not count."""

    user_id: UUID
    passkey_id: UUID
    sign_count: int
    used_at: datetime


class PasskeyRemoved(Event, frozen=True, kw_only=True, tag="passkey.removed.v1"):
    """It opens nothing any more."""

    user_id: UUID
    passkey_id: UUID
    removed_at: datetime
