"""The register of the installation: which organizations there are, and whose a project is.  These are the platform's own
tables, of what staff need in order to find something; what is inside an organization is read under that organization, after a
note that its auditor can see.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from domain.kernel import PLATFORM
from domain.organizations.events import (
    OrganizationCreated,
    OrganizationDeleted,
    OrganizationPurged,
    OrganizationRestored,
    OrganizationSlugChanged,
    OrganizationUpdated,
)
from domain.organizations.state import REGION_DEFAULT
from domain.projects.events import ProjectCreated, ProjectDeleted, ProjectPurged, ProjectRestored
from eventstore.database import tenant
from eventstore.port import Recorded
from projections.base import Key, Projection, Rows, Table
from projections.paging import Paging, page_of

SORTS = {"slug": "slug", "name": "name", "created_at": "created_at", "status": "status"}
TIE = "tenant_id"
STATUSES = ("active", "deleted", "purged")


class RegisterRow(msgspec.Struct, kw_only=True):
    """One organization as the installation knows it.  `org_id` is `PLATFORM`: the row belongs to the platform."""

    tenant_id: UUID
    org_id: UUID = PLATFORM
    slug: str
    name: str
    region: str = REGION_DEFAULT
    status: str = "active"
    created_at: datetime
    deleted_at: datetime | None = None
    purged_at: datetime | None = None


class ProjectOwnerRow(msgspec.Struct, kw_only=True):
    """Whose a project is, and whether it is there.  `org_id` is `PLATFORM`."""

    project_id: UUID
    org_id: UUID = PLATFORM
    tenant_id: UUID
    status: str = "active"


REGISTER = Table("platform_organization", RegisterRow, ("tenant_id",))
PROJECTS = Table("platform_project", ProjectOwnerRow, ("project_id",))

DDL = """
CREATE TABLE crewkit.platform_organization__g{g} (
    tenant_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    slug text NOT NULL,
    name text NOT NULL,
    region text NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    purged_at timestamptz
);
CREATE INDEX platform_organization__g{g}_slug ON crewkit.platform_organization__g{g} (slug);
CREATE TABLE crewkit.platform_project__g{g} (
    project_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    status text NOT NULL
);
"""


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The one row an event is about."""
    match recorded.event:
        case (
            ProjectCreated(project_id=project_id)
            | ProjectDeleted(project_id=project_id)
            | ProjectRestored(project_id=project_id)
            | ProjectPurged(project_id=project_id)
        ):
            return ((PROJECTS, (project_id,)),)
        case _:
            return ((REGISTER, (recorded.org_id,)),)


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    match recorded.event:
        case ProjectCreated(project_id=project_id):
            if rows.get(PROJECTS, (project_id,)) is None:
                rows.put(PROJECTS, ProjectOwnerRow(project_id=project_id, tenant_id=recorded.org_id))
        case ProjectDeleted(project_id=project_id):
            _fold_project(rows, recorded.org_id, project_id, "deleted")
        case ProjectRestored(project_id=project_id):
            _fold_project(rows, recorded.org_id, project_id, "active")
        case ProjectPurged(project_id=project_id):
            _fold_project(rows, recorded.org_id, project_id, "purged")
        case _:
            _fold_organization(rows, recorded)


def _fold_project(rows: Rows, org_id: UUID, project_id: UUID, status: str) -> None:
    row = rows.get(PROJECTS, (project_id,))
    if row is not None and row.tenant_id == org_id:  # another tenant's project of the same id can never be moved
        row.status = status
        rows.put(PROJECTS, row)


def _fold_organization(rows: Rows, recorded: Recorded) -> None:
    event, row = recorded.event, rows.get(REGISTER, (recorded.org_id,))
    if isinstance(event, OrganizationCreated):
        if row is None:
            rows.put(
                REGISTER,
                RegisterRow(tenant_id=recorded.org_id, slug=event.slug, name=event.name, created_at=event.created_at),
            )
        return
    if row is None:
        return
    match event:
        case OrganizationUpdated(name=name, region=region):
            row.name, row.region = name or row.name, region or row.region
        case OrganizationSlugChanged(slug=slug):
            row.slug = slug
        case OrganizationDeleted(deleted_at=at):
            row.status, row.deleted_at = "deleted", at
        case OrganizationRestored():
            row.status, row.deleted_at = "active", None
        case OrganizationPurged(purged_at=at):
            row.status, row.purged_at, row.name = "purged", at, ""
        case _:
            return
    rows.put(REGISTER, row)


