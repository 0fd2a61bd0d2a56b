"""Projects to look at: one, a page of them, as they were, and the one that a repository belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.kernel import Event, Sealed, tag_of
from domain.projects.decide import project_stream
from domain.projects.events import (
    ProjectCreated,
    ProjectDeleted,
    ProjectPurged,
    ProjectRestored,
    ProjectSlugChanged,
    ProjectStackOverridden,
    ProjectStacksDetected,
    ProjectUpdated,
)
from domain.projects.remotes import names_host
from eventstore.database import Connection, Pool, tenant
from eventstore.port import EventStore, Recorded
from eventstore.sealing import KeyRing, SealBrokenError, unboxed
from projections.base import Key, Projection, Rows, Table
from projections.paging import Paging, page_of
from projections.past import rows_at

PAST_PROJECTS_MAX = 500  # projects of which a past list is made
PAST_AT_ONCE_MAX = 8  # streams read side by side for it
PURGES_MAX = 100


class ProjectRow(msgspec.Struct, kw_only=True):
    """One project.  `description_box` is ciphertext from an event of type `description_tag`."""

    org_id: UUID
    project_id: UUID
    slug: str
    name: str
    description_box: str | None = None
    description_tag: str | None = None
    git_remotes: list[str] = []
    default_branch: str | None = None
    detected_stacks: list[str] = []
    manual_stacks: list[str] | None = None
    created_at: datetime
    updated_at: datetime
    detected_at: datetime | None = None
    deleted_at: datetime | None = None
    purged_at: datetime | None = None
    created_position: int


class ProjectFound(msgspec.Struct, frozen=True, kw_only=True):
    """A project with its description opened; None where there is none, or its writer was erased."""

    row: ProjectRow
    description: str | None


PROJECTS = Table("project", ProjectRow, ("org_id", "project_id"))
DDL = """
CREATE TABLE crewkit.project__g{g} (
    org_id uuid NOT NULL,
    project_id uuid NOT NULL,
    slug text NOT NULL,
    name text NOT NULL,
    description_box text,
    description_tag text,
    git_remotes text[] NOT NULL,
    default_branch text,
    detected_stacks text[] NOT NULL,
    manual_stacks text[],
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    detected_at timestamptz,
    deleted_at timestamptz,
    purged_at timestamptz,
    created_position bigint NOT NULL,
    PRIMARY KEY (org_id, project_id)
);
CREATE INDEX project__g{g}_slug ON crewkit.project__g{g} (org_id, slug);
CREATE INDEX project__g{g}_remotes ON crewkit.project__g{g} USING gin (git_remotes);
CREATE INDEX project__g{g}_deleted ON crewkit.project__g{g} (deleted_at) WHERE deleted_at IS NOT NULL;
"""


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The one row an event is about."""
    return ((PROJECTS, (recorded.org_id, getattr(recorded.event, "project_id", None))),)


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    event = recorded.event
    if isinstance(event, ProjectCreated):
        _created(rows, recorded, event)
        return
    row = rows.get(PROJECTS, (recorded.org_id, getattr(event, "project_id", None)))
    if row is None or (step := _STEPS.get(type(event))) is None:
        return
    step(row, event)
    rows.put(PROJECTS, row)


def _created(rows: Rows, recorded: Recorded, event: ProjectCreated) -> None:
    if rows.get(PROJECTS, (recorded.org_id, event.project_id)) is not None:
        return
    row = ProjectRow(
        org_id=recorded.org_id,
        project_id=event.project_id,
        slug=event.slug,
        name=event.name,
        git_remotes=event.git_remotes,
        default_branch=event.default_branch,
        created_at=event.created_at,
        updated_at=event.created_at,
        created_position=recorded.position,
    )
    _describe(row, event.description, tag_of(ProjectCreated))
    rows.put(PROJECTS, row)


def _describe(row: ProjectRow, description: Sealed | None, tag: str) -> None:
    if description is not None:
        row.description_box, row.description_tag = description.box, tag


