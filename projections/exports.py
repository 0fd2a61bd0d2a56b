"""Exports of analytics rows: what is asked for, what can be fetched, what is over, and what an erasure made outdated."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.exports.events import ExportCompleted, ExportExpired, ExportFailed, ExportRequested
from domain.organizations.events import SubjectShredded
from eventstore.database import Connection, Pool, tenant
from eventstore.port import Recorded
from projections.base import Key, Projection, Rows, Table

LISTED_MAX = 100


class ExportRow(msgspec.Struct, kw_only=True):
    """One export.  `status` is `requested`, `ready`, `failed` or `expired`; `reason` says why in the last two."""

    org_id: UUID
    export_id: UUID
    status: str = "requested"
    reason: str | None = None
    format: str
    partition: str
    tables: list[str]
    since: datetime | None = None
    base: UUID | None = None
    until: int
    requested_by: str
    requested_at: datetime
    position: int | None = None
    rows: int | None = None
    files: int | None = None
    partial: bool = False
    size_bytes: int | None = None
    sha256: str | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None


class ErasureRow(msgspec.Struct, kw_only=True):
    """Up to which position an organization's people were erased: files that know less show somebody who is gone."""

    org_id: UUID
    position: int


EXPORTS = Table("export", ExportRow, ("org_id", "export_id"))
ERASURES = Table("export_erasure", ErasureRow, ("org_id",))
DDL = """
CREATE TABLE crewkit.export__g{g} (
    org_id uuid NOT NULL,
    export_id uuid NOT NULL,
    status text NOT NULL,
    reason text,
    format text NOT NULL,
    partition text NOT NULL,
    tables text[] NOT NULL,
    since timestamptz,
    base uuid,
    until bigint NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    position bigint,
    rows bigint,
    files bigint,
    partial boolean NOT NULL,
    size_bytes bigint,
    sha256 text,
    completed_at timestamptz,
    expires_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (org_id, export_id)
);
CREATE INDEX export__g{g}_status ON crewkit.export__g{g} (status, requested_at) WHERE status IN ('requested', 'ready');
CREATE TABLE crewkit.export_erasure__g{g} (
    org_id uuid NOT NULL PRIMARY KEY,
    position bigint NOT NULL
);
"""
_OURS = (ExportRequested, ExportCompleted, ExportFailed, ExportExpired)
READS = (*_OURS, SubjectShredded)


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The one row an event is about."""
    event = recorded.event
    if isinstance(event, SubjectShredded):
        return ((ERASURES, (recorded.org_id,)),)
    return ((EXPORTS, (recorded.org_id, event.export_id)),) if isinstance(event, _OURS) else ()


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    event, org_id = recorded.event, recorded.org_id
    if isinstance(event, SubjectShredded):
        rows.put(ERASURES, ErasureRow(org_id=org_id, position=recorded.position))
        return
    if isinstance(event, ExportRequested):
        if rows.get(EXPORTS, (org_id, event.export_id)) is None:
            rows.put(EXPORTS, _row(org_id, event))
        return
    if not isinstance(event, _OURS) or (row := rows.get(EXPORTS, (org_id, event.export_id))) is None:
        return
    match event:
        case ExportCompleted():
            row.status, row.completed_at, row.expires_at = "ready", event.completed_at, event.expires_at
            row.position, row.rows, row.files, row.partial = event.position, event.rows, event.files, event.partial
            row.size_bytes, row.sha256 = event.size_bytes, event.sha256
        case ExportFailed():
            row.status, row.reason, row.ended_at = "failed", event.reason, event.failed_at
        case ExportExpired():
            row.status, row.reason, row.ended_at = "expired", event.reason, event.expired_at
        case _:
            return  # asked for again: known already
    rows.put(EXPORTS, row)


def _row(org_id: UUID, event: ExportRequested) -> ExportRow:
    return ExportRow(
        org_id=org_id,
        export_id=event.export_id,
        format=event.wishes.format,
        partition=event.wishes.partition,
        tables=event.wishes.tables,
        since=event.wishes.since,
        base=event.wishes.base,
        until=event.until,
        requested_by=event.requested_by,
        requested_at=event.requested_at,
    )


PROJECTION = Projection("exports", 1, tables=(EXPORTS, ERASURES), ddl=DDL, touches=touches, fold=fold, reads=READS)

_COLUMNS = ", ".join(EXPORTS.columns)


class Progress(msgspec.Struct, frozen=True):
    """How far a worker is: `done` of `total` tables are through the `stage`."""

    tries: int
    stage: str
    done: int
    total: int
    rows: int


async def exports(pool: Pool, org_id: UUID) -> list[ExportRow]:
    """The organization's exports, newest first, at most `LISTED_MAX`."""
    async with tenant(pool, org_id) as connection:
        found = await connection.fetch(
            f"SELECT {_COLUMNS} FROM crewkit.export WHERE org_id = $1 ORDER BY requested_at DESC, export_id LIMIT $2",  # noqa: S608
            org_id,
            LISTED_MAX,
        )
    return [ExportRow(**dict(row)) for row in found]


