"""Consolidation by the real scheduler over a real Postgres: what is over is written, what is not waits, kill -9 included."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from commands.sessions.consolidation import object_folder
from domain.kernel import Stream, fact_id
from domain.sessions.events import LlmSessionConsolidated, LlmSessionConsolidationFailed, SessionEnded
from domain.sessions.streaming import consolidation_stream
from eventstore.objects import LocalObjects
from eventstore.port import Append, NewEvent
from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from projections import consolidation as read_model
from projections import directory, sessions
from projections.sessions.queries import session_detail
from tests.projections.session_facts import ORG, RECEIVED, Keyed, hooks_of
from tests.workers.tally import running, until
from workers import consolidate
from workers.projector import run_projector
from workers.projector.host import Workshop
from workers.scheduler import JOBS, run_scheduler

pytestmark = pytest.mark.integration
NAME = "claude-0447534f"
PROJECTIONS = [directory.PROJECTION, sessions.PROJECTION, read_model.PROJECTION]
[JOB] = [job for job in JOBS if job.name == "consolidate_sessions"]


@pytest.fixture
def settings(postgres_url: str, master_key_file: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url,
        nats_url="nats://127.0.0.1:9",
        key_file=str(master_key_file),
        data_dir=str(tmp_path),
        consolidate_every_s=0.05,
        consolidate_after_s=0,
    )


def named(facts: list[Keyed], session: str) -> list[Keyed]:
    return [(key, msgspec.structs.replace(fact, llm_session_id=session)) for key, fact in facts]


async def tell(store: PostgresStore, facts: list[Keyed]) -> None:
    for key, fact in facts:
        stream = Stream("LlmSession", fact.llm_session_id)
        event = NewEvent(fact, fact_id(stream.uuid(ORG), key))
        await store.append(Append(org_id=ORG, stream=stream, events=[event], facts=True))


async def done(store: PostgresStore, session: str) -> list[LlmSessionConsolidated]:
    found = await store.read_stream(ORG, consolidation_stream(session))
    return [one.event for one in found if isinstance(one.event, LlmSessionConsolidated)]


async def written(store: PostgresStore, session: str, generations: int = 1) -> list[LlmSessionConsolidated]:
    async def holds() -> bool:
        return len(await done(store, session)) >= generations

    await until(holds)
    return await done(store, session)


async def folded(shop: Workshop, store: PostgresStore) -> None:
    """The projections have passed everything stored."""

    async def holds() -> bool:
        head = await store.head()
        there = await shop.pool.fetchval(
            """SELECT count(*) FROM crewkit.checkpoint c JOIN crewkit.projection p
                   ON p.name = c.projection AND p.active_generation = c.generation WHERE c.position >= $1""",
            head,
        )
        return bool(there == len(PROJECTIONS))

    await until(holds)


async def status(shop: Workshop, session: str) -> tuple[str, int]:
    async with shop.pool.acquire() as connection:
        detail = await session_detail(connection, ORG, session)
        assert detail is not None
        [llm] = (await read_model.with_stream_status(connection, ORG, detail)).llm_sessions
    return llm.stream_status, llm.consolidated.items


async def test_what_is_over_is_written_and_later_items_follow(
    shop: Workshop, store: PostgresStore, settings: Settings, tmp_path: Path
) -> None:
    over = named(hooks_of(NAME), "over")
    assert over[-1][1].kind == "SessionEnd"
    running_on = named(hooks_of(NAME)[:-1], "running")
    async with running(run_projector(settings, wanted=PROJECTIONS)):
        await tell(store, [*over[:5], *running_on])
        await folded(shop, store)
        assert await status(shop, "over") == ("streaming", 0)
        await tell(store, over[5:])
        async with running(run_scheduler(settings, jobs=[JOB])):
            first = await written(store, "over")
            await folded(shop, store)
            assert await status(shop, "over") == ("completed", len(over))
            late = msgspec.structs.replace(over[0][1], kind="Notification", occurred_at=RECEIVED)
            await tell(store, [("late", late)])
            await written(store, "over", 2)
            await folded(shop, store)
            assert await status(shop, "over") == ("completed", len(over) + 1)
            assert await status(shop, "running") == ("streaming", 0)
            # Declared over by somebody: no fact tells so.
            end = SessionEnded(session_id="running", outcome="completed", ended_at=RECEIVED + timedelta(days=1))
            stream = Stream("Session", "running")
            await store.append(Append(org_id=ORG, stream=stream, events=[NewEvent(end)], facts=True))
            [last] = await written(store, "running")
    assert last.items == len(running_on)
    assert first[0].items == len(over)
    kept = await LocalObjects(tmp_path / "objects").keys(object_folder(ORG, "over"))
    assert kept == sorted(one.key for event in await done(store, "over") for one in event.objects)


async def test_the_read_model_is_the_same_live_and_folded_twice(
    shop: Workshop, store: PostgresStore, settings: Settings
) -> None:
    await tell(store, named(hooks_of(NAME), "over"))
    async with running(run_projector(settings, wanted=PROJECTIONS), run_scheduler(settings, jobs=[JOB])):
        await written(store, "over")
        await folded(shop, store)
    total = await shop.pool.fetchrow("SELECT * FROM crewkit.consolidation_total")
    assert total is not None
    [event] = await done(store, "over")
    assert (total["objects"], total["items"], total["bytes"]) == (len(event.objects), event.items, event.bytes)
    assert (total["failures"], total["backlog"]) == (0, 0)


async def test_a_store_that_refuses_costs_one_failure_per_run_and_is_tried_again(
    shop: Workshop, store: PostgresStore, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.sessions.streaming.RETRY_FIRST_S", 0)
    in_the_way = tmp_path / "objects"
    in_the_way.write_text("a file where the folder should be")
    names = [f"s{n}" for n in range(3)]
    for name in names:
        await tell(store, named(hooks_of(NAME), name))
    async with running(run_projector(settings, wanted=PROJECTIONS), run_scheduler(settings, jobs=[JOB])):

        async def failed() -> bool:
            found = [await store.read_stream(ORG, consolidation_stream(name)) for name in names]
            return any(isinstance(one.event, LlmSessionConsolidationFailed) for page in found for one in page)

        await until(failed)
        in_the_way.unlink()
        for name in names:
            await written(store, name)
        await folded(shop, store)
        assert [await status(shop, name) for name in names] == [("completed", len(hooks_of(NAME)))] * 3


async def test_a_batch_is_bounded_and_the_rest_waits(shop: Workshop, store: PostgresStore, settings: Settings) -> None:
    for n in range(3):
        await tell(store, named(hooks_of(NAME)[-2:], f"s{n}"))
    async with running(run_projector(settings, wanted=PROJECTIONS)):
        await folded(shop, store)
        bounded = msgspec.structs.replace(settings, consolidate_batch_max=2)
        consolidator = consolidate.Consolidator(bounded, shop.pool, store, LocalObjects(Path(settings.data_dir)))
        assert await consolidator.run() == 2
        await folded(shop, store)
        total = await shop.pool.fetchrow("SELECT backlog FROM crewkit.consolidation_total")
        assert total is not None
        assert total["backlog"] == 1
        assert await consolidator.run() == 1


async def test_the_search_goes_on_where_the_run_before_stopped_and_begins_again_at_the_end(
    shop: Workshop, store: PostgresStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consolidate, "SWEEP_ROWS", 2)
    monkeypatch.setattr(consolidate, "SWEEP_ROWS_MAX", 2)
    names = [f"s{n}" for n in range(5)]
    for name in names:
        await tell(store, named(hooks_of(NAME)[-2:], name))
    async with running(run_projector(settings, wanted=PROJECTIONS)):
        await folded(shop, store)
        consolidator = consolidate.Consolidator(settings, shop.pool, store, LocalObjects(Path(settings.data_dir)))
        assert [await consolidator.run() for _ in range(3)] == [2, 2, 1]
        for name in names:
            late = named(hooks_of(NAME)[:1], name)
            await tell(store, late)
        await folded(shop, store)
        assert [await consolidator.run() for _ in range(3)] == [2, 2, 1]
    assert [len(await done(store, name)) for name in names] == [2] * 5


async def test_nothing_is_done_while_it_is_turned_off(shop: Workshop, store: PostgresStore, settings: Settings) -> None:
    off = msgspec.structs.replace(settings, consolidate_every_s=0)
    await tell(store, named(hooks_of(NAME), "over"))
    ran = asyncio.Event()

    async def other(_: Any) -> int:
        ran.set()
        return 0

    async with running(
        run_projector(settings, wanted=PROJECTIONS), run_scheduler(off, jobs=[JOB, type(JOB)("other", 0.01, other)])
    ):
        await folded(shop, store)
        ran.clear()
        await asyncio.wait_for(ran.wait(), 10)
        assert await done(store, "over") == []


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from eventstore import objects
from eventstore.objects import LocalObjects
from eventstore.settings import load
from workers import scheduler

class Deadly(LocalObjects):
    async def put(self, key, content):
        await super().put(key, content)
        os.kill(os.getpid(), signal.SIGKILL)

scheduler.open_objects = lambda settings: Deadly(Path(settings.data_dir) / "objects")
[job] = [job for job in scheduler.JOBS if job.name == "consolidate_sessions"]
asyncio.run(scheduler.run_scheduler(load(), jobs=[job]))
"""