PROJECTION = Projection(
    "admin",
    2,
    tables=(REGISTER, PROJECTS),
    ddl=DDL,
    touches=touches,
    fold=fold,
    reads=(
        OrganizationCreated,
        OrganizationUpdated,
        OrganizationSlugChanged,
        OrganizationDeleted,
        OrganizationRestored,
        OrganizationPurged,
        ProjectCreated,
        ProjectDeleted,
        ProjectRestored,
        ProjectPurged,
    ),
)

_COLUMNS = ", ".join(REGISTER.columns)
_LIST = f"""
SELECT {_COLUMNS} FROM crewkit.platform_organization
 WHERE ($1::text IS NULL OR status = $1)
   AND ($2::text IS NULL OR strpos(lower(slug), lower($2)) > 0 OR strpos(lower(name), lower($2)) > 0)
"""  # noqa: S608
# A slug may be free again after its organization was purged: the one that is alive comes first.
_FIND = f"""
SELECT {_COLUMNS} FROM crewkit.platform_organization WHERE tenant_id = $1 OR slug = $2
 ORDER BY purged_at IS NOT NULL, purged_at DESC, tenant_id LIMIT 1
"""  # noqa: S608


async def organizations(
    pool: asyncpg.Pool[asyncpg.Record], paging: Paging, *, status: str | None, text: str | None
) -> tuple[list[RegisterRow], int]:
    """A page of all organizations, with `text` in slug or name, and how many there are."""
    async with tenant(pool, PLATFORM) as connection:
        found, total = await page_of(connection, _LIST, (status, text), paging)
    return [RegisterRow(**dict(row)) for row in found], total


async def find_organization(pool: asyncpg.Pool[asyncpg.Record], name: str) -> RegisterRow | None:
    """The organization of that slug or id, also a deleted or purged one."""
    try:
        org_id = UUID(name)
    except ValueError:
        org_id = None
    async with tenant(pool, PLATFORM) as connection:
        row = await connection.fetchrow(_FIND, org_id, name)
    return RegisterRow(**dict(row)) if row else None


async def find_project(pool: asyncpg.Pool[asyncpg.Record], project_id: UUID) -> ProjectOwnerRow | None:
    """Whose the project is, also a deleted or purged one's."""
    async with tenant(pool, PLATFORM) as connection:
        row = await connection.fetchrow(
            "SELECT project_id, org_id, tenant_id, status FROM crewkit.platform_project WHERE project_id = $1",
            project_id,
        )
    return ProjectOwnerRow(**dict(row)) if row else None


class Inside(msgspec.Struct, frozen=True, kw_only=True):
    """What an organization holds, in numbers."""

    members: dict[str, int]
    api_keys: int
    coaching_enforcement: str | None


async def inside(pool: asyncpg.Pool[asyncpg.Record], org_id: UUID) -> Inside:
    """Members by permission, working keys, and how strictly working roles hold; read as that organization."""
    async with tenant(pool, org_id) as connection:
        members = await connection.fetch(
            """SELECT permission, count(*) AS number FROM crewkit.member
                WHERE org_id = $1 AND removed_at IS NULL GROUP BY permission ORDER BY permission""",
            org_id,
        )
        keys = await connection.fetchval(
            """SELECT count(*) FROM crewkit.api_key WHERE org_id = $1 AND revoked_at IS NULL
                AND (expires_at IS NULL OR expires_at > clock_timestamp())""",
            org_id,
        )
        coaching = await connection.fetchval(
            "SELECT coaching_enforcement FROM crewkit.tenant WHERE org_id = $1", org_id
        )
    return Inside(
        members={row["permission"]: row["number"] for row in members}, api_keys=keys, coaching_enforcement=coaching
    )
