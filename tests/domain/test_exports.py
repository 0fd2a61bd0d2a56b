"""What exports of analytics rows decide, in any order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.exports import decide
from domain.exports.decide import UNASKED, ExportState, FileNotReadyError, Ready, Unasked, Waiting, WishesRefusedError
from domain.exports.events import ExportCompleted, ExportExpired, ExportFailed, ExportRequested, Wishes
from domain.kernel import Event, NotFoundError

AT = datetime(2026, 11, 25, 4, tzinfo=UTC)
ID = UUID(int=7)
KEEP = timedelta(days=7)
WISHES = Wishes(format="parquet", partition="day")


def folded(*events: Event) -> ExportState:
    state: ExportState = UNASKED
    for event in events:
        state = decide.evolve(state, event)
    return state


def ask(state: ExportState, wishes: Wishes = WISHES) -> list[Event]:
    return decide.request(state, export_id=ID, wishes=wishes, until=9, slot=0, requested_by="key:1", at=AT)


def complete(state: ExportState) -> list[Event]:
    return decide.complete(
        state, position=9, rows=1, files=1, partial=False, size_bytes=2, sha256="00", at=AT, keep=KEEP
    )


def test_a_file_is_asked_for_written_fetched_and_deleted() -> None:
    story = ask(UNASKED)
    with pytest.raises(FileNotReadyError):
        decide.fetchable(folded(*story), AT)
    story += complete(folded(*story))
    assert decide.fetchable(folded(*story), AT).request == story[0]
    with pytest.raises(NotFoundError):
        decide.fetchable(folded(*story), AT + KEEP)
    story += decide.expire(folded(*story), reason="erasure", at=AT)
    assert [type(event) for event in story] == [ExportRequested, ExportCompleted, ExportExpired]
    with pytest.raises(NotFoundError):
        decide.fetchable(folded(*story), AT)


@pytest.mark.parametrize(
    ("field", "wishes"),
    [
        ("format", Wishes(format="xlsx", partition="none")),
        ("partition", Wishes(format="csv", partition="year")),
        ("partition", Wishes(format="duckdb", partition="day")),
        ("base", Wishes(format="duckdb", partition="none", base=ID)),
    ],
)
def test_wishes_that_do_not_fit_together_are_refused(field: str, wishes: Wishes) -> None:
    with pytest.raises(WishesRefusedError) as refused:
        ask(UNASKED, wishes)
    assert refused.value.details["field"] == field


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

    @rule(which=st.sampled_from(("complete", "fail", "expire")))
    def step(self, which: str) -> None:
        before = self.state
        try:
            if which == "complete":
                self.history += complete(before)
            elif which == "fail":
                self.history += decide.fail(before, reason="memory", at=AT)
            else:
                self.history += decide.expire(before, reason="cancelled", at=AT)
        except NotFoundError:
            assert isinstance(before, Unasked)

    @rule(days=st.integers(0, 9))
    def fetch(self, days: int) -> None:
        before = self.state
        try:
            assert decide.fetchable(before, AT + timedelta(days=days)) == before
        except FileNotReadyError:
            assert isinstance(before, Waiting)
        except NotFoundError:
            assert not isinstance(before, Ready | Waiting) or days >= 7

    @invariant()
    def it_ends_once_and_only_what_was_written_is_kept(self) -> None:
        kinds = [type(event) for event in self.history]
        assert kinds in (
            [],
            [ExportRequested],
            [ExportRequested, ExportCompleted],
            [ExportRequested, ExportFailed],
            [ExportRequested, ExportExpired],
            [ExportRequested, ExportCompleted, ExportExpired],
        )


TestExports = ExportMachine.TestCase
