"""Order between processes: two connections, several stores, and readers that never see a later event first."""

from __future__ import annotations

import asyncio

from eventstore.batch import Item, arguments, arrange
from eventstore.database import WORKER_ROLE, prepare_connection
from eventstore.port import Append, Status
from eventstore.sql import load
from tests.eventstore.doubles import facts, opened, pooled, wish


async def raw(wanted: Append) -> tuple[object, ...]:
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    data = [
        (
            "session.ended.v1",
            b'{"type":"session.ended.v1","session_id":"x","outcome":"","ended_at":"2026-11-20T12:00:00Z"}',
        )
    ]
    return arguments(arrange([Item(wanted, data * len(wanted.events), future, 0.0)]))  # type: ignore[arg-type]


async def test_a_later_append_waits_until_the_earlier_one_is_visible(postgres_url: str) -> None:
    async with opened(postgres_url, role=WORKER_ROLE) as store, pooled(postgres_url) as pool:
        async with pool.acquire() as first:
            await prepare_connection(first)
            transaction = first.transaction()
            await transaction.start()
            rows = await first.fetch(load("append"), *await raw(wish("slow")))
            assert (rows[0]["state"], rows[0]["last"]) == (0, 1)
            second = asyncio.create_task(store.append(wish("quick")))
            await asyncio.sleep(0.1)
            assert await store.read_all(0) == []  # position 2 is not seen before position 1
            assert not second.done()
            await transaction.commit()
        assert (await second).position == 2
        assert [e.stream.id for e in await store.read_all(0)] == ["slow", "quick"]


async def test_a_rolled_back_append_leaves_no_hole(postgres_url: str) -> None:
    async with opened(postgres_url, role=WORKER_ROLE) as store, pooled(postgres_url) as pool:
        async with pool.acquire() as first:
            transaction = first.transaction()
            await transaction.start()
            await first.fetch(load("append"), *await raw(wish("never")))
            await transaction.rollback()
        assert (await store.append(wish("real"))).position == 1


async def test_a_transaction_that_read_before_still_appends_after_the_others(postgres_url: str) -> None:
    """Under READ COMMITTED each statement sees what was committed before it, also inside the function."""
    async with (
        opened(postgres_url, role=WORKER_ROLE) as store,
        pooled(postgres_url) as pool,
        pool.acquire() as first,
        first.transaction(),
    ):
        assert await first.fetchval("SELECT count(*) FROM crewkit.event") == 0
        await store.append(wish("other", count=3))
        rows = await first.fetch(load("append"), *await raw(wish("mine")))
        assert rows[0]["last"] == 4


async def test_four_processes_and_a_tail(postgres_url: str) -> None:
    stores = [opened(postgres_url, role=WORKER_ROLE) for _ in range(4)]
    opens = [await store.__aenter__() for store in stores]
    seen: list[int] = []
    total = 4 * 16 * 10 + 20

    async def tail() -> None:
        while len(seen) < total:
            seen.extend(e.position for e in await opens[0].read_all(seen[-1] if seen else 0, 50))
            await asyncio.sleep(0)

    async def caller(number: int, name: int) -> None:
        for turn in range(10):
            outcome = await opens[number].append(wish(f"{number}-{name}", expected=turn))
            assert outcome.status is Status.OK
            await opens[number].append(facts("shared", turn, turn + 10))

    async with asyncio.timeout(60):
        await asyncio.gather(tail(), *(caller(n, name) for n in range(4) for name in range(16)))
    assert seen == list(range(1, total + 1))
    for store in stores:
        await store.__aexit__(None, None, None)
