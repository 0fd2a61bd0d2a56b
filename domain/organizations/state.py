"""What an organization has become: its members, working roles and settings, folded from its stream."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid5

import msgspec

from domain.kernel import DomainError, Event, NotFoundError, Stream
from domain.organizations.events import (
    CoachingEnforcementChanged,
    MemberAdded,
    MemberRemoved,
    MemberRoleChanged,
    OrganizationCreated,
    OrganizationDeleted,
    OrganizationPurged,
    OrganizationRestored,
    OrganizationSlugChanged,
    OrganizationUpdated,
    OwnershipTransferred,
    RoleCreated,
    RoleDeleted,
    RoleUpdated,
)

OWNER, ADMIN, MANAGER, DEVELOPER, VIEWER = "owner", "admin", "manager", "developer", "viewer"
PERMISSIONS = (VIEWER, DEVELOPER, MANAGER, ADMIN, OWNER)  # weakest first
RANK = {name: place for place, name in enumerate(PERMISSIONS, 1)}
PERMISSION_DEFAULT, ORG_ROLE_DEFAULT = DEVELOPER, "senior"
SOFT, HARD = "soft", "hard"
REGION_DEFAULT = "na"
READING_TOOLS = ("Read", "Grep", "Glob")


class InvalidFieldError(DomainError):
    """A value cannot be accepted; `details["field"]` names it."""

    code = "validation_failed"


def check_text(text: str, field: str, chars_max: int) -> None:
    """Refuse a name that nobody could read, or that would do something to whoever's terminal or mail shows it.

    Raises:
        InvalidFieldError: empty, too long or not printable.
    """
    if not text.strip() or len(text) > chars_max or not text.isprintable():
        raise InvalidFieldError(f"{field} must have 1 to {chars_max} printable characters", field=field)


class EscalationError(DomainError):
    """Who asks may not do this, or not to this member."""

    code = "forbidden"


class Absent(msgspec.Struct, frozen=True):
    """Nothing has happened yet."""


class Member(msgspec.Struct, frozen=True):
    """What one user may do here, and how agents treat them."""

    permission: str
    org_role: str


class Role(msgspec.Struct, frozen=True):
    """A working role.  `tools` None: all; built-in roles may be changed, but not deleted."""

    role_id: UUID
    key: str
    level: int
    custom_name: str
    coaching_mode_enabled: bool
    tools: tuple[str, ...] | None
    built_in: bool = False

    @property
    def mode(self) -> str:
        """How an agent works with its holder: `coaching`, `collaborative` or `autonomous`."""
        if self.coaching_mode_enabled:
            return "coaching"
        return "autonomous" if self.level >= AUTONOMOUS_LEVEL else "collaborative"


AUTONOMOUS_LEVEL = 3


class Organization(msgspec.Struct, frozen=True):
    """A tenant that exists.  `members` maps user ids, `roles` working roles' keys."""

    organization_id: UUID
    slug: str
    owner_id: UUID  # the founder, whoever owns it now
    name: str = ""
    members: dict[UUID, Member] = {}
    roles: dict[str, Role] = {}
    coaching_enforcement: str = SOFT
    settings: dict[str, Any] = {}
    region: str = REGION_DEFAULT
    deleted_at: datetime | None = None
    purged: bool = False
    used: frozenset[str] = frozenset()  # invitations that made somebody a member: none does so twice

    def owners(self) -> int:
        """How many there are: 0 only while it is deleted."""
        return sum(member.permission == OWNER for member in self.members.values())


class Actor(msgspec.Struct, frozen=True):
    """Who decides.  A user counts with what the organization says of them now; keys and the system bring a `permission`."""

    user_id: UUID | None = None
    permission: str | None = None


OrganizationState: TypeAlias = Absent | Organization
NO_ORGANIZATION: OrganizationState = Absent()


def organization_stream(organization_id: UUID) -> Stream:
    """Where an organization's own facts live."""
    return Stream("Organization", str(organization_id))


def living(state: OrganizationState) -> Organization:
    """The organization, where it exists and is not deleted.

    Raises:
        NotFoundError: it does not, or it is.
    """
    if isinstance(state, Absent) or state.deleted_at is not None or state.purged:
        raise NotFoundError("organization not found")
    return state


def restorable(state: OrganizationState) -> Organization:
    """The organization, where it exists, deleted or not.

    Raises:
        NotFoundError: there never was one, or it is purged.
    """
    if isinstance(state, Absent) or state.purged:
        raise NotFoundError("organization not found")
    return state


