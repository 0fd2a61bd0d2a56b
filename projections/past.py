"""The past: one stream folded up to a position, by the very fold that fills the tables.  No second truth to disagree with."""

from __future__ import annotations

from uuid import UUID

from domain.kernel import Stream
from eventstore.port import EventStore
from projections.base import Projection, Rows

PAGE_EVENTS = 1_000


async def rows_at(
    store: EventStore, org_id: UUID, stream: Stream, projection: Projection, *, until: int | None = None
) -> Rows:
    """The rows that the events of `stream` up to position `until` make; None: all events there are."""
    rows, version = Rows(), 0
    while page := await store.read_stream(org_id, stream, after=version, limit=PAGE_EVENTS):
        for recorded in page:
            if until is not None and recorded.position > until:
                return rows
            if projection.reads is None or type(recorded.event) in projection.reads:
                projection.fold(rows, recorded)
        version = page[-1].version
        if len(page) < PAGE_EVENTS:
            break
    return rows
