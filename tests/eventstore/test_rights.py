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
    async with pooled(filled_url) as pool:
        leaf = await pool.fetchval("SELECT name FROM crewkit.leaf LIMIT 1")
        for table in ("crewkit.event", f"crewkit.{leaf}"):
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await pool.execute(change.format(t=table))
        assert await pool.fetchval("SELECT count(*) FROM crewkit.event") == 2


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
        "UPDATE crewkit.layout SET leaf_events = 1",
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
