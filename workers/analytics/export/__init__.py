"""Exports, written by the worker that has the rows: one at a time, each in a thread that may be stopped at any moment.

A job leaves nothing behind until its file is stored whole, and begins anew after a crash; an export whose worker dies
`TRIES_MAX` times is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import structlog

from commands.exports import (
    FILE_NAMES,
    MANIFEST,
    Written,
    complete_file,
    drop_file,
    expire_file,
    fail_file,
    find_file,
    key_of,
)
from domain.exports.decide import Ready, Waiting
from eventstore.database import WORKER_ROLE, Pool, connect_pool
from eventstore.mapper import Mapper
from eventstore.objects import ObjectMissingError, Objects, open_objects
from eventstore.port import Meta
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing
from eventstore.settings import Settings
from projections.analytics.periods import slot_of
from projections.exports import ExportRow, leftovers, outdated, waiting
from workers.analytics.answers import unusable
from workers.analytics.export.database import copy, describe, opened
from workers.analytics.export.files import Manifest, pack, sha256_of
from workers.analytics.export.job import LEFT, STOPPING, Job, Order, StoppedError
from workers.analytics.file import AnalyticsFile
from workers.keys import master_key
from workers.lifecycle import Backoff, close_pool, database_url, retry_forever, wait_any

log = structlog.get_logger("exports")

ACTOR = "system:analytics"
POLL_S = 1.0
WATCH_S = 0.25
CLEAN_EVERY_S = 60.0
LEAVE_POLL_S = 0.02
BATCH_MAX = 20
TRIES_MAX = 3
CONNECTIONS_MAX = 3
MANIFEST_BYTES_MAX = 64 * 1024 * 1024  # one that is larger is not taken as a base: the export is written whole

Current = Callable[[], tuple[AnalyticsFile, int] | None]

_BEGIN = """
INSERT INTO crewkit.export_progress AS p (org_id, export_id, tries, stage, done, total, rows)
VALUES ($1, $2, 1, 'copying', 0, 0, 0)
ON CONFLICT (org_id, export_id) DO UPDATE SET tries = p.tries + 1, stage = 'copying', done = 0, total = 0, rows = 0,
    updated_at = clock_timestamp()
RETURNING tries
"""
_TELL = """
UPDATE crewkit.export_progress SET stage = $3, done = $4, total = $5, rows = $6, updated_at = clock_timestamp()
 WHERE org_id = $1 AND export_id = $2
"""
_AGAIN = "UPDATE crewkit.export_progress SET tries = tries - 1 WHERE org_id = $1 AND export_id = $2"
_FORGET = "DELETE FROM crewkit.export_progress WHERE org_id = $1 AND export_id = $2"
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('crewkit.export:' || $1::text, 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('crewkit.export:' || $1::text, 0))"


class Exporter:
    """Writes what was asked for, from the file that `current` tells with its position."""

    def __init__(self, settings: Settings, folder: Path, current: Current) -> None:
        self._settings = settings
        self._scratch = folder / "exports"
        self._current = current
        self._backoff = Backoff()
        self._desk: _Desk | None = None
        self._objects = open_objects(settings)
        self._meta = Meta(actor=ACTOR)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; the job in hand is then dropped and begun again later."""

        def on_failure(error: BaseException, pause_s: float) -> None:
            tell = log.warning if self._backoff.tries == 1 else log.debug
            tell("exports.interrupted", error=f"{type(error).__name__}: {error}", retry_s=round(pause_s, 2))

        await retry_forever(lambda: self._term(stop), stop, (Exception,), on_failure, self._backoff)

    @property
    def reads(self) -> Path | None:
        """The worker's file that is copied from just now."""
        job = self._desk.job if self._desk else None
        return job.reads.path if job and job.reads else None

    async def leave(self, file: AnalyticsFile) -> None:
        """Let go of `file`; what was copied from it is begun again, with the file then in use."""
        if self._desk is not None:
            await self._desk.leave(file)

    async def _term(self, stop: asyncio.Event) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        url = database_url(self._settings)
        pool = await connect_pool(url, WORKER_ROLE, max_size=CONNECTIONS_MAX, application_name="crewkit-exports")
        thread = ThreadPoolExecutor(1, thread_name_prefix="export")
        try:
            mapper = Mapper(PostgresKeyRing(pool, master_key(self._settings)))
            store = PostgresStore(url, mapper, role=WORKER_ROLE, pool=pool)
            await store.start()
            try:
                desk = _Desk(
                    self._settings, pool, store, self._objects, self._scratch, thread, self._meta, self._current
                )
                self._desk = desk
                await self._serve(desk, stop)
            finally:
                self._desk = None
                await store.close()
        finally:
            thread.shutdown(wait=True)
            shutil.rmtree(self._scratch, ignore_errors=True)
            await close_pool(pool)

    async def _serve(self, desk: _Desk, stop: asyncio.Event) -> None:
        cleaned_s = float("-inf")
        while not stop.is_set():
            if time.monotonic() - cleaned_s >= CLEAN_EVERY_S:
                await desk.clean()
                cleaned_s = time.monotonic()
            async with desk.pool.acquire() as connection:
                found = await waiting(connection, BATCH_MAX)
            for row in found:
                if stop.is_set():
                    return
                await desk.take(row, stop)
            self._backoff.reset()
            await wait_any(POLL_S, stop)


