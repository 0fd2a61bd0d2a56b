"""The parts of an archive of personal data: compressed, encrypted with the export's own key, in Postgres until they expire."""

from __future__ import annotations

import os
import zlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from eventstore.database import Connection, Pool, tenant

KEY_BYTES = 32
_NONCE_BYTES = 12
_SCAN = """
SELECT position, stream_id, version, type, event_id, recorded_at, data, meta
  FROM crewkit.event WHERE org_id = $1 AND position > $2 AND position <= $3 ORDER BY position LIMIT $4
"""
_OPENINGS = "SELECT stream_id, data FROM crewkit.event WHERE stream_id = ANY ($1) AND version = 1"
_LAST = """
SELECT number, of_org, upto FROM crewkit.data_export_part
 WHERE org_id = $1 AND export_id = $2 ORDER BY number DESC LIMIT 1
"""
_TOTALS = """
SELECT count(*)::bigint AS parts, coalesce(sum(events), 0)::bigint AS events,
       coalesce(sum(length(sealed)), 0)::bigint AS stored_bytes
  FROM crewkit.data_export_part WHERE org_id = $1 AND export_id = $2
"""
_ADD = "INSERT INTO crewkit.data_export_part VALUES ($1, $2, $3, $4, $5, $6, $7)"
_PART = """
SELECT number, of_org, sealed FROM crewkit.data_export_part
 WHERE org_id = $1 AND export_id = $2 AND number > $3 ORDER BY number LIMIT 1
"""
_DROP = "DELETE FROM crewkit.data_export_part WHERE org_id = $1 AND export_id = $2"


class Archive(msgspec.Struct, frozen=True):
    """Which export, under which organization, and its key."""

    org_id: UUID
    export_id: UUID
    key: bytes

    def lock(self, number: int, lines: bytes) -> bytes:
        """A part as it is stored."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self.key).encrypt(nonce, zlib.compress(lines), self._bound(number))

    def unlock(self, number: int, sealed: bytes) -> bytes:
        """The lines of a stored part.

        Raises:
            ValueError: it is not a part of this export, or was altered.
        """
        try:
            plain = AESGCM(self.key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._bound(number))
        except InvalidTag as error:
            raise ValueError(f"part {number} of export {self.export_id} cannot be read") from error
        return zlib.decompress(plain)

    def _bound(self, number: int) -> bytes:
        return b"crewkit data export 1" + self.org_id.bytes + self.export_id.bytes + number.to_bytes(8, "big")


class Progress(msgspec.Struct, frozen=True):
    """Where writing stands: the last part, whose events it told of, and up to which position."""

    number: int
    of_org: UUID | None
    upto: int


class Totals(msgspec.Struct, frozen=True):
    """What is stored of an export."""

    parts: int
    events: int
    stored_bytes: int


async def progress(connection: Connection, org_id: UUID, export_id: UUID) -> Progress:
    """The last part that was written."""
    row = await connection.fetchrow(_LAST, org_id, export_id)
    return Progress(0, None, 0) if row is None else Progress(row["number"], row["of_org"], row["upto"])


async def totals(connection: Connection, org_id: UUID, export_id: UUID) -> Totals:
    """Sums over all parts."""
    row = await connection.fetchrow(_TOTALS, org_id, export_id)
    return Totals(0, 0, 0) if row is None else Totals(row["parts"], row["events"], row["stored_bytes"])


async def openings(connection: Connection, streams: list[UUID]) -> dict[UUID, bytes]:
    """The stored data of the first event of each stream."""
    return {row["stream_id"]: row["data"] for row in await connection.fetch(_OPENINGS, streams)}


async def scan(connection: Connection, org_id: UUID, after: int, until: int, limit: int) -> list[Any]:
    """A page of one organization's stored rows."""
    return await connection.fetch(_SCAN, org_id, after, until, limit)


async def add_part(
    connection: Connection, archive: Archive, number: int, of_org: UUID, upto: int, events: int, lines: bytes
) -> None:
    """Store the next part.

    Raises:
        asyncpg.UniqueViolationError: another process wrote it.
    """
    sealed = archive.lock(number, lines)
    await connection.execute(_ADD, archive.org_id, archive.export_id, number, of_org, upto, events, sealed)


async def parts(pool: Pool, archive: Archive) -> AsyncIterator[tuple[UUID, bytes]]:
    """Organization and lines of each part, one after the other.

    Raises:
        ValueError: a part was altered.
    """
    number = 0
    while True:
        async with tenant(pool, archive.org_id) as connection:
            row = await connection.fetchrow(_PART, archive.org_id, archive.export_id, number)
        if row is None:
            return
        number = row["number"]
        yield row["of_org"], archive.unlock(number, row["sealed"])


async def drop_parts(connection: Connection, org_id: UUID, export_id: UUID) -> None:
    """Delete everything that is stored of an export, as crewkit_worker."""
    await connection.execute(_DROP, org_id, export_id)
