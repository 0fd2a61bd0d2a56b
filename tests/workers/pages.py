"""Rows of the log and pages of columns, one as the other, for the tests of the workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid5

import msgspec

from workers.blocks import Named, Page, decode, page_of

ORG = UUID(int=1)


class Row(msgspec.Struct, frozen=True):
    """One row of `crewkit.event` with its stream's kind and id."""

    position: int
    org_id: UUID
    stream_id: UUID
    kind: str
    id: str
    version: int
    type: str
    event_id: UUID
    recorded_at: datetime
    data: bytes
    meta: bytes


def row(position: int, data: bytes = b'{"type":"x"}', *, type: str = "x.happened.v1", stream: str = "s1") -> Row:  # noqa: A002
    """A row whose values follow from its position."""
    at = datetime(2026, 11, 20, 12, 0, 0, position % 1_000_000, tzinfo=UTC)
    event_id = uuid5(ORG, str(position))
    meta = b'{"request_id":"%d"}' % (position // 10)
    return Row(position, ORG, uuid5(ORG, stream), "Session", stream, position, type, event_id, at, data, meta)


def page(rows: Sequence[Row]) -> Page:
    """The page that Postgres would answer."""
    names = {one.stream_id: Named(one.org_id, one.stream_id, one.kind, one.id) for one in rows}
    records = [
        (r.position, r.org_id, r.stream_id, r.version, r.type, r.event_id, r.recorded_at, r.data, r.meta) for r in rows
    ]
    return page_of(records, names)


def rows_of(found: Page) -> list[Row]:
    """The rows of a page."""
    return [
        Row(
            found.first + n,
            *msgspec.structs.astuple(found.streams[found.stream[n]]),
            found.version[n],
            found.types[found.type[n]],
            found.event_id[n],
            found.recorded_at[n],
            found.data[n],
            found.metas[found.meta[n]],
        )
        for n in range(len(found.data))
    ]


def rows_in(payloads: Iterable[bytes]) -> list[Row]:
    """The rows of blocks, in their order."""
    return [one for payload in payloads for one in rows_of(decode(payload))]
