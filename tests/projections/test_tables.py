"""The generic SQL of read models: every kind of column comes back as it went in, by every path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from eventstore.database import API_ROLE, WORKER_ROLE, Pool, connect_pool, tenant
from projections import freshness, tables
from projections.base import Projection, Table

pytestmark = pytest.mark.integration

ORG, OTHER = uuid4(), uuid4()


class Money(msgspec.Struct):
    model: str
    pico_usd: int


class ThingRow(msgspec.Struct):
    """One column of each kind."""

    org_id: UUID
    name: str
    count: int
    share: float | None = None
    large: int = 0
    on: bool = False
    at: datetime | None = None
    tags: list[str] = []
    marks: list[int] | None = None
    parts: dict[str, Money] = {}
    raw: str | None = None
    note: str | None = None


THING = Table("thing", ThingRow, ("org_id", "name"))
DDL = """
CREATE TABLE crewkit.thing__g{g} (
    org_id uuid NOT NULL, name text NOT NULL, count bigint NOT NULL, share double precision, large numeric(40) NOT NULL,
    "on" boolean NOT NULL, at timestamptz, tags text[] NOT NULL, marks bigint[], parts jsonb NOT NULL, raw jsonb,
    note text, extra text DEFAULT 'untouched', PRIMARY KEY (org_id, name)
);
"""
PROJECTION = Projection("things", 1, tables=(THING,), ddl=DDL, touches=lambda _: (), fold=lambda _, __: None)
ROWS = [
    ThingRow(ORG, "plain", 1),
    ThingRow(
        ORG,
        "full",
        2**62,
        0.1,
        10**39,
        on=True,
        at=datetime(2026, 11, 20, 1, 2, 3, 456789, tzinfo=UTC),
        tags=["", "a,b", 'quo"te', "back\\slash", "NULL", "null", "{x}", " ü 🦊 "],
        marks=[1, -5],
        parts={"é\n": Money("m", 10**18)},
        raw='{"a": [1, null]}',
        note="line\nline",
    ),
    ThingRow(OTHER, "full", 3, marks=[]),
]


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    opened = await connect_pool(postgres_url, WORKER_ROLE, max_size=3)
    async with opened.acquire() as connection, connection.transaction():
        await tables.create_generation(connection, PROJECTION, 1)
        await tables.point_views(connection, PROJECTION, 1)
    yield opened
    await opened.close()


async def stored(pool: Pool) -> tables.StoredTable[ThingRow]:
    async with pool.acquire() as connection:
        return await tables.describe(connection, THING, 1)


@pytest.mark.parametrize("path", ["upsert", "copy"])
async def test_every_kind_of_value_comes_back(pool: Pool, path: str) -> None:
    table = await stored(pool)
    async with pool.acquire() as connection:
        await getattr(table, path)(connection, ROWS)
        found = await table.load(connection, [(row.org_id, row.name) for row in ROWS] + [(ORG, "absent")])
    assert sorted(found, key=lambda row: row.count) == sorted(ROWS, key=lambda row: row.count)


async def test_an_upsert_replaces_and_leaves_other_columns_alone(pool: Pool) -> None:
    table = await stored(pool)
    async with pool.acquire() as connection:
        await table.copy(connection, ROWS)
        changed = msgspec.structs.replace(ROWS[1], count=5, tags=[], parts={}, note=None)
        await table.upsert(connection, [changed])
        assert await table.load(connection, [(ORG, "full")]) == [changed]
        assert await connection.fetchval("SELECT count(*) FROM crewkit.thing WHERE extra = 'untouched'") == 3


async def test_text_that_postgres_cannot_store_is_shown_as_such(pool: Pool) -> None:
    table = await stored(pool)
    odd = ThingRow(
        ORG,
        "odd",
        1,
        note="a\x00b",
        tags=["\x00"],
        parts={"x\x00": Money("\x00", 1)},
        raw='{"a": "\\u0000", "b": "\\\\u0000"}',
    )
    async with pool.acquire() as connection:
        await table.upsert(connection, [odd])
        (found,) = await table.load(connection, [(ORG, "odd")])
    assert (found.note, found.tags) == ("a\ufffdb", ["\ufffd"])
    assert found.parts == {"x\ufffd": Money("\ufffd", 1)}
    assert msgspec.json.decode(found.raw or "") == {"a": "\ufffd", "b": "\\u0000"}


class PlainRow(msgspec.Struct, omit_defaults=True):
    """Only kinds of values that JSON keeps, with defaults that its text leaves out."""

    org_id: UUID
    name: str
    state: str = "it's on"
    count: int = 0
    on: bool = False
    large: int = 7
    tags: list[str] | None = None
    parts: dict[str, int] | None = None
    at: datetime | None = None
    note: str | None = None


PLAIN = Table("plain", PlainRow, ("org_id", "name"))
PLAIN_DDL = """
CREATE TABLE crewkit.plain__g{g} (
    note text, at timestamptz, extra text DEFAULT 'untouched', org_id uuid NOT NULL, name text NOT NULL, state text NOT NULL,
    count bigint NOT NULL, "on" boolean NOT NULL, large numeric(40) NOT NULL, tags text[], parts jsonb,
    PRIMARY KEY (org_id, name)
);
"""
PLAIN_ROWS = [
    PlainRow(ORG, "new"),
    PlainRow(
        ORG,
        "full",
        "off",
        2**62,
        on=True,
        large=10**39,
        tags=["", "a,b", 'quo"te', "NULL", " ü 🦊 "],
        parts={"é\n": 10**18},
        at=datetime(2026, 11, 20, 1, 2, 3, 456789, tzinfo=UTC),
        note="null",
    ),
    PlainRow(OTHER, "empty", "", tags=[], parts={}, note=""),
]


@pytest.fixture
async def plain(pool: Pool) -> tables.StoredTable[PlainRow]:
    made = Projection("plains", 1, tables=(PLAIN,), ddl=PLAIN_DDL, touches=lambda _: (), fold=lambda _, __: None)
    async with pool.acquire() as connection, connection.transaction():
        await tables.create_generation(connection, made, 1)
        return await tables.describe(connection, PLAIN, 1)


async def test_rows_written_as_json_equal_rows_written_as_columns(
    pool: Pool, plain: tables.StoredTable[PlainRow]
) -> None:
    keys = [(row.org_id, row.name) for row in PLAIN_ROWS]
    async with pool.acquire() as connection:
        await plain.copy(connection, PLAIN_ROWS)
        before = await plain.load(connection, keys)
        assert sorted(before, key=lambda row: row.name) == sorted(PLAIN_ROWS, key=lambda row: row.name)
        changed = [
            msgspec.structs.replace(row, name=other.name, org_id=other.org_id)
            for row, other in zip(PLAIN_ROWS, PLAIN_ROWS[1:] + PLAIN_ROWS[:1], strict=True)
        ]
        assert plain.as_json(changed) is not None
        await plain.upsert(connection, changed)
        after = await plain.load(connection, keys)
    assert sorted(after, key=lambda row: row.name) == sorted(changed, key=lambda row: row.name)


async def test_behind_a_closed_gate_nothing_is_written(pool: Pool, plain: tables.StoredTable[PlainRow]) -> None:
    text = plain.as_json(PLAIN_ROWS)
    async with pool.acquire() as connection:
        for word, written in (("false", 0), ("true", 3)):
            await connection.execute(f"WITH open AS (SELECT 1 WHERE {word}) {plain.upsert_from(1, 'open')}", text)
            assert len(await plain.load(connection, [(row.org_id, row.name) for row in PLAIN_ROWS])) == written


async def test_what_json_would_change_travels_as_columns(pool: Pool, plain: tables.StoredTable[PlainRow]) -> None:
    assert (await stored(pool)).as_json(ROWS) is None  # a fraction, and JSON kept as text
    assert plain.as_json([PlainRow(ORG, "odd", note="a\x00b")]) is None
    async with pool.acquire() as connection:
        await plain.upsert(connection, [PlainRow(ORG, "odd", note="a\x00b", parts={"\x00": 1})])
        (found,) = await plain.load(connection, [(ORG, "odd")])
    assert (found.note, found.parts) == ("a\ufffdb", {"\ufffd": 1})


def test_a_parents_key_begins_the_childs() -> None:
    assert Table("part", PlainRow, ("org_id", "name", "state"), parent=PLAIN).parent is PLAIN
    with pytest.raises(ValueError, match="does not begin"):
        Table("part", PlainRow, ("name", "org_id"), parent=PLAIN)


async def test_a_struct_that_does_not_fit_the_table_is_refused(pool: Pool) -> None:
    class Wider(ThingRow):
        missing: int = 0

    async with pool.acquire() as connection:
        with pytest.raises(LookupError, match="lacks the columns missing"):
            await tables.describe(connection, Table("thing", Wider, ("org_id", "name")), 1)
        with pytest.raises(LookupError, match="thing__g9 does not exist"):
            await tables.describe(connection, THING, 9)


async def test_the_api_reads_one_tenant_and_writes_nothing(pool: Pool, postgres_url: str) -> None:
    table = await stored(pool)
    async with pool.acquire() as connection:
        await table.upsert(connection, ROWS)
    api = await connect_pool(postgres_url, API_ROLE, max_size=2)
    try:
        for name in ("thing", "thing__g1"):
            assert await api.fetchval(f"SELECT count(*) FROM crewkit.{name}") == 0
            async with tenant(api, ORG) as connection:
                assert await connection.fetchval(f"SELECT count(*) FROM crewkit.{name}") == 2
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await api.execute(f"DELETE FROM crewkit.{name}")
    finally:
        await api.close()


async def test_a_view_takes_a_new_generation_of_another_shape(pool: Pool) -> None:
    other = DDL.replace("extra text DEFAULT 'untouched', ", "").replace("note text,", "note text, first_ text,")
    async with pool.acquire() as connection:
        async with connection.transaction():
            changed = Projection("things", 2, tables=(THING,), ddl=other, touches=lambda _: (), fold=lambda _, __: None)
            await tables.create_generation(connection, changed, 2)
            await tables.point_views(connection, changed, 2)
        await (await tables.describe(connection, THING, 2)).upsert(connection, ROWS[:1])
        assert (await connection.fetchrow("SELECT * FROM crewkit.thing"))["first_"] is None
        assert await connection.fetchval("SELECT count(*) FROM crewkit.thing__g1") == 0


async def test_ddl_that_forgets_a_table_is_refused(pool: Pool) -> None:
    forgetful = Projection("things", 2, tables=(THING,), ddl="SELECT 1", touches=lambda _: (), fold=lambda _, __: None)
    with pytest.raises(LookupError, match="does not create"):
        async with pool.acquire() as connection, connection.transaction():
            await tables.create_generation(connection, forgetful, 2)


async def _checkpoint(pool: Pool, **values: Any) -> None:
    await pool.execute("UPDATE crewkit.checkpoint SET position = $1, status = $2", values["at"], values["status"])


async def test_waiting_for_a_position(pool: Pool, postgres_url: str) -> None:
    await pool.execute("INSERT INTO crewkit.projection (name, version, active_generation) VALUES ('things', 1, 1)")
    await pool.execute("INSERT INTO crewkit.checkpoint (projection, generation, position) VALUES ('things', 1, 10)")
    assert await freshness.wait_for(pool, "things", 10, 5)
    assert not await freshness.wait_for(pool, "things", 11, 0.05)
    assert not await freshness.wait_for(pool, "nothing", 1, 0.05)
    import asyncio  # noqa: PLC0415

    waiting = [asyncio.create_task(freshness.wait_for(pool, "things", 11 + n % 3, 20)) for n in range(50)]
    await asyncio.sleep(0)
    await _checkpoint(pool, at=13, status="running")
    assert all(await asyncio.gather(*waiting))
    await _checkpoint(pool, at=13, status="failed")
    assert not await freshness.wait_for(pool, "things", 14, 20)  # at once: nothing will come

    async def no_poller() -> bool:
        return not freshness._watches

    while not await no_poller():
        await asyncio.sleep(0.01)
