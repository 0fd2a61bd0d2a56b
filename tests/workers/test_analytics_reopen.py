"""A database that DuckDB gave up: the file is opened again, and nobody who reads it holds that up or is the reason to build it anew."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest

from eventstore.settings import Settings
from projections.analytics.questions import found_questions
from projections.analytics.questions.base import Question
from projections.analytics.questions.summary import SummaryParams
from tests.api.conftest import app, house, http, live, master_key_file, postgres_url
from tests.api.house import House
from tests.api.test_exports import counter, settings, told, worker
from tests.workers.analytics_house import Asker, file_of
from tests.workers.exports_house import Counter
from tests.workers.tally import running, until
from workers.analytics import file as files
from workers.analytics import run_analytics
from workers.analytics.export import database
from workers.analytics.export.job import Job
from workers.analytics.file import AnalyticsFile, Batch, Stand
from workers.lifecycle import discard

__all__ = [
    "app",
    "counter",
    "house",
    "http",
    "live",
    "master_key_file",
    "postgres_url",
    "settings",
    "told",
    "worker",
]  # fixtures
pytestmark = pytest.mark.integration
LOOKS_MAX = 1_000
STAND = Stand(1, 1, 1)
ENDLESS = "SELECT count(*) FROM range(100_000_000_000) t(i) WHERE i % 7 = 3"
LONG = "SELECT count(*) FROM range(3_000_000_000) t(i) WHERE i % 7 = 3"  # ends by itself: nothing hangs where it must


def give_up(connection: Any) -> None:
    """Make DuckDB give the database up, as a defect of its own would: it refuses all further work."""
    connection.execute("SET GLOBAL debug_checkpoint_abort = 'before_header'")
    connection.execute("CREATE OR REPLACE TABLE something AS SELECT 1 AS one")
    connection.execute("FORCE CHECKPOINT")


def breaking(cursor: Any, _: UUID, __: SummaryParams) -> None:
    give_up(cursor.cursor())


def failing(_: Any, __: UUID, ___: SummaryParams) -> None:
    """Fail as what breaks a database does, beside statements that run: `give_up` would wait for these."""
    raise duckdb.InternalException("INTERNAL Error: Attempted to access index 3 within vector of size 3")


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Questions that break the database, and that take for ever; set once one of the latter runs."""
    begun = threading.Event()

    def work(cursor: Any, _: UUID, __: SummaryParams) -> Any:
        begun.set()
        return cursor.execute(ENDLESS).fetchall()

    questions = found_questions()
    questions["breaking"] = Question("breaking", SummaryParams, breaking)
    questions["failing"] = Question("failing", SummaryParams, failing)
    questions["endless"] = Question("endless", SummaryParams, work)
    monkeypatch.setattr("workers.analytics.answers.found_questions", lambda: questions)
    return begun


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[AnalyticsFile]]:
    """Every file that was opened, oldest first."""
    found: list[AnalyticsFile] = []
    init = AnalyticsFile.__init__

    def noted(file: AnalyticsFile, path: Path, **more: Any) -> None:
        init(file, path, **more)
        found.append(file)

    monkeypatch.setattr(AnalyticsFile, "__init__", noted)
    yield found
    found.clear()


async def set_of(event: threading.Event) -> None:
    async def is_set() -> bool:
        return event.is_set()

    await until(is_set)


async def test_a_slow_question_on_a_database_that_was_given_up_is_ended(
    told: House, settings: Settings, asker: Asker, endless: threading.Event
) -> None:
    org_id = told.ours.org_id
    async with running(run_analytics(settings, subject=asker.subject)):
        before = await asker.ask("summary", org_id=org_id)
        path = file_of(settings)
        slow = asyncio.create_task(asker.reply("endless", org_id=org_id))
        await set_of(endless)
        assert (await asker.reply("failing", org_id=org_id)).error == "failed"
        assert await asker.ask("summary", org_id=org_id) == before
        assert (await slow).error == "starting"  # and not `deadline`, until which rows would have waited
        assert file_of(settings) == path


