"""Rules about users: registration, passwords, profile, passkeys, and who may sign in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, TypeAlias
from uuid import UUID

from domain.kernel import DomainError, Event, NotFoundError, Sealed
from domain.organizations.state import InvalidFieldError
from domain.users.events import (
    NewDeviceLogin,
    PasskeyRegistered,
    PasskeyRemoved,
    PasskeyUsed,
    UserDeleted,
    UserDisabled,
    UserEmailVerified,
    UserEnabled,
    UserLoggedIn,
    UserLoginFailed,
    UserPasswordChanged,
    UserPlatformRoleChanged,
    UserProfileCompleted,
    UserProfileUpdated,
    UserRegistered,
    UserSignInsEnded,
)
from domain.users.state import Absent, InvalidCredentialsError, Passkey, User, UserState, active, existing

PLATFORM_ROLES = ("org_user", "crewkit_staff", "crewkit_owner")  # each may do what the ones before it may
EMAIL_CHARS_MAX = 254  # what a mail server accepts as a path
NAME_CHARS_MAX = 200
PASSWORD_CHARS_MIN = 10
PASSWORD_CHARS_MAX = 1_024  # longer ones only make hashing slow
LOCALE_CHARS_MAX = 35
TIMEZONE_CHARS_MAX = 64
PASSKEYS_MAX = 50

Decision: TypeAlias = Callable[[UserState], list[Event]]


class UnverifiedError(DomainError):
    """The password is right, but the address was never verified."""

    code: ClassVar[str] = "email_unverified"


def clean_email(text: str) -> str:
    """The address as it is compared: trimmed, lower case.

    Raises:
        InvalidFieldError: it cannot be an address.
    """
    email = text.strip().lower()
    name, at, host = email.rpartition("@")
    odd = not email.isprintable() or any(character.isspace() for character in email)
    if not at or not name or "." not in f"{host}." or not host or odd or len(email) > EMAIL_CHARS_MAX:
        raise InvalidFieldError("email must be an address like name@example.com", field="email")
    return email


def clean_name(text: str) -> str:
    """A person's name, trimmed.

    Raises:
        InvalidFieldError: empty, too long or not printable.
    """
    name = text.strip()
    if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise InvalidFieldError(f"name must have 1 to {NAME_CHARS_MAX} printable characters", field="name")
    return name


def check_password(text: str, *, field: str = "password") -> None:
    """Length is what counts (NIST SP 800-63B): no rules about kinds of characters.

    Raises:
        InvalidFieldError: too short or too long.
    """
    if not PASSWORD_CHARS_MIN <= len(text) <= PASSWORD_CHARS_MAX:
        raise InvalidFieldError(
            f"{field} must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters", field=field
        )


def check_place(locale: str | None, timezone: str | None) -> None:
    """Refuse what could be no language tag or time zone name.

    Raises:
        InvalidFieldError: too long, or characters that such names do not have.
    """
    for field, value, limit in (("locale", locale, LOCALE_CHARS_MAX), ("timezone", timezone, TIMEZONE_CHARS_MAX)):
        if value is not None and (not value or len(value) > limit or not _is_plain(value)):
            raise InvalidFieldError(f"{field} must have 1 to {limit} letters, digits and -_/+", field=field)


def _is_plain(text: str) -> bool:
    return text.isascii() and all(character.isalnum() or character in "-_/+" for character in text)


def register(state: UserState, event: UserRegistered) -> list[Event]:
    """Open an account; the same user id twice changes nothing."""
    return [event] if isinstance(state, Absent) else []


def verify_email(state: UserState, *, token_sha256: str, at: datetime) -> list[Event]:
    """Redeem the token of the registration mail.  Verifying again changes nothing.

    Raises:
        InvalidCredentialsError: another token, or an old one.
    """
    user = active(state)
    if user.verified:
        return []
    if user.token_sha256 != token_sha256 or user.token_expires_at is None or user.token_expires_at <= at:
        raise InvalidCredentialsError("this link does not work (any more)")
    return [UserEmailVerified(user_id=user.user_id, by="registration", verified_at=at)]


def prove_address(state: UserState, *, by: str, at: datetime) -> list[Event]:
    """The owner of the address is here.  A password set by somebody who never proved that is taken away."""
    user = active(state)
    if user.verified:
        return []
    events: list[Event] = []
    if user.password is not None and by != "operator":
        events.append(UserPasswordChanged(user_id=user.user_id, by="unverified", changed_at=at))
    return [*events, UserEmailVerified(user_id=user.user_id, by=by, verified_at=at)]


def log_in(
    state: UserState,
    *,
    method: str,
    family_id: UUID,
    device: str,
    ip: Sealed | None,
    user_agent: Sealed | None,
    email: Sealed,
    at: datetime,
    passkey: tuple[UUID, int] | None = None,
) -> list[Event]:
    """Note a login; a device not seen before is told to the user, except at their first login.

    `passkey` is the passkey's id and what its authenticator counts now; `email` the opened address for the mail; `at` is when
    the login began, before anything was checked.

    Raises:
        InvalidCredentialsError: the account cannot sign in, has no such passkey, or all logins were ended meanwhile.
    """
    user = active(state)
    if user.signed_out_at is not None and at <= user.signed_out_at:
        raise InvalidCredentialsError("cannot sign in with these credentials")
    events: list[Event] = []
    if passkey is not None:
        known = find_passkey(user, passkey[0])
        events.append(PasskeyUsed(user_id=user.user_id, passkey_id=known.passkey_id, sign_count=passkey[1], used_at=at))
    events.append(
        UserLoggedIn(
            user_id=user.user_id,
            method=method,
            family_id=family_id,
            device=device,
            ip=ip,
            user_agent=user_agent,
            logged_in_at=at,
        )
    )
    if user.devices and device not in user.devices:
        events.append(
            NewDeviceLogin(
                user_id=user.user_id,
                email=email,
                method=method,
                device=device,
                ip=ip,
                user_agent=user_agent,
                logged_in_at=at,
            )
        )
    return events


def find_passkey(user: User, passkey_id: UUID) -> Passkey:
    """One of the user's passkeys.

    Raises:
        InvalidCredentialsError: it was removed, or never was theirs.
    """
    for one in user.passkeys:
        if one.passkey_id == passkey_id:
            return one
    raise InvalidCredentialsError("cannot sign in with these credentials")


def count_is_sound(passkey: Passkey, told: int) -> bool:
    """Whether an authenticator's counter went on; one that does not count always says 0.  Otherwise it was copied."""
    return told > passkey.sign_count or (told == 0 and passkey.sign_count == 0)


