"""kill -9 of the reactor while a model is asked: the next one finishes the work, and the log holds its result once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventstore.mapper import Mapper
from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from tests.agents.fake_anthropic import fake_anthropic
from tests.workers.tally import running, until
from tests.workers.test_reactor_summaries import INPUT, READ_MODELS, facts, kept, over, says
from tests.workers.test_sessions_live import tell
from workers.projector import run_projector
from workers.projector.host import Workshop, workshop

pytestmark = [pytest.mark.crash, pytest.mark.integration]
ROOT = Path(__file__).resolve().parents[2]
KILLS = 3


@pytest.fixture
def settings(postgres_url: str, master_key_file: Path) -> Settings:
    return Settings(database_url=postgres_url, nats_url="nats://127.0.0.1:9", key_file=str(master_key_file))


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
def reactor_process(settings: Settings, folder: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A real `crewkit worker reactor`, killed with SIGKILL at the end of the block."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CREWKIT_")}
    env = {
        **clean,
        "CREWKIT_DATABASE_URL": settings.database_url or "",
        "CREWKIT_NATS_URL": settings.nats_url or "",
        "CREWKIT_KEY_FILE": settings.key_file or "",
        "CREWKIT_DATA_DIR": str(folder),
        **more,
    }
    words = [sys.executable, "-I", str(ROOT / "crewkit.py"), "worker", "reactor"]
    with (
        (folder / "reactor.log").open("ab") as log,
        subprocess.Popen(words, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


async def test_a_reactor_killed_while_a_model_is_asked_loses_and_doubles_nothing(
    shop: Workshop, store: PostgresStore, settings: Settings, tmp_path: Path
) -> None:
    asked: list[dict[str, Any]] = []
    gate = threading.Event()
    with fake_anthropic(says(INPUT), kept=asked, gate=gate) as url:
        more = {
            "CREWKIT_ANTHROPIC_API_KEY": "sk-ant-dummy",
            "CREWKIT_ANTHROPIC_BASE_URL": url,
            "CREWKIT_INSIGHTS_SETTLE_S": "0",
        }
        async with running(run_projector(settings, wanted=READ_MODELS)):
            await tell(store, facts())
            for n in range(KILLS):
                with reactor_process(settings, tmp_path, **more):
                    while len(asked) <= n:
                        await asyncio.sleep(0.02)
            gate.set()
            with reactor_process(settings, tmp_path, **more):
                assert await over(shop, 1) == [("done", None)]
    assert len(await kept(store)) == 1
    assert len(asked) == KILLS + 1  # the model has no means to recognise a repeat: asked at least once
    assert await shop.pool.fetchval("SELECT tries FROM crewkit.reaction") == KILLS + 1

    async def nobody_left() -> bool:
        return not await shop.pool.fetchval("SELECT count(*) FROM crewkit.reaction WHERE running")

    await until(nobody_left)
