"""Exports of personal data: what is asked for, what is ready, what is over; and the archive as it is handed out."""

from __future__ import annotations

import html
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import msgspec

from domain.data_exports.events import (
    DataExportCompleted,
    DataExportDownloaded,
    DataExportExpired,
    DataExportRequested,
)
from eventstore.database import Connection, Pool, tenant
from eventstore.exports import Archive, parts
from eventstore.port import Recorded
from projections.base import Key, Projection, Rows, Table

LISTED_MAX = 200
NAMED_MAX = 1_000  # different e-mail addresses and names that the summary lists
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class DataExportRow(msgspec.Struct, kw_only=True):
    """One export.  `status` is `requested`, `ready` or `expired`; `fetched_position` is that of the last download counted."""

    org_id: UUID
    export_id: UUID
    person_id: UUID
    status: str = "requested"
    requested_by: str
    requested_at: datetime
    until: int
    events: int = 0
    stored_bytes: int = 0
    downloads: int = 0
    fetched_position: int = 0
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    expired_at: datetime | None = None


EXPORTS = Table("data_export", DataExportRow, ("org_id", "export_id"))
DDL = """
CREATE TABLE crewkit.data_export__g{g} (
    org_id uuid NOT NULL,
    export_id uuid NOT NULL,
    person_id uuid NOT NULL,
    status text NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    until bigint NOT NULL,
    events bigint NOT NULL,
    stored_bytes bigint NOT NULL,
    downloads bigint NOT NULL,
    fetched_position bigint NOT NULL,
    completed_at timestamptz,
    expires_at timestamptz,
    expired_at timestamptz,
    PRIMARY KEY (org_id, export_id)
);
CREATE INDEX data_export__g{g}_status ON crewkit.data_export__g{g} (status, requested_at) WHERE status <> 'expired';
"""
READS = (DataExportRequested, DataExportCompleted, DataExportDownloaded, DataExportExpired)


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The one row an event is about."""
    event = recorded.event
    return ((EXPORTS, (recorded.org_id, event.export_id)),) if isinstance(event, READS) else ()


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    event = recorded.event
    if isinstance(event, DataExportRequested):
        if rows.get(EXPORTS, (recorded.org_id, event.export_id)) is None:
            rows.put(EXPORTS, _row(recorded.org_id, event))
        return
    if not isinstance(event, READS) or (row := rows.get(EXPORTS, (recorded.org_id, event.export_id))) is None:
        return
    match event:
        case DataExportCompleted():
            row.status, row.events, row.stored_bytes = "ready", event.events, event.stored_bytes
            row.completed_at, row.expires_at = event.completed_at, event.expires_at
        case DataExportDownloaded():
            if recorded.position > row.fetched_position:
                row.downloads += 1
                row.fetched_position = recorded.position
        case DataExportExpired():
            row.status, row.expired_at = "expired", event.expired_at
        case _:
            pass
    rows.put(EXPORTS, row)


def _row(org_id: UUID, event: DataExportRequested) -> DataExportRow:
    return DataExportRow(
        org_id=org_id,
        export_id=event.export_id,
        person_id=event.person_id,
        requested_by=event.requested_by,
        requested_at=event.requested_at,
        until=event.until,
    )


PROJECTION = Projection("data_exports", 2, tables=(EXPORTS,), ddl=DDL, touches=touches, fold=fold, reads=READS)

_COLUMNS = ", ".join(EXPORTS.columns)


async def exports(pool: Pool, org_id: UUID, person_id: UUID | None = None) -> list[DataExportRow]:
    """The organization's exports (of one person), newest first, at most `LISTED_MAX`."""
    async with tenant(pool, org_id) as connection:
        found = await connection.fetch(
            f"SELECT {_COLUMNS} FROM crewkit.data_export WHERE org_id = $1 AND ($2::uuid IS NULL OR person_id = $2) "  # noqa: S608  constants
            "ORDER BY requested_at DESC, export_id LIMIT $3",
            org_id,
            person_id,
            LISTED_MAX,
        )
    return [DataExportRow(**dict(row)) for row in found]


async def unwritten(connection: Connection, limit: int) -> list[tuple[UUID, UUID]]:
    """Organization and id of exports whose archive is not whole, oldest first, as crewkit_worker."""
    if await connection.fetchval("SELECT to_regclass('crewkit.data_export')") is None:
        return []  # no projector has run yet
    found = await connection.fetch(
        "SELECT org_id, export_id FROM crewkit.data_export WHERE status = 'requested' ORDER BY requested_at LIMIT $1",
        limit,
    )
    return [(row["org_id"], row["export_id"]) for row in found]