async def test_an_export_under_way_does_not_keep_a_database_that_was_given_up(
    endless: threading.Event,
    counter: Counter,
    settings: Settings,
    asker: Asker,
    worker: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = threading.Event()

    def slowly(connection: duckdb.DuckDBPyConnection, job: Job, path: Path) -> int:
        if not begun.is_set():
            begun.set()
            for _ in range(LOOKS_MAX):
                job.check()
                time.sleep(0.01)
        return database.copy(connection, job, path)

    monkeypatch.setattr("workers.analytics.export.copy", slowly)
    monkeypatch.setattr("workers.analytics.export.TRIES_MAX", 1)
    asker.subject, org_id = worker, counter.house.ours.org_id
    before = await asker.ask("summary", org_id=org_id)
    path = file_of(settings)
    asked = await counter.ask()
    await counter.house.project()
    await set_of(begun)
    assert (await asker.reply("breaking", org_id=org_id)).error == "failed"
    assert await asker.ask("summary", org_id=org_id) == before
    assert file_of(settings) == path  # a good file: nothing had to be built again
    assert (await counter.over(asked["_links"]["self"]))["status"] == "ready"  # with the only try it had


async def test_a_database_that_somebody_else_keeps_open_is_no_reason_to_build_its_file_anew(
    told: House, settings: Settings, asker: Asker, endless: threading.Event, opened: list[AnalyticsFile]
) -> None:
    org_id = told.ours.org_id
    async with running(run_analytics(settings, subject=asker.subject)):
        before = await asker.ask("summary", org_id=org_id)
        path = file_of(settings)
        held = opened[-1].apart()
        assert (await asker.reply("breaking", org_id=org_id)).error == "failed"

        async def refused() -> bool:
            return len(opened) > 1

        await until(refused)
        held.close()
        assert await asker.ask("summary", org_id=org_id) == before
        assert {file.path for file in opened} == {path}


async def test_who_keeps_breaking_the_database_does_not_have_it_opened_all_the_time(
    told: House,
    settings: Settings,
    asker: Asker,
    endless: threading.Event,
    opened: list[AnalyticsFile],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    org_id = told.ours.org_id
    monkeypatch.setattr("workers.analytics.host.REOPEN_EVERY_S", 3600.0)
    async with running(run_analytics(settings, subject=asker.subject)):
        await asker.ask("summary", org_id=org_id)
        assert (await asker.reply("breaking", org_id=org_id)).error == "failed"
        await asker.ask("summary", org_id=org_id)  # at once: it is the first time
        assert (await asker.reply("breaking", org_id=org_id)).error == "failed"
        assert (await asker.reply("summary", org_id=org_id, wait_s=1)).error == "starting"
        assert len(opened) == 2


async def test_a_database_that_was_given_up_while_nobody_asks_is_opened_again(
    told: House, settings: Settings, asker: Asker, opened: list[AnalyticsFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    org_id = told.ours.org_id
    monkeypatch.setattr("workers.analytics.report.EVERY_S", 0.1)
    async with running(run_analytics(settings, subject=asker.subject)):
        before = await asker.ask("summary", org_id=org_id)
        path, other = file_of(settings), opened[-1].cursor()
        with pytest.raises(duckdb.FatalException):
            give_up(other)
        other.close()

        async def again() -> bool:
            return len(opened) > 1

        await until(again)  # by what the worker tells of itself
        assert await asker.ask("summary", org_id=org_id) == before
        assert file_of(settings) == path


async def test_a_failure_of_what_follows_an_idle_look_lengthens_the_pauses(
    told: House, settings: Settings, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    async def fails(*_: Any) -> None:
        raise RuntimeError("cannot tell")

    def noted(backoff: Any) -> float:
        backoff.tries += 1
        tries.append(backoff.tries)
        return 0.01

    async with running(run_analytics(settings, subject=asker.subject)):
        await asker.ask("summary", org_id=told.ours.org_id)
        monkeypatch.setattr("workers.lifecycle.Backoff.next_s", noted)
        monkeypatch.setattr("workers.analytics.report.Report.tell", fails)

        async def thrice() -> bool:
            return len(tries) >= 3

        await until(thrice)
    assert tries[:3] == [1, 2, 3]


async def test_the_worker_ends_the_questions_that_run_when_it_stops(
    told: House, settings: Settings, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ends = threading.Event(), list[str]()

    def work(cursor: Any, _: UUID, __: SummaryParams) -> Any:
        begun.set()
        try:
            return cursor.execute(LONG).fetchall()
        except duckdb.InterruptException:
            ends.append("interrupted")
            raise

    questions = found_questions()
    questions["long"] = Question("long", SummaryParams, work)
    monkeypatch.setattr("workers.analytics.answers.found_questions", lambda: questions)
    async with running(run_analytics(settings, subject=asker.subject)):
        slow = asyncio.create_task(asker.reply("long", org_id=told.ours.org_id))
        await set_of(begun)
    await discard(slow)
    assert ends == ["interrupted"]


def made(path: Path) -> AnalyticsFile:
    file = AnalyticsFile(path, memory_mb=256)
    file.create()
    file.write(Batch(path.parent / "nothing", STAND, fresh=True, whole=True))
    return file


def spilled(folder: Path, number: int) -> Path:
    """What a process that was killed leaves of what it spilled."""
    spill = folder / f"{number}.tmp"
    spill.mkdir()
    (spill / "duckdb_temp_1_0_storage_DEFAULT-0.tmp").write_bytes(b"x" * 100)
    return spill


def test_what_a_killed_process_spilled_is_removed(tmp_path: Path) -> None:
    old, kept, read = (spilled(tmp_path, number) for number in (1, 2, 3))
    (tmp_path / "scratch.tmp").mkdir()
    files.sweep(tmp_path, tmp_path / "2.duckdb", tmp_path / "3.duckdb")
    assert not old.exists()
    assert kept.exists()
    assert read.exists()  # an export goes on with it, though its file has no name any more
    assert (tmp_path / "scratch.tmp").exists()
    files.sweep(tmp_path, tmp_path / "2.duckdb")
    assert not read.exists()
    file = made(tmp_path / "2.duckdb")
    assert not list(tmp_path.rglob("duckdb_temp_1_*"))
    file.close()


def test_a_file_that_was_removed_is_not_made_anew_by_who_wants_to_read_it(tmp_path: Path) -> None:
    file = made(tmp_path / "1.duckdb")
    file.close()
    files.sweep(tmp_path, None)
    with pytest.raises(FileNotFoundError):
        file.apart()
    assert not list(tmp_path.iterdir())


async def test_an_export_whose_file_was_replaced_takes_the_next_one(
    counter: Counter, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart, removed = AnalyticsFile.apart, list[Path]()

    def late(file: AnalyticsFile) -> duckdb.DuckDBPyConnection:
        if not removed:
            file = copy.copy(file)
            file.path = file.path.with_name("0.duckdb")
            removed.append(file.path)
        return apart(file)

    monkeypatch.setattr(AnalyticsFile, "apart", late)
    monkeypatch.setattr("workers.analytics.export.TRIES_MAX", 1)
    await counter.made()  # with the only try it had
    assert not removed[0].exists()
