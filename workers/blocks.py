"""Blocks: runs of consecutive events, encoded once and carried as one message.

A block is a `Page` in msgpack: the columns of `crewkit.event` as Postgres keeps them, with streams, types and envelopes
named once for all events that share them.  The relay decodes no event, and whoever receives a block reads it like a page
that Postgres answered.  A payload of another form is no error for anybody: receivers then read the events from Postgres.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

EVENTS_MAX = 1_000  # events in one block
BYTES_MAX = 512 * 1024  # bytes in one block; NATS refuses messages above 1 MB by default
FIRST = "Crewkit-First"
LAST = "Crewkit-Last"
LAST_ID = "Crewkit-Last-Id"


class Names(msgspec.Struct, frozen=True):
    """What an installation calls its JetStream stream and its subjects; `bytes_max` is the room the stream may take."""

    stream: str = "CREWKIT"
    events: str = "crewkit.events"
    poke: str = "crewkit.poke"
    notices: str = "crewkit.notices"
    bytes_max: int = 1024 * 1024 * 1024


class Named(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A stream: whose it is, its stored id, and the name that was made from."""

    org_id: UUID
    stream_id: UUID
    kind: str
    id: str


class Page(msgspec.Struct, frozen=True, array_like=True, tag_field="format", tag="crewkit.block.2"):
    """Consecutive events from position `first` on, as columns; `data` and `metas` are JSON, as bytes.

    `stream`, `type` and `meta` are, per event, places in `streams`, `types` and `metas`.
    """

    first: int
    streams: list[Named]
    types: list[str]
    metas: list[bytes]
    stream: list[int]
    type: list[int]
    meta: list[int]
    version: Sequence[int]
    event_id: Sequence[UUID]
    recorded_at: Sequence[datetime]
    data: Sequence[bytes]

    @property
    def last(self) -> int:
        """The position of the last event."""
        return self.first + len(self.data) - 1

    def part(self, start: int, stop: int) -> Page:
        """The events from the `start`-th up to before the `stop`-th; the tables stay whole."""
        return Page(
            self.first + start,
            self.streams,
            self.types,
            self.metas,
            self.stream[start:stop],
            self.type[start:stop],
            self.meta[start:stop],
            self.version[start:stop],
            self.event_id[start:stop],
            self.recorded_at[start:stop],
            self.data[start:stop],
        )


EMPTY = Page(1, [], [], [], [], [], [], [], [], [], [])


def page_of(records: Sequence[Iterable[Any]], names: Mapping[UUID, Named]) -> Page:
    """Rows of `crewkit.event` (position, org_id, stream_id, version, type, event_id, recorded_at, data, meta) as columns.

    Raises:
        LookupError: an event's stream is not in `names`.
        ValueError: the positions are not consecutive.
    """
    positions, _, stream_ids, versions, types, event_ids, recorded_at, data, metas = zip(*records, strict=True)
    first: int = positions[0]
    if positions[-1] - first != len(positions) - 1:
        raise ValueError(f"{len(positions)} rows from position {first} to {positions[-1]}: the log has no gaps")
    stream, streams = _places(stream_ids)
    kind, kinds = _places(types)
    meta, distinct = _places(metas)
    named = [names[stream_id] for stream_id in streams]
    return Page(first, named, kinds, distinct, stream, kind, meta, versions, event_ids, recorded_at, data)


def _places(values: tuple[Any, ...]) -> tuple[list[int], list[Any]]:
    """Each value's place among the distinct ones, and those in order of appearance."""
    places: dict[Any, int] = {}
    place = places.setdefault
    return [place(value, len(places)) for value in values], list(places)


class Block(msgspec.Struct, frozen=True):
    """`payload` is empty when the block is one event too large to carry: receivers read it from Postgres."""

    first: int
    last: int
    last_id: UUID
    payload: bytes

    @property
    def message_id(self) -> str:
        """What JetStream recognises a repeat by."""
        return f"{self.first}-{self.last}"

    @property
    def headers(self) -> dict[str, str]:
        """The first and last position and the last event's id, readable without the payload."""
        return {FIRST: str(self.first), LAST: str(self.last), LAST_ID: str(self.last_id)}


_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decoder = msgspec.msgpack.Decoder(Page)


def cut(page: Page) -> list[Block]:
    """Blocks of a page, in order, each within `EVENTS_MAX` and `BYTES_MAX`."""
    count = len(page.data)
    if count == 0:
        return []
    if count == 1 or (count <= EVENTS_MAX and sum(map(len, page.data)) <= BYTES_MAX):
        payload = _encode(page)
        if len(payload) <= BYTES_MAX or count == 1:
            return [Block(page.first, page.last, page.event_id[-1], payload if len(payload) <= BYTES_MAX else b"")]
    middle = EVENTS_MAX if count > EVENTS_MAX else count // 2
    return cut(page.part(0, middle)) + cut(page.part(middle, count))


def decode(payload: bytes) -> Page:
    """The page in a block.

    Raises:
        msgspec.DecodeError: the payload is not a block.
    """
    page = _decoder.decode(payload)
    columns = (page.stream, page.type, page.meta, page.version, page.event_id, page.recorded_at)
    if any(len(column) != len(page.data) for column in columns):
        raise msgspec.DecodeError("the columns of a block have different lengths")
    return page
