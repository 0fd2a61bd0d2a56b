"""Rules of the device flow (RFC 8628): a program asks, a signed-in user decides, the program fetches its tokens once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec

from domain.kernel import DomainError, Event, NotFoundError, Stream
from domain.signin.events import (
    DeviceAuthorizationApproved,
    DeviceAuthorizationClaimed,
    DeviceAuthorizationDenied,
    DeviceAuthorizationExpired,
    DeviceAuthorizationStarted,
)

DEVICE_LIFE = timedelta(minutes=10)
INTERVAL_S = 5  # the program asks no more often than this, and this much less often after each `slow_down`
CLIENT_CHARS_MAX = 100
# Letters that are not taken for others when read aloud, and make no words: RFC 8628, section 6.1.
USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
USER_CODE_CHARS = 8


class AuthorizationPendingError(DomainError):
    """The user has not decided yet; ask again after the interval."""

    code = "authorization_pending"


class SlowDownError(DomainError):
    """Asked too soon; the interval is 5 seconds longer from now on."""

    code = "slow_down"


class AccessDeniedError(DomainError):
    """The user refused."""

    code = "access_denied"


class ExpiredTokenError(DomainError):
    """The device code is too old, was used, or never was one: start again."""

    code = "expired_token"


class Absent(msgspec.Struct, frozen=True):
    """Nobody asked."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One authorization.  `status`: pending, approved, denied, claimed or expired."""

    device_id: str
    user_code_key: str
    client: str
    expires_at: datetime
    status: str = "pending"
    user_id: UUID | None = None


DeviceState: TypeAlias = Absent | Device
NO_DEVICE: DeviceState = Absent()
_STATUS: dict[type[Event], str] = {
    DeviceAuthorizationApproved: "approved",
    DeviceAuthorizationDenied: "denied",
    DeviceAuthorizationClaimed: "claimed",
    DeviceAuthorizationExpired: "expired",
}


def device_stream(device_id: str) -> Stream:
    """Where one authorization's facts live, under `PLATFORM`."""
    return Stream("DeviceAuthorization", device_id)


def clean_user_code(text: str) -> str:
    """What somebody typed, as it is compared: capitals, without hyphen or spaces; anything else stays, and matches nothing."""
    return "".join(text.upper().replace("-", " ").split())


def evolve(state: DeviceState, event: Event) -> DeviceState:
    """Apply one fact; facts of other kinds change nothing."""
    if isinstance(event, DeviceAuthorizationStarted):
        return Device(
            device_id=event.device_id,
            user_code_key=event.user_code_key,
            client=event.client,
            expires_at=event.expires_at,
        )
    status = _STATUS.get(type(event))
    if isinstance(state, Absent) or status is None:
        return state
    user_id = event.user_id if isinstance(event, DeviceAuthorizationApproved) else state.user_id
    return msgspec.structs.replace(state, status=status, user_id=user_id)


def start(state: DeviceState, *, device_id: str, user_code_key: str, client: str, at: datetime) -> list[Event]:
    """Ask to be signed in.  The same device code again changes nothing."""
    if not isinstance(state, Absent):
        return []
    return [
        DeviceAuthorizationStarted(
            device_id=device_id,
            user_code_key=user_code_key,
            client=client,
            interval_s=INTERVAL_S,
            started_at=at,
            expires_at=at + DEVICE_LIFE,
        )
    ]


def decide_about(state: DeviceState, *, user_id: UUID, approve: bool, at: datetime) -> list[Event]:
    """The user's yes or no.  The same decision by the same user again changes nothing.

    Raises:
        NotFoundError: there is no such authorization, it is too old, or somebody decided otherwise.
    """
    if isinstance(state, Device) and state.status == "approved" and approve and state.user_id == user_id:
        return []
    if isinstance(state, Absent) or state.status != "pending" or state.expires_at <= at:
        raise NotFoundError("no device waits with this code; it may be too old")
    if approve:
        return [DeviceAuthorizationApproved(device_id=state.device_id, user_id=user_id, approved_at=at)]
    return [DeviceAuthorizationDenied(device_id=state.device_id, user_id=user_id, denied_at=at)]


def claim(state: DeviceState, *, family_id: UUID, at: datetime) -> list[DeviceAuthorizationClaimed]:
    """Fetch what was approved: the one event that may open the login.

    Raises:
        AuthorizationPendingError, AccessDeniedError, ExpiredTokenError: as RFC 8628 names them.
    """
    if isinstance(state, Absent) or state.status in {"claimed", "expired"}:
        raise ExpiredTokenError("this device code does not work (any more); start again")
    if state.status == "denied":
        raise AccessDeniedError("the user refused this device")
    if state.expires_at <= at:
        raise ExpiredTokenError("this device code is too old; start again")
    if state.user_id is None:
        raise AuthorizationPendingError("waiting for the user to decide")
    return [
        DeviceAuthorizationClaimed(device_id=state.device_id, user_id=state.user_id, family_id=family_id, claimed_at=at)
    ]


def expire(state: DeviceState, *, at: datetime) -> list[Event]:
    """Give up on an authorization whose time is over."""
    if isinstance(state, Device) and state.status in {"pending", "approved"} and state.expires_at <= at:
        return [DeviceAuthorizationExpired(device_id=state.device_id, expired_at=at)]
    return []
