"""The scheduler: what comes due is done once, by one instance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from structlog.testing import capture_logs

from domain.erasure.decide import erasure_stream
from domain.erasure.events import ErasureCertified, ErasureRequested, Subject
from domain.kernel import Stream
from domain.organizations.events import SubjectShredded
from eventstore.port import Append, NewEvent
from eventstore.settings import Settings
from projections import erasure
from projections.sessions import PROJECTION
from tests.workers.tally import AT, ORG, PERSON, Log, open_log, running, until
from workers import scheduler
from workers.projector import run_projector
from workers.scheduler import Job, Tools, finish_erasures, run_scheduler, time_out_stale_sessions

pytestmark = pytest.mark.integration


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[Log]:
    async with open_log(postgres_url) as opened:
        yield opened


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url,
        nats_url="nats://127.0.0.1:9",
        data_dir=str(tmp_path),
        key_file=str(tmp_path / "master.key"),
        stale_after_s=0,
    )


async def timed_out(log: Log) -> list[str]:
    events = await log.store.read_all(0, 1_000)
    return [one.stream.id for one in events if one.type == "session.timed_out.v1"]


async def test_a_silent_session_is_timed_out_once(log: Log, settings: Settings) -> None:
    await log.add(6, sessions=3)
    await log.end("s1")
    jobs = (Job("time_out_stale_sessions", 0.02, time_out_stale_sessions),)
    async with running(run_projector(settings, wanted=[PROJECTION]), run_scheduler(settings, jobs=jobs)):

        async def both() -> bool:
            return set(await timed_out(log)) == {"s0", "s2"}

        await until(both)
        await log.reached(await log.store.head(), "sessions")
        await asyncio.sleep(0.2)  # several more runs
        assert sorted(await timed_out(log)) == ["s0", "s2"]
        shown = await log.store.pool.fetch("SELECT session_id, status FROM crewkit.session ORDER BY session_id")
    assert [tuple(one) for one in shown] == [("s0", "timed_out"), ("s1", "ended"), ("s2", "timed_out")]
    last = (await log.store.read_stream(ORG, Stream("Session", "s0")))[-1]
    assert last.meta.actor == "system:scheduler"


async def test_one_instance_acts_and_another_takes_over(
    log: Log, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "STANDBY_S", 0.02)
    ran: list[str] = []

    def job(name: str) -> Job:
        async def run(_: Tools) -> int:
            ran.append(name)
            return 0

        return Job("count", 0.01, run)

    first = asyncio.create_task(run_scheduler(settings, jobs=[job("first")]))
    while not ran:
        await asyncio.sleep(0.01)
    async with running(run_scheduler(settings, jobs=[job("second")])):
        await asyncio.sleep(0.1)
        assert set(ran) == {"first"}
        first.cancel()
        await asyncio.wait({first})
        while "second" not in ran:
            await asyncio.sleep(0.01)


async def test_a_defective_job_does_not_stop_the_others(log: Log, settings: Settings) -> None:
    ran: list[int] = []

    async def broken(_: Tools) -> int:
        raise RuntimeError("a defect")

    async def good(_: Tools) -> int:
        ran.append(1)
        return 1

    async with running(run_scheduler(settings, jobs=[Job("broken", 0.01, broken), Job("good", 0.01, good)])):
        while len(ran) < 3:
            await asyncio.sleep(0.01)


async def test_an_erasure_that_was_cut_off_is_finished(log: Log, settings: Settings) -> None:
    asked = ErasureRequested(
        erasure_id=PERSON,
        subjects=[Subject(ORG, PERSON)],
        reason="subject_request",
        requested_by="key:1",
        requested_at=AT,
    )
    stream = erasure_stream(PERSON)
    await log.store.append(Append(org_id=ORG, stream=stream, events=[NewEvent(asked)]))
    jobs = (Job("finish_erasures", 0.02, finish_erasures),)
    async with running(run_projector(settings, wanted=[erasure.PROJECTION]), run_scheduler(settings, jobs=jobs)):

        async def certified() -> bool:
            return len(await log.store.read_stream(ORG, stream)) == 2

        await until(certified)
        await log.reached(await log.store.head(), "erasure")
        await asyncio.sleep(0.1)  # several more runs
    kinds = [type(one.event) for one in await log.store.read_all(0)]
    assert kinds == [ErasureRequested, SubjectShredded, ErasureCertified]
    last = (await log.store.read_stream(ORG, stream))[-1]
    assert last.meta.actor == "system:scheduler"
    row = await log.store.pool.fetchrow("SELECT certified_at, note FROM crewkit.erasure")
    assert row is not None
    assert isinstance(last.event, ErasureCertified)
    assert tuple(row) == (last.event.certified_at, last.event.note)


async def test_old_receipts_go_and_young_ones_stay(log: Log, settings: Settings, postgres_url: str) -> None:
    import asyncpg  # noqa: PLC0415

    admin = await asyncpg.connect(postgres_url)
    for command, days in (("old", 31), ("young", 29)):
        await admin.execute(
            "INSERT INTO crewkit.receipt VALUES ($1, $2, $3, 1, 1, clock_timestamp() - make_interval(days => $4))",
            ORG,
            command,
            PERSON,
            days,
        )

    async def pruned() -> bool:
        return [row[0] for row in await admin.fetch("SELECT command_id FROM crewkit.receipt")] == ["young"]

    async with running(run_scheduler(settings)):
        await until(pruned)
    await admin.close()


async def test_it_needs_no_more_rights_than_a_worker(
    log: Log, settings: Settings, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In production the processes need not log in as the owner of the tables."""
    import asyncpg  # noqa: PLC0415

    admin = await asyncpg.connect(postgres_url)
    user = f"plain_{uuid4().hex[:8]}"
    await admin.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'plain'; GRANT crewkit_worker TO {user}")
    scheme, _, rest = postgres_url.partition("://")
    plain = msgspec.structs.replace(settings, database_url=f"{scheme}://{user}:plain@{rest.rpartition('@')[2]}")
    monkeypatch.setattr(scheduler, "RECEIPT_KEEP", timedelta(0))
    await admin.execute(
        "INSERT INTO crewkit.receipt VALUES ($1, 'old', $1, 1, 1, clock_timestamp() - interval '2 days')", ORG
    )

    async def pruned() -> bool:
        return await admin.fetchval("SELECT count(*) FROM crewkit.receipt") == 0

    with capture_logs() as told:
        async with running(run_scheduler(plain)):
            await until(pruned)
    assert [one for one in told if one["log_level"] == "error"] == []
    await admin.execute(f"DROP ROLE {user}")
    await admin.close()


async def test_names_of_batches_are_forgotten_after_a_week(log: Log, settings: Settings, postgres_url: str) -> None:
    import asyncpg  # noqa: PLC0415

    admin = await asyncpg.connect(postgres_url)
    for name, days in (("old", 8), ("young", 6)):
        await admin.execute(
            "INSERT INTO crewkit.ingest_batch VALUES ($1, $2, 'x', clock_timestamp() - make_interval(days => $3))",
            ORG,
            name,
            days,
        )

    async def pruned() -> bool:
        return [row[0] for row in await admin.fetch("SELECT batch_id FROM crewkit.ingest_batch")] == ["young"]

    async with running(run_scheduler(settings)):
        await until(pruned)
    await admin.close()
