"""What people say about a session, as a specification."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.kernel import Sealed
from domain.sessions import feedback
from domain.sessions.events import SessionEnded, SessionFeedbackSubmitted
from domain.sessions.feedback import FeedbackFullError, FeedbackInvalidError

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
PERSON, ID = UUID(int=7), UUID(int=8)


def submit(submitted: int = 0, *, rating: int | None = None, comment: str | None = None) -> list[Any]:
    return feedback.submit(
        submitted, session_id="s", feedback_id=ID, person_id=PERSON, rating=rating, comment=comment, at=AT
    )


@pytest.mark.parametrize(
    ("rating", "comment", "sealed"),
    [(1, None, None), (5, "", None), (None, " well done \n", Sealed(PERSON, "well done")), (3, "x" * 4_000, None)],
)
def test_a_rating_or_a_comment_is_enough(rating: int | None, comment: str | None, sealed: Sealed | None) -> None:
    [event] = submit(rating=rating, comment=comment)
    assert isinstance(event, SessionFeedbackSubmitted)
    assert event.rating == rating
    assert event.comment == (sealed if sealed or not (comment or "").strip() else Sealed(PERSON, comment))


@pytest.mark.parametrize(
    "said", [{}, {"comment": " \n"}, {"rating": 0}, {"rating": 6}, {"rating": 3, "comment": "x" * 4_001}]
)
def test_anything_else_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(FeedbackInvalidError):
        submit(**said)


def test_there_is_an_end_to_it() -> None:
    [event] = submit(feedback.FEEDBACK_MAX - 1, rating=1)
    assert feedback.evolve(feedback.FEEDBACK_MAX - 1, event) == feedback.FEEDBACK_MAX
    with pytest.raises(FeedbackFullError):
        submit(feedback.FEEDBACK_MAX, rating=1)


def test_other_facts_change_nothing() -> None:
    assert feedback.evolve(3, SessionEnded(session_id="s", outcome="completed", ended_at=AT)) == 3
