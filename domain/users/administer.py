"""What staff may do to accounts of others.  Who changes ranks, or touches an owner of the installation, is an owner."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from domain.kernel import Event, Sealed
from domain.organizations.state import EscalationError, InvalidFieldError
from domain.users import decide
from domain.users.decide import PLATFORM_ROLES
from domain.users.events import UserPlatformRoleChanged, UserProfileUpdated
from domain.users.state import User, UserState, existing

OWNER = PLATFORM_ROLES[-1]


class Staff(msgspec.Struct, frozen=True):
    """Who administers."""

    user_id: UUID
    platform_role: str


class UserChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; None leaves it as it is."""

    name: Sealed | None = None
    locale: str | None = None
    timezone: str | None = None
    platform_role: str | None = None


def change(state: UserState, *, by: Staff, changes: UserChanges, at: datetime) -> list[Event]:
    """Change an account, also a disabled one.

    Raises:
        NotFoundError: there is no such account.
        EscalationError: only an owner of the installation may do that; and nobody changes their own rank, so that an owner
            always stays.
        InvalidFieldError: a value cannot be accepted.
    """
    user = _below(state, by)
    decide.check_place(changes.locale, changes.timezone)
    events: list[Event] = []
    if changes.name is not None or changes.locale is not None or changes.timezone is not None:
        events.append(
            UserProfileUpdated(
                user_id=user.user_id,
                name=changes.name,
                locale=changes.locale,
                timezone=changes.timezone,
                updated_at=at,
            )
        )
    role = changes.platform_role
    if role is not None and role != user.platform_role:
        if role not in PLATFORM_ROLES:
            raise InvalidFieldError(f"platform_role must be one of {', '.join(PLATFORM_ROLES)}", field="platform_role")
        if by.platform_role != OWNER:
            raise EscalationError("only an owner of the installation changes ranks", field="platform_role")
        if by.user_id == user.user_id:
            raise EscalationError("nobody changes their own rank", field="platform_role")
        events.append(UserPlatformRoleChanged(user_id=user.user_id, platform_role=role, changed_at=at))
    return events


def disable(state: UserState, *, by: Staff, at: datetime) -> list[Event]:
    """Lock an account and end its logins; twice changes nothing.

    Raises:
        NotFoundError: there is no such account.
        EscalationError: it is their own, or an owner's and they are none.
    """
    user = _below(state, by)
    if by.user_id == user.user_id:
        raise EscalationError("nobody disables their own account")
    return decide.disable(state, at=at)


def enable(state: UserState, *, by: Staff, at: datetime) -> list[Event]:
    """Unlock an account; one that is not locked stays as it is.

    Raises:
        NotFoundError: there is no such account.
        EscalationError: it is an owner's and they are none.
    """
    _below(state, by)
    return decide.enable(state, at=at)


def check_erasable(state: UserState, *, by: Staff) -> None:
    """Whether the account may be closed and its user erased; one that is closed already may, and nothing more comes of it.

    Raises:
        NotFoundError: there is no such account.
        EscalationError: it is their own (`DELETE /auth/me` is for that), or an owner's and they are none.
    """
    if isinstance(state, User) and state.status == "deleted":
        return
    user = _below(state, by)
    if by.user_id == user.user_id:
        raise EscalationError("nobody erases their own account as staff: close it instead")


def _below(state: UserState, by: Staff) -> User:
    user = existing(state)
    if user.platform_role == OWNER and by.platform_role != OWNER:
        raise EscalationError("only an owner of the installation may do that to another one")
    return user
