"""Device authorizations, one-time secrets and the brake on guessing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.kernel import DomainError, Event, NotFoundError, Sealed
from domain.signin import devices, once, throttle
from domain.signin.events import (
    DeviceAuthorizationApproved,
    DeviceAuthorizationClaimed,
    DeviceAuthorizationDenied,
    DeviceAuthorizationExpired,
    SignInAttempted,
    SignInCleared,
)

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
ADA, EVE, FAMILY, CHALLENGE = UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=4)
STARTED = devices.start(devices.NO_DEVICE, device_id="d", user_code_key="k", client="laptop", at=AT)


def device(*events: Event) -> devices.DeviceState:
    return reduce(devices.evolve, events, devices.NO_DEVICE)


def test_a_device_waits_is_approved_and_claims_once() -> None:
    with pytest.raises(devices.AuthorizationPendingError):
        devices.claim(device(*STARTED), family_id=FAMILY, at=AT)
    approved = devices.decide_about(device(*STARTED), user_id=ADA, approve=True, at=AT)
    (claimed,) = devices.claim(device(*STARTED, *approved), family_id=FAMILY, at=AT)
    assert (claimed.user_id, claimed.family_id) == (ADA, FAMILY)
    with pytest.raises(devices.ExpiredTokenError):
        devices.claim(device(*STARTED, *approved, claimed), family_id=FAMILY, at=AT)


def test_nobody_changes_what_another_decided() -> None:
    approved = devices.decide_about(device(*STARTED), user_id=ADA, approve=True, at=AT)
    state = device(*STARTED, *approved)
    assert devices.decide_about(state, user_id=ADA, approve=True, at=AT) == []
    for user_id, approve in ((EVE, True), (EVE, False), (ADA, False)):
        with pytest.raises(NotFoundError):
            devices.decide_about(state, user_id=user_id, approve=approve, at=AT)


def test_ten_minutes_and_no_longer() -> None:
    late = AT + devices.DEVICE_LIFE
    with pytest.raises(NotFoundError):
        devices.decide_about(device(*STARTED), user_id=ADA, approve=True, at=late)
    with pytest.raises(devices.ExpiredTokenError):
        devices.claim(device(*STARTED), family_id=FAMILY, at=late)
    assert devices.expire(device(*STARTED), at=late - timedelta(seconds=1)) == []
    assert len(devices.expire(device(*STARTED), at=late)) == 1


@for_all(st.text("bcdfghjklmnpqrstvwxz", min_size=8, max_size=8), st.sampled_from(["-", " ", "", " - "]))
def test_a_user_code_is_the_same_however_it_is_typed(letters: str, between: str) -> None:
    typed = f" {letters[:4]}{between}{letters[4:].upper()} "
    assert devices.clean_user_code(typed) == letters.upper()


class DeviceMachine(RuleBasedStateMachine):
    """Devices and users who act at any time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = list(STARTED)
        self.now = AT

    def wish(self, decision: object) -> list[Event]:
        try:
            events = list(decision(device(*self.history)))  # type: ignore[operator]
        except DomainError:
            return []
        self.history += events
        return events

    @rule(minutes=st.integers(0, 6))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(user=st.sampled_from([ADA, EVE]), approve=st.booleans())
    def decide(self, user: UUID, approve: bool) -> None:
        for event in self.wish(lambda s: devices.decide_about(s, user_id=user, approve=approve, at=self.now)):
            assert self.now < AT + devices.DEVICE_LIFE, event

    @rule()
    def claim(self) -> None:
        for event in self.wish(lambda s: devices.claim(s, family_id=FAMILY, at=self.now)):
            assert self.now < AT + devices.DEVICE_LIFE, event

    @rule()
    def expire(self) -> None:
        for event in self.wish(lambda s: devices.expire(s, at=self.now)):
            assert self.now >= AT + devices.DEVICE_LIFE, event

    @invariant()
    def one_decision_then_one_end(self) -> None:
        kinds = [type(event) for event in self.history[1:]]
        yes, no = DeviceAuthorizationApproved, DeviceAuthorizationDenied
        claimed, expired = DeviceAuthorizationClaimed, DeviceAuthorizationExpired
        assert kinds in ([], [yes], [no], [expired], [yes, claimed], [yes, expired])


