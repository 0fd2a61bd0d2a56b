"""An invitation is pending until exactly one thing happens to it, as a specification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain.invitations import decide
from domain.invitations.decide import NO_INVITATION, Invitation, InvitationOverError, InvitationState, check_email
from domain.invitations.events import (
    InvitationAccepted,
    InvitationCancelled,
    InvitationCreated,
    InvitationDeclined,
    InvitationExpired,
    InvitationResent,
)
from domain.kernel import DomainError, Event, NotFoundError, Sealed
from domain.organizations.state import InvalidFieldError

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
ANN, BOB = UUID(int=1), UUID(int=2)
FIRST, SECOND = "a" * 64, "b" * 64
EMAIL, TOKEN = Sealed(ANN, "ann@example.com"), Sealed(ANN, "token")
CREATED = InvitationCreated(
    invitation_id=FIRST,
    permission="developer",
    org_role="senior",
    organization_name="Acme",
    email=EMAIL,
    token=TOKEN,
    created_at=AT,
    expires_at=AT + WEEK,
)


def resent(at: datetime = AT) -> InvitationResent:
    return InvitationResent(
        invitation_id=FIRST,
        token_sha256=SECOND,
        permission="developer",
        organization_name="Acme",
        email=EMAIL,
        token=TOKEN,
        resent_at=at,
        expires_at=at + WEEK,
    )


ACCEPTED = InvitationAccepted(invitation_id=FIRST, user_id=ANN, accepted_at=AT)
DECLINED = InvitationDeclined(invitation_id=FIRST, user_id=ANN, declined_at=AT)
CANCELLED = InvitationCancelled(invitation_id=FIRST, cancelled_at=AT)
EXPIRED = InvitationExpired(invitation_id=FIRST, expired_at=AT + WEEK)
Decision = Callable[[InvitationState], list[Event]]


def after(*history: Event) -> InvitationState:
    state = NO_INVITATION
    for event in history:
        state = decide.evolve(state, event)
    return state


def accept(user_id: UUID = ANN, token: str = FIRST, at: datetime = AT) -> Decision:
    return lambda state: decide.accept(state, token_sha256=token, user_id=user_id, at=at)


def decline(token: str = FIRST, at: datetime = AT) -> Decision:
    return lambda state: decide.decline(state, token_sha256=token, user_id=ANN, at=at)


def resend(at: datetime = AT) -> Decision:
    return lambda state: decide.resend(
        state, token_sha256=SECOND, organization_name="Acme", email=EMAIL, token=TOKEN, at=at
    )


def cancel(state: InvitationState) -> list[Event]:
    return decide.cancel(state, at=AT)


def expire(at: datetime) -> Decision:
    return lambda state: decide.expire(state, at=at)


@pytest.mark.parametrize(
    ("history", "when", "then"),
    [
        ([CREATED], accept(), [ACCEPTED]),
        ([CREATED, ACCEPTED], accept(), []),
        ([CREATED, resent()], accept(token=SECOND), [ACCEPTED]),
        ([CREATED], decline(), [DECLINED]),
        ([CREATED, DECLINED], decline(), []),
        ([CREATED], resend(), [resent()]),
        ([CREATED], resend(AT + 2 * WEEK), [resent(AT + 2 * WEEK)]),  # its time is over, and nobody noted it yet
        ([CREATED], cancel, [CANCELLED]),
        ([CREATED, CANCELLED], cancel, []),
        ([CREATED], expire(AT + WEEK), [EXPIRED]),
        ([CREATED], expire(AT + WEEK - timedelta(seconds=1)), []),
        ([CREATED, ACCEPTED], expire(AT + WEEK), []),
        ([CREATED, resent(AT + WEEK)], expire(AT + WEEK), []),
        ([], expire(AT), []),
    ],
)
def test_what_is_allowed(history: Sequence[Event], when: Decision, then: Sequence[Event]) -> None:
    assert when(after(*history)) == list(then)


@pytest.mark.parametrize(
    ("history", "when", "refusal"),
    [
        ([], accept(), NotFoundError),
        ([CREATED], accept(token=SECOND), NotFoundError),
        ([CREATED, resent()], accept(), NotFoundError),  # the token of the first mail
        ([CREATED, ACCEPTED], accept(BOB), InvitationOverError),
        ([CREATED], accept(at=AT + WEEK), InvitationOverError),
        ([CREATED, EXPIRED], accept(), InvitationOverError),
        ([CREATED, CANCELLED], accept(), InvitationOverError),
        ([CREATED, DECLINED], accept(), InvitationOverError),
        ([CREATED, ACCEPTED], decline(), InvitationOverError),
        ([CREATED], decline(SECOND), NotFoundError),
        ([CREATED, ACCEPTED], cancel, InvitationOverError),
        ([], cancel, NotFoundError),
        ([CREATED, EXPIRED], resend(), InvitationOverError),
        ([CREATED, ACCEPTED], resend(), InvitationOverError),
        ([CREATED, *[resent()] * decide.RESENDS_MAX], resend(), InvitationOverError),
    ],
)
def test_what_is_refused(history: Sequence[Event], when: Decision, refusal: type[DomainError]) -> None:
    with pytest.raises(refusal):
        when(after(*history))


def test_addresses_are_stored_in_one_spelling() -> None:
    assert check_email("  Ann@Example.COM ") == "ann@example.com"
    for odd in (
        "",
        "ann",
        "@example.com",
        "ann@",
        "ann@host",
        "a b@example.com",
        "ann@example.com\n.de",
        "a@" + "b" * 320 + ".de",
    ):
        with pytest.raises(InvalidFieldError):
            check_email(odd)


class InvitationMachine(RuleBasedStateMachine):
    """Everybody tries everything at any time: at most one end, and only the last token ever opened it."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = []
        self.now = AT
        self.tokens: list[str] = []

    @initialize()
    def create(self) -> None:
        self.history, self.tokens = [CREATED], [FIRST]

    @property
    def state(self) -> Invitation:
        state = after(*self.history)
        assert isinstance(state, Invitation)
        return state

    def attempt(self, decision: Decision) -> list[Event]:
        try:
            told = decision(self.state)
        except DomainError:
            return []
        self.history += told
        return told

    @rule(hours=st.integers(1, 100))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule()
    def resend(self) -> None:
        token = f"{len(self.tokens):064x}"
        told = self.attempt(
            lambda state: decide.resend(
                state, token_sha256=token, organization_name="A", email=EMAIL, token=TOKEN, at=self.now
            )
        )
        if told:
            self.tokens.append(token)

    @rule(user=st.sampled_from([ANN, BOB]), which=st.integers(0, 20))
    def accept(self, user: UUID, which: int) -> None:
        token, open_until = self.tokens[which % len(self.tokens)], self.state.expires_at
        if self.attempt(accept(user, token, self.now)):
            assert token == self.tokens[-1]
            assert self.now < open_until

    @rule(which=st.integers(0, 20))
    def decline(self, which: int) -> None:
        self.attempt(decline(self.tokens[which % len(self.tokens)], self.now))

    @rule()
    def cancel(self) -> None:
        self.attempt(cancel)

    @rule()
    def expire(self) -> None:
        self.attempt(expire(self.now))

    @invariant()
    def it_ends_at_most_once_and_for_ever(self) -> None:
        ends = (InvitationAccepted, InvitationDeclined, InvitationCancelled, InvitationExpired)
        found = [n for n, event in enumerate(self.history) if isinstance(event, ends)]
        assert found in ([], [len(self.history) - 1])


TestInvitations = InvitationMachine.TestCase
