"""The newest words about a session, folded in any batches, are shown to whom may see them and go dark with the person."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from domain.kernel import Sealed
from domain.summaries.decide import summary_stream
from domain.summaries.events import SessionSummarized
from eventstore.mapper import Mapper
from eventstore.memory import MemoryStore
from eventstore.port import Append, NewEvent
from eventstore.sealing import MemoryKeyRing
from projections.base import Rows
from projections.summaries import PROJECTION, SUMMARIES, fold, opened, touches
from schemas.insights import Written
from tests.domain.test_summaries import AT, PERSON, written
from tests.projections.session_facts import ORG

TEXT = Written(summary="It went well.", coaching_tips=[], recommendations=[], efficiency=[])


async def stored(*events: SessionSummarized) -> tuple[MemoryStore, MemoryKeyRing]:
    ring = MemoryKeyRing()
    store = MemoryStore(Mapper(ring))
    for event in events:
        said = msgspec.structs.replace(event, text=Sealed(PERSON, msgspec.json.encode(TEXT).decode()))
        wish = Append(org_id=ORG, stream=summary_stream(event.session_id), events=[NewEvent(said)], facts=True)
        await store.append(wish)
    return store, ring


def rows_of(events: list[Any], times: int = 1) -> list[Any]:
    rows = Rows()
    for recorded in events:
        for _ in range(times):
            assert list(touches(recorded)) == [(SUMMARIES, (ORG, "s1"))]
            fold(rows, recorded)
    return list(rows.all(SUMMARIES))


async def test_the_newest_words_are_kept_and_folding_twice_changes_nothing() -> None:
    store, _ = await stored(written(5, 1), written(9, 2))
    events = await store.read_all(0)
    [row] = rows_of(events)
    assert (row.facts_position, row.activity_at) == (9, AT + timedelta(minutes=2))
    assert rows_of(events, times=2) == [row]
    assert PROJECTION.reads == {SessionSummarized}


async def test_words_are_opened_and_say_whether_the_session_went_on() -> None:
    store, ring = await stored(written(5, 1))
    [row] = rows_of(await store.read_all(0))
    assert "well" not in str(row.text_box)
    shown = await opened(ring, row, AT + timedelta(minutes=1))
    assert (shown.written, shown.erased, shown.current) == (TEXT, False, True)
    assert (await opened(ring, row, AT + timedelta(minutes=2))).current is False


async def test_words_about_an_erased_person_are_dark_and_their_price_stays() -> None:
    store, ring = await stored(written(5, 1))
    [row] = rows_of(await store.read_all(0))
    await ring.destroy(ORG, PERSON)
    shown = await opened(ring, row, AT)
    assert (shown.written, shown.erased, shown.cost_usd_micros) == (None, True, 1)
