"""Export everything we hold about a person: ask, write the archive bit by bit, hand it out, delete it in time."""

from __future__ import annotations

import os
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from commands.bus import Once, Principal, load, transact
from domain.data_exports import decide
from domain.data_exports.decide import Gone, Ready, Unasked, Writing, export_stream
from domain.data_exports.events import DataExportRequested
from domain.erasure.events import Subject
from domain.kernel import NotFoundError, Sealed, Stream, tag_of
from eventstore.database import Connection, Pool
from eventstore.erasure import is_known
from eventstore.exports import KEY_BYTES, Archive, Progress, add_part, drop_parts, openings, progress, scan, totals
from eventstore.ids import uuid7
from eventstore.port import Claim, EventStore, Meta, Outcome
from eventstore.sealing import DARK_PREFIX, PREFIX, KeyRing, SealBrokenError, unboxed
from eventstore.sql import load as load_sql

PAGE_EVENTS = 2_000
PART_BYTES = 4 * 1024 * 1024  # of lines, before they are compressed
STORED_BYTES_MAX = 1024**3  # of one archive
_OPEN = "data_export.open"  # one archive per person at a time
_KEY_TYPE = tag_of(DataExportRequested)
_SECRETS = frozenset(
    {"password_hash", "token", "private_key", "key"}
)  # sealed because they open doors, not because they tell


# A stream of these kinds that began with the person is about them to its end, also where a later event does not name them.
_PERSONAL = frozenset(
    {
        "DataExport",
        "DeviceAuthorization",
        "EmailMessage",
        "LlmSession",
        "MagicLink",
        "PasswordReset",
        "Session",
        "SessionSummary",
        "TokenFamily",
        "WebAuthnChallenge",
    }
)
_STREAMS_KNOWN_MAX = 100_000  # whose beginning is remembered

Found: TypeAlias = Writing | Ready | Gone


def status_of(found: Found) -> str:
    """`requested`, `ready` or `expired`."""
    if isinstance(found, Writing):
        return "requested"
    return "ready" if isinstance(found, Ready) else "expired"


async def request_export(
    store: EventStore, principal: Principal, person_id: UUID, subjects: Sequence[Subject], *, once: Once | None = None
) -> tuple[UUID, Outcome | None]:
    """Ask for everything about a person, as of now; the id of the export, and what became of asking.

    Raises:
        NameTakenError: there is one already that has not expired.
    """
    export_id = once.new_id() if once else uuid7()
    at, until = datetime.now(UTC), await store.head()
    key = Sealed(person_id, b64encode(os.urandom(KEY_BYTES)).decode())
    outcome = await transact(
        store,
        principal.org_id,
        export_stream(export_id),
        decide.evolve,
        decide.UNASKED,
        lambda state: decide.request(
            state,
            export_id=export_id,
            person_id=person_id,
            subjects=subjects,
            key=key,
            until=until,
            requested_by=principal.actor,
            at=at,
        ),
        meta=principal.meta(),
        claims=[_claim(principal.org_id, person_id)],
        once=once,
    )
    return export_id, outcome


async def request_person_export(
    store: EventStore, pool: Pool, principal: Principal, person_id: UUID, *, once: Once | None = None
) -> tuple[UUID, Outcome | None]:
    """Ask for everything the principal's organization holds about a person; answers as `request_export`.

    Raises:
        NotFoundError: nothing was ever sealed for such a person here.
        NameTakenError: there is an export already that has not expired.
    """
    if not await is_known(pool, principal.org_id, person_id):
        raise NotFoundError("no such person")
    return await request_export(store, principal, person_id, [Subject(principal.org_id, person_id)], once=once)


async def find_export(store: EventStore, org_id: UUID, export_id: UUID) -> Found:
    """One export.

    Raises:
        NotFoundError: there never was one of that id.
    """
    state, _, _ = await load(store, org_id, export_stream(export_id), decide.evolve, decide.UNASKED)
    if isinstance(state, Unasked):
        raise NotFoundError("no such export")
    return state


