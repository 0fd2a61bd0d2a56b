"""kill -9 of the analytics worker while it writes: the file opens, and its rows are those of its checkpoint.

Somebody always waits for rows that are not there yet, so the worker writes without a pause, and the kill falls into a transaction
or into the reading for one.  CREWKIT_TEST_KILLS says how often (default 3).
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import msgspec
import nats
import nats.errors
import pytest

from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from projections.analytics.asking import SUBJECT, Ask
from projections.directory import PROJECTION as DIRECTORY
from projections.sessions import PROJECTION
from tests.projections.session_facts import ORG, Keyed
from tests.workers.analytics_house import recorded_facts, tell
from tests.workers.analytics_truth import check, truth
from tests.workers.tally import running, until
from workers.analytics import file as files
from workers.projector import run_projector
from workers.projector.host import Workshop

pytestmark = [pytest.mark.crash, pytest.mark.integration]
ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("CREWKIT_TEST_KILLS", "3"))
STEP_FACTS = 25
PACE_S = 0.05
STEP_S = 0.08  # a step takes about as long
WAIT_S = 2.0
MANY = 10  # kills, of which one at least hits


@pytest.fixture
def settings(postgres_url: str, nats_url: str, master_key_file: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url, nats_url=nats_url, key_file=str(master_key_file), data_dir=str(tmp_path / "data")
    )


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


def _steps(settings: Settings, since_ns: int) -> list[Path]:
    """Folders of steps that are not over: rows are read into them before a transaction, and they are gone after it."""
    folders = (Path(settings.data_dir) / "analytics" / "0" / "scratch").glob("*")
    return [folder for folder in folders if _made_ns(folder) > since_ns]


def _made_ns(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def position(path: Path) -> int:
    connection = duckdb.connect(str(path), read_only=True)  # a log that was cut off is replayed here, or this fails
    try:
        (found,) = connection.execute(f"SELECT position FROM {files.META}").fetchall()
        return int(found[0])
    finally:
        connection.close()


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

    async def wait_for_more() -> None:
        client = await nats.connect(settings.nats_url or "")
        wish = msgspec.json.encode(Ask(question="summary", org_id=ORG, after=10**9, wait_s=WAIT_S, deadline_s=WAIT_S))
        try:
            while True:
                with suppress(nats.errors.Error):
                    await client.request(SUBJECT, wish, timeout=WAIT_S / 4)
                await asyncio.sleep(PACE_S)
        finally:
            await client.close()

    seen = struck = advanced = 0
    async with running(run_projector(settings, wanted=[PROJECTION, DIRECTORY]), tell_on(), wait_for_more()):
        for _ in range(KILLS):
            telling = True
            started_ns = time.time_ns()
            with worker_process(settings) as process:

                async def writes(since_ns: int = started_ns) -> bool:
                    """This process, not the one before it, has committed a step and is at the next one."""
                    assert process.poll() is None, "the worker ended by itself"
                    path = in_use(settings)
                    log = None if path is None else path.with_name(path.name + ".wal")
                    wrote = log is not None and log.exists() and log.stat().st_mtime_ns > since_ns
                    return wrote and bool(_steps(settings, since_ns))

                await until(writes)
                await asyncio.sleep(rng.random() * STEP_S)  # the moment of the kill is what varies
            struck += bool(_steps(settings, started_ns))
            telling = False
            path = in_use(settings)
            assert path is not None
            reached = position(path)
            assert reached >= seen
            advanced += reached > seen
            seen = reached
            check(path, await truth(shop, reached))
    assert seen > 0
    print(f"{struck} of {KILLS} kills fell into a step; after {advanced} the file had come further")
    assert advanced
    assert struck or KILLS < MANY
    with suppress(ProcessLookupError):
        process.kill()
