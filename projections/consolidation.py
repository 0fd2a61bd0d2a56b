"""How far each conversation's items are consolidated, which objects hold them, and totals of the installation."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.kernel import Stream
from domain.sessions import streaming
from domain.sessions.events import (
    LlmSessionConsolidated,
    LlmSessionConsolidationFailed,
    LlmSessionConsolidationStarted,
)
from eventstore.database import Connection
from eventstore.port import EventStore, Recorded
from projections.base import Key, Projection, Rows, Table
from schemas.sessions import ConsolidatedItems, LlmSessionDetail, SessionDetail

FOUND_MAX = 1_000  # conversations that one look finds, at most


class ConsolidationRow(msgspec.Struct):
    """One conversation.  `upto_position` is the last consolidated; `started_*` the generation under way, None when none is."""

    org_id: UUID
    llm_session_id: str
    generations: int = 0
    upto_position: int = 0
    objects: int = 0
    items: int = 0
    bytes: int = 0
    completed_at: datetime | None = None
    started_at: datetime | None = None
    failures: int = 0
    failed_at: datetime | None = None
    reason: str | None = None
    last_position: int = 0


class ConsolidatedObjectRow(msgspec.Struct):
    """One object; `number` counts those of a generation, `subagent_id` is None for the conversation's own."""

    org_id: UUID
    llm_session_id: str
    generation: int
    number: int
    object_key: str
    subagent_id: str | None
    items: int
    bytes: int
    sha256: str
    from_position: int
    to_position: int


class ConsolidationTotalRow(msgspec.Struct):
    """All organizations together, numbers only; one row."""

    id: int = 1
    objects: int = 0
    items: int = 0
    bytes: int = 0
    failures: int = 0
    backlog: int = 0
    last_position: int = 0


CONSOLIDATIONS = Table("consolidation", ConsolidationRow, ("org_id", "llm_session_id"))
OBJECTS = Table("consolidated_object", ConsolidatedObjectRow, ("org_id", "llm_session_id", "generation", "number"))
TOTALS = Table("consolidation_total", ConsolidationTotalRow, ("id",))
TOTAL_KEY = (1,)

DDL = """
CREATE TABLE crewkit.consolidation__g{g} (
    org_id uuid NOT NULL,
    llm_session_id text NOT NULL,
    generations bigint NOT NULL,
    upto_position bigint NOT NULL,
    objects bigint NOT NULL,
    items bigint NOT NULL,
    bytes bigint NOT NULL,
    completed_at timestamptz,
    started_at timestamptz,
    failures bigint NOT NULL,
    failed_at timestamptz,
    reason text,
    last_position bigint NOT NULL,
    PRIMARY KEY (org_id, llm_session_id)
);
CREATE INDEX consolidation__g{g}_under_way ON crewkit.consolidation__g{g} (started_at) WHERE started_at IS NOT NULL;
CREATE TABLE crewkit.consolidated_object__g{g} (
    org_id uuid NOT NULL,
    llm_session_id text NOT NULL,
    generation bigint NOT NULL,
    number bigint NOT NULL,
    object_key text NOT NULL,
    subagent_id text,
    items bigint NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    from_position bigint NOT NULL,
    to_position bigint NOT NULL,
    PRIMARY KEY (org_id, llm_session_id, generation, number)
);
CREATE TABLE crewkit.consolidation_total__g{g} (
    id bigint PRIMARY KEY,
    objects bigint NOT NULL,
    items bigint NOT NULL,
    bytes bigint NOT NULL,
    failures bigint NOT NULL,
    backlog bigint NOT NULL,
    last_position bigint NOT NULL
);
"""
READS = (LlmSessionConsolidationStarted, LlmSessionConsolidated, LlmSessionConsolidationFailed)


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The conversation's row, the totals, and the rows of the objects that were stored."""
    event = recorded.event
    if not isinstance(event, READS):
        return ()
    found: list[tuple[Table[Any], Key]] = [
        (CONSOLIDATIONS, (recorded.org_id, event.llm_session_id)),
        (TOTALS, TOTAL_KEY),
    ]
    if isinstance(event, LlmSessionConsolidated):
        key = (recorded.org_id, event.llm_session_id, event.generation)
        found += [(OBJECTS, (*key, number)) for number in range(len(event.objects))]
    return found


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    event = recorded.event
    if not isinstance(event, READS):
        return
    key = (recorded.org_id, event.llm_session_id)
    row = rows.get(CONSOLIDATIONS, key) or ConsolidationRow(*key)
    if recorded.position <= row.last_position:
        return
    row.last_position = recorded.position
    total = rows.get(TOTALS, TOTAL_KEY) or ConsolidationTotalRow()
    match event:
        case LlmSessionConsolidationStarted():
            total.backlog += row.started_at is None
            row.started_at = event.started_at
        case LlmSessionConsolidationFailed():
            row.failures, row.failed_at, row.reason = event.failures, event.failed_at, event.reason
            total.failures += 1
        case LlmSessionConsolidated():
            total.backlog -= row.started_at is not None
            row.started_at = row.failed_at = row.reason = None
            row.failures = 0
            row.generations, row.upto_position = event.generation, event.to_position
            row.completed_at = event.completed_at
            for one in (row, total):
                one.objects += len(event.objects)
                one.items += event.items
                one.bytes += event.bytes
            _fold_objects(rows, key, event)
    rows.put(CONSOLIDATIONS, row)
    total.last_position = recorded.position
    rows.put(TOTALS, total)


