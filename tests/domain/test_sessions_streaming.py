"""The items of a conversation: inactive, streaming, consolidating, completed."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.kernel import Event
from domain.sessions import streaming
from domain.sessions.events import (
    ConsolidatedObject,
    LlmSessionConsolidated,
    LlmSessionConsolidationFailed,
    LlmSessionConsolidationStarted,
    SessionEnded,
)
from domain.sessions.streaming import Consolidating, Consolidation, NotConsolidatingError, Open

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
ID = "0447534f"
OBJECT = ConsolidatedObject(
    key="items/x", subagent_id=None, items=3, bytes=90, sha256="a", lines_sha256="b", from_position=11, to_position=14
)
STARTED = LlmSessionConsolidationStarted(llm_session_id=ID, generation=1, after_version=0, to_version=3, started_at=AT)
FAILED = LlmSessionConsolidationFailed(llm_session_id=ID, generation=1, reason="unavailable", failures=1, failed_at=AT)
DONE = LlmSessionConsolidated(
    llm_session_id=ID,
    generation=1,
    after_version=0,
    to_version=3,
    from_position=11,
    to_position=14,
    items=3,
    bytes=90,
    objects=[OBJECT],
    completed_at=AT,
)


def given(*events: Event) -> Consolidation:
    state = streaming.INITIAL
    for event in events:
        state = streaming.evolve(state, event)
    return state


def start(state: Consolidation, last: int) -> list[streaming.ConsolidationEvent]:
    return streaming.start(state, llm_session_id=ID, last_version=last, at=AT)


def complete(state: Consolidation, generation: int = 1) -> list[streaming.ConsolidationEvent]:
    return streaming.complete(
        state, llm_session_id=ID, generation=generation, from_position=11, to_position=14, objects=[OBJECT], at=AT
    )


def fail(state: Consolidation, generation: int = 1) -> list[streaming.ConsolidationEvent]:
    return streaming.fail(state, llm_session_id=ID, generation=generation, reason="unavailable", at=AT)


def test_the_status_follows_items_and_generations() -> None:
    assert streaming.status(given(), last_version=0) == "inactive"
    assert streaming.status(given(), last_version=3) == "streaming"
    assert streaming.status(given(STARTED), last_version=3) == "consolidating"
    assert streaming.status(given(STARTED, FAILED), last_version=3) == "consolidating"
    assert streaming.status(given(STARTED, DONE), last_version=3) == "completed"


def test_items_that_arrive_meanwhile_do_not_make_it_streaming_before_the_generation_is_completed() -> None:
    assert streaming.status(given(STARTED), last_version=5) == "consolidating"
    assert streaming.status(given(STARTED, DONE), last_version=5) == "streaming"


def test_starting_fixes_the_range_of_the_generation() -> None:
    assert start(given(), 3) == [STARTED]


def test_without_new_items_nothing_is_started() -> None:
    assert start(given(), 0) == []
    assert start(given(STARTED, DONE), 3) == []


def test_a_generation_under_way_is_not_started_again_whatever_came_since() -> None:
    assert start(given(STARTED, FAILED), 9) == []


def test_later_items_are_the_next_generation() -> None:
    [event] = start(given(STARTED, DONE), 9)
    assert isinstance(event, LlmSessionConsolidationStarted)
    assert (event.generation, event.after_version, event.to_version) == (2, 3, 9)


def test_a_generation_holds_no_more_than_its_bound() -> None:
    [event] = start(given(STARTED, DONE), 3 + 2 * streaming.ITEMS_MAX)
    assert isinstance(event, LlmSessionConsolidationStarted)
    assert event.to_version == 3 + streaming.ITEMS_MAX


def test_completing_tells_the_manifest() -> None:
    assert complete(given(STARTED)) == [DONE]
    assert complete(given(STARTED, FAILED)) == [DONE]


def test_completing_twice_changes_nothing() -> None:
    assert complete(given(STARTED, DONE)) == []


@pytest.mark.parametrize(("history", "generation"), [((), 1), ((STARTED,), 2), ((STARTED, DONE), 2)])
def test_only_the_generation_under_way_is_completed(history: tuple[Event, ...], generation: int) -> None:
    with pytest.raises(NotConsolidatingError):
        complete(given(*history), generation)


def test_a_failure_is_counted_and_tried_again_later_and_later() -> None:
    [event] = fail(given(STARTED, FAILED))
    assert isinstance(event, LlmSessionConsolidationFailed)
    assert event.failures == 2
    pauses = []
    for failures in (1, 2, 3, 50):
        due = streaming.retry_at(failures, AT)
        assert due is not None
        pauses.append(due - AT)
    assert pauses == [timedelta(seconds=s) for s in (60, 120, 240, streaming.RETRY_MAX_S)]
    assert streaming.retry_at(0, None) is None


def test_what_is_completed_does_not_fail_any_more() -> None:
    assert fail(given(STARTED, DONE)) == []
    assert given(STARTED, DONE, FAILED) == Open(1, 3)


def test_other_facts_change_nothing() -> None:
    ended = SessionEnded(session_id=ID, outcome="completed", ended_at=AT)
    assert given(STARTED, ended) == given(STARTED)


class ConsolidationMachine(RuleBasedStateMachine):
    """Items arrive, generations are started, fail and are completed, in any order and any number of times."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Consolidation = streaming.INITIAL
        self.last = 0
        self.history: list[streaming.ConsolidationEvent] = []

    def _apply(self, events: list[streaming.ConsolidationEvent]) -> None:
        for event in events:
            self.state = streaming.evolve(self.state, event)
        self.history += events

    @rule(items=st.integers(1, 3_000))
    def arrive(self, items: int) -> None:
        self.last += items

    @rule()
    def start(self) -> None:
        self._apply(start(self.state, self.last))

    @rule(generation=st.integers(0, 6))
    def complete(self, generation: int) -> None:
        try:
            self._apply(complete(self.state, generation))
        except NotConsolidatingError:
            running = self.state.generation if isinstance(self.state, Consolidating) else None
            assert generation != running

    @rule(generation=st.integers(0, 6))
    def fail(self, generation: int) -> None:
        self._apply(fail(self.state, generation))

    @invariant()
    def generations_follow_one_another_without_gap_or_overlap(self) -> None:
        done = [event for event in self.history if isinstance(event, LlmSessionConsolidated)]
        assert [event.generation for event in done] == list(range(1, len(done) + 1))
        ends = [0, *(event.to_version for event in done)]
        assert [event.after_version for event in done] == ends[:-1]
        assert all(0 < end - begin <= streaming.ITEMS_MAX for begin, end in itertools.pairwise(ends))
        assert ends[-1] <= self.last

    @invariant()
    def it_is_completed_exactly_when_every_item_is_in_a_completed_generation(self) -> None:
        done = [event for event in self.history if isinstance(event, LlmSessionConsolidated)]
        upto = done[-1].to_version if done else 0
        started = sum(isinstance(event, LlmSessionConsolidationStarted) for event in self.history)
        expected = (
            "consolidating"
            if started > len(done)
            else "inactive"
            if self.last == 0
            else "completed"
            if upto == self.last
            else "streaming"
        )
        assert streaming.status(self.state, last_version=self.last) == expected


TestConsolidationMachine = ConsolidationMachine.TestCase
