"""Organizations to look at: one, those of a user, and which are due to be purged.  Their rows are folded by `members`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from domain.organizations.state import organization_stream
from eventstore.database import Connection, tenant
from eventstore.port import EventStore
from projections.members import PROJECTION, TENANTS, TenantRow
from projections.paging import Paging, page_of
from projections.past import rows_at

SORTS = {"slug": "t.slug", "name": "t.name", "created_at": "t.created_at"}
TIE = "t.org_id"
PURGES_MAX = 20  # organizations ended in one run

_COLUMNS = """t.org_id, t.slug, t.name, t.region, t.coaching_enforcement, t.settings, t.created_at, t.updated_at,
       t.deleted_at, t.purged_at"""
_ONE = f"SELECT {_COLUMNS} FROM crewkit.tenant t WHERE t.org_id = $1"  # noqa: S608
_OF_USER = f"""
SELECT {_COLUMNS}, m.permission
  FROM crewkit.tenant t JOIN crewkit.member m ON m.org_id = t.org_id
 WHERE m.user_id = $1 AND m.removed_at IS NULL AND t.deleted_at IS NULL AND t.purged_at IS NULL
"""  # noqa: S608
_DUE = """
SELECT org_id FROM crewkit.tenant
 WHERE deleted_at < $1 AND purged_at IS NULL ORDER BY deleted_at, org_id LIMIT $2
"""
_PURGED = """
(SELECT org_id FROM crewkit.tenant WHERE purged_at IS NOT NULL ORDER BY purged_at DESC, org_id LIMIT $1)
UNION (SELECT org_id FROM crewkit.tenant WHERE purged_at IS NOT NULL ORDER BY random() LIMIT $1)
"""


class Visible(msgspec.Struct, frozen=True, kw_only=True):
    """An organization and what the caller may do in it."""

    row: TenantRow
    permission: str | None


async def find_tenant(pool: asyncpg.Pool[asyncpg.Record], org_id: UUID) -> TenantRow | None:
    """The organization as the read model knows it; None where it does not, or it is deleted."""
    async with tenant(pool, org_id) as connection:
        found = await connection.fetchrow(_ONE, org_id)
    row = _row(found) if found else None
    return row if row is not None and row.deleted_at is None and row.purged_at is None else None


async def tenant_at(store: EventStore, org_id: UUID, until: int | None) -> TenantRow | None:
    """The organization as it was at a position of the log, or as its stream says now; None where it was not there."""
    rows = await rows_at(store, org_id, organization_stream(org_id), PROJECTION, until=until)
    row = rows.get(TENANTS, (org_id,))
    return row if row is not None and row.deleted_at is None and row.purged_at is None else None


async def tenants_of(pool: asyncpg.Pool[asyncpg.Record], user_id: UUID, paging: Paging) -> tuple[list[Visible], int]:
    """A page of the organizations a user belongs to, and how many there are."""
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute("SELECT set_config('crewkit.user_id', $1, true)", str(user_id))
        found, total = await page_of(connection, _OF_USER, (user_id,), paging)
    return [Visible(row=_row(one), permission=one["permission"]) for one in found], total


async def due_for_purge(connection: Connection, deleted_before: datetime) -> list[UUID]:
    """Organizations deleted before then and not purged yet, for a role that sees all."""
    return [row["org_id"] for row in await connection.fetch(_DUE, deleted_before, PURGES_MAX)]


async def to_be_emptied(connection: Connection) -> list[UUID]:
    """Organizations whose end is known: the latest, and as many drawn by lot, so that nothing is left of any for ever.

    For a role that sees all.
    """
    return [row["org_id"] for row in await connection.fetch(_PURGED, PURGES_MAX)]


async def name_taken(pool: asyncpg.Pool[asyncpg.Record], scope: str, key: str) -> bool:
    """Whether somebody holds that name in the whole installation; never whose it is."""
    return bool(await pool.fetchval("SELECT crewkit.claimed($1, $2)", scope, key))


def _row(record: asyncpg.Record) -> TenantRow:
    values = {name: record[name] for name in TENANTS.columns}
    values["settings"] = msgspec.json.decode(values["settings"])
    return TenantRow(**values)
