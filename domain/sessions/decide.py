"""The life of a session: opened by a person or by its first channel fact, ended by word, timed out by silence."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec

from domain.kernel import DomainError, Event, NotFoundError
from domain.sessions.events import Context, SessionEnded, SessionReset, SessionStarted, SessionTimedOut

OUTCOMES = ("completed", "failed", "abandoned")
KINDS = ("cli", "dashboard", "kickoff", "workflow")
RESETTABLE = "dashboard"
SessionEvent: TypeAlias = SessionStarted | SessionEnded | SessionTimedOut | SessionReset


class SessionEndedError(DomainError):
    """The session was declared over; what is over stays over."""

    code = "conflict"


class OutcomeUnknownError(DomainError):
    """The outcome or kind is not one of ours."""

    code = "validation_failed"


class SessionNotOpenedError(NotFoundError):
    """Nobody opened the session."""


class NotResettableError(DomainError):
    """Only sessions of the dashboard are used again; others are over when they are over."""

    code = "conflict"


class Absent(msgspec.Struct, frozen=True):
    """Nobody declared it.  Channel facts may exist all the same: then it may be ended and timed out like any other."""


class Active(msgspec.Struct, frozen=True):
    """Under way."""

    session_id: str
    kind: str = "cli"


class TimedOut(msgspec.Struct, frozen=True):
    """Nothing was heard since `last_activity_at`; later activity makes it active again, so it may time out again."""

    session_id: str
    last_activity_at: datetime
    kind: str = "cli"


class Ended(msgspec.Struct, frozen=True):
    """Over, with an outcome."""

    session_id: str
    outcome: str
    kind: str = "cli"


Session: TypeAlias = Absent | Active | TimedOut | Ended
INITIAL: Session = Absent()


def evolve(session: Session, event: Event) -> Session:
    """Apply one fact.  Never refuses: what happened, happened.  Facts of other kinds change nothing."""
    match event:
        case SessionReset(session_id=session_id):
            return Active(session_id, RESETTABLE)
        case _ if isinstance(session, Ended):
            return session
        case SessionStarted(session_id=session_id, kind=kind):
            return Active(session_id, kind)
        case SessionEnded(session_id=session_id, outcome=outcome):
            return Ended(session_id, outcome, _kind(session))
        case SessionTimedOut(session_id=session_id, last_activity_at=last):
            return TimedOut(session_id, last, _kind(session))
        case _:
            return session


def _kind(session: Session) -> str:
    return "cli" if isinstance(session, Absent) else session.kind


def reset(session: Session, *, session_id: str, at: datetime) -> list[SessionEvent]:
    """Use a session of the dashboard again after it ended or timed out.  Resetting an active one changes nothing.

    Raises:
        SessionNotOpenedError: nobody opened it.
        NotResettableError: it is of another kind.
    """
    match session:
        case Absent():
            raise SessionNotOpenedError(f"nobody opened session {session_id}")
        case Active(kind=kind) | TimedOut(kind=kind) | Ended(kind=kind) if kind != RESETTABLE:
            raise NotResettableError(
                f"session {session_id} is of kind {kind}; only {RESETTABLE} sessions are used again"
            )
        case Active():
            return []
        case TimedOut() | Ended():
            return [SessionReset(session_id=session_id, reset_at=at)]


def start(
    session: Session, *, session_id: str, kind: str, person_id: UUID, at: datetime, context: Context
) -> list[SessionEvent]:
    """Open a piece of work.  Opening an open one changes nothing; one that timed out is opened again.

    Raises:
        SessionEndedError: it was declared over.
        OutcomeUnknownError: the kind is not one of `KINDS`.
    """
    if kind not in KINDS:
        raise OutcomeUnknownError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}", field="kind")
    match session:
        case Active():
            return []
        case Ended(outcome=outcome):
            raise SessionEndedError(f"session {session_id} has ended ({outcome}) and cannot start again")
        case Absent() | TimedOut():
            return [
                SessionStarted(session_id=session_id, kind=kind, person_id=person_id, started_at=at, context=context)
            ]


def end(session: Session, *, session_id: str, outcome: str, at: datetime) -> list[SessionEvent]:
    """Declare a session over.  The same outcome twice changes nothing.

    Raises:
        SessionEndedError: it ended with another outcome.
        OutcomeUnknownError: the outcome is not one of `OUTCOMES`.
    """
    if outcome not in OUTCOMES:
        raise OutcomeUnknownError(f"outcome must be one of {', '.join(OUTCOMES)}, got {outcome!r}", field="outcome")
    match session:
        case Ended(outcome=was) if was == outcome:
            return []
        case Ended(outcome=was):
            raise SessionEndedError(f"session {session_id} has already ended as {was}")
        case Absent() | Active() | TimedOut():
            return [SessionEnded(session_id=session_id, outcome=outcome, ended_at=at)]


def time_out(
    session: Session, *, session_id: str, last_activity_at: datetime, now: datetime, limit_s: int
) -> list[SessionEvent]:
    """Note that nothing was heard for longer than `limit_s`.  One silence is noted once; an ended session never."""
    if now - last_activity_at <= timedelta(seconds=limit_s):
        return []
    match session:
        case Ended():
            return []
        case TimedOut(last_activity_at=noted) if noted >= last_activity_at:
            return []
        case Absent() | Active() | TimedOut():
            return [
                SessionTimedOut(
                    session_id=session_id, last_activity_at=last_activity_at, timed_out_at=now, limit_s=limit_s
                )
            ]