async def outdated(connection: Connection, limit: int) -> tuple[list[tuple[UUID, UUID]], list[tuple[UUID, UUID]]]:
    """Exports whose time is over, and those that are over but still have parts, as crewkit_worker."""
    if await connection.fetchval("SELECT to_regclass('crewkit.data_export')") is None:
        return [], []
    over = await connection.fetch(
        "SELECT org_id, export_id FROM crewkit.data_export WHERE status = 'ready' AND expires_at <= clock_timestamp() "
        "ORDER BY expires_at LIMIT $1",
        limit,
    )
    left = await connection.fetch(
        "SELECT DISTINCT p.org_id, p.export_id FROM crewkit.data_export_part p "
        "JOIN crewkit.data_export e ON e.org_id = p.org_id AND e.export_id = p.export_id "
        "WHERE e.status = 'expired' LIMIT $1",
        limit,
    )
    return [(row["org_id"], row["export_id"]) for row in over], [(row["org_id"], row["export_id"]) for row in left]


class _Sink:
    """What a zip file is written to: its bytes are taken away as they come."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, chunk: bytes) -> int:
        self._chunks.append(bytes(chunk))
        return len(chunk)

    def flush(self) -> None:
        """Nothing to flush."""

    def take(self) -> bytes:
        taken = b"".join(self._chunks)
        self._chunks.clear()
        return taken


async def archive(pool: Pool, opened: Archive, person_id: UUID) -> AsyncIterator[bytes]:
    """The archive as a zip file: events as JSON lines per organization, a summary, and a page for people.

    Raises:
        ValueError: what is stored was altered.
    """
    sink, told = _Sink(), _Told(person_id)
    with zipfile.ZipFile(cast("Any", sink), "w", zipfile.ZIP_DEFLATED) as file:
        writing: Any = None
        current: UUID | None = None
        async for org_id, lines in parts(pool, opened):
            if org_id != current:
                if writing is not None:
                    writing.close()
                current, writing = org_id, file.open(f"events/{org_id}.jsonl", "w")
            writing.write(lines)
            told.note(org_id, lines)
            yield sink.take()
        if writing is not None:
            writing.close()
        file.writestr("person.json", told.summary())
        file.writestr("index.html", told.page())
    yield sink.take()


class _Told:
    """What the archive tells, counted while it is written."""

    def __init__(self, person_id: UUID) -> None:
        self._person_id = person_id
        self._kinds: dict[UUID, Counter[str]] = {}
        self._named: dict[str, dict[str, None]] = {"email": {}, "name": {}}
        self._first = self._last = ""

    def note(self, org_id: UUID, lines: bytes) -> None:
        kinds = self._kinds.setdefault(org_id, Counter())
        for line in lines.splitlines():
            event = _decode(line)
            kinds[event["type"]] += 1
            self._first = self._first or event["recorded_at"]
            self._last = event["recorded_at"]
            for name, values in self._named.items():
                value = event["data"].get(name)
                if isinstance(value, str) and len(values) < NAMED_MAX:
                    values[value] = None

    def summary(self) -> bytes:
        answer = {
            "person_id": self._person_id,
            "emails": list(self._named["email"]),
            "names": list(self._named["name"]),
            "events": {str(org_id): dict(kinds) for org_id, kinds in self._kinds.items()},
        }
        return msgspec.json.format(msgspec.json.encode(answer), indent=2)

    def page(self) -> str:
        rows = "".join(
            f"<tr><td>{org_id}</td><td>{html.escape(kind)}</td><td>{count}</td></tr>"
            for org_id, kinds in self._kinds.items()
            for kind, count in sorted(kinds.items())
        )
        return _PAGE.format(
            person=self._person_id,
            emails=html.escape(", ".join(self._named["email"]) or "none"),
            names=html.escape(", ".join(self._named["name"]) or "none"),
            first=html.escape(self._first or "-"),
            last=html.escape(self._last or "-"),
            rows=rows,
        )


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Your data in crewkit</title>
<style>body{{font:16px/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{border:1px solid #999;padding:.2rem .6rem;text-align:left}}</style>
<h1>Everything crewkit holds about you</h1>
<p>You are person <code>{person}</code>. E-mail: {emails}. Name: {names}.</p>
<p>What follows was recorded between {first} and {last}. Files in this archive:</p>
<ul><li><code>person.json</code>: this page as data</li>
<li><code>events/ORGANIZATION.jsonl</code>: every recorded event that names you, one per line, oldest first.
Texts about you are open; texts about other people, and secrets such as password hashes, stay closed.</li></ul>
<table><thead><tr><th>Organization</th><th>What</th><th>Events</th></tr></thead><tbody>{rows}</tbody></table>
</html>
"""
