"""What exports of personal data decide, in any order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.data_exports import decide
from domain.data_exports.decide import UNASKED, ExportNotReadyError, ExportState, Gone, Ready, Unasked, Writing
from domain.data_exports.events import (
    DataExportCompleted,
    DataExportDownloaded,
    DataExportExpired,
    DataExportRequested,
)
from domain.erasure.events import Subject
from domain.kernel import Event, NotFoundError, Sealed

AT = datetime(2026, 11, 25, 4, tzinfo=UTC)
ID, ADA = UUID(int=7), UUID(int=0xADA)


def folded(*events: Event) -> ExportState:
    state: ExportState = UNASKED
    for event in events:
        state = decide.evolve(state, event)
    return state


def ask(state: ExportState) -> list[Event]:
    subject = Subject(UUID(int=1), ADA)
    return decide.request(
        state,
        export_id=ID,
        person_id=ADA,
        subjects=[subject, subject],
        key=Sealed(ADA, "key"),
        until=9,
        requested_by="key:1",
        at=AT,
    )


def complete(state: ExportState) -> list[Event]:
    return decide.complete(state, events=3, parts=1, stored_bytes=99, at=AT)


def test_an_archive_is_asked_for_written_fetched_and_deleted() -> None:
    story = ask(UNASKED)
    assert isinstance(story[0], DataExportRequested)
    assert len(story[0].subjects) == 1
    with pytest.raises(ExportNotReadyError):
        decide.download(folded(*story), by="key:1", at=AT)
    story += complete(folded(*story))
    assert isinstance(story[1], DataExportCompleted)
    assert story[1].expires_at == AT + timedelta(days=7)
    story += decide.download(folded(*story), by="key:1", at=AT)
    assert isinstance(story[2], DataExportDownloaded)
    with pytest.raises(NotFoundError):
        decide.download(folded(*story), by="key:1", at=AT + timedelta(days=7))
    story += decide.expire(folded(*story), reason="time", at=AT)
    assert isinstance(story[3], DataExportExpired)
    with pytest.raises(NotFoundError):
        decide.download(folded(*story), by="key:1", at=AT)
    assert decide.expire(folded(*story), reason="time", at=AT) == []


class ExportMachine(RuleBasedStateMachine):
    """Any order, any repetition."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = []

    @property
    def state(self) -> ExportState:
        return folded(*self.history)

    @rule()
    def ask(self) -> None:
        self.history += ask(self.state)

    @rule()
    def complete(self) -> None:
        before = self.state
        try:
            self.history += complete(before)
        except NotFoundError:
            assert isinstance(before, Unasked)

    @rule(days=st.integers(0, 9))
    def download(self, days: int) -> None:
        before = self.state
        try:
            self.history += decide.download(before, by="key:1", at=AT + timedelta(days=days))
        except ExportNotReadyError:
            assert isinstance(before, Writing)
        except NotFoundError:
            assert isinstance(before, Unasked | Gone) or days >= 7

    @rule(reason=st.sampled_from(decide.REASONS))
    def expire(self, reason: str) -> None:
        before = self.state
        try:
            self.history += decide.expire(before, reason=reason, at=AT)
        except NotFoundError:
            assert isinstance(before, Unasked)

    @invariant()
    def each_step_once_and_nothing_is_fetched_before_or_after(self) -> None:
        kinds = [type(event) for event in self.history]
        steps = [kind for kind in kinds if kind is not DataExportDownloaded]
        order = [DataExportRequested, DataExportCompleted, DataExportExpired]
        assert steps in (order[:0], order[:1], order[:2], order, [DataExportRequested, DataExportExpired])
        if DataExportDownloaded in kinds:
            assert kinds.index(DataExportDownloaded) > kinds.index(DataExportCompleted)
        assert isinstance(self.state, Ready) == (steps == order[:2])


TestExports = ExportMachine.TestCase
