"""The sessions read model through the real runtime: live, rebuilt and folded independently it is the same; erased it is dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.kernel import Stream, fact_id
from domain.organizations.events import SubjectShredded
from domain.sessions.events import ChannelFact
from eventstore.port import Append, NewEvent, Recorded
from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from projections.base import Rows
from projections.sessions import PROJECTION
from projections.tables import describe_all
from tests.projections.session_facts import (
    ORG,
    PERSON,
    RECEIVED,
    Keyed,
    codex_rollout,
    hooks_of,
    otlp_of,
    transcript_of,
)
from tests.workers.tally import running, until
from workers.projector import rebuild, run_projector
from workers.projector.host import Workshop

pytestmark = pytest.mark.integration
NAME = "claude-0447534f"
Tables = dict[str, dict[Any, Any]]


@pytest.fixture
def settings(postgres_url: str, master_key_file: Path) -> Settings:
    """A projector that reads Postgres alone."""
    return Settings(database_url=postgres_url, nats_url="nats://127.0.0.1:9", key_file=str(master_key_file))


async def tell(store: PostgresStore, facts: list[Keyed]) -> int:
    """Append facts one by one in the given order; the head afterwards."""
    for key, fact in facts:
        stream = Stream("LlmSession", fact.llm_session_id)
        event = NewEvent(fact, fact_id(stream.uuid(ORG), key))
        await store.append(Append(org_id=ORG, stream=stream, events=[event], facts=True))
    return await store.head()


async def passed(shop: Workshop, position: int) -> None:
    """Wait until readers of sessions see `position`."""

    async def holds() -> bool:
        return bool(
            await shop.pool.fetchval(
                """SELECT c.position >= $1 FROM crewkit.checkpoint c JOIN crewkit.projection p
                       ON p.name = c.projection AND p.active_generation = c.generation WHERE p.name = 'sessions'""",
                position,
            )
        )

    await until(holds)


async def stored(shop: Workshop) -> Tables:
    """Every row that readers see, by table and key."""
    found: Tables = {}
    async with shop.pool.acquire() as connection:
        generation = await connection.fetchval(
            "SELECT active_generation FROM crewkit.projection WHERE name = 'sessions'"
        )
        for name, table in (await describe_all(connection, PROJECTION, generation)).items():
            keys = ", ".join(table.table.key)
            records = await connection.fetch(f"SELECT {keys} FROM crewkit.{table.name}")
            rows = await table.load(connection, [tuple(record) for record in records])
            found[name] = {table.table.key_of(row): msgspec.structs.asdict(row) for row in rows}
    return found


async def folded(shop: Workshop) -> Tables:
    """The log folded event by event, without the runtime."""
    projection, rows, after = PROJECTION.bound(shop.texts), Rows(), 0
    while page := (await shop.source().read(after, 500)).items:
        events = [item for item in page if isinstance(item, Recorded)]
        await shop.texts.prepare(events)
        for recorded in events:
            projection.fold(rows, recorded)
        after = events[-1].position
    return {
        table.name: {table.key_of(row): msgspec.structs.asdict(row) for row in rows.all(table)}
        for table in PROJECTION.tables
    }


async def test_live_rebuilt_and_independent_rows_are_equal(
    shop: Workshop, store: PostgresStore, settings: Settings
) -> None:
    facts = [*hooks_of(NAME), *transcript_of(NAME), *otlp_of(NAME), *codex_rollout()]
    middle = len(facts) // 2
    await tell(store, facts[:middle])
    async with running(run_projector(settings, wanted=[PROJECTION])):
        await passed(shop, await tell(store, facts[middle:]))
    live = await stored(shop)
    assert len(live["tool_call"]) >= 9
    assert any(row["text"] for row in live["prompt"].values())
    assert live == await folded(shop)
    await rebuild(settings, "sessions")
    assert await stored(shop) == live


async def test_an_erased_person_leaves_no_text_live_later_or_rebuilt(
    shop: Workshop, store: PostgresStore, settings: Settings
) -> None:
    told = hooks_of(NAME)
    first = next(n for n, (_, fact) in enumerate(told) if fact.kind == "UserPromptSubmit") + 1
    gone = SubjectShredded(person_id=PERSON, shredded_at=RECEIVED)
    async with running(run_projector(settings, wanted=[PROJECTION])):
        await passed(shop, await tell(store, told[:first]))
        assert [row["text"] is None for row in (await stored(shop))["prompt"].values()] == [False]
        await store.mapper.ring.destroy(ORG, PERSON)
        wish = Append(org_id=ORG, stream=Stream("Person", str(PERSON)), events=[NewEvent(gone)], facts=True)
        await passed(shop, (await store.append(wish)).position)
        assert [row["text"] for row in (await stored(shop))["prompt"].values()] == [None]
        # The turn's end writes the same row again: what the projector remembered must not come back.
        await passed(shop, await tell(store, told[first:]))
    live = await stored(shop)
    assert {row["text"] for row in live["prompt"].values()} == {None}
    assert live == await folded(shop)
    await rebuild(settings, "sessions")
    assert await stored(shop) == live


def test_the_projection_reads_every_channel() -> None:
    assert PROJECTION.reads is not None
    assert set(ChannelFact.__subclasses__()) <= PROJECTION.reads
