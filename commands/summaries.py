"""Keep what a model wrote about a session."""

from __future__ import annotations

from uuid import UUID

from commands.bus import transact
from domain.summaries import decide
from domain.summaries.events import SessionSummarized
from eventstore.port import EventStore, Meta, Outcome


async def record_summary(
    store: EventStore, org_id: UUID, written: SessionSummarized, *, causation_id: UUID
) -> Outcome | None:
    """Append it; None where the same or a later state of the session was written about already.

    Raises:
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        org_id,
        decide.summary_stream(written.session_id),
        decide.evolve,
        decide.INITIAL,
        lambda summary: decide.summarize(summary, written),
        meta=Meta(actor="system:reactor", causation_id=causation_id),
    )


async def last_summary(store: EventStore, org_id: UUID, session_id: str) -> decide.Summary:
    """What was written last, straight from the store: a read model may be behind."""
    found = await store.read_stream(org_id, decide.summary_stream(session_id), limit=1, newest_first=True)
    return decide.evolve(decide.INITIAL, found[0].event) if found else decide.INITIAL
