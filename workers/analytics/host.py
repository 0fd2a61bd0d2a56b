"""One replica: its folder, its file brought forward, and the questions it takes from the queue group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nats.errors
import structlog
from nats.aio.msg import Msg

from eventstore.database import WORKER_ROLE, Pool, connect_pool
from eventstore.mapper import Mapper
from eventstore.sealing import PostgresKeyRing
from eventstore.settings import Settings
from projections.analytics.asking import QUEUE, SUBJECT
from projections.sessions import PROJECTION
from workers.analytics import file as files
from workers.analytics.answers import Answerer, out_of_memory, unusable
from workers.analytics.export import Exporter
from workers.analytics.file import AnalyticsFile, Stand
from workers.analytics.refresh import MovedError, NotReadyError, Refresher, is_current, is_empty
from workers.analytics.report import Report
from workers.blocks import Names
from workers.carrier import connected
from workers.keys import master_key
from workers.lifecycle import CLOSE_S, GRACE_S, Backoff, close_pool, database_url, discard, retry_forever, wait_any
from workers.local.files import AlreadyLockedError, FileLock
from workers.log import Decoder
from workers.projector.control import standing

log = structlog.get_logger("analytics")

REPLICAS_MAX = 16  # on one data directory
POLL_S = 1.0  # between looks at the read model, where no notice wakes us
GATHER_S = 0.25  # a wake-up waits this long for company: transactions grow, and their fixed cost is paid less often
PAUSE_PER_WORK = 9  # while it keeps up it works a tenth of the time: one look at 5 s is cheaper than twenty at 0.25 s
PAUSE_S_MAX = 5.0
READY_POLL_S = 0.5
WRITING_NICE = 5  # a third of the processor where questions want all of it
CONNECTIONS_MAX = 3
REOPEN_EVERY_S = 5.0  # where a question makes DuckDB give the file up, who asks it again would have us do little else
OPEN_TRIES_MAX = 5
OPEN_PAUSE_S = (
    1.0  # for who still has a database open that DuckDB gave up: while anybody does, opening gives the same one
)
SNAPSHOT_MS_MAX = 600_000  # a snapshot of a rebuild may stand for minutes


class Replica:
    """One worker."""

    def __init__(self, settings: Settings, names: Names, subject: str = SUBJECT) -> None:
        self._settings = settings
        self._names = names
        self._subject = subject
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="ingest", initializer=step_back)
        self._answers = Answerer()
        self._wake = asyncio.Event()
        self._file: AnalyticsFile | None = None
        self._stand: Stand | None = None
        self._backoff = Backoff()
        self._leaving: asyncio.Task[None] | None = None
        self._exporter: Exporter | None = None
        self._open_from_s = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Follow and answer until `stop` is set."""
        folder, lock = claim(Path(self._settings.data_dir) / "analytics")
        try:
            await self._serve(folder, stop)
        finally:
            lock.release()

    async def _serve(self, folder: Path, stop: asyncio.Event) -> None:
        exporter = self._exporter = Exporter(self._settings, folder, self._rows)
        answering = asyncio.create_task(self._listen(stop), name="questions")
        exporting = asyncio.create_task(exporter.run(stop), name="exports")
        try:

            def on_failure(error: BaseException, pause_s: float) -> None:
                tell = log.warning if self._backoff.tries == 1 else log.debug
                problem = f"{type(error).__name__}: {error}"
                tell("analytics.interrupted", error=problem, retry_s=round(pause_s, 2))

            await retry_forever(lambda: self._term(folder, stop), stop, (Exception,), on_failure, self._backoff)
        finally:
            await asyncio.wait({answering}, timeout=CLOSE_S)  # it closes its connection by itself
            await discard(answering)
            await asyncio.wait({exporting}, timeout=GRACE_S)
            await discard(exporting)
            self._answers.use(None)
            await self._answers.close()
            if self._leaving is not None:
                await asyncio.wait({self._leaving}, timeout=GRACE_S)
                await discard(self._leaving)
            if self._file is not None:
                await self._in_thread(self._file.close)
            self._writing.shutdown()

    def _rows(self) -> tuple[AnalyticsFile, int] | None:
        """The file in use, and up to which position its rows go; None also while DuckDB refuses to go on with it."""
        if self._file is None or self._stand is None or self._answers.invalid is self._file:
            return None
        return self._file, self._stand.position

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._writing, work, *args)

    async def _term(self, folder: Path, stop: asyncio.Event) -> None:
        pool = await connect_pool(
            database_url(self._settings),
            WORKER_ROLE,
            max_size=CONNECTIONS_MAX,
            application_name="crewkit-analytics",
            statement_timeout="0",
            idle_in_transaction_session_timeout=str(SNAPSHOT_MS_MAX),
        )
        try:
            scratch = folder / "scratch"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            decoder = Decoder(Mapper(PostgresKeyRing(pool, master_key(self._settings))))
            refresher = Refresher(pool, decoder, self._writing, scratch)
            report = Report(pool, folder, self._answers)
            await self._open(folder, stop)
            while not stop.is_set():
                await self._turn(pool, refresher, folder, stop, report)
        finally:
            await close_pool(pool)

    async def _open(self, folder: Path, stop: asyncio.Event) -> None:
        """Take up the file in use, when it is time again; one that does not open is put aside by the next rebuild."""
        if self._file is not None:
            return
        await wait_any(max(0.0, self._open_from_s - time.monotonic()), stop)
        path = files.current(folder)
        self._sweep(folder, path)
        if path is None:
            return
        found = await self._try_open(path, stop)
        self._open_from_s = time.monotonic() + REOPEN_EVERY_S
        if found is None:
            return
        opened, stand = found
        if stand is None:
            log.info("analytics.outdated", file=path.name)
            await self._in_thread(opened.close)
            return
        self._take(opened, stand)

    async def _try_open(self, path: Path, stop: asyncio.Event) -> tuple[AnalyticsFile, Stand | None] | None:
        """Open a file; None where it cannot be read.

        A database that DuckDB gave up says nothing against its file: until everybody has let go of it, it is tried again.
        """
        for _ in range(OPEN_TRIES_MAX):
            if stop.is_set():
                return None
            try:
                found: tuple[AnalyticsFile, Stand | None] = await self._in_thread(self._opened, path)
            except Exception as error:  # noqa: BLE001  whatever is wrong with it, everything in it can be built again
                log.warning("analytics.unreadable", file=path.name, error=f"{type(error).__name__}: {error}")
                if not unusable(error):
                    return None
            else:
                return found
            await wait_any(OPEN_PAUSE_S, stop)
        return None

    def _opened(self, path: Path) -> tuple[AnalyticsFile, Stand | None]:
        """A file ready for questions, and where it stands."""
        opened = self._made(path)
        try:
            stand = opened.stand
            opened.settle()
        except BaseException:
            opened.close()
            raise
        return opened, stand

    def _sweep(self, folder: Path, keep: Path | None) -> None:
        files.sweep(folder, keep, self._exporter.reads if self._exporter else None)

    def _made(self, path: Path) -> AnalyticsFile:
        return AnalyticsFile(path, memory_mb=self._settings.analytics_memory_mb)

    def _take(self, file: AnalyticsFile, stand: Stand) -> None:
        self._file, self._stand = file, stand
        self._answers.use(file)
        self._answers.reached(stand.position)
        log.info("analytics.running", file=file.path.name, position=stand.position)

    async def _turn(self, pool: Pool, refresher: Refresher, folder: Path, stop: asyncio.Event, report: Report) -> None:
        """Go one step forward, or wait for news."""
        if self._file is not None and self._answers.invalid is self._file:
            log.warning("analytics.invalid", file=self._file.path.name)
            await self._close(self._file)
            await self._open(folder, stop)
            return
        found = await standing(pool, PROJECTION.name)
        if found is None:
            await wait_any(READY_POLL_S, stop)
            return
        if self._file is None and not self._answers.asked.is_set() and await is_empty(pool):
            await wait_any(
                READY_POLL_S, self._answers.asked, stop
            )  # DuckDB takes 50 MB: not before there is a use for it
            return
        if self._file is None or self._stand is None or not is_current(found, self._stand):
            await self._rebuild(refresher, folder, report)
            return
        file = self._file
        try:
            await self._follow(refresher, file, self._stand, found.position, report, stop)
        except Exception as error:
            if unusable(error):
                await self._close(file)
            raise

    async def _follow(
        self, refresher: Refresher, file: AnalyticsFile, stand: Stand, head: int, report: Report, stop: asyncio.Event
    ) -> None:
        """Write what is new in the read model, or wait where nothing is."""
        if head <= stand.position:
            await report.tell(head, stand, file)
            self._backoff.reset()
            self._wake.clear()
            self._answers.awaited.clear()
            await wait_any(POLL_S, self._wake, self._answers.awaited, stop)
            if self._wake.is_set():
                await wait_any(GATHER_S, self._answers.awaited, stop)
            return
        started_s, before = time.monotonic(), stand.position
        try:
            self._stand, written = await self._step(refresher, file, stand)
        except MovedError:
            return
        if self._stand.position == before:  # another read model that rows are made of is behind
            await wait_any(GATHER_S, stop)
            return
        self._answers.reached(self._stand.position)
        took_s = time.monotonic() - started_s
        report.wrote(written, took_s)
        await report.tell(head, self._stand, file)
        self._backoff.reset()
        if self._stand.position >= head:
            self._answers.awaited.clear()
            await wait_any(min(took_s * PAUSE_PER_WORK, PAUSE_S_MAX), self._answers.awaited, stop)

    async def _step(self, refresher: Refresher, file: AnalyticsFile, stand: Stand) -> tuple[Stand, int]:
        """Write what is new.  Where questions have taken the memory for it, they are ended, and it is written before others begin."""
        try:
            return await refresher.step(file, stand)
        except Exception as error:
            if not out_of_memory(error):
                raise
            log.info("analytics.quieted", error=str(error).partition("\n")[0])
        async with self._answers.quiet():
            return await refresher.step(file, stand)

    async def _close(self, file: AnalyticsFile) -> None:
        """Let go of the file in use, of which DuckDB wants no more; whoever else reads it keeps the same database open."""
        self._file = self._stand = None
        self._answers.use(None)
        await self._answers.end(file)
        if self._exporter is not None:
            await self._exporter.leave(file)
        await self._in_thread(file.close)

    async def _rebuild(self, refresher: Refresher, folder: Path, report: Report) -> None:
        """Fill a new file and let questions see it; those that run go on with the old one."""
        if self._leaving is not None:  # two files at most
            await asyncio.wait({self._leaving})
        path = files.next_path(folder)
        fresh = await self._in_thread(self._made, path)
        try:
            stand = await refresher.rebuild(fresh)
            await self._in_thread(fresh.settle)
        except BaseException as error:
            await self._in_thread(fresh.close)
            if isinstance(error, (MovedError, NotReadyError)):
                log.info("analytics.rebuild_again", reason=type(error).__name__)
                return
            raise
        files.switch(folder, path)
        old = self._file
        self._take(fresh, stand)
        report.rebuilt()
        if old is None:
            self._sweep(folder, path)
            return
        # Questions may read the old file until their deadline: new rows do not wait for that.
        self._leaving = asyncio.create_task(self._leave(old, folder), name="old-file")

    async def _leave(self, old: AnalyticsFile, folder: Path) -> None:
        """Close a file once nobody reads it, and remove what is not in use."""
        await self._answers.idle(old)
        await self._in_thread(old.close)
        self._sweep(folder, files.current(folder))

    async def _listen(self, stop: asyncio.Event) -> None:
        """Stay in the queue group, and let notices of the read model wake us."""
        backoff = Backoff()

        def on_failure(error: BaseException, pause_s: float) -> None:
            tell = log.warning if backoff.tries == 1 else log.debug
            tell("analytics.nats_lost", error=f"{type(error).__name__}: {error}", retry_s=round(pause_s, 2))

        async def session() -> None:
            lost = asyncio.Event()
            async with connected(self._settings, "crewkit-analytics", lost) as client:
                await client.subscribe(self._subject, queue=QUEUE, cb=self._on_ask)
                await client.subscribe(f"{self._names.notices}.*", cb=self._on_notice)
                backoff.reset()
                await _either(stop, lost)
            if not stop.is_set():
                raise nats.errors.ConnectionClosedError

        failures = (OSError, TimeoutError, nats.errors.Error)
        await retry_forever(session, stop, failures, on_failure, backoff)

    async def _on_notice(self, _: Msg) -> None:
        self._wake.set()

    async def _on_ask(self, message: Msg) -> None:
        """Answer in a task of its own: the subscription must stay free for the next question."""
        task = asyncio.create_task(self._reply(message))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    async def _reply(self, message: Msg) -> None:
        answer = await self._answers.answer(message.data)
        try:
            await message.respond(answer)
        except (nats.errors.Error, OSError) as error:
            log.debug("analytics.reply_lost", error=str(error))


_tasks: set[asyncio.Task[Any]] = set()


async def _either(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def step_back() -> None:
    """Let questions have the processor first: this thread writes, and nobody waits for a row as for an answer."""
    with contextlib.suppress(OSError, AttributeError):  # where threads have no priority of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + WRITING_NICE)


def claim(root: Path) -> tuple[Path, FileLock]:
    """The first folder below `root` that no other replica uses, and the lock that keeps it ours.

    `root` is closed to other people: who may walk through the data directory may not read what people cost and do.

    Raises:
        AlreadyLockedError: `REPLICAS_MAX` replicas run on this data directory.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    root.chmod(0o700)  # also where an earlier version made it
    for number in range(REPLICAS_MAX):
        folder = root / str(number)
        lock = FileLock(folder / "lock")
        try:
            lock.acquire()
        except AlreadyLockedError:
            continue
        return folder, lock
    raise AlreadyLockedError(f"{REPLICAS_MAX} analytics workers already run on {root}")
