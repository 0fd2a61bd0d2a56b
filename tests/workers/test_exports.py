"""The worker and its exports: ingestion goes on, limits hold, a killed worker leaves no half file, examples run."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from domain.exports.events import Wishes
from eventstore.settings import Settings
from projections.exports import outdated
from tests.api.conftest import app, house, http, live, master_key_file, postgres_url
from tests.api.house import House
from tests.api.test_exports import counter, settings, told, worker
from tests.workers.analytics_house import Asker, file_of, recorded_facts, subject, tell
from tests.workers.exports_house import Counter, rows
from tests.workers.tally import running
from workers.analytics import run_analytics
from workers.analytics.export.database import copy
from workers.analytics.export.job import Job, Order, StoppedError
from workers.analytics.file import AnalyticsFile

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
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"


async def test_the_examples_run_on_a_real_export(counter: Counter, tmp_path: Path) -> None:
    database = await counter.database(tmp_path)
    _, archive = await counter.archive(format="parquet", partition="day")
    archive.extractall(tmp_path / "files")
    found = sorted(EXAMPLES.glob("*.sql"))
    assert len(found) == 3
    for path in found:
        sql = path.read_text(encoding="utf-8").replace("'fact_llm_call/", f"'{tmp_path}/files/fact_llm_call/")
        assert rows(database, sql), path.name
    spent = rows(database, (EXAMPLES / "cost-by-project-and-month.sql").read_text(encoding="utf-8"))
    assert sum(row["model_calls"] for row in spent) == rows(database, "FROM kpi_summary")[0]["model_calls"]


class _Pausing(Job):
    """A job that waits after its first table until it is told to go on."""

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        self.inside = threading.Event()
        self.go_on = threading.Event()

    def step(self, rows: int = 0) -> None:
        super().step(rows)
        if self.done == 1:
            self.inside.set()
            assert self.go_on.wait(30)


def order_of(house: House, folder: Path) -> Order:
    return Order(house.ours.org_id, uuid4(), Wishes(format="duckdb", partition="none"), None, folder, 128, 10**9)


async def test_ingestion_goes_on_while_an_export_is_copied_and_the_copy_is_of_one_moment(
    told: House, settings: Settings, nats_url: str, tmp_path: Path
) -> None:
    import nats  # noqa: PLC0415

    client = await nats.connect(nats_url)
    asker = Asker(client, subject())
    async with running(run_analytics(settings, subject=asker.subject)):
        org_id = told.ours.org_id
        before = await asker.ask("summary", org_id=org_id, after=await told.project())
        # The worker's own file object, on the file it has in use: DuckDB gives both the same database.
        file = AnalyticsFile(file_of(settings), memory_mb=settings.analytics_memory_mb)
        job = _Pausing(order_of(told, tmp_path))
        reading = file.apart()
        copying = asyncio.get_running_loop().run_in_executor(None, copy, reading, job, tmp_path / "x.duckdb")
        await asyncio.to_thread(job.inside.wait, 30)
        facts = [(key, msgspec.structs.replace(fact, llm_session_id=f"new-{fact.llm_session_id}"))
                 for key, fact in recorded_facts()[:40]]  # fmt: skip
        await tell(told.store, facts, org_id)
        after = await asker.ask("summary", org_id=org_id, after=await told.project())
        assert after["total_sessions"] > before["total_sessions"], "written while the copy was under way"
        job.go_on.set()
        position = await copying
        reading.close()
        file.close()
    await client.close()
    count = "SELECT count(*) AS n FROM fact_session"
    assert rows(tmp_path / "x.duckdb", count) == [{"n": before["total_sessions"]}]
    assert rows(tmp_path / "x.duckdb", "SELECT position AS n FROM crewkit_export") == [{"n": position}]


async def test_a_copy_that_is_stopped_leaves_the_worker_as_it_was(
    counter: Counter, settings: Settings, tmp_path: Path
) -> None:
    await counter.made()
    file = AnalyticsFile(file_of(settings), memory_mb=settings.analytics_memory_mb)
    reading = file.apart()
    job = Job(order_of(counter.house, tmp_path))
    job.stop("deadline")
    job.stop("cancelled")
    with pytest.raises(StoppedError, match="deadline"):
        copy(reading, job, tmp_path / "x.duckdb")
    assert reading.execute("SELECT count(*) FROM duckdb_databases() WHERE database_name LIKE 'export%'").fetchone() == (
        0,
    )
    reading.close()
    file.close()
    await counter.made()


@pytest.mark.parametrize(
    ("limits", "reason"), [({"export_bytes_max": 1}, "too_large"), ({"export_deadline_s": 0.000001}, "deadline")]
)
async def test_what_takes_too_much_is_given_up_and_its_place_is_free(
    told: House, settings: Settings, http: httpx.AsyncClient, limits: dict[str, Any], reason: str
) -> None:
    counter = Counter(http, told)
    async with running(run_analytics(msgspec.structs.replace(settings, **limits), subject=subject())):
        for _ in range(2):
            asked = await counter.ask(format="csv")
            view = await counter.over(asked["_links"]["self"])
            assert (view["status"], view["reason"]) in {("failed", reason), ("failed", "behind")}
    folder = Path(settings.data_dir)
    assert not [path for path in (folder / "objects").rglob("*") if path.is_file()]
    assert list((folder / "analytics" / "0" / "exports").rglob("*")) == []


async def test_a_file_expires_and_its_bytes_go(told: House, settings: Settings, http: httpx.AsyncClient) -> None:
    counter = Counter(http, told)
    short = msgspec.structs.replace(settings, export_keep_s=1)
    async with running(run_analytics(short, subject=subject())):
        view = await counter.over((await counter.ask())["_links"]["self"])
    await told.project()
    pool: Any = told.store.pool
    async with pool.acquire() as connection:
        while not await outdated(connection, 9):
            await asyncio.sleep(0.05)  # its second is not over
    async with running(run_analytics(short, subject=subject())):
        while view["status"] == "ready":
            await asyncio.sleep(0.02)
            view = await counter.over(view["_links"]["self"])
    assert (view["status"], view["reason"]) == ("expired", "time")
    assert not [path for path in (Path(settings.data_dir) / "objects").rglob("*") if path.is_file()]


def start(settings: Settings) -> subprocess.Popen[bytes]:
    given = {
        "CREWKIT_DATABASE_URL": settings.database_url or "",
        "CREWKIT_NATS_URL": settings.nats_url or "",
        "CREWKIT_KEY_FILE": settings.key_file or "",
        "CREWKIT_DATA_DIR": settings.data_dir,
    }
    return subprocess.Popen(
        [sys.executable, "-I", str(ROOT / "crewkit.py"), "worker", "analytics"],
        env={**os.environ, **given},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.crash
async def test_a_worker_killed_while_it_writes_leaves_no_half_file(
    told: House, settings: Settings, http: httpx.AsyncClient
) -> None:
    counter, pool = Counter(http, told), told.store.pool
    unfinished = 0
    for _ in range(3):
        view = await counter.ask(format="parquet")
        path = view["_links"]["self"]
        await told.project()
        worker = start(settings)
        try:
            while not await pool.fetchval("SELECT count(*) FROM crewkit.export_progress"):  # type: ignore[union-attr]
                assert worker.poll() is None
                await asyncio.sleep(0.005)
        finally:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        state = (await http.get(path, headers=told.ours.headers("read"))).json()
        unfinished += state["status"] == "requested"
        again = start(settings)
        try:
            done = await counter.over(path)
        finally:
            again.terminate()
            again.wait()
        assert done["status"] == "ready"
        content = (await counter.fetch(done)).content
        assert hashlib.sha256(content).hexdigest() == done["sha256"]
        assert (await http.delete(path, headers=told.ours.headers("read"))).status_code == 204
    assert unfinished > 0
    folder = Path(settings.data_dir)
    assert not [path for path in (folder / "objects" / "exports").rglob("*") if path.is_file()]
    assert list((folder / "analytics" / "0" / "exports").rglob("*")) == []
