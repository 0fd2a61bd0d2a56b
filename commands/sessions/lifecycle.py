"""Open, end and time out sessions."""

from __future__ import annotations

from datetime import datetime

from commands.bus import Principal, transact
from domain.kernel import Stream
from domain.sessions import decide
from domain.sessions.events import Context
from eventstore.port import EventStore, Outcome


async def start_session(
    store: EventStore,
    principal: Principal,
    session_id: str,
    *,
    kind: str = "cli",
    at: datetime,
    context: Context | None = None,
    command_id: str | None = None,
) -> Outcome | None:
    """Open a piece of work; None when it is open already.

    Raises:
        SessionEndedError: it was declared over.
        OutcomeUnknownError: the kind is not one of ours.
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        principal.org_id,
        Stream("Session", session_id),
        decide.evolve,
        decide.INITIAL,
        lambda session: decide.start(
            session,
            session_id=session_id,
            kind=kind,
            person_id=principal.person_id,
            at=at,
            context=context or Context(),
        ),
        meta=principal.meta(),
        command_id=command_id,
    )


async def end_session(
    store: EventStore,
    principal: Principal,
    session_id: str,
    *,
    outcome: str = "completed",
    at: datetime,
    command_id: str | None = None,
) -> Outcome | None:
    """Declare a session over; None when it already ended so.

    Raises:
        SessionEndedError: it ended with another outcome.
        OutcomeUnknownError: the outcome is not one of ours.
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        principal.org_id,
        Stream("Session", session_id),
        decide.evolve,
        decide.INITIAL,
        lambda session: decide.end(session, session_id=session_id, outcome=outcome, at=at),
        meta=principal.meta(),
        command_id=command_id,
    )


async def time_out_session(
    store: EventStore,
    principal: Principal,
    session_id: str,
    *,
    last_activity_at: datetime,
    now: datetime,
    limit_s: int,
) -> Outcome | None:
    """Note that a session has fallen silent; None when it has not, has ended, or this silence is noted already.

    Raises:
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        principal.org_id,
        Stream("Session", session_id),
        decide.evolve,
        decide.INITIAL,
        lambda session: decide.time_out(
            session, session_id=session_id, last_activity_at=last_activity_at, now=now, limit_s=limit_s
        ),
        meta=principal.meta(),
    )


async def reset_session(
    store: EventStore, principal: Principal, session_id: str, *, at: datetime, command_id: str | None = None
) -> Outcome | None:
    """Use a session of the dashboard again; None when it is active.

    Raises:
        SessionNotOpenedError: nobody opened it.
        NotResettableError: it is of another kind.
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        principal.org_id,
        Stream("Session", session_id),
        decide.evolve,
        decide.INITIAL,
        lambda session: decide.reset(session, session_id=session_id, at=at),
        meta=principal.meta(),
        command_id=command_id,
    )