def _fold_objects(rows: Rows, key: tuple[UUID, str], event: LlmSessionConsolidated) -> None:
    for number, one in enumerate(event.objects):
        rows.put(
            OBJECTS,
            ConsolidatedObjectRow(
                org_id=key[0],
                llm_session_id=key[1],
                generation=event.generation,
                number=number,
                object_key=one.key,
                subagent_id=one.subagent_id,
                items=one.items,
                bytes=one.bytes,
                sha256=one.sha256,
                from_position=one.from_position,
                to_position=one.to_position,
            ),
        )


PROJECTION = Projection(
    "consolidation", 1, tables=(CONSOLIDATIONS, OBJECTS, TOTALS), ddl=DDL, touches=touches, fold=fold, reads=READS
)


class Place(msgspec.Struct, frozen=True, order=True):
    """One conversation of one organization."""

    org_id: UUID
    llm_session_id: str


class Sweep(msgspec.Struct, frozen=True):
    """What one look found: conversations whose items wait, and the last one looked at (None: there were no more)."""

    settled: list[Place]
    last: Place | None


# Each conversation is looked up by key: joined as a whole, the other tables would be read from end to end for every page.
_SWEEP = """
SELECT l.org_id, l.llm_session_id,
       l.last_recorded_at < $3 AND l.last_position > coalesce(c.upto_position, 0) AND c.started_at IS NULL
           AND (l.status = 'ended' OR s.status <> 'active') AS settled
  FROM (SELECT org_id, session_id, llm_session_id, status, last_recorded_at, last_position
          FROM crewkit.llm_session WHERE (org_id, llm_session_id) > ($1, $2)
         ORDER BY org_id, llm_session_id LIMIT $4) AS l
  LEFT JOIN LATERAL (SELECT upto_position, started_at FROM crewkit.consolidation
                      WHERE org_id = l.org_id AND llm_session_id = l.llm_session_id LIMIT 1) AS c ON true
  LEFT JOIN LATERAL (SELECT status FROM crewkit.session
                      WHERE org_id = l.org_id AND session_id = l.session_id LIMIT 1) AS s ON true
 ORDER BY l.org_id, l.llm_session_id
"""
_UNDER_WAY = """
SELECT org_id, llm_session_id, failures, failed_at FROM crewkit.consolidation
 WHERE started_at IS NOT NULL ORDER BY started_at LIMIT $1
"""


async def sweep(connection: Connection, after: Place, *, heard_before: datetime, rows: int) -> Sweep:
    """Look at the next `rows` conversations after `after`, of all organizations, as crewkit_worker.

    Settled is one that ended, or whose session did, of which the server heard nothing since `heard_before`, and which has
    items that no generation holds.
    """
    found = await connection.fetch(_SWEEP, after.org_id, after.llm_session_id, heard_before, rows)
    settled = [Place(row["org_id"], row["llm_session_id"]) for row in found if row["settled"]]
    last = Place(found[-1]["org_id"], found[-1]["llm_session_id"]) if len(found) == rows else None
    return Sweep(settled, last)


async def under_way(connection: Connection, at: datetime) -> list[Place]:
    """Conversations with a generation that was started and is due at `at`, longest waiting first, as crewkit_worker."""
    found = await connection.fetch(_UNDER_WAY, FOUND_MAX)
    return [
        Place(row["org_id"], row["llm_session_id"])
        for row in found
        if (due := streaming.retry_at(row["failures"], row["failed_at"])) is None or due <= at
    ]


async def stream_status(store: EventStore, org_id: UUID, llm_session_id: str) -> str:
    """The stream status of a conversation as the log has it now, whatever read models have seen of it."""
    decided = await store.read_stream(
        org_id, streaming.consolidation_stream(llm_session_id), limit=1, newest_first=True
    )
    items = await store.read_stream(org_id, Stream("LlmSession", llm_session_id), limit=1, newest_first=True)
    told = decided[0].event if decided else None
    upto = told.to_version if isinstance(told, LlmSessionConsolidated) else 0
    under_way = told is not None and not isinstance(told, LlmSessionConsolidated)
    return streaming.status_of(last=items[0].version if items else 0, upto=upto, consolidating=under_way)


_STATUSES = """
SELECT l.llm_session_id, l.last_position, coalesce(c.upto_position, 0) AS upto, c.started_at IS NOT NULL AS under_way,
       coalesce(c.generations, 0) AS generations, coalesce(c.objects, 0) AS objects, coalesce(c.items, 0) AS items,
       coalesce(c.bytes, 0) AS bytes, c.completed_at, coalesce(c.failures, 0) AS failures
  FROM crewkit.llm_session l
  LEFT JOIN crewkit.consolidation c ON c.org_id = l.org_id AND c.llm_session_id = l.llm_session_id
 WHERE l.org_id = $1 AND l.llm_session_id = ANY ($2)
"""


async def with_stream_status(connection: Connection, org_id: UUID, found: SessionDetail) -> SessionDetail:
    """The session with the stream status of each of its conversations, and what of them is consolidated."""
    rows = await connection.fetch(_STATUSES, org_id, [llm.id for llm in found.llm_sessions])
    told = {row["llm_session_id"]: row for row in rows}
    llms = [_told(llm, told[llm.id]) if llm.id in told else llm for llm in found.llm_sessions]
    return msgspec.structs.replace(found, llm_sessions=llms)


def _told(llm: LlmSessionDetail, row: Any) -> LlmSessionDetail:
    status = streaming.status_of(last=row["last_position"], upto=row["upto"], consolidating=row["under_way"])
    consolidated = ConsolidatedItems(
        generations=row["generations"],
        objects=row["objects"],
        items=row["items"],
        bytes=row["bytes"],
        completed_at=row["completed_at"],
        failures=row["failures"],
    )
    return msgspec.structs.replace(llm, stream_status=status, consolidated=consolidated)