def rank_of(organization: Organization, actor: Actor) -> int:
    """How much the actor may do: 0 for nothing, up to 5 for an owner."""
    if actor.user_id is None:
        return RANK.get(actor.permission or "", 0)
    member = organization.members.get(actor.user_id)
    return RANK[member.permission] if member else 0


def require(organization: Organization, actor: Actor, permission: str) -> None:
    """Let through who has at least `permission`.

    Raises:
        EscalationError: the actor has less.
    """
    if rank_of(organization, actor) < RANK[permission]:
        raise EscalationError(f"this needs permission {permission} or more", permission=permission)


def built_in_roles(organization_id: UUID) -> dict[str, Role]:
    """What every organization starts with: a junior is coached and reads, a senior works together, an admin is free."""
    found = (
        ("junior", 1, "Junior", True, READING_TOOLS),
        ("senior", 2, "Senior", False, None),
        ("admin", 3, "Admin", False, None),
    )
    return {
        key: Role(uuid5(organization_id, f"role {key}"), key, level, name, coached, tools, built_in=True)
        for key, level, name, coached, tools in found
    }


def evolve_organization(state: OrganizationState, event: Event) -> OrganizationState:
    """Apply one fact; facts of other kinds change nothing."""
    if isinstance(event, OrganizationCreated):
        return _created(state, event)
    if isinstance(state, Organization) and (step := _STEPS.get(type(event))) is not None:
        return step(state, event)
    return state


def _created(state: OrganizationState, event: OrganizationCreated) -> OrganizationState:
    if isinstance(state, Organization):
        return state
    # Whoever is named here is the first owner, and the built-in roles are there: nothing else has to be told for it.
    return Organization(
        event.organization_id,
        event.slug,
        event.owner_id,
        name=event.name,
        members={event.owner_id: Member(OWNER, "admin")},
        roles=built_in_roles(event.organization_id),
    )


def _updated(state: Organization, event: OrganizationUpdated) -> Organization:
    return msgspec.structs.replace(
        state,
        name=state.name if event.name is None else event.name,
        settings=state.settings if event.settings is None else event.settings,
        region=state.region if event.region is None else event.region,
    )


def _member(state: Organization, user_id: UUID, member: Member | None) -> Organization:
    members = {known: kept for known, kept in state.members.items() if known != user_id}
    if member is not None:
        members[user_id] = member
    return msgspec.structs.replace(state, members=members)


def _added(state: Organization, event: MemberAdded) -> Organization:
    state = _member(state, event.user_id, Member(event.permission, event.org_role))
    if event.invitation_id is None:
        return state
    return msgspec.structs.replace(state, used=state.used | {event.invitation_id})


def _transferred(state: Organization, event: OwnershipTransferred) -> Organization:
    for user_id, permission in ((event.from_user_id, ADMIN), (event.to_user_id, OWNER)):
        if (member := state.members.get(user_id)) is not None:
            state = _member(state, user_id, Member(permission, member.org_role))
    return state


def _role(state: Organization, event: RoleCreated | RoleUpdated) -> Organization:
    known = state.roles.get(event.key)
    role = Role(
        event.role_id,
        event.key,
        event.level,
        event.custom_name,
        event.coaching_mode_enabled,
        None if event.tools is None else tuple(event.tools),
        built_in=known.built_in if known else False,
    )
    return msgspec.structs.replace(state, roles={**state.roles, event.key: role})


def _role_gone(state: Organization, event: RoleDeleted) -> Organization:
    return msgspec.structs.replace(state, roles={k: role for k, role in state.roles.items() if k != event.key})


_replace = msgspec.structs.replace
_STEPS: dict[type[Event], Callable[[Organization, Any], Organization]] = {
    OrganizationUpdated: _updated,
    OrganizationSlugChanged: lambda state, event: _replace(state, slug=event.slug),
    CoachingEnforcementChanged: lambda state, event: _replace(state, coaching_enforcement=event.coaching_enforcement),
    OrganizationDeleted: lambda state, event: _replace(state, deleted_at=event.deleted_at),
    OrganizationRestored: lambda state, _: _replace(state, deleted_at=None),
    OrganizationPurged: lambda state, _: _replace(state, purged=True),
    MemberAdded: _added,
    MemberRoleChanged: lambda state, event: _member(state, event.user_id, Member(event.permission, event.org_role)),
    MemberRemoved: lambda state, event: _member(state, event.user_id, None),
    OwnershipTransferred: _transferred,
    RoleCreated: _role,
    RoleUpdated: _role,
    RoleDeleted: _role_gone,
}
