"""Take in what people say about a session."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from commands.bus import Once, Principal, transact
from domain.kernel import Stream
from domain.sessions import feedback
from eventstore.port import EventStore, Outcome


async def submit_feedback(
    store: EventStore,
    principal: Principal,
    session_id: str,
    feedback_id: UUID,
    *,
    rating: int | None,
    comment: str | None,
    at: datetime,
    once: Once | None = None,
) -> Outcome | None:
    """Note one feedback under its id.

    Raises:
        FeedbackInvalidError: nothing was said, or not in the form it has.
        FeedbackFullError: there is enough of it.
        KeyReusedError: `once` was used for another wish.
        StreamMovedError: others kept changing the session.
    """
    return await transact(
        store,
        principal.org_id,
        Stream("Session", session_id),
        feedback.evolve,
        feedback.INITIAL,
        lambda submitted: feedback.submit(
            submitted,
            session_id=session_id,
            feedback_id=feedback_id,
            person_id=principal.person_id,
            rating=rating,
            comment=comment,
            at=at,
        ),
        meta=principal.meta(),
        once=once,
    )
