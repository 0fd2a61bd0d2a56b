"""The relay: every event, once, in order, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext
from structlog.testing import capture_logs

from eventstore.database import connect_pool
from eventstore.settings import Settings
from tests.workers.pages import Row, rows_in, rows_of
from tests.workers.tally import Log, damage, fresh_names, open_log, running, settings_for, until
from workers.blocks import LAST, Names
from workers.log import LogReader
from workers.relay import LOCK_KEY, PAGE_EVENTS, run_relay

pytestmark = pytest.mark.integration


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[Log]:
    async with open_log(postgres_url) as opened:
        yield opened


@pytest.fixture
def settings(postgres_url: str, nats_url: str, tmp_path: Path) -> Settings:
    return settings_for(postgres_url, nats_url, tmp_path)


async def published(nats_url: str, names: Names) -> list[Row]:
    """Everything in the stream, in its order."""
    client = await nats.connect(nats_url)
    try:
        js: JetStreamContext = client.jetstream()
        state = (await js.stream_info(names.stream)).state
        rows: list[Row] = []
        for sequence in range(state.first_seq, state.last_seq + 1):
            rows += rows_in([(await js.get_msg(names.stream, seq=sequence)).data or b""])
        return rows
    finally:
        await client.close()


async def test_everything_is_published_once_in_order(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    head = await log.add(2_500)
    async with running(run_relay(settings, names)):
        await log.relayed(head)
        head = await log.add(40)
        await log.relayed(head)
    rows = await published(nats_url, names)
    assert [row.position for row in rows] == list(range(1, head + 1))
    assert rows == rows_of(await LogReader(log.store.pool).page(0, head))


async def test_a_log_that_ends_with_a_full_page_is_settled(log: Log, settings: Settings) -> None:
    head = await log.add(2 * PAGE_EVENTS)
    async with running(run_relay(settings, fresh_names())):
        await log.relayed(head)


async def test_at_rest_a_block_is_one_event_and_a_poke_sends_it(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    client = await nats.connect(nats_url)
    async with running(run_relay(settings, names)):
        for _ in range(3):
            position = await log.end("alone")
            await client.publish(names.poke, str(position).encode())
            await log.relayed(position)
    state = (await client.jetstream().stream_info(names.stream)).state
    await client.close()
    assert state.messages == 3


async def test_restarts_lose_and_double_nothing(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    head = 0
    for _ in range(5):
        async with running(run_relay(settings, names)):
            head = await log.add(700)
            await asyncio.sleep(0.02)  # stopped somewhere in the middle
    async with running(run_relay(settings, names)):
        await log.relayed(head)
    assert [row.position for row in await published(nats_url, names)] == list(range(1, head + 1))


async def test_a_cursor_that_was_lost_is_read_from_the_stream(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    head = await log.add(1_500)
    async with running(run_relay(settings, names)):
        await log.relayed(head)
    await log.store.pool.execute("UPDATE crewkit.relay SET position = 3")  # as after a power cut
    async with running(run_relay(settings, names)):
        head = await log.add(10)
        await log.relayed(head)
    assert [row.position for row in await published(nats_url, names)] == list(range(1, head + 1))


# Cut off in the middle of connecting, the clients leave their sockets to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_killed_between_publishing_and_the_cursor(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    await log.add(3_000)
    for _ in range(6):
        task = asyncio.create_task(run_relay(settings, names))
        await asyncio.sleep(0.03)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # the second one does not wait for the batch in flight
        await asyncio.wait({task})
    head = await log.store.head()
    async with running(run_relay(settings, names)):
        await log.relayed(head)
    assert [row.position for row in await published(nats_url, names)] == list(range(1, head + 1))


async def test_only_one_relay_is_active_and_another_takes_over(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    first = asyncio.create_task(run_relay(settings, names))
    await log.relayed(await log.add(20))
    async with running(run_relay(settings, names)):
        epoch = await log.store.pool.fetchval("SELECT epoch FROM crewkit.relay")
        assert epoch == 1
        await log.relayed(await log.add(20))
        first.cancel()
        await asyncio.wait({first})
        head = await log.add(20)
        await log.relayed(head)
        assert await log.store.pool.fetchval("SELECT epoch FROM crewkit.relay") == 2
    assert [row.position for row in await published(nats_url, names)] == list(range(1, head + 1))


async def test_a_relay_that_lost_its_epoch_stops_advancing(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    async with running(run_relay(settings, names)):
        await log.relayed(await log.add(5))
        await log.store.pool.execute("UPDATE crewkit.relay SET epoch = epoch + 10")  # as another relay would
        head = await log.add(5)
        await log.relayed(head)  # only after taking a new epoch itself
        assert await log.store.pool.fetchval("SELECT epoch FROM crewkit.relay") == 12
    assert [row.position for row in await published(nats_url, names)] == list(range(1, head + 1))


async def test_its_database_session_is_cut(log: Log, settings: Settings, nats_url: str, postgres_url: str) -> None:
    names = fresh_names()
    admin = await connect_pool(postgres_url, max_size=1)
    async with running(run_relay(settings, names)):
        await log.relayed(await log.add(5))
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 "
            "AND ((classid::bigint << 32) | objid::bigint) = $1 AND pid <> pg_backend_pid()",
            LOCK_KEY,
        )
        head = await log.add(50)
        await log.relayed(head)
    await admin.close()
    assert [row.position for row in await published(nats_url, names)] == list(range(1, head + 1))


async def test_a_stream_that_was_purged_goes_on_after_the_cursor(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    client = await nats.connect(nats_url)
    async with running(run_relay(settings, names)):
        before = await log.add(30)
        await log.relayed(before)
        await client.jetstream().purge_stream(names.stream)
        head = await log.add(30)
        await log.relayed(head)
    await client.close()
    assert [row.position for row in await published(nats_url, names)] == list(range(before + 1, head + 1))


async def test_a_stream_that_carries_another_log_is_replaced(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    client = await nats.connect(nats_url)
    js = client.jetstream()
    await js.add_stream(name=names.stream, subjects=[names.events])
    await js.publish(names.events, b"", headers={LAST: "4711"})
    async with running(run_relay(settings, names)):
        head = await log.add(30)
        await log.relayed(head)
    await client.close()
    assert [row.position for row in await published(nats_url, names)] == list(range(1, head + 1))


@pytest.mark.parametrize("table", ["event", "stream"])
async def test_in_front_of_a_damaged_event_it_says_so_and_waits(
    log: Log, settings: Settings, nats_url: str, table: str
) -> None:
    names = fresh_names()
    await log.add(30)
    bad = await log.end("alone")
    head = await log.add(30)
    mend = await damage(settings.database_url or "", bad, table)
    with capture_logs() as told:
        async with running(run_relay(settings, names)):
            await log.relayed(bad - 1)

            async def looked_twice() -> bool:
                return [one["event"] for one in told].count("relay.log_damaged") >= 2

            await until(looked_twice)
            assert [row.position for row in await published(nats_url, names)] == list(range(1, bad))
            await mend()
            await log.relayed(head)
    assert [row.position for row in await published(nats_url, names)] == list(range(1, head + 1))
    (error,) = [one for one in told if one["log_level"] == "error"]  # once: the state is the same each time it looks
    assert (error["event"], error["position"]) == ("relay.log_damaged", bad)
    assert ("no row in crewkit.stream" if table == "stream" else "the event is missing") in error["error"]
    assert [one["event"] for one in told].count("relay.active") == 1  # it stayed in office
    assert [one["position"] for one in told if one["event"] == "relay.log_mended"] == [bad]


async def test_without_nats_it_keeps_trying(log: Log, postgres_url: str, nats_url: str, tmp_path: Path) -> None:
    names = fresh_names()
    nowhere = settings_for(postgres_url, "nats://127.0.0.1:9", tmp_path)
    async with running(run_relay(nowhere, names)):
        head = await log.add(30)
        await asyncio.sleep(0.3)
        assert await log.store.pool.fetchval("SELECT position FROM crewkit.relay") == 0
    async with running(run_relay(settings_for(postgres_url, nats_url, tmp_path), names)):
        await log.relayed(head)

    async def lock_is_free() -> bool:
        return not await log.store.pool.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )

    await until(lock_is_free)
