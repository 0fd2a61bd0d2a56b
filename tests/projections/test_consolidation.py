"""The read model of consolidation: applied twice it is the same, and totals are those of the rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.kernel import Event, Stream, tag_of
from domain.sessions.events import (
    ConsolidatedObject,
    LlmSessionConsolidated,
    LlmSessionConsolidationFailed,
    LlmSessionConsolidationStarted,
)
from eventstore.port import Meta, Recorded
from projections.base import Rows
from projections.consolidation import CONSOLIDATIONS, OBJECTS, PROJECTION, TOTALS, fold, touches

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
ORG, OTHER = UUID(int=1), UUID(int=2)


def started(session: str, generation: int = 1) -> Event:
    return LlmSessionConsolidationStarted(
        llm_session_id=session, generation=generation, after_version=0, to_version=3, started_at=AT
    )


def failed(session: str, failures: int) -> Event:
    return LlmSessionConsolidationFailed(
        llm_session_id=session, generation=1, reason="unavailable", failures=failures, failed_at=AT
    )


def completed(session: str, generation: int = 1, objects: int = 2) -> Event:
    kept = [
        ConsolidatedObject(
            key=f"items/{session}/{generation}/{n}",
            subagent_id=None if n == 0 else f"a{n}",
            items=2,
            bytes=10,
            sha256="s",
            lines_sha256="l",
            from_position=n,
            to_position=n + 10,
        )
        for n in range(objects)
    ]
    return LlmSessionConsolidated(
        llm_session_id=session,
        generation=generation,
        after_version=0,
        to_version=3,
        from_position=1,
        to_position=20 * generation,
        items=2 * objects,
        bytes=10 * objects,
        objects=kept,
        completed_at=AT,
    )


def recorded(events: list[tuple[UUID, Any]]) -> list[Recorded]:
    return [
        Recorded(
            position=position,
            org_id=org_id,
            stream_id=UUID(int=position),
            stream=Stream("Consolidation", event.llm_session_id),
            version=1,
            type=tag_of(type(event)),
            event_id=UUID(int=position),
            recorded_at=AT,
            data=b"{}",
            meta=Meta(),
            event=event,
        )
        for position, (org_id, event) in enumerate(events, 1)
    ]


LOG = recorded(
    [
        (ORG, started("one")),
        (ORG, started("two")),
        (OTHER, started("one")),
        (ORG, failed("two", 1)),
        (ORG, completed("one")),
        (ORG, failed("two", 2)),
        (ORG, started("one", 2)),
        (ORG, completed("one", 2, 1)),
    ]
)


def rows_of(log: list[Recorded], times: int = 1) -> Rows:
    rows = Rows()
    for event in log:
        for _ in range(times):
            fold(rows, event)
    return rows


def shown(rows: Rows) -> list[list[dict[str, Any]]]:
    return [[msgspec.structs.asdict(row) for row in rows.all(table)] for table in PROJECTION.tables]


def test_each_conversation_knows_its_generations_and_what_is_under_way() -> None:
    rows = rows_of(LOG)
    one, two, other = (rows.get(CONSOLIDATIONS, key) for key in ((ORG, "one"), (ORG, "two"), (OTHER, "one")))
    assert one is not None
    assert (one.generations, one.upto_position, one.objects, one.items, one.bytes) == (2, 40, 3, 6, 30)
    assert (one.started_at, one.completed_at, one.failures) == (None, AT, 0)
    assert two is not None
    assert (two.generations, two.started_at, two.failures, two.reason) == (0, AT, 2, "unavailable")
    assert other is not None
    assert (other.generations, other.started_at) == (0, AT)


def test_every_object_is_listed() -> None:
    found = sorted((row.generation, row.number, row.subagent_id, row.object_key) for row in rows_of(LOG).all(OBJECTS))
    assert found == [
        (1, 0, None, "items/one/1/0"),
        (1, 1, "a1", "items/one/1/1"),
        (2, 0, None, "items/one/2/0"),
    ]


def test_totals_count_everybody() -> None:
    [total] = rows_of(LOG).all(TOTALS)
    assert (total.objects, total.items, total.bytes, total.failures, total.backlog) == (3, 6, 30, 2, 2)


def test_applying_events_twice_changes_nothing() -> None:
    assert shown(rows_of(LOG, 2)) == shown(rows_of(LOG))
    assert shown(rows_of([*LOG, *LOG])) == shown(rows_of(LOG))


def test_only_rows_that_were_named_are_touched() -> None:
    for event in LOG:
        rows = Rows()
        fold(rows, event)
        written = {(table.name, table.key_of(row)) for table in PROJECTION.tables for row in rows.dirty(table)}
        assert written <= {(table.name, key) for table, key in touches(event)}