def _updated(row: ProjectRow, event: ProjectUpdated) -> None:
    row.name = row.name if event.name is None else event.name
    row.git_remotes = row.git_remotes if event.git_remotes is None else event.git_remotes
    row.default_branch = row.default_branch if event.default_branch is None else event.default_branch
    row.updated_at = event.updated_at
    _describe(row, event.description, tag_of(ProjectUpdated))


def _slug(row: ProjectRow, event: ProjectSlugChanged) -> None:
    row.slug, row.updated_at = event.slug, event.changed_at


def _overridden(row: ProjectRow, event: ProjectStackOverridden) -> None:
    row.manual_stacks, row.updated_at = event.stacks, event.overridden_at


def _detected(row: ProjectRow, event: ProjectStacksDetected) -> None:
    row.detected_stacks, row.detected_at = event.stacks, event.detected_at


def _deleted(row: ProjectRow, event: ProjectDeleted) -> None:
    row.deleted_at = event.deleted_at


def _restored(row: ProjectRow, _: ProjectRestored) -> None:
    row.deleted_at = None


def _purged(row: ProjectRow, event: ProjectPurged) -> None:
    row.purged_at = event.purged_at
    row.name, row.description_box, row.description_tag, row.git_remotes = "", None, None, []


_STEPS: dict[type[Event], Callable[[ProjectRow, Any], None]] = {
    ProjectUpdated: _updated,
    ProjectSlugChanged: _slug,
    ProjectStackOverridden: _overridden,
    ProjectStacksDetected: _detected,
    ProjectDeleted: _deleted,
    ProjectRestored: _restored,
    ProjectPurged: _purged,
}
PROJECTION = Projection(
    "projects", 1, tables=(PROJECTS,), ddl=DDL, touches=touches, fold=fold, reads=(ProjectCreated, *_STEPS)
)

SORTS = {"name": "p.name", "slug": "p.slug", "created_at": "p.created_at", "updated_at": "p.updated_at"}
TIE = "p.project_id"
_COLUMNS = ", ".join(f"p.{name}" for name in PROJECTS.columns)
_LIVING = f"SELECT {_COLUMNS} FROM crewkit.project p WHERE p.org_id = $1 AND p.deleted_at IS NULL"  # noqa: S608
_LIST = _LIVING + " AND ($2::text IS NULL OR $2 = ANY (coalesce(p.manual_stacks, p.detected_stacks)))"
_BY_SLUG = _LIVING + " AND p.slug = $2"
_BY_REMOTE = _LIVING + " AND p.git_remotes @> ARRAY[$2]"
_BY_PATH = _LIVING + " AND EXISTS (SELECT FROM unnest(p.git_remotes) r WHERE r LIKE '%/' || $2) LIMIT 2"
_ID_OF_SLUG = "SELECT project_id FROM crewkit.project WHERE org_id = $1 AND slug = $2 AND purged_at IS NULL"
_THEN = """
SELECT project_id FROM crewkit.project
 WHERE org_id = $1 AND created_position <= $2 AND purged_at IS NULL ORDER BY created_position LIMIT $3
"""
_DUE = """
SELECT org_id, project_id FROM crewkit.project
 WHERE deleted_at < $1 AND purged_at IS NULL ORDER BY deleted_at, project_id LIMIT $2
"""


def stacks_of(row: ProjectRow) -> list[str]:
    """What it is made of: what somebody said, else what was detected."""
    return row.detected_stacks if row.manual_stacks is None else row.manual_stacks


async def project_id_of(pool: Pool, org_id: UUID, named: str) -> UUID | None:
    """The id behind a slug or an id, whether there is such a project or not; None for an unknown slug."""
    try:
        return UUID(named)
    except ValueError:
        pass
    async with tenant(pool, org_id) as connection:
        found: UUID | None = await connection.fetchval(_ID_OF_SLUG, org_id, named)
    return found


async def projects(
    pool: Pool, ring: KeyRing, org_id: UUID, paging: Paging, *, stack: str | None
) -> tuple[list[ProjectFound], int]:
    """A page of the organization's projects, and how many match."""
    async with tenant(pool, org_id) as connection:
        found, total = await page_of(connection, _LIST, (org_id, stack), paging)
    return await opened(ring, org_id, [ProjectRow(**row) for row in found]), total


