"""Leaves of the log are made ahead, and facts are recognised across them."""

from __future__ import annotations

import asyncio
import itertools

import asyncpg
import pytest

from eventstore.database import WORKER_ROLE
from eventstore.port import AppendRefusedError
from tests.eventstore.doubles import ORG, facts, opened, pooled, stream, wish


@pytest.fixture
async def small_leaves_url(postgres_url: str) -> str:
    """Every leaf after the first has 10 events; the first is replaced by one of 10."""
    async with pooled(postgres_url) as pool:
        name = await pool.fetchval("SELECT name FROM crewkit.leaf")
        await pool.execute(f"DROP TABLE crewkit.{name}")
        await pool.execute("DELETE FROM crewkit.leaf; UPDATE crewkit.layout SET leaf_events = 10")
    return postgres_url


async def test_the_log_grows_over_many_leaves_without_a_gap(small_leaves_url: str) -> None:
    async with opened(small_leaves_url, role=WORKER_ROLE) as store:
        for turn in range(5):
            await store.append(wish("a", count=7, expected=7 * turn))
        await store.append(wish("b", count=45))  # more than four leaves at once
        assert [e.position for e in await store.read_all(0)] == list(range(1, 81))
        assert [e.version for e in await store.read_stream(ORG, stream("a"))] == list(range(1, 36))
        assert [e.version for e in await store.read_stream(ORG, stream("a"), newest_first=True)] == list(
            range(35, 0, -1)
        )
        assert (await store.find(ORG, stream=stream("b"), newest_first=True))[0].position == 80
        for position in (1, 10, 11, 80):
            (event,) = await store.read_all(position - 1, 1)
            assert await store.read_one(ORG, event.event_id) == event
        times = [e.recorded_at for e in await store.read_all(0)]
        assert await store.position_at(times[-1]) == 80
    async with pooled(small_leaves_url) as pool:
        room = await pool.fetchval("SELECT max(to_position) FROM crewkit.leaf")
        assert room - 80 > 5, "the next leaf is made before this one is full"
        bounds = await pool.fetch("SELECT from_position, to_position FROM crewkit.leaf ORDER BY 1")
        assert all(a["to_position"] == b["from_position"] for a, b in itertools.pairwise(bounds))


async def test_facts_are_recognised_in_older_leaves(small_leaves_url: str) -> None:
    async with opened(small_leaves_url, role=WORKER_ROLE) as store:
        await store.append(facts("s", *range(5)))
        await store.append(wish("filler", count=40))
        outcome = await store.append(facts("s", 3, 99, 0))
        assert outcome.duplicates == (0, 2)
        assert (outcome.version, outcome.position) == (6, 46)


async def test_new_leaves_keep_the_promises_of_old_ones(small_leaves_url: str) -> None:
    async with opened(small_leaves_url, role=WORKER_ROLE) as store:
        await store.append(wish("a", count=25))
        (event,) = await store.read_all(24)
        twin = wish("b")
        twin.events[0] = type(twin.events[0])(twin.events[0].event, event.event_id)  # type: ignore[index]
        with pytest.raises(AppendRefusedError):
            await store.append(twin)
    async with pooled(small_leaves_url) as pool:
        leaves = [row["name"] for row in await pool.fetch("SELECT name FROM crewkit.leaf")]
        for leaf in leaves:
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await pool.execute(f"TRUNCATE crewkit.{leaf}")
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await pool.execute("DELETE FROM crewkit.event WHERE position = 25")


async def test_readers_do_not_block_the_making_of_leaves(small_leaves_url: str) -> None:
    async with opened(small_leaves_url, role=WORKER_ROLE) as store, pooled(small_leaves_url) as pool:
        await store.append(wish("a"))
        async with pool.acquire() as reader, reader.transaction():
            await reader.fetch("SELECT * FROM crewkit.event")  # holds its lock until the transaction ends
            async with asyncio.timeout(5):
                assert (await store.append(wish("b", count=50))).position == 51
