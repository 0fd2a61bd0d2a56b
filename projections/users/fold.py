"""From events to rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from domain.kernel import PLATFORM, Event, Sealed, tag_of
from domain.organizations.events import SubjectShredded
from domain.signin.events import (
    DeviceAuthorizationApproved,
    DeviceAuthorizationClaimed,
    DeviceAuthorizationDenied,
    DeviceAuthorizationExpired,
    DeviceAuthorizationStarted,
)
from domain.tokens.events import AccessTokenDenied, RefreshTokenRotated, TokenFamilyOpened, TokenFamilyRevoked
from domain.users.events import (
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
from eventstore.port import Recorded
from projections.base import Key, Projection, Rows, Table
from projections.users.tables import (
    DDL,
    DENIED,
    DEVICES,
    ERASE,
    FAMILIES,
    LOGINS,
    PASSKEYS,
    USERS,
    DeniedRow,
    DeviceRow,
    FamilyRow,
    LoginRow,
    PasskeyRow,
    UserRow,
)

_USER_EVENTS = (
    UserEmailVerified,
    UserPasswordChanged,
    UserSignInsEnded,
    UserProfileUpdated,
    UserProfileCompleted,
    UserPlatformRoleChanged,
    UserDisabled,
    UserEnabled,
    UserDeleted,
)
_ABOUT_USERS = (UserRegistered, *_USER_EVENTS)
_ABOUT_PASSKEYS = (PasskeyRegistered, PasskeyUsed, PasskeyRemoved)
_DEVICE_STATUS: dict[type[Event], str] = {
    DeviceAuthorizationApproved: "approved",
    DeviceAuthorizationDenied: "denied",
    DeviceAuthorizationClaimed: "claimed",
    DeviceAuthorizationExpired: "expired",
}


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:  # noqa: PLR0911  one return per kind of row
    """The rows an event is about."""
    event: Any = recorded.event
    if recorded.org_id != PLATFORM:
        return ()
    if isinstance(event, _ABOUT_USERS):
        return ((USERS, (event.user_id,)),)
    if isinstance(event, SubjectShredded):
        return ((USERS, (event.person_id,)),)
    if isinstance(event, UserLoggedIn | UserLoginFailed):
        return ((USERS, (event.user_id,)), (LOGINS, (recorded.event_id,)))
    if isinstance(event, _ABOUT_PASSKEYS):
        return ((PASSKEYS, (event.passkey_id,)),)
    if isinstance(event, TokenFamilyOpened | RefreshTokenRotated | TokenFamilyRevoked):
        return ((FAMILIES, (event.family_id,)),)
    if isinstance(event, AccessTokenDenied):
        return ((DENIED, (event.jti,)),)
    if isinstance(event, DeviceAuthorizationStarted) or type(event) in _DEVICE_STATUS:
        return ((DEVICES, (event.device_id,)),)
    return ()


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    if recorded.org_id != PLATFORM:
        return
    event = recorded.event
    match event:
        case UserRegistered():
            if rows.get(USERS, (event.user_id,)) is None:
                rows.put(USERS, _registered(event))
        case UserLoggedIn() | UserLoginFailed():
            _fold_login(rows, recorded, event)
        case PasskeyRegistered() | PasskeyUsed() | PasskeyRemoved():
            _fold_passkey(rows, event)
        case TokenFamilyOpened() | RefreshTokenRotated() | TokenFamilyRevoked():
            _fold_family(rows, event)
        case AccessTokenDenied():
            rows.put(DENIED, DeniedRow(jti=event.jti, org_id=PLATFORM, expires_at=event.expires_at))
        case SubjectShredded(person_id=user_id):
            if (user := rows.get(USERS, (user_id,))) is not None:
                user.email_key = user.email_box = user.name_box = user.name_tag = None
                rows.put(USERS, user)
        case _:
            _fold_device(rows, event)
            _fold_user(rows, event)


def _registered(event: UserRegistered) -> UserRow:
    return UserRow(
        user_id=event.user_id,
        org_id=PLATFORM,
        status="active",
        email_key=event.email_key,
        email_box=event.email.box,
        name_box=_box(event.name),
        name_tag=tag_of(UserRegistered) if event.name else None,
        verified=False,
        completed=False,
        has_password=event.password_hash is not None,
        platform_role=event.platform_role,
        locale=None,
        timezone=None,
        registered_at=event.registered_at,
    )


def _fold_user(rows: Rows, event: Event) -> None:
    if not isinstance(event, _USER_EVENTS) or (user := rows.get(USERS, (event.user_id,))) is None:
        return
    match event:
        case UserEmailVerified():
            user.verified = True
        case UserPasswordChanged(password_hash=password_hash):
            user.has_password = password_hash is not None
        case UserSignInsEnded(ended_at=at):
            user.signed_out_at = at
        case UserProfileUpdated() | UserProfileCompleted():
            _fold_profile(user, event)
        case UserPlatformRoleChanged(platform_role=role):
            user.platform_role = role
        case UserDisabled():
            user.status = "disabled"
        case UserEnabled():
            user.status = "active"
        case UserDeleted():
            user.status = "deleted"
            user.email_key = None
            user.has_password = False
        case _:
            return
    rows.put(USERS, user)


def _fold_profile(user: UserRow, event: UserProfileUpdated | UserProfileCompleted) -> None:
    if event.name is not None:
        user.name_box, user.name_tag = event.name.box, tag_of(type(event))
    user.locale = event.locale or user.locale
    user.timezone = event.timezone or user.timezone
    user.completed = user.completed or isinstance(event, UserProfileCompleted)


def _fold_login(rows: Rows, recorded: Recorded, event: UserLoggedIn | UserLoginFailed) -> None:
    row = LoginRow(
        event_id=recorded.event_id,
        org_id=PLATFORM,
        user_id=event.user_id,
        at=recorded.recorded_at,
        method=event.method,
        outcome="failed",
        reason=None,
        family_id=None,
        ip_box=_box(event.ip),
        user_agent_box=_box(event.user_agent),
    )
    if isinstance(event, UserLoginFailed):
        row.reason = event.reason
    else:
        row.outcome, row.family_id = "succeeded", event.family_id
        if (user := rows.get(USERS, (event.user_id,))) is not None:
            user.last_login_at = event.logged_in_at
            rows.put(USERS, user)
    rows.put(LOGINS, row)


def _fold_passkey(rows: Rows, event: PasskeyRegistered | PasskeyUsed | PasskeyRemoved) -> None:
    if isinstance(event, PasskeyRegistered):
        if rows.get(PASSKEYS, (event.passkey_id,)) is None:
            rows.put(
                PASSKEYS,
                PasskeyRow(
                    passkey_id=event.passkey_id,
                    org_id=PLATFORM,
                    user_id=event.user_id,
                    credential_id=event.credential_id,
                    transports=" ".join(event.transports),
                    name_box=event.name.box,
                    registered_at=event.registered_at,
                ),
            )
        return
    if (passkey := rows.get(PASSKEYS, (event.passkey_id,))) is None:
        return
    if isinstance(event, PasskeyUsed):
        passkey.last_used_at = event.used_at
    else:
        passkey.removed_at = event.removed_at
    rows.put(PASSKEYS, passkey)


def _fold_family(rows: Rows, event: TokenFamilyOpened | RefreshTokenRotated | TokenFamilyRevoked) -> None:
    if isinstance(event, TokenFamilyOpened):
        if rows.get(FAMILIES, (event.family_id,)) is None:
            rows.put(
                FAMILIES,
                FamilyRow(
                    family_id=event.family_id,
                    org_id=PLATFORM,
                    user_id=event.user_id,
                    method=event.method,
                    opened_at=event.opened_at,
                    expires_at=event.expires_at,
                ),
            )
        return
    if (family := rows.get(FAMILIES, (event.family_id,))) is None:
        return
    if isinstance(event, RefreshTokenRotated):
        family.refreshed_at, family.expires_at = event.rotated_at, event.expires_at
    else:
        family.revoked_at, family.reason = event.revoked_at, event.reason
    rows.put(FAMILIES, family)


def _fold_device(rows: Rows, event: Event) -> None:
    if isinstance(event, DeviceAuthorizationStarted):
        if rows.get(DEVICES, (event.device_id,)) is None:
            rows.put(
                DEVICES,
                DeviceRow(
                    device_id=event.device_id,
                    org_id=PLATFORM,
                    user_code_key=event.user_code_key,
                    client=event.client,
                    status="pending",
                    started_at=event.started_at,
                    expires_at=event.expires_at,
                ),
            )
        return
    status = _DEVICE_STATUS.get(type(event))
    if status is None or (device := rows.get(DEVICES, (getattr(event, "device_id", ""),))) is None:
        return
    device.status = status
    rows.put(DEVICES, device)


def _box(sealed: Sealed | None) -> str | None:
    return sealed.box if sealed else None


PROJECTION = Projection(
    "users",
    1,
    tables=(USERS, PASSKEYS, FAMILIES, DENIED, LOGINS, DEVICES),
    ddl=DDL,
    touches=touches,
    fold=fold,
    erase=ERASE,
    reads=(
        *_ABOUT_USERS,
        *_ABOUT_PASSKEYS,
        UserLoggedIn,
        UserLoginFailed,
        *_DEVICE_STATUS,
        DeviceAuthorizationStarted,
        TokenFamilyOpened,
        RefreshTokenRotated,
        TokenFamilyRevoked,
        AccessTokenDenied,
        SubjectShredded,
    ),
)
