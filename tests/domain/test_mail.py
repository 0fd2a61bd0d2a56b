"""A mail is sent once; one that was given up may still be sent."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.kernel import Event, Sealed
from domain.mail import decide
from domain.mail.events import EmailFailed, EmailSent

ABOUT, PERSON = UUID(int=7), UUID(int=8)
KIND = "mail.magic_link"
IDENT = decide.email_id(ABOUT, KIND)
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
SENT = EmailSent(email_id=IDENT, kind=KIND, about=ABOUT, to=Sealed(PERSON, "a@example.com"), via="smtp", sent_at=AT)
FAILED = EmailFailed(email_id=IDENT, kind=KIND, about=ABOUT, reason="550", failed_at=AT)


def fold(*events: Event) -> decide.Mail:
    state = decide.INITIAL
    for event in events:
        state = decide.evolve(state, event)
    return state


def test_a_mail_is_sent_once() -> None:
    assert decide.send(fold(), SENT) == [SENT]
    assert decide.send(fold(SENT), SENT) == []


def test_what_was_given_up_may_be_sent_later() -> None:
    assert decide.fail(fold(), FAILED) == [FAILED]
    assert decide.fail(fold(FAILED), FAILED) == []
    assert decide.send(fold(FAILED), SENT) == [SENT]


def test_what_was_sent_did_not_fail() -> None:
    assert decide.fail(fold(SENT), FAILED) == []
    assert isinstance(fold(SENT, FAILED), decide.Sent)


def test_an_event_causes_one_mail_of_a_kind() -> None:
    assert decide.email_id(ABOUT, KIND) == IDENT
    assert len({IDENT, decide.email_id(ABOUT, "mail.other"), decide.email_id(PERSON, KIND)}) == 3


class MailMachine(RuleBasedStateMachine):
    """Senders and failures in any order, each as often as one likes."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = []

    @rule(times=st.integers(1, 3))
    def send(self, times: int) -> None:
        for _ in range(times):
            self.history += decide.send(fold(*self.history), SENT)

    @rule(times=st.integers(1, 3))
    def fail(self, times: int) -> None:
        for _ in range(times):
            self.history += decide.fail(fold(*self.history), FAILED)

    @invariant()
    def at_most_one_failure_then_one_sending(self) -> None:
        assert self.history in ([], [SENT], [FAILED], [FAILED, SENT])


TestMailMachine = MailMachine.TestCase
