"""The sealer at work: in time, alone, and safe to kill."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore.settings import Settings
from tests.eventstore.proof_truth import establish
from tests.workers.tally import Log, open_log, running, until
from workers import sealer
from workers.sealer import run_sealer

pytestmark = pytest.mark.integration
PROGRAM = [sys.executable, "-I", str(Path(__file__).resolve().parents[2] / "crewkit.py")]
SEED = int(os.environ.get("CREWKIT_CRASH_SEED", "20261125"))
KILLS = 4


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[Log]:
    async with open_log(postgres_url) as opened:
        yield opened


def settings_of(postgres_url: str, folder: Path, every_s: float = 0.05, every_events: int = 10_000) -> Settings:
    return Settings(
        database_url=postgres_url,
        data_dir=str(folder),
        key_file=str(folder / "master.key"),
        seal_every_s=every_s,
        seal_every_events=every_events,
    )


async def sealed(log: Log) -> int:
    return int(await log.store.pool.fetchval("SELECT coalesce(max(size), 0) FROM crewkit.proof_checkpoint"))


async def checkpoints(log: Log) -> int:
    return int(await log.store.pool.fetchval("SELECT count(*) FROM crewkit.proof_checkpoint"))


async def test_new_events_are_sealed_after_a_while_and_nothing_new_is_not(
    log: Log, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "POLL_S", 0.01)

    async def all_sealed() -> bool:
        return await sealed(log) == await log.store.head() > 0

    async with running(run_sealer(settings_of(postgres_url, tmp_path))):
        for _ in range(3):
            await log.add(40)
            await until(all_sealed)
        before = await checkpoints(log)
        await asyncio.sleep(0.2)  # several intervals without anything new
        assert await checkpoints(log) == before
    assert await establish(log.store.pool) == await log.store.head()


async def test_many_new_events_are_sealed_without_waiting(
    log: Log, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "POLL_S", 0.01)

    async def first() -> bool:
        return await sealed(log) >= 1

    async def enough() -> bool:
        return await sealed(log) >= 51

    async with running(run_sealer(settings_of(postgres_url, tmp_path, every_s=3600, every_events=50))):
        await log.add(1)
        await until(first)
        await log.add(50)
        await until(enough)


async def test_one_seals_and_another_takes_over(
    log: Log, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "STANDBY_S", 0.02)
    monkeypatch.setattr(sealer, "POLL_S", 0.01)
    settings = settings_of(postgres_url, tmp_path)

    async def all_sealed() -> bool:
        return await sealed(log) == await log.store.head() > 0

    first = asyncio.create_task(run_sealer(settings))
    await log.add(10)
    await until(all_sealed)
    async with running(run_sealer(settings)):
        first.cancel()
        await asyncio.wait({first})
        await log.add(10)
        await until(all_sealed)
    assert await establish(log.store.pool) == await log.store.head()


@pytest.mark.crash
async def test_a_killed_sealer_leaves_the_truth_and_the_next_goes_on(
    log: Log, postgres_url: str, tmp_path: Path
) -> None:
    dice = random.Random(SEED)
    env = {
        **os.environ,
        "CREWKIT_DATABASE_URL": postgres_url,
        "CREWKIT_DATA_DIR": str(tmp_path),
        "CREWKIT_KEY_FILE": str(tmp_path / "master.key"),
        "CREWKIT_SEAL_EVERY_S": "0",
        "CREWKIT_SEAL_EVERY_EVENTS": "1",
    }
    for _ in range(KILLS):
        before = await sealed(log)

        async def moved(before: int = before) -> bool:
            return await sealed(log) > before

        process = subprocess.Popen([*PROGRAM, "worker", "sealer"], env=env, stderr=subprocess.DEVNULL)
        try:
            load = asyncio.create_task(log.add(2_000))
            await until(moved)
            await asyncio.sleep(dice.random() * 0.05)
            process.send_signal(signal.SIGKILL)
            await load
        finally:
            process.kill()
            process.wait()
        assert await establish(log.store.pool) == await sealed(log)
    async with running(run_sealer(settings_of(postgres_url, tmp_path))):

        async def all_sealed() -> bool:
            return await sealed(log) == await log.store.head()

        await until(all_sealed)
    assert await establish(log.store.pool) == await log.store.head()