async def test_killed_between_object_and_event_doubles_and_loses_nothing(
    shop: Workshop, store: PostgresStore, settings: Settings, tmp_path: Path
) -> None:
    await tell(store, named(hooks_of(NAME), "over"))
    env = {
        **os.environ,
        "CREWKIT_DATABASE_URL": settings.database_url or "",
        "CREWKIT_KEY_FILE": settings.key_file or "",
        "CREWKIT_DATA_DIR": settings.data_dir,
        "CREWKIT_CONSOLIDATE_EVERY_S": "0.05",
        "CREWKIT_CONSOLIDATE_AFTER_S": "0",
    }
    objects = LocalObjects(tmp_path / "objects")
    async with running(run_projector(settings, wanted=PROJECTIONS)):
        await folded(shop, store)
        for _ in range(2):  # killed twice at the same place
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", textwrap.dedent(KILLED), env=env, stderr=subprocess.DEVNULL
            )
            assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
        left = await objects.keys(object_folder(ORG, "over"))
        assert len(left) == 1
        assert await done(store, "over") == []
        async with running(run_scheduler(settings, jobs=[JOB])):
            [event] = await written(store, "over")
        await folded(shop, store)
        assert await status(shop, "over") == ("completed", len(hooks_of(NAME)))
    assert sorted(one.key for one in event.objects) == await objects.keys(object_folder(ORG, "over"))
    assert set(left) <= {one.key for one in event.objects}