async def open_archive(store: EventStore, ring: KeyRing, principal: Principal, export_id: UUID) -> Archive:
    """Note that somebody fetches the archive, and answer what opens it.

    Raises:
        NotFoundError: there is none, or no longer, or the person was erased.
        ExportNotReadyError: it is still being written.
    """
    org_id = principal.org_id
    found = await find_export(store, org_id, export_id)
    key = None if isinstance(found, Gone) else await archive_key(ring, org_id, found.request)
    if key is None:
        raise NotFoundError("no such export")
    at = datetime.now(UTC)
    await transact(
        store,
        org_id,
        export_stream(export_id),
        decide.evolve,
        decide.UNASKED,
        lambda state: decide.download(state, by=principal.actor, at=at),
        meta=principal.meta(),
    )
    return Archive(org_id, export_id, key)


async def archive_key(ring: KeyRing, org_id: UUID, asked: DataExportRequested) -> bytes | None:
    """The key of an archive; None once the person was erased."""
    (text,) = await ring.open_many(org_id, [(_KEY_TYPE, asked.key)])
    return None if text is None else b64decode(text)


async def expire_export(
    store: EventStore, connection: Connection, org_id: UUID, export_id: UUID, *, reason: str, meta: Meta
) -> None:
    """Delete an archive.  Its bytes go first: cut off here, the next run tells of it.

    Raises:
        NotFoundError: there never was such an export.
    """
    found = await find_export(store, org_id, export_id)
    if isinstance(found, Gone):
        return
    await drop_parts(connection, org_id, export_id)
    await _expire(store, org_id, found.request, reason=reason, meta=meta)


async def withdraw_export(store: EventStore, principal: Principal, export_id: UUID) -> Outcome | None:
    """Give an archive up before its time; its bytes are deleted by the scheduler.  None: it was given up already.

    Raises:
        NotFoundError: there never was such an export.
    """
    found = await find_export(store, principal.org_id, export_id)
    if isinstance(found, Gone):
        return None
    return await _expire(store, principal.org_id, found.request, reason="request", meta=principal.meta())


async def _expire(
    store: EventStore, org_id: UUID, asked: DataExportRequested, *, reason: str, meta: Meta
) -> Outcome | None:
    at = datetime.now(UTC)
    return await transact(
        store,
        org_id,
        export_stream(asked.export_id),
        decide.evolve,
        decide.UNASKED,
        lambda state: decide.expire(state, reason=reason, at=at),
        meta=meta,
        releases=[_claim(org_id, asked.person_id)],
    )


def _claim(org_id: UUID, person_id: UUID) -> Claim:
    return Claim(_OPEN, f"{org_id}:{person_id}")


async def write_export(
    store: EventStore, pool: Pool, ring: KeyRing, org_id: UUID, export_id: UUID, *, until_s: float, meta: Meta
) -> bool:
    """Go on writing an archive until it is whole (True) or `time.monotonic()` has passed `until_s`.  Acts as crewkit_worker.

    Raises:
        asyncpg.UniqueViolationError: another process writes it too.
    """
    found = await find_export(store, org_id, export_id)
    if not isinstance(found, Writing):
        return True
    key = await archive_key(ring, org_id, found.request)
    if key is None:  # erased meanwhile: there is nothing left to tell
        async with pool.acquire() as connection:
            await expire_export(store, connection, org_id, export_id, reason="request", meta=meta)
        return True
    writer = _Writer(pool, ring, Archive(org_id, export_id, key), found.request)
    async with pool.acquire() as connection:
        stands = await progress(connection, org_id, export_id)
    whole = await writer.run(stands, until_s)
    async with pool.acquire() as connection:
        sums = await totals(connection, org_id, export_id)
        if sums.stored_bytes > STORED_BYTES_MAX:
            await expire_export(store, connection, org_id, export_id, reason="too_large", meta=meta)
            return True
    if not whole:
        return False
    at = datetime.now(UTC)
    await transact(
        store,
        org_id,
        export_stream(export_id),
        decide.evolve,
        decide.UNASKED,
        lambda state: decide.complete(
            state, events=sums.events, parts=sums.parts, stored_bytes=sums.stored_bytes, at=at
        ),
        meta=meta,
    )
    return True


