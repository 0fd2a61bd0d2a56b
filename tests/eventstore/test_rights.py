"""What must be impossible: changing an event, writing around the append function, seeing another tenant."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest

from eventstore.database import API_ROLE, WORKER_ROLE, tenant
from tests.eventstore.doubles import ORG, OTHER_ORG, opened, pooled, stream, wish

CHANGES = ["UPDATE {t} SET type = 'x'", "DELETE FROM {t}", "TRUNCATE {t}"]


@pytest.fixture
async def filled_url(postgres_url: str) -> str:
    async with opened(postgres_url) as store:
        await store.append(wish("a"))
        await store.append(wish("b", org_id=OTHER_ORG))
    return postgres_url


@pytest.mark.parametrize("change", CHANGES)
async def test_not_even_the_owner_changes_events(filled_url: str, change: str) -> None:
    async with pooled(filled_url) as pool, opened(filled_url) as store:
        await pool.execute("UPDATE crewkit.layout SET leaf_events = 2")
        await pool.execute("SELECT crewkit.make_room(50000000)")  # past the end of the first leaf
        leaves = [row[0] for row in await pool.fetch("SELECT name FROM crewkit.leaf ORDER BY name")]
        assert len(leaves) > 1
        await pool.execute(
            "INSERT INTO crewkit.event SELECT 50000001, org_id, gen_random_uuid(), 1, type, gen_random_uuid(), recorded_at, "
            "data, meta FROM crewkit.event WHERE position = 1"
        )
        for table in ("event", *leaves[:2]):
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await pool.execute(change.format(t=f"crewkit.{table}"))
        assert await pool.fetchval("SELECT count(*) FROM crewkit.event") == 3
        assert await store.head() == 50_000_001


@pytest.mark.parametrize("role", [API_ROLE, WORKER_ROLE])
@pytest.mark.parametrize(
    "statement",
    [
        *(change.format(t="crewkit.event") for change in CHANGES),
        "INSERT INTO crewkit.event SELECT 9, org_id, stream_id, 9, type, event_id, recorded_at, data, meta FROM crewkit.event",
        "UPDATE crewkit.stream SET version = 9",
        "DELETE FROM crewkit.stream",
        "DELETE FROM crewkit.receipt",
        "DELETE FROM crewkit.claim",
        "DELETE FROM crewkit.subject_key",
        "SELECT crewkit.make_leaf()",
        "SELECT crewkit.make_room(1)",
        "UPDATE crewkit.layout SET leaf_events = 1",
        "UPDATE crewkit.receipt SET version = 9",
        "INSERT INTO crewkit.claim SELECT 'a', 'b', org_id, stream_id FROM crewkit.stream",
        "DELETE FROM crewkit.ingest_batch",
        "UPDATE crewkit.event_0000000000000001 SET type = 'x'",
        "DELETE FROM crewkit.event_0000000000000001",
        "TRUNCATE crewkit.event_0000000000000001",
        "ALTER TABLE crewkit.event DETACH PARTITION crewkit.event_0000000000000001",
        "SELECT * FROM crewkit.event_0000000000000001",
        "ALTER TABLE crewkit.event DISABLE TRIGGER ALL",
        "DROP TABLE crewkit.event",
    ],
)
async def test_the_roles_of_processes_only_append(filled_url: str, role: str, statement: str) -> None:
    async with pooled(filled_url, role) as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE crewkit.checkpoint SET position = 0",
        "UPDATE crewkit.relay SET position = 0",
        "SELECT * FROM crewkit.receipt",
        "SELECT * FROM crewkit.claim",
        "CREATE TABLE crewkit.mine (a int)",
        "SELECT crewkit.prune_receipts('30 days', 1)",
        "SELECT crewkit.prune_batches('30 days', 1)",
    ],
)
async def test_the_api_writes_no_read_models(filled_url: str, statement: str) -> None:
    async with pooled(filled_url, API_ROLE) as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


async def test_the_api_sees_one_tenant_and_without_one_nothing(filled_url: str) -> None:
    async with pooled(filled_url, API_ROLE) as pool:
        for table in ("event", "stream"):
            assert await pool.fetchval(f"SELECT count(*) FROM crewkit.{table}") == 0
            for org_id in (ORG, OTHER_ORG):
                async with tenant(pool, org_id) as connection:
                    assert [r[0] for r in await connection.fetch(f"SELECT org_id FROM crewkit.{table}")] == [org_id]
            async with tenant(pool, uuid4()) as connection:
                assert await connection.fetch(f"SELECT org_id FROM crewkit.{table}") == []
            # the setting ends with its transaction
            assert await pool.fetchval(f"SELECT count(*) FROM crewkit.{table}") == 0


async def test_the_api_keeps_keys_of_its_tenant_only(filled_url: str) -> None:
    async with pooled(filled_url, API_ROLE) as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with tenant(pool, ORG) as connection:
                await connection.execute(
                    "INSERT INTO crewkit.subject_key (org_id, subject, wrapped) VALUES ($1, $1, '')", OTHER_ORG
                )


@pytest.mark.parametrize("role", [None, API_ROLE, WORKER_ROLE])
@pytest.mark.parametrize(
    "change",
    [
        "wrapped = 'b'",  # another key in its place
        "wrapped = 'b', destroyed_at = NULL",
        "subject = gen_random_uuid(), wrapped = NULL, destroyed_at = clock_timestamp()",
    ],
)
async def test_a_key_is_only_ever_emptied_and_never_comes_back(
    postgres_url: str, role: str | None, change: str
) -> None:
    async with pooled(postgres_url, role) as pool:
        async with tenant(pool, ORG) as connection:
            await connection.execute(
                "INSERT INTO crewkit.subject_key (org_id, subject, wrapped) VALUES ($1, $1, 'a')", ORG
            )
        for emptied in (False, True):
            if emptied:
                async with tenant(pool, ORG) as connection:
                    await connection.execute(
                        "UPDATE crewkit.subject_key SET wrapped = NULL, destroyed_at = clock_timestamp()"
                    )
            with pytest.raises(asyncpg.RestrictViolationError, match="only ever emptied"):
                async with tenant(pool, ORG) as connection:
                    await connection.execute(f"UPDATE crewkit.subject_key SET {change}")


async def test_a_worker_forgets_old_receipts_and_never_young_ones(filled_url: str) -> None:
    async with pooled(filled_url) as owner, pooled(filled_url, WORKER_ROLE) as pool:
        await owner.execute(
            "INSERT INTO crewkit.receipt SELECT $1, n::text, $1, 1, 1, clock_timestamp() - make_interval(hours => n) "
            "FROM unnest(ARRAY[1, 23, 25, 49, 50]) n",
            ORG,
        )
        assert await pool.fetchval("SELECT crewkit.prune_receipts('2 days', 1)") == 1
        assert await pool.fetchval("SELECT crewkit.prune_receipts('0 days', 10)") == 2
        assert [row[0] for row in await owner.fetch("SELECT command_id FROM crewkit.receipt ORDER BY 1")] == ["1", "23"]


async def test_the_store_as_the_api_reads_its_tenant_only(filled_url: str) -> None:
    async with opened(filled_url) as store:
        assert [e.position for e in await store.read_all(0, org_id=ORG)] == [1]
        assert [e.position for e in await store.read_all(0, org_id=OTHER_ORG)] == [2]
        assert len(await store.read_stream(ORG, stream("a"))) == 1
        assert await store.read_stream(ORG, stream("b")) == []
        assert await store.head() == 2
        (event,) = await store.find(ORG)
        assert await store.read_one(OTHER_ORG, event.event_id) is None
        with pytest.raises(PermissionError, match="crewkit_worker"):
            await store.read_all(0)


async def test_a_worker_reads_everything(filled_url: str) -> None:
    async with opened(filled_url, role=WORKER_ROLE) as store:
        assert [e.position for e in await store.read_all(0)] == [1, 2]


async def test_json_is_bytes_both_ways(filled_url: str) -> None:
    async with pooled(filled_url) as pool:
        for kind in ("json", "jsonb"):
            for value in (b'{"a": 1}', '{"a": 1}'):
                assert await pool.fetchval(f"SELECT $1::{kind}", value) == b'{"a": 1}'
            assert await pool.fetchval(f"SELECT $1::{kind}[]", [b"[]", None]) == [b"[]", None]
