"""The read model of feedback: one row per feedback, each event applied twice."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain.kernel import Sealed, Stream
from domain.sessions.events import SessionFeedbackSubmitted
from eventstore.port import Meta, Recorded
from projections.base import Rows
from projections.feedback import FEEDBACK, TAG, FeedbackRow, fold, touches

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
ORG, PERSON = UUID(int=1), UUID(int=7)


def said(number: int, comment: str | None) -> Recorded:
    event = SessionFeedbackSubmitted(
        session_id="s",
        feedback_id=UUID(int=number),
        person_id=PERSON,
        rating=number,
        comment=Sealed(PERSON, None, comment) if comment else None,
        submitted_at=AT,
    )
    return Recorded(
        position=number,
        org_id=ORG,
        stream_id=UUID(int=9),
        stream=Stream("Session", "s"),
        version=number,
        type=TAG,
        event_id=UUID(int=number),
        recorded_at=AT,
        data=b"{}",
        meta=Meta(),
        event=event,
    )


@pytest.mark.parametrize("times", [1, 2])
def test_each_feedback_is_one_row_whose_comment_stays_in_its_box(times: int) -> None:
    rows = Rows()
    for _ in range(times):
        for event in (said(1, "box"), said(2, None)):
            fold(rows, event)
            assert {FEEDBACK.key_of(row) for row in rows.dirty(FEEDBACK)} >= {key for _, key in touches(event)}
    assert list(rows.all(FEEDBACK)) == [
        FeedbackRow(ORG, UUID(int=1), "s", PERSON, 1, "box", AT),
        FeedbackRow(ORG, UUID(int=2), "s", PERSON, 2, None, AT),
    ]
