"""What people said about sessions.  Comments stay in their boxes: whoever may read a session opens them with the key ring."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from domain.kernel import Sealed, tag_of
from domain.sessions.events import SessionFeedbackSubmitted
from eventstore.database import Connection
from eventstore.port import Recorded
from eventstore.sealing import KeyRing, unboxed
from projections.base import Key, Projection, Rows, Table
from projections.sessions.merge import ident
from schemas.sessions import Feedback, FeedbackEntry

SHOWN_MAX = 20
TAG = tag_of(SessionFeedbackSubmitted)


class FeedbackRow(msgspec.Struct):
    """One feedback; `comment_box` is ciphertext."""

    org_id: UUID
    feedback_id: UUID
    session_id: str
    person_id: UUID
    rating: int | None
    comment_box: str | None
    submitted_at: datetime


FEEDBACK = Table("feedback", FeedbackRow, ("org_id", "feedback_id"))
DDL = """
CREATE TABLE crewkit.feedback__g{g} (
    org_id uuid NOT NULL,
    feedback_id uuid NOT NULL,
    session_id text NOT NULL,
    person_id uuid NOT NULL,
    rating bigint,
    comment_box text,
    submitted_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, feedback_id)
);
CREATE INDEX feedback__g{g}_session ON crewkit.feedback__g{g} (org_id, session_id, submitted_at);
"""


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The feedback's row."""
    event = recorded.event
    return ((FEEDBACK, (recorded.org_id, event.feedback_id)),) if isinstance(event, SessionFeedbackSubmitted) else ()


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    if not isinstance(event := recorded.event, SessionFeedbackSubmitted):
        return
    rows.put(
        FEEDBACK,
        FeedbackRow(
            org_id=recorded.org_id,
            feedback_id=event.feedback_id,
            session_id=ident(event.session_id),
            person_id=event.person_id,
            rating=event.rating,
            comment_box=event.comment.box if event.comment else None,
            submitted_at=event.submitted_at,
        ),
    )


PROJECTION = Projection(
    "feedback", 1, tables=(FEEDBACK,), ddl=DDL, touches=touches, fold=fold, reads=(SessionFeedbackSubmitted,)
)

_NEWEST = """
SELECT feedback_id, person_id, rating, comment_box, submitted_at,
       count(*) OVER () AS count, avg(rating) OVER ()::float8 AS mean
  FROM crewkit.feedback
 WHERE org_id = $1 AND session_id = $2 ORDER BY submitted_at DESC, feedback_id LIMIT $3
"""


async def feedback_rows(connection: Connection, org_id: UUID, session_id: str) -> list[asyncpg.Record]:
    """The newest `SHOWN_MAX` feedbacks of a session as stored, each with the sums over all, for `open_feedback`."""
    return await connection.fetch(_NEWEST, org_id, session_id, SHOWN_MAX)


async def open_feedback(ring: KeyRing, org_id: UUID, rows: list[asyncpg.Record]) -> Feedback:
    """What the rows say; comments of erased people are None.  The ring may ask for a connection of its own."""
    if not rows:
        return Feedback(count=0, mean_rating=None, newest=[])
    boxes: list[tuple[str, Sealed]] = [(TAG, unboxed(box)) for row in rows if (box := row["comment_box"]) is not None]
    texts = iter(await ring.open_many(org_id, boxes))
    entries = [
        FeedbackEntry(
            id=row["feedback_id"],
            person_id=row["person_id"],
            rating=row["rating"],
            comment=next(texts) if row["comment_box"] is not None else None,
            submitted_at=row["submitted_at"],
        )
        for row in rows
    ]
    mean = rows[0]["mean"]
    return Feedback(count=rows[0]["count"], mean_rating=None if mean is None else round(mean, 2), newest=entries)
