"""Rules about members: who may add, change and remove whom.  Every organization keeps an owner, whatever happens."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.kernel import DomainError, Event, NotFoundError, Sealed
from domain.organizations.events import MemberAdded, MemberRemoved, MemberRoleChanged, OwnershipTransferred
from domain.organizations.state import (
    MANAGER,
    ORG_ROLE_DEFAULT,
    OWNER,
    PERMISSION_DEFAULT,
    PERMISSIONS,
    RANK,
    Actor,
    EscalationError,
    InvalidFieldError,
    Member,
    Organization,
    OrganizationState,
    living,
    rank_of,
    require,
    restorable,
)

MEMBERS_MAX = 5_000


class LastOwnerError(DomainError):
    """An organization without an owner would belong to nobody."""

    code = "conflict"


class LimitReachedError(DomainError):
    """There may be no more of these."""

    code = "limit_reached"


def add(
    state: OrganizationState,
    *,
    actor: Actor,
    user_id: UUID,
    permission: str = PERMISSION_DEFAULT,
    org_role: str = ORG_ROLE_DEFAULT,
    email: Sealed | None = None,
    name: Sealed | None = None,
    invitation_id: str | None = None,
    at: datetime,
) -> list[Event]:
    """Let a user in.  A member stays what they are: adding them again changes nothing, nor does an invitation used before.

    Raises:
        NotFoundError: there is no such organization.
        EscalationError: the actor may not give this permission.
        InvalidFieldError: there is no such permission or working role.
        LimitReachedError: the organization is full.
    """
    organization = living(state)
    if user_id in organization.members or invitation_id in organization.used:
        return []
    check_grant(organization, actor, permission, org_role)
    if len(organization.members) >= MEMBERS_MAX:
        raise LimitReachedError(f"an organization has at most {MEMBERS_MAX} members", limit=MEMBERS_MAX)
    return [
        MemberAdded(
            user_id=user_id,
            permission=permission,
            org_role=org_role,
            email=email,
            name=name,
            invitation_id=invitation_id,
            added_at=at,
        )
    ]


def check_grant(organization: Organization, actor: Actor, permission: str, org_role: str) -> None:
    """Whether the actor may give these to somebody.

    Raises:
        EscalationError: the actor manages no members, or has less than they would give.
        InvalidFieldError: there is no such permission or working role.
    """
    if permission not in RANK:
        raise InvalidFieldError(f"permission must be one of {', '.join(PERMISSIONS)}", field="permission")
    if org_role not in organization.roles:
        raise InvalidFieldError(f"org_role must be one of {', '.join(sorted(organization.roles))}", field="org_role")
    require(organization, actor, MANAGER)
    if RANK[permission] > rank_of(organization, actor):
        raise EscalationError(f"nobody gives more than they have; {permission} is more", permission=permission)


def change(
    state: OrganizationState,
    *,
    actor: Actor,
    user_id: UUID,
    permission: str | None = None,
    org_role: str | None = None,
    at: datetime,
) -> list[Event]:
    """Give a member another permission or working role; None keeps what there is.

    Raises:
        NotFoundError: there is no such organization or member.
        EscalationError: the member stands above the actor, or would afterwards.
        InvalidFieldError: there is no such permission or working role.
        LastOwnerError: nobody would own the organization.
    """
    organization = living(state)
    member = _present(organization, user_id)
    wanted = Member(permission or member.permission, org_role or member.org_role)
    check_grant(organization, actor, wanted.permission, wanted.org_role)
    _check_below(organization, actor, member)
    if wanted == member:
        return []
    if wanted.permission != OWNER:
        _check_not_last(organization, member)
    return [
        MemberRoleChanged(
            user_id=user_id,
            permission=wanted.permission,
            org_role=wanted.org_role,
            permission_before=member.permission,
            org_role_before=member.org_role,
            changed_at=at,
        )
    ]


def remove(state: OrganizationState, *, actor: Actor, user_id: UUID, at: datetime) -> list[Event]:
    """End a membership.  Everybody may leave; to remove somebody else one must not stand below them.

    Raises:
        NotFoundError: there is no such organization or member.
        EscalationError: the member stands above the actor, or the actor manages no members.
        LastOwnerError: nobody would own the organization.
    """
    organization = living(state)
    member = _present(organization, user_id)
    _check_removes(organization, actor, user_id, member)
    _check_not_last(organization, member)
    return [MemberRemoved(user_id=user_id, removed_at=at)]


def leave_for_good(state: OrganizationState, *, actor: Actor, user_id: UUID, at: datetime) -> list[Event]:
    """As `remove`, because the account ends: also in a deleted organization, which whoever restores it gives an owner.

    Raises:
        NotFoundError: there is no such organization or member, or it is purged.
        EscalationError, LastOwnerError: as `remove`.
    """
    organization = restorable(state)
    if organization.deleted_at is None:
        return remove(state, actor=actor, user_id=user_id, at=at)
    _check_removes(organization, actor, user_id, _present(organization, user_id))
    return [MemberRemoved(user_id=user_id, removed_at=at)]


def lift(organization: Organization, user_id: UUID, email: Sealed | None, name: Sealed | None, at: datetime) -> Event:
    """What makes the user an owner, whether they belong to the organization already or not."""
    if (member := organization.members.get(user_id)) is not None:
        return MemberRoleChanged(
            user_id=user_id,
            permission=OWNER,
            org_role=member.org_role,
            permission_before=member.permission,
            org_role_before=member.org_role,
            changed_at=at,
        )
    return MemberAdded(
        user_id=user_id, permission=OWNER, org_role=ORG_ROLE_DEFAULT, email=email, name=name, added_at=at
    )


def transfer(state: OrganizationState, *, actor: Actor, to_user_id: UUID, at: datetime) -> list[Event]:
    """Hand the actor's own ownership to another member, and step down to admin.  To oneself changes nothing.

    Raises:
        NotFoundError: there is no such organization or member.
        EscalationError: the actor is no owner.
    """
    organization = living(state)
    require(organization, actor, OWNER)
    giver = organization.members.get(actor.user_id) if actor.user_id is not None else None
    if actor.user_id is None or giver is None:
        raise EscalationError("only a member who is an owner hands ownership over", permission=OWNER)
    _present(organization, to_user_id)
    if actor.user_id == to_user_id:
        return []
    return [OwnershipTransferred(from_user_id=actor.user_id, to_user_id=to_user_id, transferred_at=at)]


def _present(organization: Organization, user_id: UUID) -> Member:
    if (member := organization.members.get(user_id)) is None:
        raise NotFoundError("member not found")
    return member


def _check_removes(organization: Organization, actor: Actor, user_id: UUID, member: Member) -> None:
    if actor.user_id != user_id:
        require(organization, actor, MANAGER)
        _check_below(organization, actor, member)


def _check_below(organization: Organization, actor: Actor, member: Member) -> None:
    if RANK[member.permission] > rank_of(organization, actor):
        raise EscalationError(f"a member with permission {member.permission} stands above you")


def _check_not_last(organization: Organization, member: Member) -> None:
    if member.permission == OWNER and organization.owners() == 1:
        raise LastOwnerError("the last owner cannot leave, be removed or step down; transfer ownership first")