class _Writer:
    """Walks the organizations of the subjects, one after the other, and stores what names the person."""

    def __init__(self, pool: Pool, ring: KeyRing, archive: Archive, asked: DataExportRequested) -> None:
        self._pool = pool
        self._ring = ring
        self._archive = archive
        self._until = asked.until
        self._subjects: dict[UUID, set[UUID]] = {}
        for one in asked.subjects:
            self._subjects.setdefault(one.org_id, set()).add(one.subject)
        self._number = 0
        self._theirs: dict[UUID, bool] = {}  # streams, and whether they began with the person

    async def run(self, stands: Progress, until_s: float) -> bool:
        """Go on from where it stands; whether everything is written."""
        self._number = stands.number
        orgs = sorted(self._subjects)
        first = orgs.index(stands.of_org) if stands.of_org is not None else 0
        for org_id in orgs[first:]:
            after = stands.upto if org_id == stands.of_org else 0
            if not await self._organization(org_id, after, until_s):
                return False
        return True

    async def _organization(self, org_id: UUID, after: int, until_s: float) -> bool:
        marks = [text for one in self._subjects[org_id] for text in (one.hex.encode(), str(one).encode())]
        lines, events, at = bytearray(), 0, after
        while at < self._until:
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                await connection.execute(load_sql("pin_reader"), str(org_id))
                rows = await scan(connection, org_id, at, self._until, PAGE_EVENTS)
                names = {
                    stream_id: Stream(kind, ident)
                    for stream_id, kind, ident in await connection.fetch(
                        load_sql("select_names"), list({row["stream_id"] for row in rows})
                    )
                }
                await self._look_up(connection, names, marks)
            mine = [
                row
                for row in rows
                if self._theirs.get(row["stream_id"]) or _names(row, str(names[row["stream_id"]]).encode(), marks)
            ]
            await self._ring.load(org_id, self._subjects[org_id])
            for row in mine:
                lines += msgspec.json.encode(self._shown(org_id, row, names[row["stream_id"]])) + b"\n"
            events += len(mine)
            at = rows[-1]["position"] if len(rows) == PAGE_EVENTS else self._until
            late = time.monotonic() > until_s
            if len(lines) >= PART_BYTES or late or at == self._until:
                self._number += 1
                async with self._pool.acquire() as connection:
                    await add_part(connection, self._archive, self._number, org_id, at, events, bytes(lines))
                lines, events = bytearray(), 0
                if late and at < self._until:
                    return False
        return True

    async def _look_up(self, connection: Connection, names: dict[UUID, Stream], marks: list[bytes]) -> None:
        if len(self._theirs) > _STREAMS_KNOWN_MAX:
            self._theirs.clear()
        new = [one for one, stream in names.items() if stream.kind in _PERSONAL and one not in self._theirs]
        for one, data in (await openings(connection, new)).items() if new else ():
            self._theirs[one] = any(mark in data for mark in marks)

    def _shown(self, org_id: UUID, row: Any, stream: Stream) -> dict[str, Any]:
        tree: dict[str, Any] = msgspec.json.decode(row["data"])
        kind = row["type"]
        return {
            "position": row["position"],
            "recorded_at": row["recorded_at"],
            "stream": str(stream),
            "type": kind,
            "event_id": row["event_id"],
            "data": {key: self._open(org_id, kind, key, value) for key, value in tree.items() if key != "type"},
            "meta": msgspec.Raw(row["meta"]),
        }

    def _open(self, org_id: UUID, kind: str, name: str, value: Any) -> Any:
        """What is sealed for the person, opened; what is sealed for others, and secrets, stay shut."""
        if isinstance(value, dict):
            return {key: self._open(org_id, kind, key, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._open(org_id, kind, name, item) for item in value]
        if not isinstance(value, str) or not value.startswith((PREFIX, DARK_PREFIX)):
            return value
        try:
            sealed = unboxed(value)
            if sealed.subject not in self._subjects[org_id] or name in _SECRETS:
                return {"sealed": True}
            return self._ring.open(org_id, kind, sealed)
        except (ValueError, SealBrokenError):
            return {"sealed": True}


def _names(row: Any, stream: bytes, marks: list[bytes]) -> bool:
    data, meta = row["data"], row["meta"]
    return any(mark in data or mark in meta or mark in stream for mark in marks)
