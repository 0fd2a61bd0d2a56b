"""Reading the log as it is stored, and decoding it into events, for the workers that follow it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

import asyncpg
import msgspec
from asyncpg.pgproto.pgproto import UUID as FastUUID  # noqa: N811

from domain.kernel import Event, Stream
from eventstore.database import Connection, Pool
from eventstore.mapper import Mapper
from eventstore.port import LogDamagedError, Meta, Recorded
from workers.blocks import EMPTY, Named, Page, page_of

_PAGE = """
SELECT position, org_id, stream_id, version, type, event_id, recorded_at, data, meta
  FROM crewkit.event
 WHERE position > $1
 ORDER BY position
 LIMIT $2
"""
_NAMES = "SELECT stream_id, org_id, kind, id FROM crewkit.stream WHERE stream_id = ANY ($1::uuid[])"

NAMES_MAX = 20_000  # stream names kept in memory
ORGS_MAX = 10_000
METAS_MAX = 2_000  # decoded envelopes kept in memory: one request writes the same one many times


class LogReader:
    """Pages of events.  Stream names are asked for once and remembered: a session's events come in crowds."""

    def __init__(self, source: Connection | Pool) -> None:
        self._source = source
        self._names: dict[UUID, Named] = {}

    async def page(self, after: int, limit: int) -> Page:
        """Up to `limit` events that follow position `after`, oldest first; `EMPTY` when there are none.

        Raises:
            LogDamagedError: the first of them is missing while later ones are there, or its stream has no row.  A damaged
                event further on ends the page before it.
        """
        records: Sequence[asyncpg.Record] = await self._source.fetch(_PAGE, after, limit)
        if not records:
            return EMPTY
        names = self._names
        unnamed = False
        if missing := {record[2] for record in records}.difference(names):
            if len(names) + len(missing) > NAMES_MAX:
                names.clear()
                missing = {record[2] for record in records}
            for stream_id, org_id, kind, ident in await self._source.fetch(_NAMES, list(missing)):
                names[stream_id] = Named(org_id, stream_id, kind, ident)
            unnamed = not missing <= names.keys()
        if unnamed or records[-1][0] != after + len(records):
            records = _undamaged(after, records, names)
        return page_of(records, names)


def _undamaged(after: int, records: Sequence[asyncpg.Record], names: Mapping[UUID, Named]) -> Sequence[asyncpg.Record]:
    """The events before the first damaged one.

    Raises:
        LogDamagedError: that is the first.
    """
    for n, record in enumerate(records):
        position: int = after + 1 + n
        if record[0] != position:
            problem = f"the event is missing, the next one there is at {record[0]}"
        elif record[2] not in names:
            problem = f"stream {record[2]} has no row in crewkit.stream"
        else:
            continue
        if n == 0:
            raise LogDamagedError(position, problem)
        return records[:n]
    return records


class Broken(msgspec.Struct, frozen=True):
    """An event that could not be decoded: whoever folds must stop here."""

    position: int
    error: str


Item: TypeAlias = Recorded | Broken


class Decoder:
    """Rows to events, by the store's mapper."""

    def __init__(self, mapper: Mapper) -> None:
        self.decode_of = mapper.decoder
        self.types = mapper.types
        self._meta = msgspec.json.Decoder(Meta).decode
        self._metas: dict[bytes, Meta] = {}
        self._orgs: dict[UUID, UUID] = {}

    def meta(self, text: bytes) -> Meta:
        """A decoded envelope.

        Raises:
            msgspec.ValidationError: it is none.
        """
        found = self._metas.get(text)
        if found is None:
            if len(self._metas) >= METAS_MAX:
                self._metas.clear()
            found = self._metas[text] = self._meta(text)
        return found

    def stream(self, named: Named) -> tuple[UUID, UUID, Stream]:
        """Organization, stream id and name.

        One object for one organization, of the driver's class: rows are looked up by it, and it hashes ten times faster.
        """
        org_id = self._orgs.get(named.org_id)
        if org_id is None:
            if len(self._orgs) >= ORGS_MAX:
                self._orgs.clear()
            org_id = self._orgs[named.org_id] = FastUUID(named.org_id.bytes)
        return org_id, named.stream_id, Stream(named.kind, named.id)

    def classes(self, reads: frozenset[type[Event]] | None) -> frozenset[str] | None:
        """The types that `reads` names, as they are stored; None: all."""
        if reads is None:
            return None
        return frozenset(tag for tag, event_type in self.types.items() if event_type in reads)


class Items:
    """The events of a page, each decoded when somebody who reads its type first asks for it."""

    __slots__ = ("_decode", "_decoder", "_memo", "_metas", "_streams", "page")

    def __init__(self, page: Page, decoder: Decoder) -> None:
        self.page = page
        self._decoder = decoder
        self._memo: list[Item | None] = [None] * len(page.data)
        self._streams = [decoder.stream(named) for named in page.streams]
        self._metas: list[Meta | None] = [None] * len(page.metas)
        self._decode = [decoder.decode_of(tag) for tag in page.types]

    def wanted(self, start: int, stop: int, reads: Reads) -> list[Item]:
        """The events from the `start`-th up to before the `stop`-th that `reads` is about.

        One that cannot be decoded becomes `Broken` and does not hide its neighbours; so does one of an unknown type, since
        nobody can say that it is not about it.
        """
        page, tags = self.page, reads.tags
        if tags is None or tags.issuperset(page.types):
            return [self._at(n) for n in range(start, stop)]
        known = self._decoder.types
        wanted = [tag in tags or tag not in known for tag in page.types]
        if True not in wanted:
            return []
        found: list[Item] = []
        for n in range(start, stop):
            kind = page.type[n]
            if wanted[kind]:
                item = self._at(n)
                if page.types[kind] in tags or reads.wants(item):
                    found.append(item)
        return found

    def _at(self, n: int) -> Item:
        item = self._memo[n]
        if item is None:
            item = self._memo[n] = self._item(n)
        return item

    def _item(self, n: int) -> Item:
        page = self.page
        position = page.first + n
        try:
            org_id, stream_id, stream = self._streams[page.stream[n]]
            place = page.meta[n]
            meta = self._metas[place]
            if meta is None:
                meta = self._metas[place] = self._decoder.meta(page.metas[place])
            data = page.data[n]
            return Recorded(
                position=position,
                org_id=org_id,
                stream_id=stream_id,
                stream=stream,
                version=page.version[n],
                type=page.types[page.type[n]],
                event_id=page.event_id[n],
                recorded_at=page.recorded_at[n],
                data=data,
                meta=meta,
                event=self._decode[page.type[n]](data),
            )
        except Exception as error:  # noqa: BLE001  whatever is wrong with one event is told at its position
            return Broken(position, f"{type(error).__name__}: {error}")


class Reads:
    """Which events a projection is about, by class and as stored."""

    __slots__ = ("_classes", "tags")

    def __init__(self, classes: frozenset[type[Event]] | None, decoder: Decoder) -> None:
        self._classes = classes
        self.tags = decoder.classes(classes)

    def wants(self, item: Item) -> bool:
        """Whether it is about an item whose type alone does not say so: an old shape that was lifted, or a broken one."""
        return isinstance(item, Broken) or self._classes is None or type(item.event) in self._classes
