"""The staff: what they may do to accounts, and what counts as a reason."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import reduce
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain.admin.decide import REASON_CHARS_MAX, checked_reason
from domain.kernel import DomainError, Event, NotFoundError, Sealed
from domain.organizations.state import EscalationError, InvalidFieldError
from domain.users import administer
from domain.users.administer import Staff, UserChanges
from domain.users.decide import PLATFORM_ROLES
from domain.users.events import (
    UserDeleted,
    UserDisabled,
    UserEnabled,
    UserPlatformRoleChanged,
    UserProfileUpdated,
    UserRegistered,
    UserSignInsEnded,
)
from domain.users.state import NOBODY, User, UserState, evolve

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
USER, STAFF_ID = UUID(int=1), UUID(int=2)
STAFF, OWNER = Staff(STAFF_ID, "crewkit_staff"), Staff(STAFF_ID, "crewkit_owner")
DISABLED = UserDisabled(user_id=USER, disabled_at=AT)


def registered(user_id: UUID = USER, role: str = "org_user") -> UserRegistered:
    return UserRegistered(
        user_id=user_id, email=Sealed(user_id, "e"), email_key=user_id.hex, platform_role=role, registered_at=AT
    )


def given(*events: Event) -> UserState:
    return reduce(evolve, events, NOBODY)


def change(state: UserState, by: Staff = STAFF, **changes: Any) -> list[Event]:
    return administer.change(state, by=by, changes=UserChanges(**changes), at=AT)


def test_a_disabled_user_can_be_changed_and_what_is_so_already_tells_nothing() -> None:
    state = given(registered(), DISABLED)
    told = UserProfileUpdated(user_id=USER, locale="de", updated_at=AT)
    assert change(state, locale="de") == [told]
    assert change(state) == []
    assert change(state, OWNER, platform_role="org_user") == []


def test_only_an_owner_changes_ranks_and_nobody_their_own() -> None:
    state = given(registered())
    promoted = UserPlatformRoleChanged(user_id=USER, platform_role="crewkit_staff", changed_at=AT)
    assert change(state, OWNER, platform_role="crewkit_staff") == [promoted]
    with pytest.raises(EscalationError):
        change(state, STAFF, platform_role="crewkit_staff")
    with pytest.raises(InvalidFieldError):
        change(state, OWNER, platform_role="god")
    oneself = given(registered(STAFF_ID, "crewkit_owner"))
    with pytest.raises(EscalationError):
        change(oneself, OWNER, platform_role="org_user")
    with pytest.raises(EscalationError):
        administer.disable(oneself, by=OWNER, at=AT)


def test_staff_touch_no_owner_of_the_installation() -> None:
    state = given(registered(role="crewkit_owner"))
    for wish in (
        lambda: change(state, locale="de"),
        lambda: administer.disable(state, by=STAFF, at=AT),
        lambda: administer.enable(state, by=STAFF, at=AT),
    ):
        with pytest.raises(EscalationError):
            wish()
    assert administer.disable(state, by=OWNER, at=AT)


def test_disabling_ends_every_login_and_enabling_opens_the_door_again() -> None:
    ended = UserSignInsEnded(user_id=USER, reason="disabled", ended_at=AT)
    assert administer.disable(given(registered()), by=STAFF, at=AT) == [DISABLED, ended]
    assert administer.disable(given(registered(), DISABLED), by=STAFF, at=AT) == []
    assert administer.enable(given(registered(), DISABLED), by=STAFF, at=AT) == [
        UserEnabled(user_id=USER, enabled_at=AT)
    ]
    assert administer.enable(given(registered()), by=STAFF, at=AT) == []


@pytest.mark.parametrize("state", [NOBODY, given(registered(), UserDeleted(user_id=USER, deleted_at=AT))])
def test_an_account_that_is_not_there_cannot_be_administered(state: UserState) -> None:
    for wish in (
        lambda: change(state, locale="de"),
        lambda: administer.disable(state, by=OWNER, at=AT),
        lambda: administer.enable(state, by=OWNER, at=AT),
    ):
        with pytest.raises(NotFoundError):
            wish()


def test_a_reason_is_words() -> None:
    assert checked_reason("  ticket 42 ", needed=True) == "ticket 42"
    assert checked_reason(None, needed=False) is None
    assert checked_reason("  ", needed=False) is None
    for text in (None, "", "  ", "ab", "x" * (REASON_CHARS_MAX + 1), "tab\there"):
        with pytest.raises(InvalidFieldError) as refused:
            checked_reason(text, needed=True)
        assert refused.value.details["field"] == "X-Reason"


class InstallationMachine(RuleBasedStateMachine):
    """Three accounts administer each other, in any order: an owner who can sign in always remains."""

    @initialize()
    def begin(self) -> None:
        ids = [UUID(int=number) for number in (1, 2, 3)]
        self.states = {user_id: given(registered(user_id)) for user_id in ids}
        self.states[ids[0]] = given(registered(ids[0], "crewkit_owner"))

    def users(self) -> list[User]:
        return [state for state in self.states.values() if isinstance(state, User)]

    @rule(by=st.integers(1, 3), whom=st.integers(1, 3), wish=st.sampled_from([*PLATFORM_ROLES, "disable", "enable"]))
    def administer(self, by: int, whom: int, wish: str) -> None:
        acting = self.states[UUID(int=by)]
        assert isinstance(acting, User)
        if acting.status != "active" or acting.platform_role == "org_user":
            return  # the guard lets nobody in
        staff, target = Staff(acting.user_id, acting.platform_role), UUID(int=whom)
        try:
            if wish in PLATFORM_ROLES:
                events = change(self.states[target], staff, platform_role=wish)
            else:
                events = getattr(administer, wish)(self.states[target], by=staff, at=AT)
        except DomainError:
            return
        self.states[target] = reduce(evolve, events, self.states[target])

    @invariant()
    def an_owner_can_sign_in(self) -> None:
        if hasattr(self, "states"):
            assert any(one.platform_role == "crewkit_owner" and one.status == "active" for one in self.users())


InstallationMachine.TestCase.settings = settings(max_examples=40, deadline=None)
TestInstallation = InstallationMachine.TestCase
