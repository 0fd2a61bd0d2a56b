"""An organization as a whole, and its working roles, as a specification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain.kernel import DomainError, Event, NotFoundError, Sealed
from domain.organizations import decide, manage, roles
from domain.organizations.events import (
    CoachingEnforcementChanged,
    MemberAdded,
    MemberRemoved,
    OrganizationCreated,
    OrganizationDeleted,
    OrganizationPurged,
    OrganizationRestored,
    OrganizationSlugChanged,
    OrganizationUpdated,
    RoleCreated,
    RoleDeleted,
    RoleUpdated,
)
from domain.organizations.manage import (
    ConfirmationRequiredError,
    NewOwner,
    NotDueError,
    OrganizationChanges,
    OwnerlessError,
)
from domain.organizations.members import LimitReachedError
from domain.organizations.roles import RoleFields, RoleInUseError, RoleKnownError, effective
from domain.organizations.state import (
    NO_ORGANIZATION,
    Actor,
    EscalationError,
    InvalidFieldError,
    Organization,
    OrganizationState,
    evolve_organization,
)

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER = AT + timedelta(days=90)
ORG, ANN, BOB, ROLE = (UUID(int=n) for n in range(1, 5))
OWNER, KEY, DEVELOPER = Actor(ANN), Actor(None, "admin"), Actor(None, "developer")
FOUNDED = OrganizationCreated(organization_id=ORG, slug="acme", name="Acme", owner_id=ANN, created_at=AT)
DELETED, RESTORED, PURGED = (
    OrganizationDeleted(deleted_at=AT),
    OrganizationRestored(restored_at=AT),
    OrganizationPurged(purged_at=LATER),
)
LEAD = RoleCreated(
    role_id=ROLE, key="lead", level=4, custom_name="Lead", coaching_mode_enabled=False, tools=["Read"], created_at=AT
)
NEWCOMER, SYSTEM = UUID(int=9), Actor(None, "owner")
OWNER_LEFT = MemberRemoved(user_id=ANN, removed_at=AT)
LIFTED = MemberAdded(user_id=NEWCOMER, permission="owner", org_role="senior", added_at=AT)
Decision = Callable[[OrganizationState], list[Event]]


def after(*history: Event) -> OrganizationState:
    state = NO_ORGANIZATION
    for event in history:
        state = evolve_organization(state, event)
    return state


def update(actor: Actor, **changes: Any) -> Decision:
    return lambda state: manage.update(state, actor=actor, changes=OrganizationChanges(**changes), at=AT)


def delete(actor: Actor, confirm: str | None = "acme") -> Decision:
    return lambda state: manage.delete(state, actor=actor, confirm=confirm, at=AT)


def restore(actor: Actor = OWNER, owner: UUID | None = None) -> Decision:
    new_owner = None if owner is None else NewOwner(user_id=owner)
    return lambda state: manage.restore(state, actor=actor, at=AT, new_owner=new_owner)


def purge(at: datetime = LATER, *, now: bool = False) -> Decision:
    return lambda state: manage.purge(state, at=at, now_rather_than_later=now)


def create_role(actor: Actor = KEY, key: str = "lead", **fields: Any) -> Decision:
    return lambda state: roles.create_role(
        state, actor=actor, role_id=ROLE, key=key, fields=RoleFields(**fields), at=AT
    )


def update_role(role: str = "lead", actor: Actor = KEY, **fields: Any) -> Decision:
    return lambda state: roles.update_role(state, actor=actor, role=role, fields=RoleFields(**fields), at=AT)


def delete_role(role: str = "lead", actor: Actor = KEY) -> Decision:
    return lambda state: roles.delete_role(state, actor=actor, role=role, at=AT)


def updated(level: int = 4, tools: list[str] | None = None, **fields: Any) -> RoleUpdated:
    told: dict[str, Any] = {"custom_name": "Lead", "coaching_mode_enabled": False, **fields}
    return RoleUpdated(role_id=ROLE, key="lead", level=level, tools=tools, updated_at=AT, **told)


@pytest.mark.parametrize(
    ("history", "when", "then"),
    [
        ([FOUNDED], update(KEY, name="Acme Ltd"), [OrganizationUpdated(name="Acme Ltd", updated_at=AT)]),
        ([FOUNDED], update(OWNER, name="Acme", slug="acme", coaching_enforcement="soft", settings={}), []),
        ([FOUNDED], update(OWNER, slug="ac"), [OrganizationSlugChanged(slug="ac", before="acme", changed_at=AT)]),
        (
            [FOUNDED],
            update(OWNER, settings={"a": 1, "b": None}),
            [OrganizationUpdated(settings={"a": 1}, updated_at=AT)],
        ),
        (
            [FOUNDED, OrganizationUpdated(settings={"a": 1, "b": 2}, updated_at=AT)],
            update(OWNER, settings={"a": None, "c": "x"}),
            [OrganizationUpdated(settings={"b": 2, "c": "x"}, updated_at=AT)],
        ),
        (
            [FOUNDED],
            update(OWNER, coaching_enforcement="hard"),
            [CoachingEnforcementChanged(coaching_enforcement="hard", before="soft", changed_at=AT)],
        ),
        ([FOUNDED], delete(OWNER), [DELETED]),
        ([FOUNDED, DELETED], delete(OWNER), []),
        ([FOUNDED, DELETED], restore(), [RESTORED]),
        ([FOUNDED], restore(), []),
        ([FOUNDED], restore(owner=NEWCOMER), []),
        ([FOUNDED, DELETED, OWNER_LEFT], restore(SYSTEM, owner=NEWCOMER), [RESTORED, LIFTED]),
        ([FOUNDED, DELETED], restore(owner=NEWCOMER), [RESTORED, LIFTED]),
        ([FOUNDED, DELETED], purge(), [PURGED]),
        ([FOUNDED, DELETED], purge(AT, now=True), [OrganizationPurged(purged_at=AT)]),
        ([FOUNDED, DELETED, PURGED], purge(), []),
        ([FOUNDED], create_role(level=4, tools=["Read"], custom_name="Lead"), [LEAD]),
        ([FOUNDED, LEAD], update_role(level=4), []),
        ([FOUNDED, LEAD], update_role(level=5), [updated(5, ["Read"])]),
        ([FOUNDED, LEAD], update_role(str(ROLE), all_tools=True), [updated()]),
        ([FOUNDED, LEAD], delete_role(), [RoleDeleted(role_id=ROLE, key="lead", deleted_at=AT)]),
    ],
)
def test_what_is_allowed(history: Sequence[Event], when: Decision, then: Sequence[Event]) -> None:
    assert when(after(*history)) == list(then)


@pytest.mark.parametrize(
    ("history", "when", "refusal"),
    [
        ([], update(OWNER, name="x"), NotFoundError),
        ([FOUNDED, DELETED], update(OWNER, name="x"), NotFoundError),
        ([FOUNDED], update(DEVELOPER, name="x"), EscalationError),
        ([FOUNDED], update(OWNER, name=" "), InvalidFieldError),
        ([FOUNDED], update(OWNER, slug="api"), InvalidFieldError),
        ([FOUNDED], update(OWNER, coaching_enforcement="strict"), InvalidFieldError),
        ([FOUNDED], update(OWNER, settings={"No": 1}), InvalidFieldError),
        ([FOUNDED], update(OWNER, settings={"a": [1]}), InvalidFieldError),
        ([FOUNDED], update(OWNER, settings={"a": "x" * 2_001}), InvalidFieldError),
        ([FOUNDED], update(OWNER, settings={f"a{n}": 1 for n in range(101)}), InvalidFieldError),
        ([FOUNDED], delete(OWNER, None), ConfirmationRequiredError),
        ([FOUNDED], delete(OWNER, "other"), ConfirmationRequiredError),
        ([FOUNDED], delete(KEY), EscalationError),
        ([FOUNDED, DELETED], restore(KEY), EscalationError),
        ([FOUNDED, DELETED, OWNER_LEFT], restore(SYSTEM), OwnerlessError),
        ([FOUNDED, DELETED, PURGED], restore(), NotFoundError),
        ([FOUNDED, DELETED], purge(LATER - timedelta(seconds=1)), NotDueError),
        ([FOUNDED], purge(), NotDueError),
        ([FOUNDED], purge(now=True), NotDueError),
        ([], purge(), NotFoundError),
        ([FOUNDED, LEAD], create_role(), RoleKnownError),
        ([FOUNDED], create_role(key="junior"), RoleKnownError),
        ([FOUNDED], create_role(key="manager"), InvalidFieldError),  # `role` in a request may hold a permission, too
        ([FOUNDED], create_role(key="Lead"), InvalidFieldError),
        ([FOUNDED], create_role(level=0), InvalidFieldError),
        ([FOUNDED], create_role(custom_name=" "), InvalidFieldError),
        ([FOUNDED], create_role(tools=[""]), InvalidFieldError),
        ([FOUNDED], create_role(DEVELOPER), EscalationError),
        ([FOUNDED], update_role(), NotFoundError),
        ([FOUNDED, LEAD], update_role(actor=DEVELOPER, level=9), EscalationError),
        ([FOUNDED], delete_role("senior"), RoleInUseError),
        (
            [FOUNDED, LEAD, MemberAdded(user_id=BOB, permission="viewer", org_role="lead", added_at=AT)],
            delete_role(),
            RoleInUseError,
        ),
    ],
)
def test_what_is_refused(history: Sequence[Event], when: Decision, refusal: type[DomainError]) -> None:
    with pytest.raises(refusal):
        when(after(*history))


def test_an_organization_has_a_bounded_number_of_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "ROLES_MAX", 4)
    with pytest.raises(LimitReachedError):
        create_role(key="another")(after(FOUNDED, LEAD))


def test_founding_tells_region_and_the_owner_where_they_are_known() -> None:
    email = Sealed(ANN, "ann@example.com")
    told = decide.create(
        NO_ORGANIZATION, organization_id=ORG, slug="acme", name="Acme", owner_id=ANN, at=AT, region="eu", email=email
    )
    assert told == [
        FOUNDED,
        OrganizationUpdated(region="eu", updated_at=AT),
        MemberAdded(user_id=ANN, permission="owner", org_role="admin", email=email, added_at=AT),
    ]
    assert after(*told) == after(FOUNDED, OrganizationUpdated(region="eu", updated_at=AT))


@pytest.mark.parametrize(
    ("key", "enforcement", "mode", "tools", "enforced"),
    [
        ("junior", "soft", "coaching", ["Read", "Grep", "Glob"], False),
        ("junior", "hard", "coaching", ["Read", "Grep", "Glob"], True),
        ("senior", "hard", "collaborative", None, False),
        ("admin", "soft", "autonomous", None, False),
        ("lead", "hard", "autonomous", ["Read"], True),
    ],
)
def test_the_effective_role(key: str, enforcement: str, mode: str, tools: list[str] | None, enforced: bool) -> None:
    state = after(FOUNDED, LEAD)
    assert isinstance(state, Organization)
    found = effective(state.roles[key], enforcement)
    assert (found.mode, found.tools, found.tools_enforced) == (mode, tools, enforced)
    assert bool(found.system_prompt) == (mode == "coaching")


class OrganizationMachine(RuleBasedStateMachine):
    """Deleted, restored, purged and changed in any order: what is purged stays purged, what is hidden refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = []
        self.now = AT

    @initialize()
    def found(self) -> None:
        self.history = [FOUNDED]

    def attempt(self, decision: Decision) -> None:
        try:
            self.history += decision(after(*self.history))
        except DomainError:
            return

    @rule(days=st.integers(1, 100))
    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)

    @rule()
    def delete(self) -> None:
        self.attempt(lambda state: manage.delete(state, actor=OWNER, confirm="acme", at=self.now))

    @rule()
    def restore(self) -> None:
        self.attempt(restore())

    @rule()
    def purge(self) -> None:
        self.attempt(purge(self.now))

    @rule(slug=st.sampled_from(["acme", "other"]))
    def rename(self, slug: str) -> None:
        before = after(*self.history)
        assert isinstance(before, Organization)
        count = len(self.history)
        self.attempt(update(OWNER, slug=slug))
        assert len(self.history) == count or before.deleted_at is None

    @invariant()
    def nothing_follows_a_purge_and_it_follows_a_long_deletion(self) -> None:
        ends = [n for n, event in enumerate(self.history) if isinstance(event, OrganizationPurged)]
        assert ends in ([], [len(self.history) - 1])
        for n in ends:
            deleted = self.history[n - 1]
            assert isinstance(deleted, OrganizationDeleted)
            purged = self.history[n]
            assert isinstance(purged, OrganizationPurged)
            assert purged.purged_at - deleted.deleted_at >= timedelta(days=90)


TestOrganizations = OrganizationMachine.TestCase
