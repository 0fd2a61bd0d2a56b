"""Bringing one generation of one projection forward: live in small steps, or in big ones while it is filled."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias
from uuid import UUID

import asyncpg
import msgspec
import structlog
from asyncpg.pool import PoolConnectionProxy

from domain.kernel import Event
from eventstore.database import Connection, Pool
from eventstore.port import LogDamagedError, Recorded
from projections.base import Projection
from projections.tables import describe_all
from workers.lifecycle import discard
from workers.log import Broken, Decoder, Items, LogReader, Reads
from workers.projector import control
from workers.projector.engine import ROWS_MAX, Engine, FoldError, OpenedTexts, notices_of
from workers.projector.passing import Passing
from workers.projector.window import Run, Window

log = structlog.get_logger("projector")

BATCH_EVENTS_MAX = 2_000
PAGE_EVENTS = 5_000  # one read while filling
CHUNK_EVENTS = 20_000  # one transaction while filling
CHUNK_ROWS = 20_000
FILL_ROWS_MAX = 100_000
FLIP_EVENTS_MAX = 2_000  # the last events before a flip are folded while the live projector waits
FLIP_LOCK_MS = 1_000
SECOND_TRY_S = 0.2

Announce: TypeAlias = Callable[[str, int, Sequence[tuple[UUID, msgspec.Raw]]], Awaitable[None]]

# A runner's statements find rows by their keys and nothing else, so one plan serves for ever, whatever statistics said when
# the tables were empty; planning an upsert of 77 columns anew would cost more than running it.  The pool resets all this.
_BY_KEY = """
SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off
"""

_TRANSIENT_CLASSES = frozenset({"08", "25", "40", "53", "55", "57", "58"})


class MovedError(Exception):
    """The checkpoint is not where this runner left it: another instance ran, or an operator acted."""


class StoppedError(Exception):
    """The generation has failed; its checkpoint says at which position and why."""


def is_transient(error: BaseException, connection: PoolConnectionProxy[asyncpg.Record]) -> bool:
    """Whether the same work on `connection` may succeed later without anybody changing anything."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in _TRANSIENT_CLASSES
    if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return _is_lost(connection)  # else the driver refused what we asked for, and will again
    return isinstance(error, (OSError, TimeoutError))


def _is_lost(connection: PoolConnectionProxy[asyncpg.Record]) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # so much so that the pool has taken it back
        return True


def sound(run: Run) -> tuple[list[Recorded], Broken | None]:
    """The events before the first broken one, and that one."""
    events: list[Recorded] = []
    for item in run.items:
        if isinstance(item, Broken):
            return events, item
        events.append(item)
    return events, None


class Source:
    """Where a projection's events come from: the window where it has the next one, else Postgres.  The same either way."""

    def __init__(self, pool: Pool, decoder: Decoder, window: Window, reads: frozenset[type[Event]] | None) -> None:
        self._reader = LogReader(pool)
        self._decoder = decoder
        self._window = window
        self._reads = Reads(reads, decoder)
        self._denied = 0  # the carrier told of events up to here that Postgres did not have
        self.dry = False  # Postgres had no more when asked last: what comes is told by NATS
        self.gap_filled_s = -math.inf  # monotonic time of the last answer from Postgres, if none came by NATS since

    def at_hand(self, position: int, limit: int) -> Run:
        """Up to `limit` consecutive events that follow `position`, from memory."""
        run = self._window.after(position, limit, self._reads)
        if run.last > position:
            self.gap_filled_s = -math.inf
            self.dry = True
        return run

    def heard_beyond(self, position: int) -> bool:
        """Whether there are events after `position`, as NATS told and Postgres has not denied."""
        return self._window.told > max(position, self._denied)

    async def fetched(self, position: int, limit: int) -> Run:
        """The same from Postgres, when memory does not have the next one."""
        run = await self.read(position, limit)
        self.dry = run.last == position
        if self.dry:
            self._denied = self._window.told
        else:
            self.gap_filled_s = time.monotonic()
        return run

    async def read(self, position: int, limit: int) -> Run:
        """The same from Postgres.  Where the log is damaged it holds a broken event: nobody goes past that unseen."""
        try:
            page = await self._reader.page(position, limit)
        except LogDamagedError as error:
            return Run([Broken(error.position, str(error))], error.position)
        count = len(page.data)
        if count == 0:
            return Run([], position)
        return Run(Items(page, self._decoder).wanted(0, count, self._reads), page.last)


