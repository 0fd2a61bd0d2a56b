"""What a user is, folded from facts."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import msgspec

from domain.kernel import DomainError, Event, NotFoundError, Sealed, Stream, tag_of
from domain.users.events import (
    PasskeyRegistered,
    PasskeyRemoved,
    PasskeyUsed,
    UserDeleted,
    UserDisabled,
    UserEmailVerified,
    UserEnabled,
    UserLoggedIn,
    UserPasswordChanged,
    UserPlatformRoleChanged,
    UserProfileCompleted,
    UserRegistered,
    UserSignInsEnded,
)

DEVICES_MAX = 100  # devices remembered per user; the oldest is forgotten first


class InvalidCredentialsError(DomainError):
    """Not signed in, without saying what was wrong."""

    code = "invalid_auth"


class Kept(msgspec.Struct, frozen=True):
    """A sealed value and the stored type of the event that holds it: both are needed to open it."""

    tag: str
    sealed: Sealed


class Passkey(msgspec.Struct, frozen=True, kw_only=True):
    """One authenticator."""

    passkey_id: UUID
    credential_id: str
    public_key: str
    sign_count: int


class Absent(msgspec.Struct, frozen=True):
    """Nobody registered yet."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """An account.  `status`: `active`, `disabled` or `deleted`.  `signed_out_at`: families opened before it are void."""

    user_id: UUID
    email: Kept
    email_key: str
    status: str = "active"
    verified: bool = False
    completed: bool = False
    password: Kept | None = None
    token_sha256: str | None = None
    token_expires_at: datetime | None = None
    platform_role: str = "org_user"
    passkeys: tuple[Passkey, ...] = ()
    devices: tuple[str, ...] = ()
    signed_out_at: datetime | None = None


UserState: TypeAlias = Absent | User
NOBODY: UserState = Absent()


def user_stream(user_id: UUID) -> Stream:
    """Where one user's facts live, under `PLATFORM`."""
    return Stream("User", str(user_id))


def evolve(state: UserState, event: Event) -> UserState:
    """Apply one fact; facts of other kinds change nothing."""
    if isinstance(event, UserRegistered):
        return User(
            user_id=event.user_id,
            email=_kept(event, event.email),
            email_key=event.email_key,
            password=None if event.password_hash is None else _kept(event, event.password_hash),
            token_sha256=event.token_sha256,
            token_expires_at=event.token_expires_at,
            platform_role=event.platform_role,
        )
    return state if isinstance(state, Absent) else msgspec.structs.replace(state, **_changes(state, event))


def _changes(user: User, event: Event) -> dict[str, object]:  # noqa: C901, PLR0911, PLR0912  one return per kind of fact
    match event:
        case UserEmailVerified():
            return {"verified": True, "token_sha256": None, "token_expires_at": None}
        case UserPasswordChanged(password_hash=sealed):
            return {"password": None if sealed is None else _kept(event, sealed)}
        case UserSignInsEnded(ended_at=at):
            return {"signed_out_at": at}
        case UserProfileCompleted():
            return {"completed": True}
        case UserLoggedIn(device=device):
            known = (*(other for other in user.devices if other != device), device)
            return {"devices": known[-DEVICES_MAX:]}
        case UserPlatformRoleChanged(platform_role=role):
            return {"platform_role": role}
        case UserDisabled():
            return {"status": "disabled"}
        case UserEnabled():
            return {"status": "active"}
        case UserDeleted():
            return {"status": "deleted", "password": None, "passkeys": (), "devices": (), "token_sha256": None}
        case PasskeyRegistered():
            return {"passkeys": (*user.passkeys, _passkey(event))}
        case PasskeyUsed(passkey_id=passkey_id, sign_count=count):
            return {
                "passkeys": tuple(
                    msgspec.structs.replace(one, sign_count=count) if one.passkey_id == passkey_id else one
                    for one in user.passkeys
                )
            }
        case PasskeyRemoved(passkey_id=passkey_id):
            return {"passkeys": tuple(one for one in user.passkeys if one.passkey_id != passkey_id)}
        case _:
            return {}


def _kept(event: Event, sealed: Sealed) -> Kept:
    return Kept(tag_of(type(event)), sealed)


def _passkey(event: PasskeyRegistered) -> Passkey:
    return Passkey(
        passkey_id=event.passkey_id,
        credential_id=event.credential_id,
        public_key=event.public_key,
        sign_count=event.sign_count,
    )


def active(state: UserState) -> User:
    """The account, if it can sign in.

    Raises:
        InvalidCredentialsError: there is none, or it is disabled or deleted.
    """
    if isinstance(state, Absent) or state.status != "active":
        raise InvalidCredentialsError("cannot sign in with these credentials")
    return state


def existing(state: UserState) -> User:
    """The account, also a disabled one.

    Raises:
        NotFoundError: there is none (any more).
    """
    if isinstance(state, Absent) or state.status == "deleted":
        raise NotFoundError("no such user")
    return state
