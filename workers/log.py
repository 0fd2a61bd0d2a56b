"""Reading the log as it is stored, and decoding it into events, for the workers that follow it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias
from uuid import UUID

import msgspec
from asyncpg.pgproto.pgproto import UUID as FastUUID  # noqa: N811

from domain.kernel import Stream
from eventstore.database import Connection, Pool
from eventstore.mapper import Mapper
from eventstore.port import Meta, Recorded
from workers.blocks import Stored

_PAGE = """
SELECT position, org_id, stream_id, version, type, event_id, recorded_at, data, meta
  FROM crewkit.event
 WHERE position > $1
 ORDER BY position
 LIMIT $2
"""
_NAMES = "SELECT stream_id, kind, id FROM crewkit.stream WHERE stream_id = ANY ($1::uuid[])"

NAMES_MAX = 20_000  # stream names kept in memory
ORGS_MAX = 10_000
METAS_MAX = 2_000  # decoded envelopes kept in memory: one request writes the same one many times


class LogReader:
    """Pages of rows.  Stream names are asked for once and remembered: a session's events come in crowds."""

    def __init__(self, source: Connection | Pool) -> None:
        self._source = source
        self._names: dict[UUID, tuple[str, str]] = {}

    async def page(self, after: int, limit: int) -> list[Stored]:
        """Up to `limit` rows with position > `after`, oldest first.

        Raises:
            LookupError: an event's stream has no row (the database was tampered with).
        """
        records = await self._source.fetch(_PAGE, after, limit)
        if not records:
            return []
        names = self._names
        missing = {stream_id for record in records if (stream_id := record[2]) not in names}
        if missing:
            if len(names) + len(missing) > NAMES_MAX:
                names.clear()
                missing = {record[2] for record in records}
            for stream_id, kind, ident in await self._source.fetch(_NAMES, list(missing)):
                names[stream_id] = (kind, ident)
        rows: list[Stored] = []
        for position, org_id, stream_id, version, kind, event_id, recorded_at, data, meta in records:
            name = names[stream_id]
            rows.append(
                Stored(position, org_id, stream_id, name[0], name[1], version, kind, event_id, recorded_at, data, meta)
            )
        return rows


class Broken(msgspec.Struct, frozen=True):
    """An event that could not be decoded: whoever folds must stop here."""

    position: int
    error: str


Item: TypeAlias = Recorded | Broken


class Decoder:
    """Rows to events, by the store's mapper."""

    def __init__(self, mapper: Mapper) -> None:
        self._decode = mapper.decode
        self._meta = msgspec.json.Decoder(Meta).decode
        self._metas: dict[bytes, Meta] = {}
        self._orgs: dict[UUID, UUID] = {}

    def items(self, rows: Iterable[Stored]) -> list[Item]:
        """The event of each row; one that cannot be decoded becomes `Broken` and does not hide its neighbours."""
        return [self._item(row) for row in rows]

    def _item(self, row: Stored) -> Item:
        try:
            meta = self._metas.get(row.meta)
            if meta is None:
                if len(self._metas) >= METAS_MAX:
                    self._metas.clear()
                meta = self._metas[row.meta] = self._meta(row.meta)
            return Recorded(
                position=row.position,
                org_id=self._orgs.get(row.org_id) or self._org(row.org_id),
                stream_id=row.stream_id,
                stream=Stream(row.kind, row.id),
                version=row.version,
                type=row.type,
                event_id=row.event_id,
                recorded_at=row.recorded_at,
                data=row.data,
                meta=meta,
                event=self._decode(row.type, row.data),
            )
        except Exception as error:  # noqa: BLE001  whatever is wrong with one event is told at its position
            return Broken(row.position, f"{type(error).__name__}: {error}")

    def _org(self, org_id: UUID) -> UUID:
        """One object for one organization, of the driver's class: rows are looked up by it, and it hashes ten times faster."""
        if len(self._orgs) >= ORGS_MAX:
            self._orgs.clear()
        found = self._orgs[org_id] = FastUUID(org_id.bytes)
        return found