class _Desk:
    """What jobs are done with."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        store: PostgresStore,
        objects: Objects,
        scratch: Path,
        thread: ThreadPoolExecutor,
        meta: Meta,
        current: Current,
    ) -> None:
        self.pool = pool
        self.job: Job | None = None  # the one in hand
        self._current = current
        self._settings = settings
        self._store = store
        self._objects = objects
        self._scratch = scratch
        self._thread = thread
        self._meta = meta

    async def clean(self) -> None:
        """Delete files whose time is over, and what is left of exports that came to nothing."""
        async with self.pool.acquire() as connection:
            over = await outdated(connection, BATCH_MAX)
            left = await leftovers(connection, BATCH_MAX)
        for org_id, export_id, reason in over:
            await expire_file(self._store, self._objects, org_id, export_id, reason=reason, meta=self._meta)
            log.info("exports.expired", export=str(export_id), reason=reason)
        for org_id, export_id, kind in left:
            await drop_file(self._objects, org_id, export_id, kind)
            await self.pool.execute(_FORGET, org_id, export_id)

    async def leave(self, file: AnalyticsFile) -> None:
        """Stop the job in hand where it reads `file`, and wait until it has closed it."""
        while self.job is not None and self.job.reads is file:
            self.job.stop(LEFT)  # again and again: what begins just then is not interrupted
            await asyncio.sleep(LEAVE_POLL_S)

    async def take(self, row: ExportRow, stop: asyncio.Event) -> None:
        """Write one export, unless another worker does, or our rows do not reach it yet."""
        current = self._current()
        late = datetime.now(UTC) - row.requested_at > timedelta(seconds=self._settings.export_deadline_s)
        if current is None or current[1] < row.until:
            if late:
                await self._fail(row.org_id, row.export_id, "behind")
            return
        async with self._alone(row.export_id) as ours:
            if not ours:
                return
            found = await find_file(self._store, row.org_id, row.export_id)
            if not isinstance(found, Waiting):
                return  # the read model has not heard of it yet
            tries = await self.pool.fetchval(_BEGIN, row.org_id, row.export_id)
            if late or tries > TRIES_MAX:
                await self._fail(row.org_id, row.export_id, "deadline" if late else "error")
                return
            await self._write(row, found, stop)

    @contextlib.asynccontextmanager
    async def _alone(self, export_id: UUID) -> AsyncGenerator[bool]:
        async with self.pool.acquire() as connection:
            ours = await connection.fetchval(_LOCK, str(export_id))
            try:
                yield bool(ours)
            finally:
                if ours and not connection.is_closed():
                    await connection.fetchval(_UNLOCK, str(export_id))

    async def _fail(self, org_id: UUID, export_id: UUID, reason: str) -> None:
        log.warning("exports.failed", export=str(export_id), reason=reason)
        await fail_file(self._store, org_id, export_id, reason, meta=self._meta)

    async def _give_up(self, row: ExportRow, reason: str) -> None:
        """Say so, unless it was given up by whoever asked, or is to be tried again."""
        if reason in {STOPPING, LEFT}:
            await self.pool.execute(_AGAIN, row.org_id, row.export_id)
        elif reason not in {"cancelled", "again"}:
            await self._fail(row.org_id, row.export_id, reason)

    async def _write(self, row: ExportRow, found: Waiting, stop: asyncio.Event) -> None:
        folder = self._scratch / row.export_id.hex
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        since = found.request.wishes.since
        order = Order(
            row.org_id,
            row.export_id,
            found.request.wishes,
            slot_of(since.astimezone(UTC).replace(tzinfo=None)) if since else None,
            folder,
            self._settings.export_memory_mb,
            self._settings.export_bytes_max,
        )
        job, started_s = Job(order), time.monotonic()
        self.job = job
        until_s = started_s + self._settings.export_deadline_s
        watching = asyncio.create_task(self._watch(job, until_s, stop))
        written, reason = None, ""
        try:
            written = await self._make(job, row, found)
        except Exception as error:  # noqa: BLE001  whatever went wrong with one export must not end the others
            reason = job.reason or self._reason_of(error)
            log.warning("exports.not_written", export=str(row.export_id), reason=reason, error=f"{error}")
        finally:
            self.job = None
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            shutil.rmtree(folder, ignore_errors=True)  # before anybody is told: what failed has left nothing
        if written is None:
            await self._give_up(row, reason)
            return
        keep = timedelta(seconds=self._settings.export_keep_s)
        if not await complete_file(self._store, row.org_id, row.export_id, written, keep=keep, meta=self._meta):
            await drop_file(self._objects, row.org_id, row.export_id, order.wishes.format)
        await self.pool.execute(_FORGET, row.org_id, row.export_id)
        log.info(
            "exports.written",
            export=str(row.export_id),
            rows=written.rows,
            size_bytes=written.size_bytes,
            seconds=round(time.monotonic() - started_s, 1),
        )

    def _reason_of(self, error: Exception) -> str:
        """Why an export is given up; `again` where another try may help."""
        import duckdb  # noqa: PLC0415  loaded by whoever opened the file

        if isinstance(error, StoppedError):
            return str(error)
        if unusable(error) and self._current() is None:
            return LEFT  # the worker knows already: it was no statement of ours
        return "memory" if isinstance(error, duckdb.OutOfMemoryException) else "again"

    def _begin(self, job: Job, until: int) -> AnalyticsFile:
        """The file in use at this moment, which is read from now on.

        Raises:
            StoppedError: there is none any more, or another one that does not reach as far yet.
        """
        current = self._current()
        if current is None or current[1] < until:
            raise StoppedError(LEFT)
        job.reads = current[0]
        return current[0]

    async def _make(self, job: Job, row: ExportRow, found: Waiting) -> Written:
        """Write the file and store it."""
        order, loop = job.order, asyncio.get_running_loop()
        base = await self._base(order.org_id, found.request.wishes.base)
        target = order.folder / FILE_NAMES[order.wishes.format]
        file = self._begin(job, row.until)
        written, manifest = await loop.run_in_executor(self._thread, write, job, file, base, target)
        if written.size_bytes > order.bytes_max:
            raise StoppedError("too_large")
        job.begin("storing", 1)
        with target.open("rb") as content:
            await self._objects.put(key_of(order.org_id, order.export_id, target.name), content)
        if manifest is not None:
            place = order.folder / MANIFEST
            place.write_bytes(msgspec.json.encode(manifest))
            with place.open("rb") as content:
                await self._objects.put(key_of(order.org_id, order.export_id, MANIFEST), content)
        job.step()
        return written

    async def _base(self, org_id: UUID, export_id: UUID | None) -> Manifest | None:
        """What the base consisted of; None where that is not known any more."""
        if export_id is None or not isinstance(await find_file(self._store, org_id, export_id), Ready):
            return None
        raw = bytearray()
        try:
            async for piece in self._objects.read(key_of(org_id, export_id, MANIFEST)):
                raw += piece
                if len(raw) > MANIFEST_BYTES_MAX:
                    return None
            return msgspec.json.decode(raw, type=Manifest)
        except (ObjectMissingError, msgspec.DecodeError):
            return None

    async def _watch(self, job: Job, until_s: float, stop: asyncio.Event) -> None:
        """Stop the job at its deadline, at the end of its room, when it is given up, or when the worker ends."""
        order, told = job.order, None
        while True:
            await wait_any(WATCH_S, stop)
            if stop.is_set():
                job.stop(STOPPING)
                return
            if time.monotonic() > until_s:
                job.stop("deadline")
            if await asyncio.to_thread(_size_of, order.folder) > 2 * order.bytes_max:
                job.stop("too_large")
            if not isinstance(await find_file(self._store, order.org_id, order.export_id), Waiting):
                job.stop("cancelled")
            state = (job.stage, job.done, job.total, job.rows)
            if state != told:
                await self.pool.execute(_TELL, order.org_id, order.export_id, *state)
                told = state


def write(job: Job, file: AnalyticsFile, base: Manifest | None, target: Path) -> tuple[Written, Manifest | None]:
    """Write the file of an export at `target`; what it is, and what its folder consists of.  For a thread."""
    order = job.order
    database = order.folder / "rows.duckdb" if order.wishes.format != "duckdb" else target
    try:
        position = _copied(job, file, database)
    finally:
        job.reads = None
    manifest, rows, files, partial = None, job.rows, 1, False
    connection = opened(job, database)
    try:
        job.uses(connection)
        if order.wishes.format == "duckdb":
            describe(connection, order.wishes.tables)
        else:
            packed = pack(connection, job, position, base, target)
            manifest, rows, files, partial = packed.manifest, packed.rows, packed.files, packed.manifest.partial
    finally:
        job.uses_none()
        connection.close()
    written = Written(
        position=position,
        rows=rows,
        files=files,
        partial=partial,
        size_bytes=target.stat().st_size,
        sha256=sha256_of(target, job),
    )
    return written, manifest


def _copied(job: Job, file: AnalyticsFile, database: Path) -> int:
    """Copy the rows of the worker's file; up to which position they go.

    Raises:
        StoppedError: the job was told to end, or the file was removed meanwhile.
    """
    try:
        reading = file.apart()
    except FileNotFoundError as error:
        raise StoppedError(LEFT) from error
    try:
        job.uses(reading)
        return copy(reading, job, database)
    finally:
        job.uses_none()
        reading.close()


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total