async def projects_at(
    store: EventStore, pool: Pool, ring: KeyRing, org_id: UUID, paging: Paging, until: int, *, stack: str | None
) -> tuple[list[ProjectFound], int]:
    """The same page as of a position of the log, made of the first `PAST_PROJECTS_MAX` projects."""
    async with tenant(pool, org_id) as connection:
        ids = [row["project_id"] for row in await connection.fetch(_THEN, org_id, until, PAST_PROJECTS_MAX)]
    rows: list[ProjectRow] = []
    for start in range(0, len(ids), PAST_AT_ONCE_MAX):
        some = ids[start : start + PAST_AT_ONCE_MAX]
        rows += [row for row in await asyncio.gather(*(_row_at(store, org_id, one, until) for one in some)) if row]
    rows = [row for row in rows if stack is None or stack in stacks_of(row)]
    column = paging.order.removeprefix("p.")
    rows.sort(key=lambda row: (getattr(row, column), row.project_id), reverse=paging.descending)
    return await opened(ring, org_id, paging.cut(rows)), len(rows)


async def project(pool: Pool, ring: KeyRing, org_id: UUID, named: str) -> ProjectFound | None:
    """One project, by slug or id."""
    try:
        sql, given = _LIVING + " AND p.project_id = $2", UUID(named)
    except ValueError:
        return await _one(pool, ring, org_id, _BY_SLUG, named)
    return await _one(pool, ring, org_id, sql, given)


async def project_at(
    store: EventStore, ring: KeyRing, org_id: UUID, project_id: UUID, until: int | None
) -> ProjectFound | None:
    """One project as of a position of the log, or as its stream says now."""
    row = await _row_at(store, org_id, project_id, until)
    return (await opened(ring, org_id, [row]))[0] if row else None


async def project_of_remote(pool: Pool, ring: KeyRing, org_id: UUID, remote: str) -> ProjectFound | None:
    """The project of a normalized repository; where no host is named, the only one whose path ends so."""
    if names_host(remote):
        return await _one(pool, ring, org_id, _BY_REMOTE, remote)
    async with tenant(pool, org_id) as connection:
        found = await connection.fetch(_BY_PATH, org_id, _escaped(remote))
    return (await opened(ring, org_id, [ProjectRow(**found[0])]))[0] if len(found) == 1 else None


async def due_for_purge(connection: Connection, deleted_before: datetime) -> list[tuple[UUID, UUID]]:
    """Projects deleted before then and not purged yet, for a role that sees all."""
    return [(row["org_id"], row["project_id"]) for row in await connection.fetch(_DUE, deleted_before, PURGES_MAX)]


async def opened(ring: KeyRing, org_id: UUID, rows: Sequence[ProjectRow]) -> list[ProjectFound]:
    """The rows with their descriptions opened."""
    await ring.load(org_id, {unboxed(row.description_box).subject for row in rows if row.description_box})

    def text(row: ProjectRow) -> str | None:
        try:
            box, tag = row.description_box, row.description_tag
            return None if box is None or tag is None else ring.open(org_id, tag, unboxed(box))
        except SealBrokenError:
            return None

    return [ProjectFound(row=row, description=text(row)) for row in rows]


async def _row_at(store: EventStore, org_id: UUID, project_id: UUID, until: int | None) -> ProjectRow | None:
    rows = await rows_at(store, org_id, project_stream(project_id), PROJECTION, until=until)
    row = rows.get(PROJECTS, (org_id, project_id))
    return row if row is not None and row.deleted_at is None and row.purged_at is None else None


async def _one(pool: Pool, ring: KeyRing, org_id: UUID, sql: str, given: Any) -> ProjectFound | None:
    async with tenant(pool, org_id) as connection:
        row = await connection.fetchrow(sql, org_id, given)
    return (await opened(ring, org_id, [ProjectRow(**row)]))[0] if row else None


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
