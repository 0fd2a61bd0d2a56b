"""What the names of batches promise: the same name stands for the same facts, in one organization, in memory and in Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from eventstore.batches import Batches, MemoryBatches, PostgresBatches
from eventstore.database import API_ROLE
from eventstore.port import StoreUnavailableError
from tests.eventstore.doubles import pooled

ORG, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
async def batches(request: pytest.FixtureRequest) -> AsyncIterator[Batches]:
    if request.param == "memory":
        yield MemoryBatches()
        return
    async with pooled(request.getfixturevalue("postgres_url"), API_ROLE) as pool:
        yield PostgresBatches(pool)


async def test_a_name_may_be_used_again_for_the_same(batches: Batches) -> None:
    for _ in range(2):
        assert await batches.reused(ORG, {"b": b"1"}) == set()
        assert await batches.note(ORG, {"b": b"1"}) == set()


async def test_a_name_that_stands_for_something_else_is_told(batches: Batches) -> None:
    await batches.note(ORG, {"a": b"1", "b": b"2"})
    assert await batches.reused(ORG, {"a": b"1", "b": b"3", "c": b"4"}) == {"b"}
    assert await batches.note(ORG, {"b": b"3"}) == {"b"}
    assert await batches.reused(ORG, {"b": b"2"}) == set()  # the first meaning stays


async def test_asking_notes_nothing(batches: Batches) -> None:
    await batches.reused(ORG, {"b": b"1"})
    assert await batches.note(ORG, {"b": b"2"}) == set()


async def test_organizations_have_names_of_their_own(batches: Batches) -> None:
    await batches.note(ORG, {"b": b"1"})
    assert await batches.note(OTHER, {"b": b"2"}) == set()


async def test_of_two_at_the_same_time_one_is_told(batches: Batches) -> None:
    told = await asyncio.gather(*(batches.note(ORG, {"x": digest, "y": digest}) for digest in (b"1", b"2")))
    assert sorted(map(len, told)) == [0, 2]


@pytest.mark.integration
async def test_the_table_is_nobodys_to_touch(postgres_url: str) -> None:
    async with pooled(postgres_url, API_ROLE) as pool:
        for statement in ("SELECT * FROM crewkit.ingest_batch", "DELETE FROM crewkit.ingest_batch"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(statement)
        batches = PostgresBatches(pool)
    with pytest.raises(StoreUnavailableError):
        await batches.note(ORG, {"b": b"1"})
