"""kill -9 of the analytics worker while it writes: the file opens, and its rows are those of its checkpoint.

CREWKIT_TEST_KILLS says how often (default 3).
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from eventstore.mapper import Mapper
from eventstore.port import Recorded
from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from projections.base import Rows
from projections.directory import PROJECTION as DIRECTORY
from projections.sessions import PROJECTION
from projections.sessions.reconcile import cost_of
from projections.sessions.tables import LLM_SESSION, MODEL_CALL, PROMPT, SESSION, TOOL_CALL
from projections.sessions.totals import counted, totals_of
from tests.projections.session_facts import Keyed
from tests.workers.analytics_house import contents, recorded_facts, tell
from tests.workers.tally import running, until
from workers.analytics import file as files
from workers.projector import run_projector
from workers.projector.host import Workshop, workshop

pytestmark = [pytest.mark.crash, pytest.mark.integration]
ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("CREWKIT_TEST_KILLS", "3"))
STEP_FACTS = 25
PACE_S = 0.05


@pytest.fixture
def settings(postgres_url: str, nats_url: str, master_key_file: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url, nats_url=nats_url, key_file=str(master_key_file), data_dir=str(tmp_path / "data")
    )


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Workshop]:
    async with workshop(settings, 2) as opened:
        yield opened


@pytest.fixture
async def store(shop: Workshop, postgres_url: str) -> AsyncIterator[PostgresStore]:
    opened = PostgresStore(postgres_url, Mapper(shop.ring), role="crewkit_worker", pool=shop.pool)
    await opened.start()
    yield opened
    await opened.close()


@contextmanager
def worker_process(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A real `crewkit worker analytics`, killed with SIGKILL at the end of the block."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CREWKIT_")}
    folder = Path(settings.data_dir)
    folder.mkdir(exist_ok=True)
    env = {
        **clean,
        "CREWKIT_DATABASE_URL": settings.database_url or "",
        "CREWKIT_NATS_URL": settings.nats_url or "",
        "CREWKIT_KEY_FILE": settings.key_file or "",
        "CREWKIT_DATA_DIR": settings.data_dir,
    }
    words = [sys.executable, "-I", str(ROOT / "crewkit.py"), "worker", "analytics"]
    with (
        (folder / "analytics.log").open("ab") as log,
        subprocess.Popen(words, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def in_use(settings: Settings) -> Path | None:
    return files.current(Path(settings.data_dir) / "analytics" / "0")


def position(path: Path) -> int:
    connection = duckdb.connect(str(path), read_only=True)  # a log that was cut off is replayed here, or this fails
    try:
        (found,) = connection.execute(f"SELECT position FROM {files.META}").fetchall()
        return int(found[0])
    finally:
        connection.close()


async def truth(shop: Workshop, until_position: int) -> Rows:
    """The log up to a position, folded without the runtime."""
    projection, rows, after = PROJECTION.bound(shop.texts), Rows(), 0
    while after < until_position and (page := (await shop.source().read(after, 500)).items):
        events = [item for item in page if isinstance(item, Recorded) and item.position <= until_position]
        await shop.texts.prepare(events)
        for recorded in events:
            projection.fold(rows, recorded)
        after = page[-1].position
    return rows


def check(path: Path, rows: Rows) -> None:
    """Whether the file holds exactly what the folded log says."""
    stored = contents(path)
    columns = {
        name: [column.name for column in files.BY_NAME[name].columns] for name in stored if name in files.BY_NAME
    }

    def keyed(table: str, *names: str) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for row in stored[table]:
            told = dict(zip(columns[table], row, strict=True))
            key = tuple(told[part] for part in files.BY_NAME[table].key[1:])
            assert key not in found, f"{table} {key} is there twice"
            found[key] = tuple(told[name] for name in names)
        return found

    counts = {call.call_key for call in counted(rows.all(MODEL_CALL), rows)}
    assert keyed("fact_llm_call", "llm_session_id", "output_tokens", "priced_pico_usd", "counts") == {
        (call.call_key,): (call.llm_session_id, call.output_tokens, call.priced_pico_usd, call.call_key in counts)
        for call in rows.all(MODEL_CALL)
    }
    assert keyed("fact_tool_call", "status") == {
        (one.llm_session_id, one.tool_use_id): (one.status,) for one in rows.all(TOOL_CALL)
    }
    assert set(keyed("fact_prompt")) == {(one.llm_session_id, one.prompt_id) for one in rows.all(PROMPT)}
    assert set(keyed("fact_session")) == {(one.session_id,) for one in rows.all(SESSION) if one.visible}
    assert keyed("fact_llm_session", "cost_usd_micros") == {
        (llm.llm_session_id,): (cost_of(llm, totals_of(rows, llm.llm_session_id)).cost_usd_micros,)
        for llm in rows.all(LLM_SESSION)
    }


def copies(facts: list[Keyed], number: int) -> list[Keyed]:
    """The same work told by conversations of other names, which claim the same calls."""
    return [
        (key, msgspec.structs.replace(fact, llm_session_id=f"{fact.llm_session_id}-{number}")) for key, fact in facts
    ]


async def test_killed_at_any_moment_the_file_opens_and_agrees_with_its_checkpoint(
    shop: Workshop, store: PostgresStore, settings: Settings
) -> None:
    rng = random.Random(2026)
    facts = recorded_facts()
    telling = True

    async def tell_on() -> None:
        number = 0
        while True:
            told = copies(facts, number) if number else facts
            for start in range(0, len(told), STEP_FACTS):
                await tell(store, told[start : start + STEP_FACTS])
                await asyncio.sleep(PACE_S)  # a steady trickle: many transactions, and a log that can be folded again
                while not telling:
                    await asyncio.sleep(PACE_S)
            number += 1

    seen = 0
    async with running(run_projector(settings, wanted=[PROJECTION, DIRECTORY]), tell_on()):
        for _ in range(KILLS):
            telling = True
            with worker_process(settings) as process:
                before = 0 if (path := in_use(settings)) is None else path.stat().st_mtime_ns

                async def writes(before: int = before) -> bool:
                    assert process.poll() is None, "the worker ended by itself"
                    path = in_use(settings)
                    log = None if path is None else path.with_name(path.name + ".wal")
                    return log is not None and log.exists() and log.stat().st_mtime_ns > before

                await until(writes)
                await asyncio.sleep(rng.random())  # the moment of the kill is what varies
            telling = False
            path = in_use(settings)
            assert path is not None
            reached = position(path)
            assert reached >= seen
            seen = reached
            check(path, await truth(shop, reached))
    assert seen > 0
    with suppress(ProcessLookupError):
        process.kill()
