"""The projector runtime: rows equal an independent fold of the log, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import nats
import pytest

from domain.kernel import Event
from domain.sessions.events import SessionEnded, SessionStarted, SessionTimedOut
from eventstore.port import Recorded
from eventstore.settings import Settings
from projections.base import Projection, Rows, Table
from tests.workers.tally import (
    DDL,
    ORG,
    TALLY,
    Log,
    damage,
    fresh_names,
    open_log,
    running,
    settings_for,
    tally,
    tally_fold,
    until,
)
from workers.blocks import FIRST, LAST, LAST_ID, cut
from workers.log import LogReader
from workers.projector import Refused, StoppedError, rebuild, retry, run_projector, runner, skip, status
from workers.projector.runner import is_transient
from workers.relay import run_relay

pytestmark = pytest.mark.integration


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[Log]:
    async with open_log(postgres_url) as opened:
        yield opened


@pytest.fixture
def settings(postgres_url: str, nats_url: str, tmp_path: Path) -> Settings:
    return settings_for(postgres_url, nats_url, tmp_path)


@pytest.fixture
def alone(postgres_url: str, tmp_path: Path) -> Settings:
    """Settings of a projector that cannot reach NATS."""
    return settings_for(postgres_url, "nats://127.0.0.1:9", tmp_path)


def refuse(kind: str) -> Any:
    """A fold that cannot stomach sessions of one kind."""

    def fold(rows: Rows, recorded: Recorded) -> None:
        if isinstance(recorded.event, SessionStarted) and recorded.event.kind == kind:
            raise ValueError(f"cannot fold a {kind} session")
        tally_fold(rows, recorded)

    return fold


async def test_rows_equal_an_independent_fold(log: Log, settings: Settings) -> None:
    names = fresh_names()
    await log.add(3_000)
    async with running(run_relay(settings, names), run_projector(settings, names=names, wanted=[tally()])):
        for _ in range(10):
            head = await log.add(137)
        await log.reached(head)
    assert await log.stored() == await log.folded()


async def test_without_nats_it_follows_postgres(log: Log, alone: Settings) -> None:
    async with running(run_projector(alone, wanted=[tally()])):
        await log.reached(await log.add(500))
        await log.reached(await log.add(500))
    assert await log.stored() == await log.folded()


async def test_dropped_messages_are_read_from_postgres(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    client = await nats.connect(nats_url)
    async with running(run_relay(settings, names), run_projector(settings, names=names, wanted=[tally()])):
        await log.relayed(await log.add(60))  # by then there is a stream
        for _ in range(8):
            head = await log.add(60)
            await client.jetstream().purge_stream(names.stream)
        await log.reached(head)
    await client.close()
    assert await log.stored() == await log.folded()


async def test_every_block_delivered_three_times_and_backwards_changes_nothing(
    log: Log, settings: Settings, nats_url: str
) -> None:
    names = fresh_names()
    client = await nats.connect(nats_url)
    js = client.jetstream()
    await js.add_stream(name=names.stream, subjects=[names.events], max_bytes=names.bytes_max)
    async with running(run_projector(settings, names=names, wanted=[tally()])):

        async def subscribed() -> bool:
            return (await js.stream_info(names.stream)).state.consumer_count == 1

        await until(subscribed)
        for _ in range(6):
            before = await log.store.head()
            head = await log.add(50)
            page = await LogReader(log.store.pool).page(before, 50)
            blocks = [block for start in range(0, 50, 7) for block in cut(page.part(start, start + 7))]
            for block in [*blocks, *reversed(blocks), *blocks]:
                await js.publish(names.events, block.payload, headers=block.headers)
        await log.reached(head)
        for block in blocks:
            await js.publish(names.events, block.payload, headers=block.headers)
        await log.reached(await log.end("s1"))
    await client.close()
    assert await log.stored() == await log.folded()


async def test_blocks_of_another_log_are_not_believed(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    client = await nats.connect(nats_url)
    js = client.jetstream()
    await js.add_stream(name=names.stream, subjects=[names.events], max_bytes=names.bytes_max)
    await log.add(20)
    page = await LogReader(log.store.pool).page(0, 20)
    forged = cut(msgspec.structs.replace(page, first=21))[0]
    async with running(run_projector(settings, names=names, wanted=[tally()])):
        await log.reached(20)
        await js.publish(names.events, forged.payload, headers=forged.headers)
        await js.publish(names.events, b"nonsense", headers={FIRST: "21", LAST: "40", LAST_ID: "x"})
        await js.publish(names.events, b"nonsense")
        await log.reached(await log.add(30))
    await client.close()
    assert await log.stored() == await log.folded()


async def test_two_instances_at_once_are_safe(log: Log, settings: Settings) -> None:
    names = fresh_names()
    works = [run_projector(settings, names=names, wanted=[tally()]) for _ in range(2)]
    async with running(run_relay(settings, names), *works):
        for _ in range(20):
            head = await log.add(53)
        await log.reached(head)
    assert await log.stored() == await log.folded()


def _about(name: str, *reads: type[Event]) -> Projection:
    """A projection that is about few of the events."""
    table = Table(name, TALLY.row, TALLY.key)

    def fold(rows: Rows, recorded: Recorded) -> None:
        row = rows.get(table, (recorded.org_id, recorded.stream.id))
        row = row or TALLY.row(org_id=recorded.org_id, session_id=recorded.stream.id)
        row.events += 1
        rows.put(table, row)

    return Projection(
        name,
        1,
        tables=(table,),
        ddl=DDL.replace("tally__", f"{name}__"),
        touches=lambda recorded: [(table, (recorded.org_id, recorded.stream.id))],
        fold=fold,
        reads=reads,
    )


async def test_those_with_nothing_to_fold_pass_together_and_fold_what_they_are_about(
    log: Log, settings: Settings
) -> None:
    names = fresh_names()
    wanted = [tally(), _about("ends", SessionEnded), _about("silence", SessionTimedOut)]
    works = [run_projector(settings, names=names, wanted=wanted) for _ in range(2)]
    await log.add(50)
    async with running(run_relay(settings, names), *works):
        for n in range(10):
            await log.add(53)
            head = await log.end(f"s{n % 3}")
        for name in ("tally", "ends", "silence"):
            await log.reached(head, name)
    assert await log.stored() == await log.folded()
    assert [(row.session_id, row.events) for row in await log.stored("ends")] == [("s0", 4), ("s1", 3), ("s2", 3)]
    assert await log.stored("silence") == []


async def test_an_unknown_type_stops_also_those_that_pass(log: Log, alone: Settings) -> None:
    """Nobody can say that they are not about it."""
    await log.add(10)
    alien = await log.alien()
    await log.add(10)
    async with running(run_projector(alone, wanted=[_about("silence", SessionTimedOut)])):
        await log.has_status("failed", "silence")
        found = await log.checkpoint("silence")
        assert (found["position"], found["failed_position"]) == (alien - 1, alien)
        await skip(alone, "silence", alien, "written by a newer program")
        await log.reached(21, "silence")


# Cut off in the middle of connecting, the clients leave their sockets to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_cancelled_in_the_middle_rows_and_checkpoint_agree(log: Log, alone: Settings) -> None:
    await log.add(6_000, sessions=300)
    for pause_ms in (40, 60, 80, 100, 120, 140):
        task = asyncio.create_task(run_projector(alone, wanted=[tally()]))
        await asyncio.sleep(pause_ms / 1000)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # the second one does not wait for the batch in flight
        await asyncio.wait({task})
        at = (await log.checkpoint())["position"]
        if at >= 0:
            beyond = range(at + 1, 6_001)
            assert await log.stored() == await log.folded(without=beyond)
    async with running(run_projector(alone, wanted=[tally()])):
        await log.reached(6_000)
    assert await log.stored() == await log.folded()


async def test_its_database_sessions_are_cut(log: Log, settings: Settings) -> None:
    names = fresh_names()
    async with running(run_relay(settings, names), run_projector(settings, names=names, wanted=[tally()])):
        for _ in range(5):
            head = await log.add(200)
            await log.store.pool.execute(
                "SELECT pg_terminate_backend(l.pid) FROM (SELECT DISTINCT pid FROM pg_stat_activity "
                "WHERE datname = current_database() AND query LIKE '%checkpoint%' AND pid <> pg_backend_pid()) l"
            )
        await log.reached(head)
    assert await log.stored() == await log.folded()


async def test_a_fold_that_fails_stops_visibly_and_the_others_go_on(log: Log, alone: Settings) -> None:
    good = tally("other", ddl=DDL)
    bad = tally(fold=refuse("bad"))
    renamed = _renamed(good, "other")
    await log.add(40)
    async with running(run_projector(alone, wanted=[bad, renamed])):
        await log.reached(40)
        await log.add(1, kind="bad")
        head = await log.add(30)
        await log.has_status("failed")
        await log.reached(head, "other")
        found = await log.checkpoint()
        assert (found["position"], found["failed_position"]) == (40, 41)
        assert found["error"] == "ValueError: cannot fold a bad session"
        assert await log.stored() == await log.folded(without=range(41, head + 1))

        assert await retry(alone, "tally") == 41  # nothing was mended: it fails at the same event again
        await log.has_status("failed")

        with pytest.raises(Refused, match="failed at position 41, not 42"):
            await skip(alone, "tally", 42, "wrong one")
        with pytest.raises(Refused, match="needs a reason"):
            await skip(alone, "tally", 41, " ")
        await skip(alone, "tally", 41, "a test record", actor="user:someone")
        await log.reached(head)
    assert await log.stored() == await log.folded(without=[41])
    shown = {one.name: one for one in await status(alone)}
    assert [{**note, "at": ""} for note in shown["tally"].skipped] == [
        {"position": 41, "reason": "a test record", "actor": "user:someone", "at": ""}
    ]
    assert (shown["tally"].status, shown["tally"].lag, shown["tally"].error) == ("running", 0, None)
    with pytest.raises(Refused, match="has not failed"):
        await retry(alone, "tally")
    with pytest.raises(Refused, match="no projection 'nothing'"):
        await retry(alone, "nothing")


def _renamed(projection: Any, table: str) -> Any:
    """The same projection on tables of another name."""
    other = Table(table, TALLY.row, TALLY.key)

    def fold(rows: Rows, recorded: Recorded) -> None:
        row = rows.get(other, (recorded.org_id, recorded.stream.id)) or TALLY.row(
            org_id=recorded.org_id, session_id=recorded.stream.id
        )
        row.events += 1
        rows.put(other, row)

    return Projection(
        table,
        1,
        tables=(other,),
        ddl=DDL.replace("tally__", f"{table}__"),
        touches=lambda recorded: [(other, (recorded.org_id, recorded.stream.id))],
        fold=fold,
    )


async def test_a_mended_fold_goes_on_after_a_retry(log: Log, alone: Settings) -> None:
    await log.add(10)
    await log.add(1, kind="bad")
    head = await log.add(10)
    async with running(run_projector(alone, wanted=[tally(fold=refuse("bad"))])):
        await log.has_status("failed")
    async with running(run_projector(alone, wanted=[tally()])):
        await retry(alone, "tally")
        await log.reached(head)
    assert await log.stored() == await log.folded()


async def test_an_unknown_event_type_stops_at_its_position(log: Log, settings: Settings) -> None:
    names = fresh_names()
    async with running(run_relay(settings, names), run_projector(settings, names=names, wanted=[tally()])):
        await log.reached(await log.add(25))
        alien = await log.alien()
        await log.add(25)
        await log.has_status("failed")
        found = await log.checkpoint()
        assert (found["position"], found["failed_position"]) == (alien - 1, alien)
        assert "session.teleported.v9" in found["error"]
        await skip(settings, "tally", alien, "written by a newer program")
        await log.reached(51)
    assert sum(row.events for row in await log.stored()) == 50


@pytest.mark.parametrize("table", ["event", "stream"])
async def test_a_damaged_log_stops_it_visibly_until_it_is_mended(
    log: Log, alone: Settings, postgres_url: str, table: str
) -> None:
    await log.add(25)
    bad = await log.end("lonely")
    head = await log.add(25)
    mend = await damage(postgres_url, bad, table)
    async with running(run_projector(alone, wanted=[tally()])):
        await log.has_status("failed")
        found = await log.checkpoint()
        assert (found["position"], found["failed_position"]) == (bad - 1, bad)
        assert f"the log is damaged at position {bad}" in found["error"]
        await mend()
        await retry(alone, "tally")
        await log.reached(head)
    assert await log.stored() == await log.folded()


async def test_a_rebuild_stops_at_a_damaged_event_and_readers_see_what_they_saw(
    log: Log, alone: Settings, postgres_url: str
) -> None:
    bad = await log.end("lonely")
    head = await log.add(25)
    async with running(run_projector(alone, wanted=[tally()])):
        await log.reached(head)
    seen = await log.stored()
    await damage(postgres_url, bad, "event")
    with pytest.raises(StoppedError, match=f"the log is damaged at position {bad}"):
        await rebuild(alone, "tally", wanted=tally())
    assert await log.stored() == seen


async def test_a_row_the_database_refuses_is_found_among_its_neighbours(log: Log, alone: Settings) -> None:
    strict = DDL.replace("last_at", "CHECK (NOT jsonb_exists(seen, 'session.ended.v1')), last_at")
    await log.add(333)
    bad = await log.end("s3")
    await log.add(333)
    async with running(run_projector(alone, wanted=[tally(ddl=strict)])):
        await log.has_status("failed")
        found = await log.checkpoint()
    assert (found["position"], found["failed_position"]) == (bad - 1, bad)
    assert "CheckViolationError" in found["error"]
    assert await log.stored() == await log.folded(without=range(bad, 668))


async def test_what_the_driver_refuses_is_no_passing_trouble(log: Log) -> None:
    """A wrong number of arguments fails for ever; the same kind of error on a lost connection passes."""
    async with log.store.pool.acquire() as connection:
        with pytest.raises(asyncpg.InterfaceError) as refused:
            await connection.fetchval("SELECT $1::int", 1, 2)
        assert not is_transient(refused.value, connection)
        connection.terminate()
        with pytest.raises(asyncpg.InterfaceError) as lost:
            await connection.fetchval("SELECT 1")
        assert is_transient(lost.value, connection)


async def test_tables_that_cannot_be_made_show_as_failed(log: Log, alone: Settings) -> None:
    """Another projection's table has the name: operators see it, and a rebuild helps once it is gone."""
    await log.store.pool.execute("CREATE TABLE crewkit.tally__g1 (mine int)")
    await log.add(50)
    async with running(run_projector(alone, wanted=[tally()])):
        await log.has_status("failed")
        shown = await log.checkpoint()
        assert "tally__g1" in shown["error"]
        await log.store.pool.execute("DROP TABLE crewkit.tally__g1")
        await rebuild(alone, "tally", wanted=tally())
        await log.reached(await log.add(50))
    assert await log.stored() == await log.folded()


