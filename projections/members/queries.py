"""Memberships, members and working roles to look at, now and as they were."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from domain.organizations.state import ORG_ROLE_DEFAULT, PERMISSIONS, RANK, organization_stream
from eventstore.database import Pool, tenant
from eventstore.port import EventStore
from eventstore.sealing import KeyRing, SealBrokenError, unboxed
from projections.members.fold import MEMBER_BOXES, MEMBERS, ORG_ROLES, PROJECTION, TENANTS, MemberRow, OrgRoleRow
from projections.paging import Paging, page_of
from projections.past import rows_at

_SLUG = re.compile(r"[a-z0-9-]{1,63}")
MEMBERSHIPS_MAX = 1_000  # organizations of one user told at once


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """What a user is in one organization."""

    org_id: UUID
    slug: str
    permission: str
    org_role: str
    name: str


class MemberFound(msgspec.Struct, frozen=True, kw_only=True):
    """A member with their texts opened; None where nobody told them, or the person was erased."""

    row: MemberRow
    email: str | None
    name: str | None


class RoleInForce(msgspec.Struct, frozen=True, kw_only=True):
    """The working role of one member, and how strictly it holds.  `user_id` None: the role is what a stranger would get."""

    user_id: UUID | None
    permission: str | None
    role: OrgRoleRow
    coaching_enforcement: str


_COLUMNS = """
SELECT t.org_id, t.slug, m.permission, m.org_role, t.name
  FROM crewkit.member m JOIN crewkit.tenant t ON t.org_id = m.org_id
 WHERE m.user_id = $1 AND m.removed_at IS NULL AND t.deleted_at IS NULL AND t.purged_at IS NULL
"""
_BY_ID = _COLUMNS + " AND m.org_id = $2"
_BY_SLUG = _COLUMNS + " AND t.slug = $2"
_ALL = _COLUMNS + " ORDER BY t.slug, t.org_id LIMIT $2"


async def find_membership(pool: Pool, organization: str, user_id: UUID) -> Membership | None:
    """What the user is in the organization of that slug or id; None where they are nothing, or it is deleted.

    Raises:
        asyncpg.PostgresError, OSError: the database cannot answer.
    """
    org_id = _as_id(organization)
    if org_id is None and not _SLUG.fullmatch(organization):
        return None  # not even asked for: a path may hold what Postgres cannot store
    found = await _as_user(pool, user_id, _BY_SLUG if org_id is None else _BY_ID, org_id or organization)
    return found[0] if found else None


async def organizations_of(pool: Pool, user_id: UUID) -> list[Membership]:
    """Every organization the user belongs to, by slug, at most `MEMBERSHIPS_MAX`; deleted ones left out.

    Raises:
        asyncpg.PostgresError, OSError: the database cannot answer.
    """
    return await _as_user(pool, user_id, _ALL, MEMBERSHIPS_MAX)


async def organizations_ever(pool: Pool, user_id: UUID) -> list[UUID]:
    """Every organization the user was ever a member of, at most `MEMBERSHIPS_MAX`.

    Raises:
        asyncpg.PostgresError, OSError: the database cannot answer.
    """
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute("SELECT set_config('crewkit.user_id', $1, true)", str(user_id))
        rows = await connection.fetch(
            "SELECT DISTINCT org_id FROM crewkit.member WHERE user_id = $1 ORDER BY org_id LIMIT $2",
            user_id,
            MEMBERSHIPS_MAX,
        )
    return [row["org_id"] for row in rows]


async def _as_user(pool: Pool, user_id: UUID, sql: str, given: Any) -> list[Membership]:
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute("SELECT set_config('crewkit.user_id', $1, true)", str(user_id))
        rows = await connection.fetch(sql, user_id, given)
    return [Membership(**row) for row in rows]


def _as_id(organization: str) -> UUID | None:
    try:
        return UUID(organization)
    except ValueError:
        return None


_RANKS = "array_position(ARRAY[" + ", ".join(f"'{name}'" for name in PERMISSIONS) + "], m.permission)"
MEMBER_SORTS = {
    "added_at": "m.added_at",
    "changed_at": "m.changed_at",
    "permission": _RANKS,
    "org_role": "m.org_role",
}
MEMBER_KEYS: dict[str, Callable[[MemberRow], Any]] = {
    "m.added_at": lambda row: row.added_at,
    "m.changed_at": lambda row: row.changed_at,
    _RANKS: lambda row: RANK[row.permission],
    "m.org_role": lambda row: row.org_role,
}
ROLE_SORTS = {"level": "r.level", "key": "r.key", "created_at": "r.created_at"}

_MEMBER_COLUMNS = ", ".join(f"m.{name}" for name in MEMBERS.columns)
_ROLE_COLUMNS = ", ".join(f"r.{name}" for name in ORG_ROLES.columns)
_MEMBERS = f"""
SELECT {_MEMBER_COLUMNS} FROM crewkit.member m
 WHERE m.org_id = $1 AND m.removed_at IS NULL
   AND ($2::text IS NULL OR m.permission = $2) AND ($3::text IS NULL OR m.org_role = $3)
