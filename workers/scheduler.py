"""The scheduler: commands and housekeeping that come due with time, run by one instance.

It acts under a session-level advisory lock on its own connection; if that connection goes, so does the office.  Every job
is safe to run twice and takes a bounded batch, so a missed or repeated run costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec
import structlog

from commands.bus import Principal
from commands.data_exports import expire_export, write_export
from commands.erasure import Eraser, finish
from commands.sessions import time_out_session
from domain.kernel import DomainError
from eventstore.database import WORKER_ROLE, Connection, Pool, connect_pool
from eventstore.exports import drop_parts
from eventstore.mapper import Mapper
from eventstore.objects import Objects, open_objects
from eventstore.port import Meta, StoreUnavailableError
from eventstore.postgres import PostgresStore
from eventstore.proof import Signer, log_name
from eventstore.sealing import PostgresKeyRing
from eventstore.settings import Settings
from projections.data_exports import outdated, unwritten
from projections.erasure import unfinished
from projections.sessions.queries import stale_sessions
from workers.consolidate import Consolidator
from workers.identity import expire_devices, rotate_signing_keys
from workers.keys import master_key
from workers.lifecycle import (
    DATABASE_FAILURES,
    Backoff,
    close_pool,
    database_url,
    retry_forever,
    until_cancelled,
    wait_any,
)
from workers.tenancy import expire_invitations, finish_joinings, purge_organizations, purge_projects

log = structlog.get_logger("scheduler")

LOCK_KEY = 0x637265776B690002  # "crewki", job 2
STANDBY_S = 5.0
JOB_MAX_S = 60.0
STALE_EVERY_S = 15.0
STALE_BATCH_MAX = 500
RECEIPTS_EVERY_S = 600.0
RECEIPTS_BATCH_MAX = 10_000
INVITATIONS_EVERY_S = 60.0
PURGE_EVERY_S = 600.0
DEVICES_EVERY_S = 60.0
SIGNING_KEYS_EVERY_S = 3600.0
RECEIPT_KEEP = timedelta(days=30)
ERASURES_EVERY_S = 10.0
ERASURES_BATCH_MAX = 20
BATCH_KEEP = timedelta(days=7)
BATCHES_PRUNED_MAX = 50_000
EXPORTS_WRITE_EVERY_S = 5.0
EXPORTS_RUN_S = 20.0
EXPORTS_EXPIRE_EVERY_S = 60.0
EXPORTS_BATCH_MAX = 20
ACTOR = "system:scheduler"
NOBODY = UUID(int=0)

FAILURES = (*DATABASE_FAILURES, StoreUnavailableError)


class Tools(msgspec.Struct, frozen=True):
    """What jobs work with.  `pool` acts as worker."""

    settings: Settings
    pool: Pool
    store: PostgresStore
    consolidator: Consolidator
    objects: Objects


class Job(msgspec.Struct, frozen=True):
    """Something to do every `every_s` seconds (0: never), which settings may say.  `run` answers how much it did."""

    name: str
    every_s: float | Callable[[Settings], float]
    run: Callable[[Tools], Awaitable[int]]


async def time_out_stale_sessions(tools: Tools) -> int:
    """Tell that sessions fell silent: no event recorded (the server's clock) for longer than `stale_after_s`."""
    limit_s = tools.settings.stale_after_s
    async with tools.pool.acquire() as connection:
        if await connection.fetchval("SELECT to_regclass('crewkit.session')") is None:
            return 0  # no projector has run yet
        now = await connection.fetchval("SELECT clock_timestamp()")
        found = await stale_sessions(connection, now - timedelta(seconds=limit_s), STALE_BATCH_MAX)
    noted = 0
    for stale in found:
        principal = Principal(actor=ACTOR, org_id=stale.org_id, person_id=NOBODY, scopes=frozenset())
        try:
            outcome = await time_out_session(
                tools.store,
                principal,
                stale.session_id,
                last_activity_at=stale.last_activity_at,
                now=now,
                limit_s=limit_s,
            )
        except DomainError as refused:  # somebody was busy with this very session: the next run sees what became of it
            log.info("scheduler.session_not_timed_out", session=stale.session_id, code=refused.code)
            continue
        noted += outcome is not None
    return noted


async def prune_receipts(tools: Tools) -> int:
    """Forget what commands answered longer ago than anybody repeats them."""
    return int(await tools.pool.fetchval("SELECT crewkit.prune_receipts($1, $2)", RECEIPT_KEEP, RECEIPTS_BATCH_MAX))


async def prune_batches(tools: Tools) -> int:
    """Forget the names of batches that nobody sends again."""
    return int(await tools.pool.fetchval("SELECT crewkit.prune_batches($1, $2)", BATCH_KEEP, BATCHES_PRUNED_MAX))


async def consolidate_sessions(tools: Tools) -> int:
    """Write the items of sessions that are over to the object store; see workers/consolidate.py."""
    return await tools.consolidator.run()


async def finish_erasures(tools: Tools) -> int:
    """Carry out erasures that were asked for and cut off half-way."""
    async with tools.pool.acquire() as connection:
        found = await unfinished(connection, ERASURES_BATCH_MAX)
        if not found:
            return 0
        signer = Signer(master_key(tools.settings), await log_name(connection))
    eraser = Eraser(tools.store, tools.pool, tools.store.mapper.ring, signer)
    for org_id, erasure_id in found:
        await finish(eraser, org_id, erasure_id, meta=Meta(actor=ACTOR))
    return len(found)


async def write_data_exports(tools: Tools) -> int:
    """Go on writing archives of personal data that were asked for, for a bounded time."""
    async with tools.pool.acquire() as connection:
        found = await unwritten(connection, EXPORTS_BATCH_MAX)
    until_s = time.monotonic() + EXPORTS_RUN_S
    done = 0
    for org_id, export_id in found:
        ring = tools.store.mapper.ring
        done += await write_export(
            tools.store, tools.pool, ring, org_id, export_id, until_s=until_s, meta=Meta(actor=ACTOR)
        )
        if time.monotonic() > until_s:
            break
    return done


async def expire_data_exports(tools: Tools) -> int:
    """Delete archives of personal data whose time is over, and what is left of those that were given up."""
    async with tools.pool.acquire() as connection:
        over, given_up = await outdated(connection, EXPORTS_BATCH_MAX)
        for org_id, export_id in over:
            await expire_export(tools.store, connection, org_id, export_id, reason="time", meta=Meta(actor=ACTOR))
        for org_id, export_id in given_up:
            await drop_parts(connection, org_id, export_id)
    return len(over) + len(given_up)


JOBS = (
    Job("time_out_stale_sessions", STALE_EVERY_S, time_out_stale_sessions),
    Job("finish_erasures", ERASURES_EVERY_S, finish_erasures),
    Job("write_data_exports", EXPORTS_WRITE_EVERY_S, write_data_exports),
    Job("expire_data_exports", EXPORTS_EXPIRE_EVERY_S, expire_data_exports),
    Job("prune_receipts", RECEIPTS_EVERY_S, prune_receipts),
    Job("prune_batches", RECEIPTS_EVERY_S, prune_batches),
    Job("consolidate_sessions", lambda settings: settings.consolidate_every_s, consolidate_sessions),
    Job("expire_invitations", INVITATIONS_EVERY_S, lambda tools: expire_invitations(tools.pool, tools.store)),
    Job("finish_joinings", INVITATIONS_EVERY_S, lambda tools: finish_joinings(tools.pool, tools.store)),
    Job("expire_devices", DEVICES_EVERY_S, lambda tools: expire_devices(tools.settings, tools.pool, tools.store)),
    Job("rotate_signing_keys", SIGNING_KEYS_EVERY_S, lambda tools: rotate_signing_keys(tools.store)),
    Job("purge_projects", PURGE_EVERY_S, lambda tools: purge_projects(tools.pool, tools.store)),
    Job(
        "purge_organizations", PURGE_EVERY_S, lambda tools: purge_organizations(tools.pool, tools.store, tools.objects)
    ),
)


async def run_scheduler(settings: Settings, *, jobs: Sequence[Job] = JOBS) -> None:
    """Run due jobs until cancelled; then finish the one that runs."""
    scheduler = Scheduler(settings, jobs)
    await until_cancelled(scheduler.run)


class Scheduler:
    """One candidate for the office."""

    def __init__(self, settings: Settings, jobs: Sequence[Job]) -> None:
        self._settings = settings
        self._jobs = jobs
        self._backoff = Backoff()
        self._objects = open_objects(settings)  # a setting that names none stops the process before it starts

    async def run(self, stop: asyncio.Event) -> None:
        """Serve one term after the other until `stop` is set."""

        def on_failure(error: BaseException, pause_s: float) -> None:
            tell = log.warning if self._backoff.tries == 1 else log.debug
            tell("scheduler.interrupted", error=f"{type(error).__name__}: {error}", retry_s=round(pause_s, 2))

        await retry_forever(lambda: self._term(stop), stop, FAILURES, on_failure, self._backoff)

    async def _term(self, stop: asyncio.Event) -> None:
        offices = await connect_pool(database_url(self._settings), WORKER_ROLE, max_size=1)
        office = await offices.acquire()
        try:
            while not await office.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
                await wait_any(STANDBY_S, stop)
                if stop.is_set():
                    return
            await self._serve(office, stop)
        finally:
            await close_pool(offices, office)

    async def _serve(self, office: Connection, stop: asyncio.Event) -> None:
        url = database_url(self._settings)
        pool = await connect_pool(url, WORKER_ROLE, max_size=2)
        try:
            mapper = Mapper(PostgresKeyRing(pool, master_key(self._settings)))
            store = PostgresStore(url, mapper, role=WORKER_ROLE, pool=pool)
            await store.start()
            try:
                log.info("scheduler.active", jobs=[job.name for job in self._jobs])
                self._backoff.reset()
                consolidator = Consolidator(self._settings, pool, store, self._objects)
                tools = Tools(self._settings, pool, store, consolidator, self._objects)
                await self._run_jobs(tools, office, stop)
            finally:
                await store.close()
        finally:
            await close_pool(pool)

    async def _run_jobs(self, tools: Tools, office: Connection, stop: asyncio.Event) -> None:
        pauses = [self._every_s(job) for job in self._jobs]
        due = {n: time.monotonic() for n, pause_s in enumerate(pauses) if pause_s > 0}
        while True:
            if not due:
                await stop.wait()
                return
            n = min(due, key=lambda one: due[one])
            await wait_any(max(0.0, due[n] - time.monotonic()), stop)
            if stop.is_set():
                return
            await office.execute("SELECT 1")  # still in office?
            await self._run_job(self._jobs[n], tools)
            due[n] = time.monotonic() + pauses[n]

    def _every_s(self, job: Job) -> float:
        return job.every_s(self._settings) if callable(job.every_s) else job.every_s

    async def _run_job(self, job: Job, tools: Tools) -> None:
        started_s = time.monotonic()
        try:
            done = await asyncio.wait_for(job.run(tools), JOB_MAX_S)
        except Exception as error:  # noqa: BLE001  one job's defect must not keep the others from running
            log.error("scheduler.job_failed", job=job.name, error=f"{type(error).__name__}: {error}")  # noqa: TRY400
            return
        tell = log.info if done else log.debug
        tell("scheduler.job", job=job.name, done=done, ms=round((time.monotonic() - started_s) * 1000, 1))