async def test_notices_are_sent_after_the_commit(log: Log, settings: Settings, nats_url: str) -> None:
    names = fresh_names()
    client = await nats.connect(nats_url)
    heard: list[tuple[dict[str, Any], int]] = []

    async def on_notice(message: Any) -> None:
        heard.append((msgspec.json.decode(message.data), (await log.checkpoint())["position"]))

    await client.subscribe(f"{names.notices}.{ORG.hex}", cb=on_notice)
    async with running(run_relay(settings, names), run_projector(settings, names=names, wanted=[tally()])):
        await log.reached(await log.end("s0"))

        async def something_was_heard() -> bool:
            if not heard:
                await log.end("s1")
            return bool(heard)

        await until(something_was_heard)
    await client.close()
    notice, readable = heard[0]
    assert notice["projection"] == "tally"
    assert notice["items"][0]["session"] in {"s0", "s1"}
    assert readable >= notice["position"]


async def test_a_rebuild_equals_the_live_rows(log: Log, alone: Settings) -> None:
    await log.add(12_000, sessions=400)
    async with running(run_projector(alone, wanted=[tally()])):
        await log.reached(12_000)
        live = await log.stored()
        report = await rebuild(alone, "tally", wanted=tally())
        assert (report.generation, report.position) == (2, 12_000)
        assert await log.stored() == live == await log.folded()
        await log.reached(await log.add(100))  # the live projector has moved over
        assert (await log.checkpoint())["generation"] == 2
        assert [one.status for one in await status(alone)] == ["retired", "running"]
        await rebuild(alone, "tally", wanted=tally())
        await log.reached(await log.add(100))
    assert [one.generation for one in await status(alone)] == [2, 3]  # the one before the last is gone
    assert await log.store.pool.fetchval("SELECT to_regclass('crewkit.tally__g1')") is None
    assert await log.stored() == await log.folded()


