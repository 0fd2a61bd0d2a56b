"""Token families and signing keys: the rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.kernel import Event, Sealed
from domain.tokens import decide
from domain.tokens.decide import (
    ACCESS_LIFE,
    NO_FAMILY,
    NO_KEYS,
    REFRESH_LIFE,
    ClosedFamily,
    OpenFamily,
    RefusedTokenError,
)
from domain.tokens.events import (
    AccessTokenDenied,
    RefreshTokenReuseDetected,
    RefreshTokenRotated,
    SigningKeyMade,
    TokenFamilyOpened,
    TokenFamilyRevoked,
)

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
FAMILY, USER = UUID(int=1), UUID(int=2)


def opened(first: str = "one") -> list[Event]:
    return decide.open_family(NO_FAMILY, family_id=FAMILY, user_id=USER, method="password", refresh_sha256=first, at=AT)


def given(*events: Event) -> decide.FamilyState:
    return reduce(decide.evolve_family, events, NO_FAMILY)


def rotate(state: decide.FamilyState, old: str, new: str, at: datetime = AT) -> list[Event]:
    return decide.rotate(state, presented_sha256=old, next_sha256=new, at=at)


def test_a_refresh_token_is_exchanged_once() -> None:
    (rotated,) = rotate(given(*opened()), "one", "two")
    assert isinstance(rotated, RefreshTokenRotated)
    after = given(*opened(), rotated)
    assert isinstance(after, OpenFamily)
    assert (after.refresh_sha256, after.spent) == ("two", {"one"})


def test_a_spent_refresh_token_closes_the_family() -> None:
    history = [*opened(), *rotate(given(*opened()), "one", "two")]
    reuse, closed = rotate(given(*history), "one", "three")
    assert isinstance(reuse, RefreshTokenReuseDetected)
    assert isinstance(closed, TokenFamilyRevoked)
    assert closed.reason == "reuse"
    with pytest.raises(RefusedTokenError):
        rotate(given(*history, reuse, closed), "two", "three")


def test_an_unknown_refresh_token_is_refused_and_closes_nothing() -> None:
    with pytest.raises(RefusedTokenError):
        rotate(given(*opened()), "guess", "two")


def test_a_refresh_token_expires() -> None:
    late = AT + REFRESH_LIFE
    with pytest.raises(RefusedTokenError):
        rotate(given(*opened()), "one", "two", late)
    assert rotate(given(*opened()), "one", "two", late - timedelta(seconds=1))


def test_logout_denies_the_token_at_hand_and_closes_the_family_once() -> None:
    denied, closed = decide.revoke(given(*opened()), reason="logout", at=AT, jti=UUID(int=9), expires_at=AT)
    assert isinstance(denied, AccessTokenDenied)
    assert decide.revoke(given(*opened(), denied, closed), reason="logout", at=AT) == []


def test_opening_the_same_family_again_changes_nothing() -> None:
    assert (
        decide.open_family(
            given(*opened()), family_id=FAMILY, user_id=USER, method="password", refresh_sha256="x", at=AT
        )
        == []
    )


class FamilyMachine(RuleBasedStateMachine):
    """Clients that hold any tokens they ever got, in any order: one good token at a time, none after a reuse."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = opened("0")
        self.tokens = ["0"]
        self.over = False

    @rule(data=st.data())
    def present(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        fresh = str(len(self.tokens))
        newest = token == self.tokens[-1]
        try:
            events = rotate(given(*self.history), token, fresh)
        except RefusedTokenError:
            assert self.over
            return
        assert not self.over
        self.history += events
        if newest:
            self.tokens.append(fresh)
        else:
            self.over = True

    @rule()
    def log_out(self) -> None:
        events = decide.revoke(given(*self.history), reason="logout", at=AT)
        assert bool(events) is not self.over
        self.history += events
        self.over = True

    @rule(guess=st.text(min_size=70, max_size=80))
    def guess(self, guess: str) -> None:
        with pytest.raises(RefusedTokenError):
            rotate(given(*self.history), guess, "x")

    @invariant()
    def it_is_closed_once_and_for_ever(self) -> None:
        closings = [event for event in self.history if isinstance(event, TokenFamilyRevoked)]
        assert len(closings) == int(self.over)
        assert isinstance(given(*self.history), ClosedFamily) is self.over

    @invariant()
    def nothing_is_spent_twice(self) -> None:
        spent = [event.spent_sha256 for event in self.history if isinstance(event, RefreshTokenRotated)]
        assert len(spent) == len(set(spent))
        assert isinstance(self.history[0], TokenFamilyOpened)


TestFamilyMachine = FamilyMachine.TestCase
TestFamilyMachine.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def made(kid: str, active_at: datetime) -> SigningKeyMade:
    return SigningKeyMade(
        kid=kid, public_key=kid, private_key=Sealed(USER, "secret"), made_at=active_at, active_at=active_at
    )


def keys(*events: Event) -> decide.Keys:
    return reduce(decide.evolve_keys, events, NO_KEYS)


def test_a_new_key_signs_when_it_is_active_and_the_old_one_counts_until_its_tokens_are_gone() -> None:
    later = AT + timedelta(days=90)
    state = keys(made("a", AT), made("b", later))
    before, after = later - timedelta(seconds=1), later + timedelta(seconds=1)
    assert (decide.signing(state, before) or made("", AT)).kid == "a"
    assert (decide.signing(state, after) or made("", AT)).kid == "b"
    assert [key.kid for key in decide.trusted(state, after)] == ["a", "b"]
    assert [key.kid for key in decide.trusted(state, later + ACCESS_LIFE)] == ["a", "b"]
    assert [key.kid for key in decide.trusted(state, later + ACCESS_LIFE + timedelta(hours=1))] == ["b"]


def test_a_rotation_that_is_under_way_is_not_repeated() -> None:
    state = keys(made("a", AT), made("b", AT + timedelta(minutes=2)))
    assert decide.make_next(state, made("c", AT), at=AT) == []
    assert decide.make_first(state, made("c", AT), at=AT) == []


def test_a_key_withdrawn_before_the_next_one_signs_is_replaced_at_once() -> None:
    pending = keys(made("a", AT), made("b", AT + timedelta(minutes=2)))
    state = reduce(decide.evolve_keys, decide.withdraw(pending, kid="a", at=AT), pending)
    assert decide.signing(state, AT) is None
    state = reduce(decide.evolve_keys, decide.make_first(state, made("c", AT), at=AT), state)
    for at in (AT, AT + timedelta(minutes=3)):
        assert (decide.signing(state, at) or made("", AT)).kid == "c"


def test_a_withdrawn_key_is_not_believed() -> None:
    state = keys(made("a", AT), *decide.withdraw(keys(made("a", AT)), kid="a", at=AT))
    assert decide.trusted(state, AT) == []
    assert decide.withdraw(state, kid="a", at=AT) == []
