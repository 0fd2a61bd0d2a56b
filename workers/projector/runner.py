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

from eventstore.database import Connection, Pool
from eventstore.port import Recorded
from projections.base import Projection
from projections.tables import describe_all
from workers.lifecycle import discard
from workers.log import Broken, Decoder, Item, LogReader
from workers.projector import control
from workers.projector.engine import ROWS_MAX, Engine, FoldError, OpenedTexts, notices_of
from workers.projector.window import Window

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
    if isinstance(error, asyncpg.InterfaceError):
        return _is_lost(connection)  # else the driver refused what we asked for, and will again
    return isinstance(error, (OSError, TimeoutError))


def _is_lost(connection: PoolConnectionProxy[asyncpg.Record]) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # so much so that the pool has taken it back
        return True


class Source:
    """Where events come from: the window where it has the next one, else Postgres.  The same items either way."""

    def __init__(self, pool: Pool, decoder: Decoder, window: Window) -> None:
        self._reader = LogReader(pool)
        self._decoder = decoder
        self._window = window
        self.gap_filled_s = -math.inf  # monotonic time of the last answer from Postgres, if none came by NATS since

    async def after(self, position: int, limit: int) -> list[Item]:
        """Up to `limit` consecutive items that follow `position`; empty when there are none yet."""
        if items := self._window.after(position, limit):
            self.gap_filled_s = -math.inf
            return items
        items = await self.read(position, limit)
        if items:
            self.gap_filled_s = time.monotonic()
        return items

    async def read(self, position: int, limit: int) -> list[Item]:
        """The same from Postgres.

        Raises:
            RuntimeError: the log has a hole, which cannot be.
        """
        items = self._decoder.items(await self._reader.page(position, limit))
        if items and items[0].position != position + 1:
            raise RuntimeError(f"position {position + 1} is missing from the log")
        return items


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
        self._ahead: tuple[int, asyncio.Task[list[Item]]] | None = None

    def reset(self, position: int) -> None:
        """Start over from `position` as the database has it."""
        self._engine.forget()
        self.position = position

    async def take(self, items: Sequence[Item]) -> None:
        """Fold and commit the items that follow the checkpoint.  After a failure fewer are taken next time.

        Raises:
            MovedError: the checkpoint has moved; `reset` first.
            StoppedError: the first item fails for good.
        """
        started_s = time.monotonic()
        events: list[Recorded] = []
        for item in items:
            if isinstance(item, Broken):
                break
            events.append(item)
        if not events:
            broken = items[0]
            await self._failed(broken.position, getattr(broken, "error", ""))
        last = events[-1].position
        try:
            await self._engine.fold(events, self._held)
            written = await self._commit(last, bulk=False)
        except Exception as error:
            self._engine.forget()
            if isinstance(error, MovedError) or is_transient(error, self._held):
                raise
            await self._narrow(len(events), error)
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
            items = await source.read(self.position, self.limit)
            before = self.position
            if items:
                await self.take(items)
            return max(1, self.position - before) if items else 0
        last, count = self.position, 0
        try:
            while count < CHUNK_EVENTS and self._engine.changed < CHUNK_ROWS:
                items = await self._page(source, last)
                events = [item for item in items if not isinstance(item, Broken)]
                if len(events) < len(items):
                    broken = next(item for item in items if isinstance(item, Broken))
                    raise FoldError(broken.position, broken.error)  # noqa: TRY301
                if not events:
                    break
                await self._engine.fold(events, self._held)
                last, count = events[-1].position, count + len(events)
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

    async def _page(self, source: Source, after: int) -> list[Item]:
        """The page after a position, with the next one already on its way: Postgres reads while we fold."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == after:
            items = await ahead[1]
        else:
            if ahead is not None:
                await discard(ahead[1])
            items = await source.read(after, PAGE_EVENTS)
        if len(items) == PAGE_EVENTS:
            last = items[-1].position
            self._ahead = (last, asyncio.create_task(source.read(last, PAGE_EVENTS)))
        return items

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
                items = await source.read(self.position, ahead)
                events = [item for item in items if not isinstance(item, Broken)]
                if len(events) < ahead:
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