async def test_a_rebuild_that_cannot_keep_its_rows_in_memory(
    log: Log, alone: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first chunks rows are forgotten again and again, and asked for when they come up."""
    monkeypatch.setattr(runner, "FILL_ROWS_MAX", 100)
    monkeypatch.setattr(runner, "CHUNK_EVENTS", 700)
    monkeypatch.setattr(runner, "PAGE_EVENTS", 300)
    await log.add(5_000, sessions=400)
    async with running(run_projector(alone, wanted=[tally()])):
        await log.reached(5_000)
        assert (await rebuild(alone, "tally", wanted=tally())).position == 5_000
        assert await log.stored() == await log.folded()


async def test_readers_never_go_back_when_the_generation_flips_under_load(log: Log, settings: Settings) -> None:
    names = fresh_names()
    await log.add(4_000)
    seen: list[int] = []
    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            await log.add(40)

    async def read() -> None:
        while not done.is_set():
            total = await log.store.pool.fetchval("SELECT coalesce(sum(events), 0) FROM crewkit.tally")
            seen.append(total)

    async with running(run_relay(settings, names), run_projector(settings, names=names, wanted=[tally()])):
        await log.reached(4_000)
        others = [asyncio.create_task(write()), asyncio.create_task(read())]
        for _ in range(3):
            await rebuild(settings, "tally", wanted=tally())
        done.set()
        await asyncio.gather(*others)
        await log.reached(await log.store.head())
    assert (await log.checkpoint())["generation"] == 4
    assert seen == sorted(seen)
    assert await log.stored() == await log.folded()


async def test_a_new_version_is_filled_beside_the_old_one(log: Log, alone: Settings) -> None:
    await log.add(2_500)
    async with running(run_projector(alone, wanted=[tally()])):
        await log.reached(2_500)
    wider = DDL.replace("events integer NOT NULL,", "events bigint NOT NULL, note text NOT NULL DEFAULT 'new',")
    async with running(run_projector(alone, wanted=[tally(version=2, ddl=wider)])):

        async def flipped() -> bool:
            return (await log.checkpoint())["generation"] == 2

        await until(flipped)
        await log.reached(await log.add(10))
    assert await log.store.pool.fetchval("SELECT DISTINCT note FROM crewkit.tally") == "new"
    assert sum(row.events for row in await log.folded()) == await log.store.pool.fetchval(
        "SELECT sum(events) FROM crewkit.tally"
    )
    async with running(run_projector(alone, wanted=[tally(version=1)])):  # an old program left running changes nothing
        await log.add(10)
        await asyncio.sleep(0.3)
    assert (await log.checkpoint())["position"] == 2_510


async def test_a_rebuild_that_fails_leaves_readers_alone(log: Log, alone: Settings) -> None:
    await log.add(3_000)
    bad = await log.add(1, kind="bad")
    await log.add(100)
    async with running(run_projector(alone, wanted=[tally()])):
        await log.reached(3_101)
        with pytest.raises(StoppedError, match=f"failed at position {bad}"):
            await rebuild(alone, "tally", wanted=tally(fold=refuse("bad")))
        await log.reached(await log.add(10))
        assert [(one.generation, one.active, one.status) for one in await status(alone)] == [
            (1, True, "running"),
            (2, False, "failed"),
        ]
        await skip(alone, "tally", bad, "known to be bad")
        report = await rebuild(alone, "tally", wanted=tally(fold=refuse("bad")))
        assert report.generation == 2
        await log.reached(3_111)
    assert await log.stored() == await log.folded(without=[bad])


async def test_nats_goes_away_and_comes_back(log: Log, postgres_url: str, tmp_path: Path, service_folder: Path) -> None:
    from workers.local.nats import Nats  # noqa: PLC0415

    server = Nats(service_folder / f"nats-{fresh_names().stream}", "test-password")
    server.prepare()
    port = server.port
    await asyncio.to_thread(server.start, tmp_path / "nats.log")
    names = fresh_names()
    settings = settings_for(postgres_url, server.url, tmp_path)
    try:
        async with running(run_relay(settings, names), run_projector(settings, names=names, wanted=[tally()])):
            head = await log.add(300)
            await log.reached(head)
            await log.relayed(head)
            await asyncio.to_thread(server.stop)
            head = await log.add(300)
            await log.reached(head)  # Postgres is enough
            assert await log.store.pool.fetchval("SELECT position FROM crewkit.relay") == 300
            server.prepare(port)
            await asyncio.to_thread(server.start, tmp_path / "nats.log")
            assert server.port == port
            head = await log.add(300)
            await log.relayed(head)
            await log.reached(head)
    finally:
        await asyncio.to_thread(server.stop)
    assert await log.stored() == await log.folded()
