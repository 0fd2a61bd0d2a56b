"""What people say about a session: a rating, a comment, or both."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.kernel import DomainError, Event, Sealed
from domain.sessions.events import SessionFeedbackSubmitted

RATING_MIN, RATING_MAX = 1, 5
COMMENT_CHARS_MAX = 4_000
FEEDBACK_MAX = 1_000  # of one session

INITIAL = 0


class FeedbackInvalidError(DomainError):
    """Nothing was said, or not in the form it has."""

    code = "validation_failed"


class FeedbackFullError(DomainError):
    """So much was said about the session that nobody will read more."""

    code = "conflict"


def evolve(submitted: int, event: Event) -> int:
    """Count.  Facts of other kinds change nothing."""
    return submitted + isinstance(event, SessionFeedbackSubmitted)


def submit(
    submitted: int,
    *,
    session_id: str,
    feedback_id: UUID,
    person_id: UUID,
    rating: int | None,
    comment: str | None,
    at: datetime,
) -> list[SessionFeedbackSubmitted]:
    """Say how a session went, after it was said `submitted` times.

    Raises:
        FeedbackInvalidError: neither a rating nor a comment, or one that cannot be.
        FeedbackFullError: there is enough.
    """
    words = (comment or "").strip()
    if rating is None and not words:
        raise FeedbackInvalidError("rating: expected a rating, or a comment", field="rating")
    if rating is not None and not RATING_MIN <= rating <= RATING_MAX:
        message = f"rating: expected {RATING_MIN} to {RATING_MAX}, got {rating}"
        raise FeedbackInvalidError(message, field="rating")
    if len(words) > COMMENT_CHARS_MAX:
        message = f"comment: expected at most {COMMENT_CHARS_MAX} characters, got {len(words)}"
        raise FeedbackInvalidError(message, field="comment")
    if submitted >= FEEDBACK_MAX:
        raise FeedbackFullError(f"session {session_id} has {FEEDBACK_MAX} feedbacks already")
    return [
        SessionFeedbackSubmitted(
            session_id=session_id,
            feedback_id=feedback_id,
            person_id=person_id,
            rating=rating,
            comment=Sealed(person_id, words) if words else None,
            submitted_at=at,
        )
    ]
