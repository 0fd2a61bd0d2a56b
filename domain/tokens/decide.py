"""Rules about token families (one per login) and about the keys that sign access tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec

from domain.kernel import DomainError, Event, Sealed, Stream
from domain.tokens.events import (
    AccessTokenDenied,
    RefreshTokenReuseDetected,
    RefreshTokenRotated,
    SigningKeyMade,
    SigningKeyWithdrawn,
    TokenFamilyOpened,
    TokenFamilyRevoked,
)

ACCESS_LIFE = timedelta(hours=4)
REFRESH_LIFE = timedelta(days=30)
KEY_LIFE = timedelta(days=90)  # then the schedule makes the next one
KEY_LEAD = timedelta(minutes=2)  # a new key signs only when every process has had time to learn of it
CLOCK_LEEWAY = timedelta(minutes=1)  # how far clocks of processes may differ
SPENT_MAX = 5_000  # spent refresh tokens of one family that are told from tokens that never were


class RefusedTokenError(DomainError):
    """A refresh token that does not work, whatever the reason."""

    code = "invalid_auth"


class NoFamily(msgspec.Struct, frozen=True):
    """No login of this id."""


class OpenFamily(msgspec.Struct, frozen=True, kw_only=True):
    """A login that goes on; exactly one refresh token is good."""

    family_id: UUID
    user_id: UUID
    refresh_sha256: str
    spent: frozenset[str]
    opened_at: datetime
    expires_at: datetime


class ClosedFamily(msgspec.Struct, frozen=True):
    """A login that is over."""

    family_id: UUID
    user_id: UUID


FamilyState: TypeAlias = NoFamily | OpenFamily | ClosedFamily
NO_FAMILY: FamilyState = NoFamily()


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key as told by its event."""

    kid: str
    public_key: str
    private_key: Sealed
    active_at: datetime
    made_at: datetime


class Keys(msgspec.Struct, frozen=True):
    """Every key that was not withdrawn, oldest first."""

    made: tuple[SigningKey, ...] = ()


NO_KEYS = Keys()
KEYS_STREAM = Stream("SigningKeys", "access")


def family_stream(family_id: UUID) -> Stream:
    """Where one login's facts live, under `PLATFORM`."""
    return Stream("TokenFamily", str(family_id))


def evolve_family(state: FamilyState, event: Event) -> FamilyState:
    """Apply one fact; facts of other kinds change nothing."""
    match event:
        case TokenFamilyOpened():
            return OpenFamily(
                family_id=event.family_id,
                user_id=event.user_id,
                refresh_sha256=event.refresh_sha256,
                spent=frozenset(),
                opened_at=event.opened_at,
                expires_at=event.expires_at,
            )
        case RefreshTokenRotated() if isinstance(state, OpenFamily):
            spent = state.spent if len(state.spent) >= SPENT_MAX else state.spent | {event.spent_sha256}
            return msgspec.structs.replace(
                state, refresh_sha256=event.refresh_sha256, spent=spent, expires_at=event.expires_at
            )
        case TokenFamilyRevoked(family_id=family_id, user_id=user_id):
            return ClosedFamily(family_id, user_id)
        case _:
            return state


def open_family(
    state: FamilyState, *, family_id: UUID, user_id: UUID, method: str, refresh_sha256: str, at: datetime
) -> list[Event]:
    """Begin a login.  A family id that exists already changes nothing."""
    if not isinstance(state, NoFamily):
        return []
    return [
        TokenFamilyOpened(
            family_id=family_id,
            user_id=user_id,
            method=method,
            refresh_sha256=refresh_sha256,
            opened_at=at,
            expires_at=at + REFRESH_LIFE,
        )
    ]


def rotate(state: FamilyState, *, presented_sha256: str, next_sha256: str, at: datetime) -> list[Event]:
    """Spend a refresh token for the next one.  A spent one closes the family: the answer is then no rotation.

    Raises:
        RefusedTokenError: the family is over, the token expired, or never was one.
    """
    if not isinstance(state, OpenFamily):
        raise RefusedTokenError("this refresh token does not work (any more)")
    if presented_sha256 in state.spent:
        return [
            RefreshTokenReuseDetected(
                family_id=state.family_id, user_id=state.user_id, spent_sha256=presented_sha256, detected_at=at
            ),
            TokenFamilyRevoked(family_id=state.family_id, user_id=state.user_id, reason="reuse", revoked_at=at),
        ]
    if presented_sha256 != state.refresh_sha256 or state.expires_at <= at:
        raise RefusedTokenError("this refresh token does not work (any more)")
    return [
        RefreshTokenRotated(
            family_id=state.family_id,
            user_id=state.user_id,
            spent_sha256=presented_sha256,
            refresh_sha256=next_sha256,
            rotated_at=at,
            expires_at=at + REFRESH_LIFE,
        )
    ]


def revoke(
    state: FamilyState, *, reason: str, at: datetime, jti: UUID | None = None, expires_at: datetime | None = None
) -> list[Event]:
    """End a login; `jti` and `expires_at` name the access token at hand.  What is over stays over."""
    if not isinstance(state, OpenFamily):
        return []
    events: list[Event] = []
    if jti is not None and expires_at is not None:
        events.append(
            AccessTokenDenied(
                family_id=state.family_id, user_id=state.user_id, jti=jti, expires_at=expires_at, denied_at=at
            )
        )
    ended = TokenFamilyRevoked(family_id=state.family_id, user_id=state.user_id, reason=reason, revoked_at=at)
    return [*events, ended]


def evolve_keys(state: Keys, event: Event) -> Keys:
    """Apply one fact; facts of other kinds change nothing."""
    match event:
        case SigningKeyMade():
            made = SigningKey(
                kid=event.kid,
                public_key=event.public_key,
                private_key=event.private_key,
                active_at=event.active_at,
                made_at=event.made_at,
            )
            return Keys((*state.made, made))
        case SigningKeyWithdrawn(kid=kid):
            return Keys(tuple(key for key in state.made if key.kid != kid))
        case _:
            return state


def signing(keys: Keys, at: datetime) -> SigningKey | None:
    """The key that signs now: the newest that is active."""
    return next((key for key in reversed(keys.made) if key.active_at <= at), None)


def trusted(keys: Keys, at: datetime) -> list[SigningKey]:
    """Keys whose signatures count: also those replaced so short a time ago that their tokens may still be good."""
    found: list[SigningKey] = []
    later: Sequence[SigningKey] = keys.made[1:]
    for n, key in enumerate(keys.made):
        successor = later[n].active_at if n < len(later) else None
        if successor is None or at <= successor + ACCESS_LIFE + CLOCK_LEEWAY:
            found.append(key)
    return found


def make_first(state: Keys, event: SigningKeyMade, *, at: datetime) -> list[Event]:
    """Make a key where there is none that signs now: none was made, or the one that did was withdrawn before the next began."""
    return [event] if signing(state, at) is None else []


def make_next(state: Keys, event: SigningKeyMade, *, at: datetime) -> list[Event]:
    """Make the next key, unless one was made so short a time ago that it does not sign yet."""
    return [] if state.made and state.made[-1].active_at > at else [event]


def withdraw(state: Keys, *, kid: str, at: datetime) -> list[Event]:
    """Stop believing a key at once; everybody it signed for must sign in again."""
    if all(key.kid != kid for key in state.made):
        return []
    return [SigningKeyWithdrawn(kid=kid, withdrawn_at=at)]