class Runner:
    """One generation.  Not for two tasks at once; two runners of the same generation are safe, one of them loses."""

    def __init__(
        self,
        pool: Pool,
        held: PoolConnectionProxy[asyncpg.Record],
        projection: Projection,
        generation: int,
        position: int,
        engine: Engine,
        announce: Announce,
    ) -> None:
        """`held` is a connection of `pool` for the rows of this generation alone; `close` gives it back."""
        self._pool = pool
        self._held = held
        self._projection = projection
        self._engine = engine
        self._announce = announce
        self.generation = generation
        self.position = position
        self.limit = BATCH_EVENTS_MAX
        self._careful_until = 0  # while filling: something before this position failed, go in small steps
        self._tried = 0
        self._ahead: tuple[int, asyncio.Task[Run]] | None = None

    def reset(self, position: int) -> None:
        """Start over from `position` as the database has it."""
        self._engine.forget()
        self.position = position

    async def take(self, run: Run) -> None:
        """Fold and commit what follows the checkpoint.  After a failure fewer are taken next time.

        Raises:
            MovedError: the checkpoint has moved; `reset` first.
            StoppedError: the first event fails for good.
        """
        started_s = time.monotonic()
        events, broken = sound(run)
        last = run.last if broken is None else broken.position - 1
        if broken is not None and last == self.position:
            await self._failed(broken.position, broken.error)
        count = last - self.position
        try:
            await self._engine.fold(events, self._held)
            written = await self._commit(last, bulk=False)
        except Exception as error:
            self._engine.forget()
            if isinstance(error, MovedError) or is_transient(error, self._held):
                raise
            await self._narrow(count, error)
            return
        self.limit = min(self.limit * 2, BATCH_EVENTS_MAX)
        await self._announce(self._projection.name, last, notices_of(self._projection, events))
        log.debug(
            "projector.folded",
            projection=self._projection.name,
            position=last,
            events=len(events),
            rows=written,
            ms=round((time.monotonic() - started_s) * 1000, 1),
        )

    async def skim(self, run: Run, passing: Passing) -> None:
        """Go past events that the projection is not about.

        Raises:
            MovedError: the checkpoint has moved; `reset` first.
        """
        name = self._projection.name
        if not await passing.move(name, self.generation, self.position, run.last):
            raise MovedError(f"{name} moved from {self.position}")
        self.position = run.last
        self.limit = min(self.limit * 2, BATCH_EVENTS_MAX)

    async def _commit(self, position: int, *, bulk: bool) -> int:
        written = self._engine.changed
        if not bulk and (whole := self._engine.statement()) is not None:
            sql, texts = whole  # one statement is a transaction of its own
            name = self._projection.name
            if not await self._held.fetchval(sql, name, self.generation, self.position, position, *texts):
                raise MovedError(f"{name} moved from {self.position}")
        else:
            async with self._held.transaction():
                written = await self._write(self._held, position, bulk=bulk)
        self._engine.committed()
        self.position = position
        return written

    async def _write(self, connection: Connection, position: int, *, bulk: bool) -> int:
        written = await self._engine.write(connection, bulk=bulk)
        name = self._projection.name
        if not await control.advance(connection, name, self.generation, self.position, position):
            raise MovedError(f"{name} moved from {self.position}")
        return written

    async def _narrow(self, count: int, error: Exception) -> None:
        """Find the event that fails: fewer events next time, down to one, which gets a second try."""
        first = self.position + 1
        if isinstance(error, FoldError) and error.position > first:
            self.limit = error.position - first
        elif not isinstance(error, FoldError) and count > 1:
            self.limit = count // 2
        elif self._tried != first:
            self._tried, self.limit = first, 1
            await asyncio.sleep(SECOND_TRY_S)
        else:
            self._tried = 0
            text = str(error) if isinstance(error, FoldError) else f"{type(error).__name__}: {error}"
            await self._failed(first, text)

    async def _failed(self, position: int, error: str) -> None:
        name = self._projection.name
        if not await control.fail(self._pool, name, self.generation, self.position, position, error):
            raise MovedError(f"{name} moved from {self.position}")
        log.error("projector.failed", projection=name, generation=self.generation, position=position, error=error)
        raise StoppedError(f"projection {name} failed at position {position}: {error}")

    async def fill(self, source: Source) -> int:
        """Fold one chunk read from Postgres and commit it; how many events.  0: there are no more.

        Raises:
            MovedError, StoppedError: as `take`.
        """
        if self.position < self._careful_until:
            run = await source.read(self.position, self.limit)
            before = self.position
            if run.last == before:
                return 0
            await self.take(run)
            return max(1, self.position - before)
        last, count = self.position, 0
        try:
            while count < CHUNK_EVENTS and self._engine.changed < CHUNK_ROWS:
                run = await self._page(source, last)
                events, broken = sound(run)
                if broken is not None:
                    raise FoldError(broken.position, broken.error)  # noqa: TRY301
                if run.last == last:
                    break
                await self._engine.fold(events, self._held)
                last, count = run.last, count + run.last - last
            if count:
                await self._commit(last, bulk=True)
        except Exception as error:
            self._engine.forget()
            if isinstance(error, MovedError) or is_transient(error, self._held):
                raise
            self._careful_until = error.position if isinstance(error, FoldError) else last
            return 1
        log.debug("projector.filled", projection=self._projection.name, position=last, events=count)
        return count

    async def _page(self, source: Source, after: int) -> Run:
        """The page after a position, with the next one already on its way: Postgres reads while we fold."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == after:
            run = await ahead[1]
        else:
            if ahead is not None:
                await discard(ahead[1])
            run = await source.read(after, PAGE_EVENTS)
        if run.last - after == PAGE_EVENTS:
            self._ahead = (run.last, asyncio.create_task(source.read(run.last, PAGE_EVENTS)))
        return run

    async def close(self) -> None:
        """Drop a page that is on its way and give the connection back."""
        if self._ahead is not None:
            await discard(self._ahead[1])
            self._ahead = None
        await self._pool.release(self._held)

    async def flip(self, source: Source) -> bool:
        """Fold what the live generation is ahead and let readers see this one, in one transaction that the live projector
        waits for; False when it is too far ahead: fill on.
        """
        name = self._projection.name
        self._engine.forget()
        connection = self._held
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {FLIP_LOCK_MS}")
            await control.lock_projection(connection, name)
            live = await connection.fetchrow(
                """SELECT c.position FROM crewkit.checkpoint c JOIN crewkit.projection p ON p.name = c.projection
                    WHERE p.name = $1 AND c.generation = p.active_generation FOR UPDATE OF c""",
                name,
            )
            ahead = (live["position"] if live is not None else 0) - self.position
            if ahead > FLIP_EVENTS_MAX:
                return False
            if ahead > 0:
                run = await source.read(self.position, ahead)
                events, broken = sound(run)
                if broken is not None or run.last < self.position + ahead:
                    return False  # the filling stops at it visibly
                await self._engine.fold(events, connection)
                await self._write(connection, self.position + ahead, bulk=False)
            await control.flip(connection, self._projection, self.generation)
        self._engine.forget()
        self.position += max(0, ahead)
        log.info("projector.flipped", projection=name, generation=self.generation, position=self.position)
        return True


async def make_runner(
    pool: Pool,
    projection: Projection,
    generation: int,
    position: int,
    texts: OpenedTexts,
    announce: Announce,
    *,
    filling: bool = False,
) -> Runner:
    """A runner for an existing generation.

    Raises:
        LookupError: its tables do not fit the projection.
    """
    held = await pool.acquire()
    try:
        stored = await describe_all(held, projection, generation)
        await held.execute(_BY_KEY)
    except BaseException:
        await pool.release(held)
        raise
    engine = Engine(projection, generation, stored, texts, FILL_ROWS_MAX if filling else ROWS_MAX)
    if filling and position == 0:
        engine.starts_empty()
    return Runner(pool, held, projection, generation, position, engine, announce)
