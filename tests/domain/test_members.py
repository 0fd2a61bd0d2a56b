"""Who may do what to whom in an organization, as a specification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain.kernel import DomainError, Event, NotFoundError
from domain.organizations import members
from domain.organizations.events import (
    MemberAdded,
    MemberRemoved,
    MemberRoleChanged,
    OrganizationCreated,
    OrganizationDeleted,
    OrganizationPurged,
    OrganizationRestored,
    OwnershipTransferred,
)
from domain.organizations.members import LastOwnerError, LimitReachedError
from domain.organizations.state import (
    NO_ORGANIZATION,
    PERMISSIONS,
    RANK,
    Actor,
    EscalationError,
    InvalidFieldError,
    Organization,
    OrganizationState,
    evolve_organization,
)

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
ORG, ANN, BOB, CAT, EVE = (UUID(int=n) for n in range(1, 6))
FOUNDED = OrganizationCreated(organization_id=ORG, slug="acme", name="Acme", owner_id=ANN, created_at=AT)
KEY = Actor(None, "admin")
DELETED, PURGED = OrganizationDeleted(deleted_at=AT), OrganizationPurged(purged_at=AT)


def added(user_id: UUID, permission: str = "developer", org_role: str = "senior") -> MemberAdded:
    return MemberAdded(user_id=user_id, permission=permission, org_role=org_role, added_at=AT)


def after(*history: Event) -> OrganizationState:
    state = NO_ORGANIZATION
    for event in history:
        state = evolve_organization(state, event)
    return state


def add(actor: Actor, user_id: UUID, permission: str = "developer", org_role: str = "senior") -> Callable[..., object]:
    return lambda state: members.add(
        state, actor=actor, user_id=user_id, permission=permission, org_role=org_role, at=AT
    )


def change(
    actor: Actor, user_id: UUID, permission: str | None = None, org_role: str | None = None
) -> Callable[..., object]:
    return lambda state: members.change(
        state, actor=actor, user_id=user_id, permission=permission, org_role=org_role, at=AT
    )


def remove(actor: Actor, user_id: UUID) -> Callable[..., object]:
    return lambda state: members.remove(state, actor=actor, user_id=user_id, at=AT)


def leave_for_good(actor: Actor, user_id: UUID) -> Callable[..., object]:
    return lambda state: members.leave_for_good(state, actor=actor, user_id=user_id, at=AT)


def transfer(actor: Actor, to: UUID) -> Callable[..., object]:
    return lambda state: members.transfer(state, actor=actor, to_user_id=to, at=AT)


def changed(
    user_id: UUID, permission: str, org_role: str, before: str, role_before: str = "senior"
) -> MemberRoleChanged:
    return MemberRoleChanged(
        user_id=user_id,
        permission=permission,
        org_role=org_role,
        permission_before=before,
        org_role_before=role_before,
        changed_at=AT,
    )


def test_the_founder_is_an_owner_although_no_event_says_so() -> None:
    state = after(FOUNDED)
    assert isinstance(state, Organization)
    assert {user: member.permission for user, member in state.members.items()} == {ANN: "owner"}
    assert {key: (role.level, role.mode, role.tools) for key, role in state.roles.items()} == {
        "junior": (1, "coaching", ("Read", "Grep", "Glob")),
        "senior": (2, "collaborative", None),
        "admin": (3, "autonomous", None),
    }


@pytest.mark.parametrize(
    ("history", "when", "then"),
    [
        ([FOUNDED], add(Actor(ANN), BOB), [added(BOB)]),
        ([FOUNDED], add(Actor(ANN), BOB, "owner"), [added(BOB, "owner")]),
        ([FOUNDED], add(KEY, BOB, "admin"), [added(BOB, "admin")]),
        ([FOUNDED, added(BOB, "manager")], add(Actor(BOB), CAT, "manager"), [added(CAT, "manager")]),
        ([FOUNDED, added(BOB)], add(Actor(ANN), BOB, "admin"), []),
        ([FOUNDED, added(BOB)], change(Actor(ANN), BOB, "admin"), [changed(BOB, "admin", "senior", "developer")]),
        ([FOUNDED, added(BOB)], change(KEY, BOB, None, "junior"), [changed(BOB, "developer", "junior", "developer")]),
        ([FOUNDED, added(BOB)], change(KEY, BOB, "developer"), []),
        (
            [FOUNDED, added(BOB, "owner")],
            change(Actor(BOB), ANN, "viewer"),
            [changed(ANN, "viewer", "admin", "owner", "admin")],
        ),
        ([FOUNDED, added(BOB)], remove(Actor(ANN), BOB), [MemberRemoved(user_id=BOB, removed_at=AT)]),
        ([FOUNDED, added(BOB, "viewer")], remove(Actor(BOB), BOB), [MemberRemoved(user_id=BOB, removed_at=AT)]),
        ([FOUNDED, added(BOB, "owner")], remove(Actor(ANN), ANN), [MemberRemoved(user_id=ANN, removed_at=AT)]),
        ([FOUNDED, added(BOB)], leave_for_good(Actor(BOB), BOB), [MemberRemoved(user_id=BOB, removed_at=AT)]),
        ([FOUNDED, DELETED], leave_for_good(Actor(ANN), ANN), [MemberRemoved(user_id=ANN, removed_at=AT)]),
        (
            [FOUNDED, added(BOB)],
            transfer(Actor(ANN), BOB),
            [OwnershipTransferred(from_user_id=ANN, to_user_id=BOB, transferred_at=AT)],
        ),
        ([FOUNDED], transfer(Actor(ANN), ANN), []),
        (
            [FOUNDED, OrganizationDeleted(deleted_at=AT), OrganizationRestored(restored_at=AT)],
            add(Actor(ANN), BOB),
            [added(BOB)],
        ),
    ],
)
def test_what_is_allowed(history: Sequence[Event], when: Callable[..., object], then: Sequence[Event]) -> None:
    assert when(after(*history)) == list(then)


@pytest.mark.parametrize(
    ("history", "when", "refusal"),
    [
        ([], add(Actor(ANN), BOB), NotFoundError),
        ([FOUNDED, OrganizationDeleted(deleted_at=AT)], add(Actor(ANN), BOB), NotFoundError),
        ([FOUNDED], add(KEY, BOB, "owner"), EscalationError),  # only an owner makes owners, and a key never is one
        ([FOUNDED], add(Actor(EVE), BOB), EscalationError),  # a stranger
        ([FOUNDED], add(Actor(EVE, "owner"), BOB), EscalationError),  # whatever a stale guard believed of them
        ([FOUNDED, added(BOB)], add(Actor(BOB), CAT), EscalationError),  # developers manage nobody
        ([FOUNDED, added(BOB, "manager")], add(Actor(BOB), CAT, "admin"), EscalationError),
        ([FOUNDED], add(Actor(ANN), BOB, "king"), InvalidFieldError),
        ([FOUNDED], add(Actor(ANN), BOB, "developer", "wizard"), InvalidFieldError),
        ([FOUNDED], change(Actor(ANN), BOB, "admin"), NotFoundError),
        ([FOUNDED], change(Actor(ANN), ANN, "admin"), LastOwnerError),
        ([FOUNDED, added(BOB, "admin")], change(Actor(BOB), ANN, "viewer"), EscalationError),
        ([FOUNDED, added(BOB, "admin")], change(Actor(BOB), BOB, "owner"), EscalationError),
        ([FOUNDED, added(BOB, "manager"), added(CAT, "admin")], change(Actor(BOB), CAT, None, "junior"), EscalationError),
        ([FOUNDED], remove(Actor(ANN), ANN), LastOwnerError),
        ([FOUNDED], remove(Actor(ANN), BOB), NotFoundError),
        ([FOUNDED, added(BOB, "admin")], remove(Actor(BOB), ANN), EscalationError),
        ([FOUNDED, added(BOB), added(CAT, "viewer")], remove(Actor(BOB), CAT), EscalationError),
        ([FOUNDED, added(BOB, "admin")], transfer(Actor(BOB), BOB), EscalationError),
        ([FOUNDED], leave_for_good(Actor(ANN), ANN), LastOwnerError),
        ([FOUNDED, DELETED], leave_for_good(KEY, ANN), EscalationError),
        ([FOUNDED, DELETED], leave_for_good(Actor(BOB), BOB), NotFoundError),
        ([FOUNDED, DELETED, PURGED], leave_for_good(Actor(ANN), ANN), NotFoundError),
        ([FOUNDED], transfer(KEY, BOB), EscalationError),
        ([FOUNDED], transfer(Actor(ANN), BOB), NotFoundError),
        ([FOUNDED, OwnershipTransferred(from_user_id=ANN, to_user_id=BOB, transferred_at=AT)], add(Actor(ANN), CAT, "owner"), EscalationError),
    ],
)  # fmt: skip
def test_what_is_refused(history: Sequence[Event], when: Callable[..., object], refusal: type[DomainError]) -> None:
    with pytest.raises(refusal):
        when(after(*history))


def test_after_a_transfer_the_giver_is_an_admin_and_the_receiver_owns() -> None:
    state = after(FOUNDED, added(BOB), OwnershipTransferred(from_user_id=ANN, to_user_id=BOB, transferred_at=AT))
    assert isinstance(state, Organization)
    assert {user: member.permission for user, member in state.members.items()} == {ANN: "admin", BOB: "owner"}


def test_an_organization_has_a_bounded_number_of_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MEMBERS_MAX", 2)
    with pytest.raises(LimitReachedError):
        add(Actor(ANN), CAT)(after(FOUNDED, added(BOB)))


PEOPLE = st.sampled_from([ANN, BOB, CAT, EVE])
PERMISSION = st.sampled_from(PERMISSIONS)


class MembersMachine(RuleBasedStateMachine):
    """Anybody tries anything, in any order: there is always an owner, and nobody rises above who lifted them."""

    def __init__(self) -> None:
        super().__init__()
        self.state: OrganizationState = NO_ORGANIZATION

    @initialize()
    def found(self) -> None:
        self.state = after(FOUNDED)

    def attempt(self, actor: UUID, wish: Callable[..., object]) -> None:
        before = self.organization.members
        try:
            events = wish(self.state)
        except DomainError:
            return
        assert isinstance(events, list)
        for event in events:
            self.state = evolve_organization(self.state, event)
        rank = RANK[before[actor].permission] if actor in before else 0
        for user, member in self.organization.members.items():
            was = before.get(user)
            if was is None or was.permission != member.permission:
                assert RANK[member.permission] <= rank, "nobody gives more than they have"
                assert was is None or RANK[was.permission] <= rank, "nobody changes who stands above them"
        for user in before.keys() - self.organization.members.keys():
            assert user == actor or RANK[before[user].permission] <= rank

    @property
    def organization(self) -> Organization:
        assert isinstance(self.state, Organization)
        return self.state

    @rule(actor=PEOPLE, user=PEOPLE, permission=PERMISSION)
    def add(self, actor: UUID, user: UUID, permission: str) -> None:
        self.attempt(actor, add(Actor(actor), user, permission))

    @rule(actor=PEOPLE, user=PEOPLE, permission=PERMISSION)
    def change(self, actor: UUID, user: UUID, permission: str) -> None:
        self.attempt(actor, change(Actor(actor), user, permission))

    @rule(actor=PEOPLE, user=PEOPLE)
    def remove(self, actor: UUID, user: UUID) -> None:
        self.attempt(actor, remove(Actor(actor), user))

    @rule(actor=PEOPLE, user=PEOPLE)
    def transfer(self, actor: UUID, user: UUID) -> None:
        self.attempt(actor, transfer(Actor(actor), user))

    @invariant()
    def somebody_owns_it(self) -> None:
        if self.state is not NO_ORGANIZATION:
            assert self.organization.owners() >= 1


TestMembers = MembersMachine.TestCase