"""  # noqa: S608
_MEMBER = (
    f"SELECT {_MEMBER_COLUMNS} FROM crewkit.member m WHERE m.org_id = $1 AND m.user_id = $2 AND m.removed_at IS NULL"  # noqa: S608
)
_ROLES = f"SELECT {_ROLE_COLUMNS} FROM crewkit.org_role r WHERE r.org_id = $1 AND r.deleted_at IS NULL"  # noqa: S608


async def members(
    pool: Pool, ring: KeyRing, org_id: UUID, paging: Paging, *, permission: str | None, org_role: str | None
) -> tuple[list[MemberFound], int]:
    """A page of the organization's members, and how many match."""
    async with tenant(pool, org_id) as connection:
        found, total = await page_of(connection, _MEMBERS, (org_id, permission, org_role), paging)
    return await opened(ring, org_id, [MemberRow(**row) for row in found]), total


async def members_at(
    store: EventStore,
    ring: KeyRing,
    org_id: UUID,
    paging: Paging,
    until: int,
    *,
    permission: str | None,
    org_role: str | None,
) -> tuple[list[MemberFound], int]:
    """The same page as of a position of the log."""
    rows = await rows_at(store, org_id, organization_stream(org_id), PROJECTION, until=until)
    found = [
        row
        for row in rows.all(MEMBERS)
        if row.removed_at is None and permission in {None, row.permission} and org_role in {None, row.org_role}
    ]
    key = MEMBER_KEYS[paging.order]
    found.sort(key=lambda row: (key(row), row.user_id), reverse=paging.descending)
    return await opened(ring, org_id, paging.cut(found)), len(found)


async def member(pool: Pool, ring: KeyRing, org_id: UUID, user_id: UUID) -> MemberFound | None:
    """One member."""
    async with tenant(pool, org_id) as connection:
        row = await connection.fetchrow(_MEMBER, org_id, user_id)
    return (await opened(ring, org_id, [MemberRow(**row)]))[0] if row else None


async def member_at(
    store: EventStore, ring: KeyRing, org_id: UUID, user_id: UUID, until: int | None
) -> MemberFound | None:
    """One member as of a position of the log, or as the stream says now."""
    rows = await rows_at(store, org_id, organization_stream(org_id), PROJECTION, until=until)
    row = rows.get(MEMBERS, (org_id, user_id))
    return (await opened(ring, org_id, [row]))[0] if row is not None and row.removed_at is None else None


async def opened(ring: KeyRing, org_id: UUID, rows: Sequence[MemberRow]) -> list[MemberFound]:
    """The rows with their e-mails and names opened."""
    boxes = [unboxed(box) for row in rows for box in (row.email_box, row.name_box) if box is not None]
    await ring.load(org_id, {sealed.subject for sealed in boxes})

    def text(box: str | None) -> str | None:
        try:
            return None if box is None else ring.open(org_id, MEMBER_BOXES, unboxed(box))
        except SealBrokenError:
            return None

    return [MemberFound(row=row, email=text(row.email_box), name=text(row.name_box)) for row in rows]


async def roles(pool: Pool, org_id: UUID, paging: Paging) -> tuple[list[OrgRoleRow], int]:
    """A page of the organization's working roles, and how many there are."""
    async with tenant(pool, org_id) as connection:
        found, total = await page_of(connection, _ROLES, (org_id,), paging)
    return [OrgRoleRow(**row) for row in found], total


async def roles_at(store: EventStore, org_id: UUID, until: int | None) -> list[OrgRoleRow]:
    """All working roles as of a position of the log, or as the stream says now, the lowest level first."""
    rows = await rows_at(store, org_id, organization_stream(org_id), PROJECTION, until=until)
    found = [row for row in rows.all(ORG_ROLES) if row.deleted_at is None]
    return sorted(found, key=lambda row: (row.level, row.role_id))


async def role_in_force(pool: Pool, org_id: UUID, user_id: UUID | None) -> RoleInForce | None:
    """Which working role holds for a user now, and how strictly; None where there is no such organization.

    Without a user, or for somebody who is no member: the role that members get by default.
    """
    async with tenant(pool, org_id) as connection:
        strict = await connection.fetchval("SELECT coaching_enforcement FROM crewkit.tenant WHERE org_id = $1", org_id)
        found = await connection.fetchrow(_MEMBER, org_id, user_id)
        roles = [OrgRoleRow(**row) for row in await connection.fetch(_ROLES, org_id)]
    return _in_force(strict, MemberRow(**found) if found else None, roles)


async def role_in_force_at(store: EventStore, org_id: UUID, user_id: UUID | None, until: int) -> RoleInForce | None:
    """The same as of a position of the log."""
    rows = await rows_at(store, org_id, organization_stream(org_id), PROJECTION, until=until)
    organization = rows.get(TENANTS, (org_id,))
    row = rows.get(MEMBERS, (org_id, user_id)) if user_id is not None else None
    return _in_force(
        organization.coaching_enforcement if organization else None,
        row if row is not None and row.removed_at is None else None,
        [role for role in rows.all(ORG_ROLES) if role.deleted_at is None],
    )


def _in_force(strict: str | None, row: MemberRow | None, roles: Sequence[OrgRoleRow]) -> RoleInForce | None:
    by_key = {role.key: role for role in roles}
    role = by_key.get(row.org_role if row else ORG_ROLE_DEFAULT) or by_key.get(ORG_ROLE_DEFAULT)
    if strict is None or role is None:
        return None
    return RoleInForce(
        user_id=row.user_id if row else None,
        permission=row.permission if row else None,
        role=role,
        coaching_enforcement=strict,
    )
