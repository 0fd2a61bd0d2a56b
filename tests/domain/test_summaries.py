"""A session is written about once for each time it came to rest with new activity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.kernel import Sealed
from domain.summaries import decide
from domain.summaries.events import SessionSummarized

PERSON = UUID(int=8)
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def written(facts: int, minutes: int) -> SessionSummarized:
    return SessionSummarized(
        session_id="s1",
        person_id=PERSON,
        facts_position=facts,
        activity_at=AT + timedelta(minutes=minutes),
        model="claude-haiku-4-5",
        prompt_version="session-1",
        text=Sealed(PERSON, "{}"),
        input_tokens=1,
        output_tokens=1,
        cache_read_tokens=0,
        cache_write_tokens=0,
        cost_usd_micros=1,
        price_version="v",
        summarized_at=AT,
    )


def fold(*events: SessionSummarized) -> decide.Summary:
    state = decide.INITIAL
    for event in events:
        state = decide.evolve(state, event)
    return state


def test_the_first_words_are_kept() -> None:
    assert decide.summarize(fold(), written(5, 1)) == [written(5, 1)]


def test_the_same_state_is_not_written_about_twice() -> None:
    assert decide.summarize(fold(written(5, 1)), written(5, 1)) == []


def test_late_facts_without_new_activity_are_no_reason() -> None:
    assert decide.summarize(fold(written(5, 1)), written(9, 1)) == []


def test_new_activity_is_a_reason() -> None:
    assert decide.summarize(fold(written(5, 1)), written(9, 2)) == [written(9, 2)]


def test_an_older_answer_that_comes_late_changes_nothing() -> None:
    assert decide.summarize(fold(written(9, 2)), written(5, 1)) == []


class SummaryMachine(RuleBasedStateMachine):
    """Any answers in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[SessionSummarized] = []

    @rule(facts=st.integers(1, 50), minutes=st.integers(0, 50))
    def answer(self, facts: int, minutes: int) -> None:
        self.history += decide.summarize(fold(*self.history), written(facts, minutes))

    @invariant()
    def each_is_about_a_later_state(self) -> None:
        states = [(one.facts_position, one.activity_at) for one in self.history]
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(states))


TestSummaryMachine = SummaryMachine.TestCase
