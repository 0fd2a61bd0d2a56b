"""Users: what may happen to an account, in any order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from domain.kernel import DomainError, Event, NotFoundError, Sealed
from domain.organizations.state import InvalidFieldError
from domain.users import decide
from domain.users.events import (
    NewDeviceLogin,
    PasskeyRegistered,
    PasskeyRemoved,
    PasskeyUsed,
    UserDeleted,
    UserEmailVerified,
    UserLoggedIn,
    UserPasswordChanged,
    UserRegistered,
    UserSignInsEnded,
)
from domain.users.state import DEVICES_MAX, NOBODY, Absent, InvalidCredentialsError, Passkey, User, UserState, evolve

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
USER, FAMILY = UUID(int=1), UUID(int=2)
TEXT = Sealed(USER, "text")
REGISTERED = UserRegistered(
    user_id=USER,
    email=TEXT,
    email_key="key",
    password_hash=Sealed(USER, "hash"),
    token=Sealed(USER, "token"),
    token_sha256="sha",
    token_expires_at=AT + timedelta(days=7),
    registered_at=AT,
)
VERIFIED = UserEmailVerified(user_id=USER, by="registration", verified_at=AT)


def given(*events: Event) -> UserState:
    return reduce(evolve, events, NOBODY)


def passkey(number: int, count: int = 0) -> PasskeyRegistered:
    return PasskeyRegistered(
        user_id=USER,
        passkey_id=UUID(int=100 + number),
        credential_id=f"credential {number}",
        public_key="key",
        sign_count=count,
        transports=[],
        name=TEXT,
        registered_at=AT,
    )


def log_in(state: UserState, device: str = "laptop", at: datetime = AT, **more: Any) -> list[Event]:
    wish: dict[str, Any] = {"method": "password", "family_id": FAMILY, "ip": None, "user_agent": None, **more}
    return decide.log_in(state, device=device, email=TEXT, at=at, **wish)


def test_the_link_of_the_mail_verifies_the_address_once() -> None:
    assert decide.verify_email(given(REGISTERED), token_sha256="sha", at=AT) == [VERIFIED]
    assert decide.verify_email(given(REGISTERED, VERIFIED), token_sha256="sha", at=AT) == []
    for token, at in (("other", AT), ("sha", AT + timedelta(days=7))):
        with pytest.raises(InvalidCredentialsError):
            decide.verify_email(given(REGISTERED), token_sha256=token, at=at)


def test_a_password_of_somebody_who_never_proved_the_address_is_taken_away_when_its_owner_comes() -> None:
    taken, verified = decide.prove_address(given(REGISTERED), by="magic_link", at=AT)
    assert isinstance(taken, UserPasswordChanged)
    assert (taken.password_hash, taken.by) == (None, "unverified")
    after = given(REGISTERED, taken, verified)
    assert isinstance(after, User)
    assert (after.password, after.verified) == (None, True)
    assert decide.prove_address(after, by="magic_link", at=AT) == []


def test_the_first_login_is_no_news_and_another_device_is() -> None:
    (first,) = log_in(given(REGISTERED, VERIFIED))
    assert isinstance(first, UserLoggedIn)
    history = [REGISTERED, VERIFIED, first]
    assert [type(event) for event in log_in(given(*history))] == [UserLoggedIn]
    assert [type(event) for event in log_in(given(*history), "phone")] == [UserLoggedIn, NewDeviceLogin]


def test_a_login_that_was_on_its_way_when_all_logins_ended_does_not_survive() -> None:
    ended = UserSignInsEnded(user_id=USER, reason="password_reset", ended_at=AT)
    with pytest.raises(InvalidCredentialsError):
        log_in(given(REGISTERED, ended))
    later = decide.log_in(
        given(REGISTERED, ended),
        method="password",
        family_id=FAMILY,
        device="d",
        ip=None,
        user_agent=None,
        email=TEXT,
        at=AT + timedelta(milliseconds=1),
    )
    assert len(later) == 1


def test_devices_are_remembered_up_to_a_bound() -> None:
    history: list[Event] = [REGISTERED]
    for number in range(DEVICES_MAX + 1):
        history += log_in(given(*history), str(number))
    state = given(*history)
    assert isinstance(state, User)
    assert len(state.devices) == DEVICES_MAX
    assert "0" not in state.devices


def test_a_new_password_ends_every_login_and_a_reset_proves_the_address() -> None:
    changed, ended, verified = decide.change_password(given(REGISTERED), password_hash=TEXT, by="reset", at=AT)
    assert isinstance(changed, UserPasswordChanged)
    assert isinstance(ended, UserSignInsEnded)
    assert isinstance(verified, UserEmailVerified)
    assert len(decide.change_password(given(REGISTERED, VERIFIED), password_hash=TEXT, by="change", at=AT)) == 2


@pytest.mark.parametrize(
    ("stored", "told", "sound"), [(0, 0, True), (0, 1, True), (5, 6, True), (5, 5, False), (5, 4, False), (5, 0, False)]
)
def test_an_authenticators_counter_must_go_on(stored: int, told: int, sound: bool) -> None:
    known = Passkey(passkey_id=FAMILY, credential_id="c", public_key="k", sign_count=stored)
    assert decide.count_is_sound(known, told) is sound


def test_a_login_with_a_passkey_keeps_its_counter() -> None:
    history = [REGISTERED, passkey(1)]
    used, logged = log_in(given(*history), passkey=(UUID(int=101), 7))
    assert isinstance(used, PasskeyUsed)
    after = given(*history, used, logged)
    assert isinstance(after, User)
    assert after.passkeys[0].sign_count == 7
    with pytest.raises(InvalidCredentialsError):
        log_in(given(*history), passkey=(UUID(int=102), 7))


def test_passkeys_are_bounded_and_removed_one_by_one() -> None:
    full = given(REGISTERED, *(passkey(number) for number in range(decide.PASSKEYS_MAX)))
    assert decide.add_passkey(full, passkey(0)) == [], "the same again"
    with pytest.raises(InvalidFieldError):
        decide.add_passkey(full, passkey(decide.PASSKEYS_MAX))
    (removed,) = decide.remove_passkey(full, passkey_id=UUID(int=100), at=AT)
    assert isinstance(removed, PasskeyRemoved)
    with pytest.raises(NotFoundError):
        decide.remove_passkey(evolve(full, removed), passkey_id=UUID(int=100), at=AT)


@pytest.mark.parametrize(
    "email", ["", "ada", "@example.com", "ada@", "a b@example.com", "ada@ex\n.com", "a" * 250 + "@x.org"]
)
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(InvalidFieldError):
        decide.clean_email(email)


def test_addresses_are_compared_without_case_and_spaces() -> None:
    assert decide.clean_email("  Ada@Example.COM ") == "ada@example.com"


def test_rank_changes_only_to_ranks_there_are() -> None:
    assert len(decide.change_platform_role(given(REGISTERED), platform_role="crewkit_staff", at=AT)) == 1
    assert decide.change_platform_role(given(REGISTERED), platform_role="org_user", at=AT) == []
    with pytest.raises(InvalidFieldError):
        decide.change_platform_role(given(REGISTERED), platform_role="root", at=AT)


class UserMachine(RuleBasedStateMachine):
    """Everything that can be tried on an account, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = []
        self.passkeys: set[int] = set()

    @property
    def state(self) -> UserState:
        return given(*self.history)

    def can_sign_in(self) -> bool:
        return isinstance(self.state, User) and self.state.status == "active"

    def wish(self, decision: Any) -> bool:
        """Whether it was granted."""
        try:
            events = decision(self.state)
        except DomainError:
            return False
        self.history += events
        return True

    @rule()
    def register(self) -> None:
        before = self.state
        assert self.wish(lambda state: decide.register(state, REGISTERED))
        assert isinstance(before, Absent) or self.state == before

    @rule(by=st.sampled_from(["magic_link", "operator"]))
    def prove(self, by: str) -> None:
        could = self.can_sign_in()
        assert self.wish(lambda state: decide.prove_address(state, by=by, at=AT)) is could

    @rule(device=st.sampled_from("abc"))
    def sign_in(self, device: str) -> None:
        could = self.can_sign_in()
        assert self.wish(lambda state: log_in(state, device, AT + timedelta(hours=1))) is could

    @rule(number=st.integers(0, 4))
    def add_passkey(self, number: int) -> None:
        could = self.can_sign_in()
        if self.wish(lambda state: decide.add_passkey(state, passkey(number))):
            assert could
            self.passkeys.add(number)

    @rule(number=st.integers(0, 4))
    def remove_passkey(self, number: int) -> None:
        had = self.can_sign_in() and number in self.passkeys
        assert self.wish(lambda state: decide.remove_passkey(state, passkey_id=UUID(int=100 + number), at=AT)) is had
        self.passkeys.discard(number) if had else None

    @rule(by=st.sampled_from(["change", "reset"]))
    def change_password(self, by: str) -> None:
        could = self.can_sign_in()
        assert self.wish(lambda state: decide.change_password(state, password_hash=TEXT, by=by, at=AT)) is could

    @precondition(lambda self: isinstance(self.state, User))
    @rule()
    def disable(self) -> None:
        self.wish(lambda state: decide.disable(state, at=AT))
        assert not self.can_sign_in()

    @rule()
    def enable(self) -> None:
        gone = not isinstance(self.state, User) or self.state.status == "deleted"
        assert self.wish(lambda state: decide.enable(state, at=AT)) is not gone

    @rule()
    def delete(self) -> None:
        if self.wish(lambda state: decide.delete(state, at=AT)):
            self.passkeys.clear()
            assert not self.can_sign_in()

    @invariant()
    def deleted_is_for_ever_and_said_once(self) -> None:
        said = [n for n, event in enumerate(self.history) if isinstance(event, UserDeleted)]
        assert len(said) <= 1
        if said:
            assert self.history[said[0] + 1 :] == []
            assert isinstance(self.state, User)
            assert (self.state.password, self.state.passkeys) == (None, ())

    @invariant()
    def passkeys_are_those_that_were_added_and_not_removed(self) -> None:
        held = self.state.passkeys if isinstance(self.state, User) else ()
        assert {int(one.credential_id.split()[1]) for one in held} == self.passkeys

    @invariant()
    def whoever_cannot_sign_in_had_every_login_ended(self) -> None:
        if isinstance(self.state, User) and self.state.status != "active":
            assert self.state.signed_out_at is not None


TestUserMachine = UserMachine.TestCase
TestUserMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