def fail_login(
    state: UserState, *, method: str, reason: str, ip: Sealed | None, user_agent: Sealed | None, at: datetime
) -> list[Event]:
    """Note a refused login, where there is somebody to note it for."""
    if isinstance(state, Absent) or state.status == "deleted":
        return []
    return [
        UserLoginFailed(user_id=state.user_id, method=method, reason=reason, ip=ip, user_agent=user_agent, failed_at=at)
    ]


def change_password(state: UserState, *, password_hash: Sealed, by: str, at: datetime) -> list[Event]:
    """Set a new password (`by`: `change` or `reset`) and end every login there is.

    Raises:
        InvalidCredentialsError: the account cannot sign in.
    """
    user = active(state)
    events: list[Event] = [
        UserPasswordChanged(user_id=user.user_id, by=by, password_hash=password_hash, changed_at=at),
        UserSignInsEnded(
            user_id=user.user_id, reason="password_reset" if by == "reset" else "password_changed", ended_at=at
        ),
    ]
    if by == "reset" and not user.verified:
        events.append(UserEmailVerified(user_id=user.user_id, by="password_reset", verified_at=at))
    return events


def update_profile(
    state: UserState, *, name: Sealed | None, locale: str | None, timezone: str | None, at: datetime
) -> list[Event]:
    """Change what is given; nothing given changes nothing.

    Raises:
        InvalidFieldError: locale or time zone cannot be accepted.
    """
    user = active(state)
    check_place(locale, timezone)
    if name is None and locale is None and timezone is None:
        return []
    return [UserProfileUpdated(user_id=user.user_id, name=name, locale=locale, timezone=timezone, updated_at=at)]


def complete_profile(
    state: UserState, *, name: Sealed, locale: str | None, timezone: str | None, at: datetime
) -> list[Event]:
    """Finish the first steps; once finished it is an ordinary change of the profile.

    Raises:
        InvalidFieldError: locale or time zone cannot be accepted.
    """
    user = active(state)
    check_place(locale, timezone)
    if user.completed:
        return update_profile(state, name=name, locale=locale, timezone=timezone, at=at)
    return [UserProfileCompleted(user_id=user.user_id, name=name, locale=locale, timezone=timezone, completed_at=at)]


def add_passkey(state: UserState, event: PasskeyRegistered) -> list[Event]:
    """Add an authenticator; the same credential twice changes nothing.

    Raises:
        InvalidFieldError: the user has `PASSKEYS_MAX` already.
    """
    user = active(state)
    if any(one.credential_id == event.credential_id for one in user.passkeys):
        return []
    if len(user.passkeys) >= PASSKEYS_MAX:
        raise InvalidFieldError(f"a user may have {PASSKEYS_MAX} passkeys; remove one first", field="passkey")
    return [event]


def remove_passkey(state: UserState, *, passkey_id: UUID, at: datetime) -> list[Event]:
    """Take an authenticator away.

    Raises:
        NotFoundError: the user has no such passkey.
    """
    user = active(state)
    if all(one.passkey_id != passkey_id for one in user.passkeys):
        raise NotFoundError("no such passkey")
    return [PasskeyRemoved(user_id=user.user_id, passkey_id=passkey_id, removed_at=at)]


def change_platform_role(state: UserState, *, platform_role: str, at: datetime) -> list[Event]:
    """Give the user another rank.

    Raises:
        InvalidFieldError: there is no such rank.
    """
    user = active(state)
    if platform_role not in PLATFORM_ROLES:
        raise InvalidFieldError(f"platform_role must be one of {', '.join(PLATFORM_ROLES)}", field="platform_role")
    if platform_role == user.platform_role:
        return []
    return [UserPlatformRoleChanged(user_id=user.user_id, platform_role=platform_role, changed_at=at)]


def disable(state: UserState, *, at: datetime) -> list[Event]:
    """Lock the account and end every login.

    Raises:
        NotFoundError: there is no such account.
    """
    user = existing(state)
    if user.status == "disabled":
        return []
    return [
        UserDisabled(user_id=user.user_id, disabled_at=at),
        UserSignInsEnded(user_id=user.user_id, reason="disabled", ended_at=at),
    ]


def enable(state: UserState, *, at: datetime) -> list[Event]:
    """Unlock the account.

    Raises:
        NotFoundError: there is no such account.
    """
    user = existing(state)
    return [UserEnabled(user_id=user.user_id, enabled_at=at)] if user.status == "disabled" else []


def delete(state: UserState, *, at: datetime) -> list[Event]:
    """Close the account for ever; twice changes nothing.

    Raises:
        NotFoundError: there never was such an account.
    """
    if isinstance(state, User) and state.status == "deleted":
        return []
    user = existing(state)
    return [
        UserSignInsEnded(user_id=user.user_id, reason="deleted", ended_at=at),
        UserDeleted(user_id=user.user_id, deleted_at=at),
    ]