TestDeviceMachine = DeviceMachine.TestCase
TestDeviceMachine.settings = settings(max_examples=100, stateful_step_count=15, deadline=None)

TEXT = Sealed(ADA, "text")
LINK = once.request_link(once.NOTHING, link_id="l", user_id=ADA, email=TEXT, token=TEXT, at=AT)
RESET = once.request_reset(once.NOTHING, reset_id="r", user_id=ADA, email=TEXT, token=TEXT, at=AT)


def waiting(*events: Event) -> once.OnceState:
    return reduce(once.evolve, events, once.NOTHING)


@pytest.mark.parametrize(
    ("asked", "use", "life"),
    [(LINK, once.redeem_link, once.MAGIC_LINK_LIFE), (RESET, once.complete_reset, once.RESET_LIFE)],
)
def test_a_mailed_secret_works_once_and_in_time(asked: list[Event], use: object, life: timedelta) -> None:
    assert callable(use)
    (used,) = use(waiting(*asked), at=AT + life - timedelta(seconds=1))
    assert used.user_id == ADA
    for state, at in ((waiting(*asked, used), AT), (waiting(*asked), AT + life), (once.NOTHING, AT)):
        with pytest.raises(once.SpentError):
            use(state, at=at)


def test_a_challenge_is_answered_once_for_what_and_whom_it_was_made() -> None:
    issued = once.issue_challenge(
        once.NOTHING, challenge_id=CHALLENGE, purpose="register", challenge="c", user_id=ADA, at=AT
    )
    (consumed,) = once.consume_challenge(waiting(*issued), purpose="register", user_id=ADA, at=AT)
    for state, purpose, user in (
        (waiting(*issued), "login", None),
        (waiting(*issued), "register", EVE),
        (waiting(*issued, consumed), "register", ADA),
        (once.NOTHING, "register", ADA),
    ):
        with pytest.raises(once.SpentError):
            once.consume_challenge(state, purpose=purpose, user_id=user, at=AT)
    with pytest.raises(once.SpentError):
        once.consume_challenge(waiting(*issued), purpose="register", user_id=ADA, at=AT + once.CHALLENGE_LIFE)


def tries(*seconds_ago: int) -> list[Event]:
    """Newest first."""
    return [
        SignInAttempted(account="a", purpose="password", attempted_at=AT - timedelta(seconds=ago))
        for ago in seconds_ago
    ]


def test_the_sixth_try_in_a_window_waits_until_the_first_of_the_five_is_out_of_it() -> None:
    assert throttle.attempt(tries(1, 2, 3, 4), account="a", purpose="password", at=AT)
    with pytest.raises(throttle.TooManyAttemptsError) as refused:
        throttle.attempt(tries(1, 2, 3, 4, 100), account="a", purpose="password", at=AT)
    assert refused.value.details["retry_after_s"] == 15 * 60 - 100
    assert throttle.attempt(tries(1, 2, 3, 4, 15 * 60), account="a", purpose="password", at=AT)


def test_the_right_password_forgets_earlier_tries() -> None:
    cleared = throttle.clear(tries(1, 2, 3, 4, 5), account="a", purpose="password", at=AT)
    assert [type(event) for event in cleared] == [SignInCleared]
    assert throttle.attempt([*cleared, *tries(1, 2, 3, 4, 5)], account="a", purpose="password", at=AT)
    assert throttle.clear(cleared, account="a", purpose="password", at=AT) == []
    assert throttle.clear([], account="a", purpose="password", at=AT) == []
