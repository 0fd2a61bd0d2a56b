"""The life of a session, as a specification."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.kernel import DomainError, Event
from domain.sessions import decide
from domain.sessions.events import Context, SessionEnded, SessionReset, SessionStarted, SessionTimedOut

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
PERSON = UUID(int=7)
LIMIT_S = 1800
STARTED = SessionStarted(session_id="s", kind="cli", person_id=PERSON, started_at=AT)
ENDED = SessionEnded(session_id="s", outcome="completed", ended_at=AT)
SILENT = SessionTimedOut(session_id="s", last_activity_at=AT, timed_out_at=AT + timedelta(hours=1), limit_s=LIMIT_S)


def after(*history: Event) -> decide.Session:
    session = decide.INITIAL
    for event in history:
        session = decide.evolve(session, event)
    return session


def start(session: decide.Session, kind: str = "cli") -> list[decide.SessionEvent]:
    return decide.start(session, session_id="s", kind=kind, person_id=PERSON, at=AT, context=Context())


def end(session: decide.Session, outcome: str = "completed") -> list[decide.SessionEvent]:
    return decide.end(session, session_id="s", outcome=outcome, at=AT)


def time_out(session: decide.Session, hours: float = 1, last: datetime = AT) -> list[decide.SessionEvent]:
    now = AT + timedelta(hours=hours)
    return decide.time_out(session, session_id="s", last_activity_at=last, now=now, limit_s=LIMIT_S)


@pytest.mark.parametrize(
    ("history", "when", "then"),
    [
        ([], start, [STARTED]),
        ([STARTED], start, []),
        ([STARTED, SILENT], start, [STARTED]),
        ([], end, [ENDED]),  # a session that only channel facts made may be ended like any other
        ([STARTED], end, [ENDED]),
        ([STARTED, ENDED], end, []),
        ([STARTED, SILENT], end, [ENDED]),
        ([], time_out, [SILENT]),
        ([STARTED], time_out, [SILENT]),
        ([STARTED, SILENT], time_out, []),
        ([STARTED, ENDED], time_out, []),
        ([STARTED, SILENT, STARTED], time_out, [SILENT]),
    ],
)
def test_given_when_then(
    history: list[Event], when: Callable[[decide.Session], list[decide.SessionEvent]], then: list[Event]
) -> None:
    assert when(after(*history)) == then


def test_an_ended_session_cannot_start_or_end_otherwise() -> None:
    with pytest.raises(decide.SessionEndedError, match="has ended"):
        start(after(STARTED, ENDED))
    with pytest.raises(decide.SessionEndedError, match="already ended as completed"):
        end(after(STARTED, ENDED), "failed")


def test_an_unknown_kind_or_outcome_is_refused_by_name() -> None:
    with pytest.raises(
        decide.OutcomeUnknownError, match="kind must be one of cli, dashboard, kickoff, workflow, got 'x'"
    ):
        start(after(), "x")
    with pytest.raises(
        decide.OutcomeUnknownError, match="outcome must be one of completed, failed, abandoned, got 'x'"
    ):
        end(after(), "x")


def test_silence_shorter_than_the_limit_is_no_time_out() -> None:
    assert time_out(after(STARTED), hours=0.5) == []


def test_news_after_a_time_out_make_another_time_out_possible() -> None:
    later = AT + timedelta(minutes=90)

    assert time_out(after(STARTED, SILENT), hours=3, last=later) != []
    assert time_out(after(STARTED, SILENT), hours=3, last=AT) == []


def test_foreign_facts_change_nothing() -> None:
    assert after(STARTED, Event()) == decide.Active("s")


class SessionMachine(RuleBasedStateMachine):
    """Any order, any repetition."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = []
        self.now = AT

    @property
    def session(self) -> decide.Session:
        return after(*self.history)

    @rule()
    def start(self) -> None:
        try:
            self.history += start(self.session)
        except DomainError:
            assert any(isinstance(event, SessionEnded) for event in self.history)

    @rule(outcome=st.sampled_from(decide.OUTCOMES))
    def end(self, outcome: str) -> None:
        try:
            self.history += end(self.session, outcome)
        except DomainError:
            assert any(isinstance(event, SessionEnded) for event in self.history)

    @rule(minutes=st.integers(0, 300), silent_minutes=st.integers(0, 600))
    def look(self, minutes: int, silent_minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        last = self.now - timedelta(minutes=silent_minutes)
        told = decide.time_out(self.session, session_id="s", last_activity_at=last, now=self.now, limit_s=LIMIT_S)
        assert not told or silent_minutes * 60 > LIMIT_S
        self.history += told
        # The same silence is noted once.
        assert not decide.time_out(self.session, session_id="s", last_activity_at=last, now=self.now, limit_s=LIMIT_S)

    @invariant()
    def it_ends_at_most_once_and_nothing_follows(self) -> None:
        ends = [index for index, event in enumerate(self.history) if isinstance(event, SessionEnded)]
        assert ends in ([], [len(self.history) - 1])

    @invariant()
    def it_never_starts_twice_without_a_silence_between(self) -> None:
        kinds = [type(event) for event in self.history]
        assert (SessionStarted, SessionStarted) not in list(itertools.pairwise(kinds))


TestSessionMachine = SessionMachine.TestCase


OPENED = SessionStarted(session_id="s", kind="dashboard", person_id=PERSON, started_at=AT, context=Context())
RESET = SessionReset(session_id="s", reset_at=AT)


def reset(session: decide.Session) -> list[decide.SessionEvent]:
    return decide.reset(session, session_id="s", at=AT)


@pytest.mark.parametrize(
    ("history", "when", "then"),
    [
        ([OPENED], reset, []),
        ([OPENED, ENDED], reset, [RESET]),
        ([OPENED, SILENT], reset, [RESET]),
        ([OPENED, SILENT, ENDED], reset, [RESET]),
        ([OPENED, ENDED, RESET], reset, []),
        ([OPENED, ENDED, RESET], end, [ENDED]),
        ([OPENED, ENDED, RESET], start, []),
        ([OPENED, SILENT, RESET], time_out, [SILENT]),
    ],
)
def test_a_dashboard_session_is_used_again(
    history: list[Event], when: Callable[[decide.Session], list[decide.SessionEvent]], then: list[Event]
) -> None:
    assert when(after(*history)) == then


@pytest.mark.parametrize("history", [[STARTED], [STARTED, ENDED], [STARTED, SILENT]])
def test_other_sessions_are_over_when_they_are_over(history: list[Event]) -> None:
    with pytest.raises(decide.NotResettableError, match="of kind cli"):
        reset(after(*history))


def test_what_nobody_opened_is_not_used_again() -> None:
    with pytest.raises(decide.SessionNotOpenedError):
        reset(after())


class DashboardMachine(RuleBasedStateMachine):
    """A dashboard session in any order of wishes."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = [OPENED]

    @rule(wish=st.sampled_from([end, reset, time_out, lambda session: start(session, "dashboard")]))
    def wishes(self, wish: Callable[[decide.Session], list[decide.SessionEvent]]) -> None:
        try:
            self.history += wish(after(*self.history))
        except decide.SessionEndedError:
            assert isinstance(after(*self.history), decide.Ended)

    @invariant()
    def between_two_ends_it_was_used_again(self) -> None:
        told = [type(event) for event in self.history if isinstance(event, SessionEnded | SessionReset)]
        assert (SessionEnded, SessionEnded) not in list(itertools.pairwise(told))


TestDashboardMachine = DashboardMachine.TestCase
