"""Rules of what works once: magic links, password resets, passkey challenges."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec

from domain.kernel import DomainError, Event, Sealed, Stream
from domain.signin.events import (
    MagicLinkRedeemed,
    MagicLinkRequested,
    PasswordResetCompleted,
    PasswordResetRequested,
    WebAuthnChallengeConsumed,
    WebAuthnChallengeIssued,
)

MAGIC_LINK_LIFE = timedelta(minutes=15)
RESET_LIFE = timedelta(hours=1)
CHALLENGE_LIFE = timedelta(minutes=5)
VERIFICATION_LIFE = timedelta(days=7)


class SpentError(DomainError):
    """It was used before, is too old, or never was one."""

    code = "invalid_auth"


class Absent(msgspec.Struct, frozen=True):
    """There never was such a secret."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """It works until `expires_at`.  `challenge` and `purpose` are a passkey challenge's."""

    ident: str
    user_id: UUID | None
    expires_at: datetime
    challenge: str = ""
    purpose: str = ""


class Used(msgspec.Struct, frozen=True):
    """It worked once."""


OnceState: TypeAlias = Absent | Waiting | Used
NOTHING: OnceState = Absent()


def link_stream(link_id: str) -> Stream:
    """Where one magic link's facts live, under `PLATFORM`."""
    return Stream("MagicLink", link_id)


def reset_stream(reset_id: str) -> Stream:
    """Where one password reset's facts live, under `PLATFORM`."""
    return Stream("PasswordReset", reset_id)


def challenge_stream(challenge_id: UUID) -> Stream:
    """Where one challenge's facts live, under `PLATFORM`."""
    return Stream("WebAuthnChallenge", str(challenge_id))


def evolve(state: OnceState, event: Event) -> OnceState:
    """Apply one fact; facts of other kinds change nothing."""
    match event:
        case MagicLinkRequested():
            return Waiting(ident=event.link_id, user_id=event.user_id, expires_at=event.expires_at)
        case PasswordResetRequested():
            return Waiting(ident=event.reset_id, user_id=event.user_id, expires_at=event.expires_at)
        case WebAuthnChallengeIssued():
            return Waiting(
                ident=str(event.challenge_id),
                user_id=event.user_id,
                expires_at=event.expires_at,
                challenge=event.challenge,
                purpose=event.purpose,
            )
        case MagicLinkRedeemed() | PasswordResetCompleted() | WebAuthnChallengeConsumed():
            return Used()
        case _:
            return state


def request_link(
    state: OnceState, *, link_id: str, user_id: UUID, email: Sealed, token: Sealed, at: datetime
) -> list[Event]:
    """Have a login link mailed."""
    if not isinstance(state, Absent):
        return []
    return [
        MagicLinkRequested(
            link_id=link_id,
            user_id=user_id,
            email=email,
            token=token,
            requested_at=at,
            expires_at=at + MAGIC_LINK_LIFE,
        )
    ]


def request_reset(
    state: OnceState, *, reset_id: str, user_id: UUID, email: Sealed, token: Sealed, at: datetime
) -> list[Event]:
    """Have a reset link mailed."""
    if not isinstance(state, Absent):
        return []
    return [
        PasswordResetRequested(
            reset_id=reset_id,
            user_id=user_id,
            email=email,
            token=token,
            requested_at=at,
            expires_at=at + RESET_LIFE,
        )
    ]


def issue_challenge(
    state: OnceState, *, challenge_id: UUID, purpose: str, challenge: str, user_id: UUID | None, at: datetime
) -> list[Event]:
    """Give an authenticator something to sign."""
    if not isinstance(state, Absent):
        return []
    return [
        WebAuthnChallengeIssued(
            challenge_id=challenge_id,
            purpose=purpose,
            challenge=challenge,
            user_id=user_id,
            issued_at=at,
            expires_at=at + CHALLENGE_LIFE,
        )
    ]


def redeem_link(state: OnceState, *, at: datetime) -> list[Event]:
    """Use a login link.

    Raises:
        SpentError: it does not work (any more).
    """
    waiting, user_id = _good(state, at), _owner(state)
    return [MagicLinkRedeemed(link_id=waiting.ident, user_id=user_id, redeemed_at=at)]


def complete_reset(state: OnceState, *, at: datetime) -> list[Event]:
    """Use a reset link.

    Raises:
        SpentError: it does not work (any more).
    """
    waiting, user_id = _good(state, at), _owner(state)
    return [PasswordResetCompleted(reset_id=waiting.ident, user_id=user_id, completed_at=at)]


def consume_challenge(state: OnceState, *, purpose: str, user_id: UUID | None, at: datetime) -> list[Event]:
    """Take an answer to a challenge, once; a challenge made for one user answers nobody else's registration.

    Raises:
        SpentError: it does not work (any more), or was made for something else.
    """
    waiting = _good(state, at)
    if waiting.purpose != purpose or (purpose == "register" and waiting.user_id != user_id):
        raise SpentError("this challenge does not work (any more)")
    return [WebAuthnChallengeConsumed(challenge_id=UUID(waiting.ident), consumed_at=at)]


def _good(state: OnceState, at: datetime) -> Waiting:
    if not isinstance(state, Waiting) or state.expires_at <= at:
        raise SpentError("this does not work (any more); ask for a new one")
    return state


def _owner(state: OnceState) -> UUID:
    if not isinstance(state, Waiting) or state.user_id is None:
        raise SpentError("this does not work (any more); ask for a new one")
    return state.user_id
