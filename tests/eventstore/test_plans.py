"""The plans of the statements that must stay fast when the log is large.

Seeded with enough events that the planner's choice means something; checked both with and without statistics, because the log
grows faster than ANALYZE comes.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from eventstore.database import API_ROLE, Pool
from eventstore.sql import load
from tests.eventstore.doubles import ORG, opened, pooled, stream, wish

SEED = 30


@pytest.fixture(params=["young", "analyzed"])
async def seeded_url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    async with opened(postgres_url) as store:
        for number in range(SEED):
            await store.append(wish(number, count=500))
    if request.param == "analyzed":
        async with pooled(postgres_url) as pool:
            await pool.execute("ANALYZE crewkit.event; ANALYZE crewkit.stream")
    return postgres_url


async def plan(pool: Pool, name: str, *arguments: Any) -> str:
    """The plan as the store gets it: readers of one organization pin their transaction first."""
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        if name != "select_all":
            await connection.execute(load("pin_reader"), str(ORG))
        rows = await connection.fetch(f"EXPLAIN {load(name)}", *arguments)
    return "\n".join(row[0] for row in rows)


def assert_walks(text: str, index: str) -> None:
    assert re.search(rf"Index (Only )?Scan (Backward )?using \w*{index}", text), text
    assert "Seq Scan on event" not in text, text
    assert "Sort" not in text, text


async def test_a_tail_walks_the_primary_key(seeded_url: str) -> None:
    async with pooled(seeded_url) as pool:
        assert_walks(await plan(pool, "select_all", 7_000, 100), "pkey")
        assert_walks(await plan(pool, "select_all", 0, 1_000), "pkey")


async def test_a_stream_walks_its_own_index(seeded_url: str) -> None:
    stream_id = stream(5).uuid(ORG)
    async with pooled(seeded_url) as pool:
        assert_walks(await plan(pool, "select_stream", stream_id, 10, 100), "_stream")
        assert_walks(await plan(pool, "select_stream_newest_first", stream_id, 0, 1), "_stream")
        assert_walks(await plan(pool, "find_in_stream", ORG, 0, 2**60, None, None, 10, stream_id, True), "_stream")


async def test_an_event_is_found_by_its_id(seeded_url: str) -> None:
    async with pooled(seeded_url) as pool:
        assert_walks(await plan(pool, "select_one", UUID(int=9), ORG), "_id")


async def test_history_of_one_organization_walks_in_order_also_under_row_level_security(seeded_url: str) -> None:
    async with pooled(seeded_url, API_ROLE) as pool:
        for name in ("find", "find_newest_first"):
            assert_walks(await plan(pool, name, ORG, 0, 2**60, None, None, 50, False), "(pkey|org_id_position_idx)")
        assert_walks(await plan(pool, "select_all_of_org", 0, 2**60, 50, ORG), "(pkey|org_id_position_idx)")
        assert_walks(await plan(pool, "select_all_of_org", 0, 2**60, 50, UUID(int=77)), "org_id_position_idx")


@pytest.mark.parametrize("kind", [None, "organization.created.v1"])
async def test_what_was_decided_is_found_without_walking_past_what_agents_reported(
    postgres_url: str, kind: str | None
) -> None:
    """Nearly all of a log are reports; the index of the others holds few entries whatever the statistics say."""
    async with opened(postgres_url) as store, pooled(postgres_url, API_ROLE) as pool, pooled(postgres_url) as owner:
        await store.append(wish("decided"))
        await owner.execute(
            "INSERT INTO crewkit.event SELECT 1 + n, org_id, gen_random_uuid(), 1, 'hook.recorded.v1', gen_random_uuid(), "
            "recorded_at, data, meta FROM crewkit.event, generate_series(1, 20000) n WHERE position = 1"
        )
        for analyzed in (False, True):
            if analyzed:
                await owner.execute("ANALYZE crewkit.event")
            for name in ("find", "find_newest_first"):
                text = await plan(pool, name, ORG, 0, 2**60, kind, "user:1", 50, True)
                assert_walks(text, "org_id_position_idx1")


async def test_recognising_facts_probes_the_ids_whatever_the_statistics_say(seeded_url: str) -> None:
    """The statement inside the append function, under the settings the function carries."""
    async with pooled(seeded_url) as pool, pool.acquire() as connection, connection.transaction():
        for setting in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan"):
            await connection.execute(f"SET LOCAL {setting} = off")
        source = await connection.fetchval(
            "SELECT prosrc FROM pg_proc WHERE proname = 'append' AND pronamespace = 'crewkit'::regnamespace"
        )
        probe = re.search(r"LEFT JOIN crewkit\.event e\s+ON facts\[u\.slot\] AND (.*?);", source, re.DOTALL)
        assert probe, "the probe of the append function moved: adapt this test"
        condition = probe[1].replace("low", "1")
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute(
            f"PREPARE probe (uuid[]) AS SELECT e.event_id FROM unnest($1) u (id) LEFT JOIN crewkit.event e ON {condition}"
        )
        text = "\n".join(row[0] for row in await connection.fetch("EXPLAIN EXECUTE probe ('{}')"))
    assert "Nested Loop" in text, text
    assert re.search(r"Index (Only )?Scan using \w*_id ", text), text
    assert "pkey" not in text, text
