"""The sessions tables and queries in a real Postgres, read as the API's role."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from domain.kernel import Sealed, Stream
from domain.organizations.events import SubjectShredded
from domain.sessions.events import Context, HookRecorded
from domain.sessions.reading import observe
from eventstore.database import API_ROLE, WORKER_ROLE, connect_pool, tenant
from eventstore.mapper import Mapper
from eventstore.memory import MemoryStore
from eventstore.port import Append, NewEvent
from eventstore.sealing import MemoryKeyRing
from projections import directory
from projections.base import Rows
from projections.sessions import list_price
from projections.sessions.fold import build
from projections.sessions.items import items
from projections.sessions.queries import (
    CursorError,
    SessionFilter,
    list_sessions,
    organization_live,
    session_detail,
    session_hierarchy,
    session_live,
    stale_sessions,
)
from projections.sessions.tables import MODEL_CALL, SESSION, TABLES, LlmSessionRow, SessionRow
from projections.sessions.totals import TOTALS, CallTotals, totals_of
from projections.tables import create_generation, describe_all, point_views
from tests.projections.session_facts import (
    ORG,
    PERSON,
    RECEIVED,
    fold_all,
    hooks_of,
    open_plain,
    otlp_of,
    recorded,
    snapshot,
    transcript_of,
)

pytestmark = pytest.mark.integration
READ = build(observe, list_price, open_plain)
NAMES = ["claude-0447534f", "claude-840b8813", "claude-d9f5b624", "claude-ebe32a83"]
DEMO = "0447534f-4168-45f3-a089-5808b6b5dc70"
OTHER = UUID("00000000-0000-4000-8000-000000000002")


def demo_rows() -> Rows:
    context = Context(repo="acme/app", branch="main", commit="abc", project="app")
    facts = [f for name in NAMES for f in [*hooks_of(name, context=context), *otlp_of(name), *transcript_of(name)]]
    return fold_all(READ, recorded(facts), batch=100)


async def write(connection: Any, rows: Rows) -> None:
    stored = await describe_all(connection, READ, 1)
    for table in TABLES:
        await stored[table.name].upsert(connection, list(rows.all(table)))


@pytest.fixture
async def worker(postgres_url: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await connect_pool(postgres_url, WORKER_ROLE, max_size=2)
    async with pool.acquire() as connection, connection.transaction():
        for projection in (READ, directory.PROJECTION):
            await create_generation(connection, projection, 1)
            await point_views(connection, projection, 1)
        await write(connection, demo_rows())
    yield pool
    await pool.close()


@pytest.fixture
async def api(postgres_url: str, worker: asyncpg.Pool) -> AsyncIterator[asyncpg.Pool]:
    pool = await connect_pool(postgres_url, API_ROLE, max_size=2)
    yield pool
    await pool.close()


async def test_every_column_exists_and_rows_come_back_as_they_were(api: asyncpg.Pool, worker: asyncpg.Pool) -> None:
    rows, loaded = demo_rows(), Rows()
    async with worker.acquire() as connection:
        stored = await describe_all(connection, READ, 1)
        for table in TABLES:
            columns = {column.name for column in stored[table.name].columns}
            assert columns == set(table.columns)
            for row in await stored[table.name].load(connection, [table.key_of(row) for row in rows.all(table)]):
                loaded.remember(table, row)
    assert snapshot(loaded) == snapshot(rows)


async def test_the_list_shows_totals_and_pages_by_cursor(api: asyncpg.Pool) -> None:
    async with tenant(api, ORG) as connection:
        whole = await list_sessions(connection, ORG, SessionFilter())
        assert [item.cost_usd_micros for item in whole.items] == [20_348, 20_348, 25_160, 82_936]
        assert whole.next_cursor is None
        demo = whole.items[-1]
        assert demo.id == DEMO
        assert demo.title == "CREWKIT-DEMO with tasks"
        assert (demo.counts.tool_calls, demo.counts.model_calls, demo.counts.subagents) == (9, 10, 1)
        assert (demo.repo, demo.models, demo.cost_verdict) == ("acme/app", ["claude-opus-5-5"], "agrees")
        seen: list[str] = []
        cursor = None
        for _ in range(4):
            page = await list_sessions(connection, ORG, SessionFilter(), cursor=cursor, limit=1)
            seen += [item.id for item in page.items]
            cursor = page.next_cursor
        assert cursor is None
        assert seen == [item.id for item in whole.items]
        with pytest.raises(CursorError):
            await list_sessions(connection, ORG, SessionFilter(), cursor="!nonsense")


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (SessionFilter(status="ended"), 4),
        (SessionFilter(status="active"), 0),
        (SessionFilter(outcome="completed", agent="claude"), 4),
        (SessionFilter(repo="acme/app", branch="main", project="app"), 4),
        (SessionFilter(repo="acme/app"), 4),
        (SessionFilter(branch="master"), 0),
        (SessionFilter(person_id=PERSON), 4),
        (SessionFilter(person_id=OTHER), 0),
        (SessionFilter(model="claude-opus-5-5"), 4),
        (SessionFilter(model="gpt-5.5"), 0),
        (SessionFilter(text="demo"), 1),
        (SessionFilter(text="with TASK"), 1),
        (SessionFilter(text="acme"), 4),
        (SessionFilter(text="%"), 0),
        (SessionFilter(text=DEMO[:8]), 1),
        (SessionFilter(text="' & | ! :*"), 0),
        (SessionFilter(since=RECEIVED), 0),
        (SessionFilter(until=RECEIVED), 4),
    ],
)
async def test_filters(api: asyncpg.Pool, filters: SessionFilter, found: int) -> None:
    async with tenant(api, ORG) as connection:
        page = await list_sessions(connection, ORG, filters)
    assert len(page.items) == found


async def test_the_detail_has_the_tree_and_the_verdict(api: asyncpg.Pool) -> None:
    async with tenant(api, ORG) as connection:
        shown = await session_detail(connection, ORG, DEMO)
        tree = await session_hierarchy(connection, ORG, DEMO)
        now = await session_live(connection, ORG, DEMO)
        assert await session_detail(connection, ORG, "nobody") is None
    assert shown
    (llm,) = shown.llm_sessions
    assert llm.cost.reconciliation.verdict == "agrees"
    assert llm.cost.reconciliation.sources == ["telemetry", "transcript", "priced"]
    assert {(t.name, t.calls, t.failed) for t in llm.tools} >= {("Bash", 3, 1), ("TaskCreate", 1, 1), ("Write", 1, 0)}
    (subagent,) = llm.subagents
    assert (subagent.model_calls, subagent.tool_calls, subagent.cost_usd_micros) == (2, 1, 25_060)
    assert [(m.model, m.calls, m.telemetry_usd_micros) for m in llm.by_model] == [("claude-opus-5-5", 10, 82_936)]
    assert llm.facts["hook"] == 32
    assert tree
    assert tree.children[0].children[0].id == subagent.agent_id
    assert now
    assert (now.status, now.running_tools, now.turn_state) == ("ended", [], "stopped")
    msgspec.json.encode([shown, tree, now])


async def test_sql_and_memory_count_the_same_calls(api: asyncpg.Pool) -> None:
    rows = demo_rows()
    async with tenant(api, ORG) as connection:
        found = [CallTotals(*record) for record in await connection.fetch(TOTALS, ORG, [DEMO])]
    assert found == totals_of(rows, DEMO)


async def test_a_change_of_model_between_calls_of_the_main_thread_is_a_switch(
    api: asyncpg.Pool, worker: asyncpg.Pool
) -> None:
    rows = demo_rows()
    mine = [row for row in rows.all(MODEL_CALL) if row.llm_session_id == DEMO]
    main = sorted((row for row in mine if row.agent_id is None), key=lambda row: row.at)
    for row in mine:
        if row.agent_id is not None:
            row.model = "claude-haiku-5-5"  # a subagent's own choice
    main[-1].model = "claude-sonnet-5-5"
    main[1].model, main[1].query_source = "claude-haiku-5-5", "compact"
    async with worker.acquire() as connection:
        await write(connection, rows)
    async with tenant(api, ORG) as connection:
        found = await session_detail(connection, ORG, DEMO)
    assert found is not None
    assert found.session.counts.model_switches == 1


async def test_another_tenant_sees_nothing(api: asyncpg.Pool) -> None:
    async with tenant(api, OTHER) as connection:
        assert (await list_sessions(connection, ORG, SessionFilter())).items == []
        assert (await list_sessions(connection, OTHER, SessionFilter(text="demo"))).items == []
        assert await session_detail(connection, ORG, DEMO) is None
        assert (await organization_live(connection, OTHER)).today_sessions == 0


async def test_an_organization_now(api: asyncpg.Pool) -> None:
    async with tenant(api, ORG) as connection:
        now = await organization_live(connection, ORG)
    assert now.active_sessions == 0


async def test_erasing_a_person_takes_titles_away(api: asyncpg.Pool, worker: asyncpg.Pool) -> None:
    shredded = SubjectShredded(person_id=PERSON, shredded_at=RECEIVED)
    async with worker.acquire() as connection:
        stored = await describe_all(connection, directory.PROJECTION, 1)
        row = directory.PersonRow(org_id=ORG, person_id=shredded.person_id, shredded_at=shredded.shredded_at)
        await stored["person"].upsert(connection, [row])
    async with tenant(api, ORG) as connection:
        assert {item.title for item in (await list_sessions(connection, ORG, SessionFilter())).items} == {None}
        assert (await list_sessions(connection, ORG, SessionFilter(text="demo"))).items == []
    async with worker.acquire() as connection:
        await connection.execute((READ.erase or "").replace("{g}", "1"), ORG, PERSON)
        assert await connection.fetchval("SELECT count(*) FROM crewkit.prompt WHERE text IS NOT NULL") == 0


async def test_stale_sessions_are_those_not_heard_of(api: asyncpg.Pool, worker: asyncpg.Pool) -> None:
    async with worker.acquire() as connection:
        stored = await describe_all(connection, READ, 1)
        heard = RECEIVED + timedelta(hours=1)
        row = SessionRow(ORG, "s1", visible=True, last_activity_at=RECEIVED, last_recorded_at=heard, llm_sessions=1)
        await stored["session"].upsert(connection, [row])
        assert await stale_sessions(connection, heard) == []
        assert [s.session_id for s in await stale_sessions(connection, heard + timedelta(seconds=1))] == ["s1"]


async def test_list_filters_use_their_indexes(api: asyncpg.Pool, worker: asyncpg.Pool) -> None:
    """With many sessions a page is an index range, also behind row-level security; only within a slot is it sorted."""
    async with worker.acquire() as connection:
        stored = await describe_all(connection, READ, 1)
        many = [
            SessionRow(
                ORG,
                f"s{n:05}",
                visible=True,
                repo=f"acme/r{n % 50}",
                last_activity_at=RECEIVED - timedelta(seconds=n),
                seen_last_at=RECEIVED,
                llm_sessions=1,
            )
            for n in range(5_000)
        ]
        await stored["session"].upsert(connection, many)
        llms = [LlmSessionRow(ORG, row.session_id, row.session_id, "claude") for row in many]
        await stored["llm_session"].upsert(connection, llms)
        await connection.execute("ANALYZE crewkit.session__g1")
    async with tenant(api, ORG) as connection:
        for where, values in (("", []), (" AND repo = $4", ["acme/r7"])):
            plan = await connection.fetch(
                "EXPLAIN SELECT session_id FROM crewkit.session WHERE org_id = $1 AND visible"
                " AND (active_slot, last_activity_at, session_id)"
                " < (date_bin('10 minutes', $2::timestamptz, timestamptz '2000-01-01 00:00:00+00'), $2, $3)"
                f"{where} ORDER BY active_slot DESC, last_activity_at DESC, session_id DESC LIMIT 50",
                ORG,
                RECEIVED - timedelta(seconds=2_000),
                "x",
                *values,
            )
            text = "\n".join(record[0] for record in plan)
            assert "Index" in text, text
            assert "Presorted Key: session__g1.active_slot" in text, text
            condition = next(line for line in text.splitlines() if "Index Cond" in line)
            assert "active_slot" in condition, text
        page = await list_sessions(connection, ORG, SessionFilter(repo="acme/r7"), limit=20)
        assert [item.id for item in page.items] == [f"s{n:05}" for n in range(7, 1_000, 50)]


async def test_items_come_from_the_stream_and_go_dark_with_the_key() -> None:
    ring = MemoryKeyRing()
    store = MemoryStore(Mapper(ring))
    stream = Stream("LlmSession", "L1")
    await ring.prepare(ORG, [PERSON])
    facts = [
        HookRecorded(
            agent="claude",
            llm_session_id="L1",
            kind="PreToolUse",
            occurred_at=RECEIVED,
            person_id=PERSON,
            attrs={"tool_use_id": f"t{n}"} | ({"agent_id": "a1"} if n % 3 == 0 else {}),
            content=Sealed(PERSON, json.dumps({"tool_input": {"n": n}})),
        )
        for n in range(10)
    ]
    await store.append(Append(org_id=ORG, stream=stream, events=[NewEvent(fact) for fact in facts], facts=True))
    page = await items(store, ring, ORG, "L1", limit=4)
    assert [item.content for item in page.items] == [{"tool_input": {"n": n}} for n in range(4)]
    assert page.more
    rest = await items(store, ring, ORG, "L1", after=page.next_cursor, limit=100)
    assert (len(rest.items), rest.more) == (6, False)
    again = await items(store, ring, ORG, "L1", after=rest.next_cursor)
    assert (again.items, again.more, again.next_cursor) == ([], False, rest.next_cursor)
    mine = await items(store, ring, ORG, "L1", subagent_id="a1", limit=2)
    assert [item.attrs["tool_use_id"] for item in mine.items] == ["t0", "t3"]
    assert mine.more
    with pytest.raises(CursorError):
        await items(store, ring, ORG, "L1", after="nonsense")
    await ring.destroy(ORG, PERSON)
    dark = await items(store, ring, ORG, "L1", limit=2)
    assert [(item.content, item.erased) for item in dark.items] == [(None, True), (None, True)]
    assert SESSION.name == "session"
