"""What an organization is made of: the fold from its stream to tenants, members and working roles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.kernel import Event, Sealed, tag_of
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
    SubjectShredded,
)
from domain.organizations.state import ADMIN, OWNER, REGION_DEFAULT, SOFT, built_in_roles
from eventstore.port import Recorded
from projections.base import Key, Projection, Rows, Table


class TenantRow(msgspec.Struct, kw_only=True):
    """One organization.  `deleted_at`: hidden and refusing everything; `purged_at`: gone."""

    org_id: UUID
    slug: str
    name: str
    region: str = REGION_DEFAULT
    coaching_enforcement: str = SOFT
    settings: dict[str, Any] = {}
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None
    purged_at: datetime | None = None


class MemberRow(msgspec.Struct, kw_only=True):
    """One user in one organization.  Boxes are ciphertext sealed in an event of type `member.added.v1`."""

    org_id: UUID
    user_id: UUID
    permission: str
    org_role: str
    email_box: str | None = None
    name_box: str | None = None
    added_at: datetime
    changed_at: datetime
    removed_at: datetime | None = None


class OrgRoleRow(msgspec.Struct, kw_only=True):
    """One working role.  `tools` None: all."""

    org_id: UUID
    role_id: UUID
    key: str
    level: int
    custom_name: str
    coaching_mode_enabled: bool
    tools: list[str] | None = None
    built_in: bool = False
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None


TENANTS = Table("tenant", TenantRow, ("org_id",))
MEMBERS = Table("member", MemberRow, ("org_id", "user_id"))
ORG_ROLES = Table("org_role", OrgRoleRow, ("org_id", "role_id"))

# The guard does not know the tenant yet, only the user: rows of memberships are also visible to whom they are about, and so
# are the organizations these name.  The transaction says who that is; nothing else widens what a tenant sees.
DDL = """
CREATE TABLE crewkit.tenant__g{g} (
    org_id uuid PRIMARY KEY,
    slug text NOT NULL,
    name text NOT NULL,
    region text NOT NULL,
    coaching_enforcement text NOT NULL,
    settings jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    purged_at timestamptz
);
CREATE INDEX tenant__g{g}_slug ON crewkit.tenant__g{g} (slug);
CREATE INDEX tenant__g{g}_deleted ON crewkit.tenant__g{g} (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE TABLE crewkit.member__g{g} (
    org_id uuid NOT NULL,
    user_id uuid NOT NULL,
    permission text NOT NULL,
    org_role text NOT NULL,
    email_box text,
    name_box text,
    added_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz,
    PRIMARY KEY (org_id, user_id)
);
CREATE TABLE crewkit.org_role__g{g} (
    org_id uuid NOT NULL,
    role_id uuid NOT NULL,
    key text NOT NULL,
    level integer NOT NULL,
    custom_name text NOT NULL,
    coaching_mode_enabled boolean NOT NULL,
    tools text[],
    built_in boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (org_id, role_id)
);
CREATE INDEX member__g{g}_user ON crewkit.member__g{g} (user_id) WHERE removed_at IS NULL;
CREATE POLICY oneself ON crewkit.member__g{g} FOR SELECT TO crewkit_api
    USING (user_id = nullif(current_setting('crewkit.user_id', true), '')::uuid);
CREATE POLICY own_memberships ON crewkit.tenant__g{g} FOR SELECT TO crewkit_api
    USING (EXISTS (SELECT FROM crewkit.member__g{g} m
                    WHERE m.org_id = tenant__g{g}.org_id AND m.removed_at IS NULL
                      AND m.user_id = nullif(current_setting('crewkit.user_id', true), '')::uuid));
"""


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The rows an event is about."""
    org_id, event = recorded.org_id, recorded.event
    match event:
        case OrganizationCreated(owner_id=owner_id):
            roles = [(ORG_ROLES, (org_id, role.role_id)) for role in built_in_roles(org_id).values()]
            return ((TENANTS, (org_id,)), (MEMBERS, (org_id, owner_id)), *roles)
        case MemberAdded(user_id=user_id) | MemberRoleChanged(user_id=user_id) | MemberRemoved(user_id=user_id):
            return ((MEMBERS, (org_id, user_id)),)
        case OwnershipTransferred(from_user_id=giver, to_user_id=taker):
            return ((MEMBERS, (org_id, giver)), (MEMBERS, (org_id, taker)))
        case RoleCreated(role_id=role_id) | RoleUpdated(role_id=role_id) | RoleDeleted(role_id=role_id):
            return ((ORG_ROLES, (org_id, role_id)),)
        case SubjectShredded(person_id=person_id):
            return ((MEMBERS, (org_id, person_id)),)
        case _:
            return ((TENANTS, (org_id,)),)


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    if (step := _STEPS.get(type(recorded.event))) is not None:
        step(rows, recorded.org_id, recorded.event)


def _created(rows: Rows, org_id: UUID, event: OrganizationCreated) -> None:
    if rows.get(TENANTS, (org_id,)) is not None:
        return
    at = event.created_at
    rows.put(TENANTS, TenantRow(org_id=org_id, slug=event.slug, name=event.name, created_at=at, updated_at=at))
    _put_member(rows, org_id, event.owner_id, OWNER, "admin", at)
    for role in built_in_roles(org_id).values():
        rows.put(
            ORG_ROLES,
            OrgRoleRow(
                org_id=org_id,
                role_id=role.role_id,
                key=role.key,
                level=role.level,
                custom_name=role.custom_name,
                coaching_mode_enabled=role.coaching_mode_enabled,
                tools=None if role.tools is None else list(role.tools),
                built_in=True,
                created_at=at,
                updated_at=at,
            ),
        )


def _tenant(rows: Rows, org_id: UUID, at: datetime | None, **changes: Any) -> None:
    if (row := rows.get(TENANTS, (org_id,))) is None:
        return
    for name, value in changes.items():
        setattr(row, name, value)
    row.updated_at = at or row.updated_at
    rows.put(TENANTS, row)


def _updated(rows: Rows, org_id: UUID, event: OrganizationUpdated) -> None:
    told = {"name": event.name, "settings": event.settings, "region": event.region}
    changes = {name: value for name, value in told.items() if value is not None}
    _tenant(rows, org_id, event.updated_at, **changes)


def _put_member(rows: Rows, org_id: UUID, user_id: UUID, permission: str, org_role: str, at: datetime) -> MemberRow:
    row = rows.get(MEMBERS, (org_id, user_id))
    if row is None or row.removed_at is not None:
        row = MemberRow(
            org_id=org_id, user_id=user_id, permission=permission, org_role=org_role, added_at=at, changed_at=at
        )
    row.permission, row.org_role, row.changed_at = permission, org_role, at
    rows.put(MEMBERS, row)
    return row


def _added(rows: Rows, org_id: UUID, event: MemberAdded) -> None:
    row = _put_member(rows, org_id, event.user_id, event.permission, event.org_role, event.added_at)
    row.email_box = _box(event.email) or row.email_box
    row.name_box = _box(event.name) or row.name_box
    rows.put(MEMBERS, row)


def _changed(rows: Rows, org_id: UUID, event: MemberRoleChanged) -> None:
    _put_member(rows, org_id, event.user_id, event.permission, event.org_role, event.changed_at)


def _removed(rows: Rows, org_id: UUID, event: MemberRemoved) -> None:
    if (row := rows.get(MEMBERS, (org_id, event.user_id))) is not None:
        row.removed_at = row.changed_at = event.removed_at
        row.email_box = row.name_box = None
        rows.put(MEMBERS, row)


def _transferred(rows: Rows, org_id: UUID, event: OwnershipTransferred) -> None:
    for user_id, permission in ((event.from_user_id, ADMIN), (event.to_user_id, OWNER)):
        if (row := rows.get(MEMBERS, (org_id, user_id))) is not None:
            row.permission, row.changed_at = permission, event.transferred_at
            rows.put(MEMBERS, row)


def _shredded(rows: Rows, org_id: UUID, event: SubjectShredded) -> None:
    if (row := rows.get(MEMBERS, (org_id, event.person_id))) is not None:
        row.email_box = row.name_box = None
        rows.put(MEMBERS, row)


def _role(rows: Rows, org_id: UUID, event: RoleCreated | RoleUpdated) -> None:
    known = rows.get(ORG_ROLES, (org_id, event.role_id))
    at = event.created_at if isinstance(event, RoleCreated) else event.updated_at
    row = OrgRoleRow(
        org_id=org_id,
        role_id=event.role_id,
        key=event.key,
        level=event.level,
        custom_name=event.custom_name,
        coaching_mode_enabled=event.coaching_mode_enabled,
        tools=event.tools,
        built_in=known.built_in if known else False,
        created_at=known.created_at if known else at,
        updated_at=at,
    )
    rows.put(ORG_ROLES, row)


def _role_gone(rows: Rows, org_id: UUID, event: RoleDeleted) -> None:
    if (row := rows.get(ORG_ROLES, (org_id, event.role_id))) is not None:
        row.deleted_at = event.deleted_at
        rows.put(ORG_ROLES, row)


def _box(sealed: Sealed | None) -> str | None:
    return sealed.box if sealed else None


_STEPS: dict[type[Event], Callable[[Rows, UUID, Any], None]] = {
    OrganizationCreated: _created,
    OrganizationUpdated: _updated,
    OrganizationSlugChanged: lambda rows, org_id, event: _tenant(rows, org_id, event.changed_at, slug=event.slug),
    CoachingEnforcementChanged: lambda rows, org_id, event: _tenant(
        rows, org_id, event.changed_at, coaching_enforcement=event.coaching_enforcement
    ),
    OrganizationDeleted: lambda rows, org_id, event: _tenant(
        rows, org_id, event.deleted_at, deleted_at=event.deleted_at
    ),
    OrganizationRestored: lambda rows, org_id, event: _tenant(rows, org_id, event.restored_at, deleted_at=None),
    OrganizationPurged: lambda rows, org_id, event: _tenant(
        rows, org_id, event.purged_at, purged_at=event.purged_at, name="", settings={}
    ),
    MemberAdded: _added,
    MemberRoleChanged: _changed,
    MemberRemoved: _removed,
    OwnershipTransferred: _transferred,
    RoleCreated: _role,
    RoleUpdated: _role,
    RoleDeleted: _role_gone,
    SubjectShredded: _shredded,
}

MEMBER_BOXES = tag_of(MemberAdded)  # the event type whose boxes the rows hold

PROJECTION = Projection(
    "members", 2, tables=(TENANTS, MEMBERS, ORG_ROLES), ddl=DDL, touches=touches, fold=fold, reads=tuple(_STEPS)
)