async def progress(pool: Pool, org_id: UUID, export_id: UUID) -> Progress | None:
    """How far the worker is; None before one began."""
    async with tenant(pool, org_id) as connection:
        row = await connection.fetchrow(
            "SELECT tries, stage, done, total, rows FROM crewkit.export_progress WHERE org_id = $1 AND export_id = $2",
            org_id,
            export_id,
        )
    return None if row is None else Progress(*row)


async def erased_after(pool: Pool, org_id: UUID, position: int) -> bool:
    """Whether somebody was erased whom a file of `position` still shows."""
    async with tenant(pool, org_id) as connection:
        found = await connection.fetchval(
            "SELECT position > $2 FROM crewkit.export_erasure WHERE org_id = $1", org_id, position
        )
    return bool(found)


async def waiting(connection: Connection, limit: int) -> list[ExportRow]:
    """Exports whose file is to be written, oldest first, as crewkit_worker."""
    if await connection.fetchval("SELECT to_regclass('crewkit.export')") is None:
        return []  # no projector has run yet
    found = await connection.fetch(
        f"SELECT {_COLUMNS} FROM crewkit.export WHERE status = 'requested' ORDER BY requested_at LIMIT $1",  # noqa: S608
        limit,
    )
    return [ExportRow(**dict(row)) for row in found]


async def outdated(connection: Connection, limit: int) -> list[tuple[UUID, UUID, str]]:
    """Organization, id and reason of files whose time is over, or that show somebody who was erased, as crewkit_worker."""
    if await connection.fetchval("SELECT to_regclass('crewkit.export')") is None:
        return []
    found = await connection.fetch(
        "SELECT e.org_id, e.export_id, CASE WHEN x.position > e.position THEN 'erasure' ELSE 'time' END"
        "  FROM crewkit.export e LEFT JOIN crewkit.export_erasure x ON x.org_id = e.org_id"
        " WHERE e.status = 'ready' AND (e.expires_at <= clock_timestamp() OR x.position > e.position)"
        " ORDER BY e.expires_at LIMIT $1",
        limit,
    )
    return [(row[0], row[1], row[2]) for row in found]


async def leftovers(connection: Connection, limit: int) -> list[tuple[UUID, UUID, str]]:
    """Organization, id and format of exports that came to nothing after a worker had begun, as crewkit_worker."""
    if await connection.fetchval("SELECT to_regclass('crewkit.export')") is None:
        return []
    found = await connection.fetch(
        "SELECT e.org_id, e.export_id, e.format FROM crewkit.export_progress p"
        "  JOIN crewkit.export e ON e.org_id = p.org_id AND e.export_id = p.export_id"
        " WHERE e.status IN ('expired', 'failed') LIMIT $1",
        limit,
    )
    return [(row[0], row[1], row[2]) for row in found]
