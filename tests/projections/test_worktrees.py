"""The read model of worktrees: the newest of a session, each event applied twice."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain.kernel import Event, Sealed, Stream, tag_of
from domain.sessions.events import SessionWorktreeCreated, SessionWorktreeResolved
from eventstore.port import Meta, Recorded
from projections.base import Rows
from projections.worktrees import WORKTREES, WorktreeRow, fold, touches

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
ORG, PERSON = UUID(int=1), UUID(int=7)


def created(branch: str) -> Event:
    return SessionWorktreeCreated(
        session_id="s", person_id=PERSON, path=Sealed(PERSON, None, f"box {branch}"), branch=branch, created_at=AT
    )


LOG = [
    created("a"),
    SessionWorktreeResolved(session_id="s", resolution="merged", resolved_at=AT),
    created("b"),
    SessionWorktreeResolved(session_id="other", resolution="kept", resolved_at=AT),
]


def recorded(position: int, event: Event) -> Recorded:
    return Recorded(
        position=position,
        org_id=ORG,
        stream_id=UUID(int=9),
        stream=Stream("Session", "s"),
        version=position,
        type=tag_of(type(event)),
        event_id=UUID(int=position),
        recorded_at=AT,
        data=b"{}",
        meta=Meta(),
        event=event,
    )


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    ("upto", "expected"),
    [
        (1, WorktreeRow(ORG, "s", "box a", "a", AT)),
        (2, WorktreeRow(ORG, "s", "box a", "a", AT, "merged", AT)),
        (4, WorktreeRow(ORG, "s", "box b", "b", AT)),
    ],
)
def test_the_newest_worktree_of_a_session_counts(upto: int, expected: WorktreeRow, times: int) -> None:
    rows = Rows()
    for position, event in enumerate(LOG[:upto], 1):
        for _ in range(times):
            fold(rows, recorded(position, event))
    assert list(rows.all(WORKTREES)) == [expected]


def test_each_event_touches_its_session() -> None:
    assert [[key for _, key in touches(recorded(1, event))] for event in LOG] == [
        [(ORG, "s")], [(ORG, "s")], [(ORG, "s")], [(ORG, "other")]
    ]  # fmt: skip
