"""The one writer of a process: adaptive group commit over a dedicated connection.

While one batch is being committed the queue refills; the next batch takes all that came.  A lone caller pays one fsync, a
crowd shares it, and no timer is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter

import asyncpg

from eventstore import batch
from eventstore.batch import Item
from eventstore.database import CONNECT_WAIT_S, prepare_connection, server_settings
from eventstore.port import Append, AppendRefusedError, Outcome, Status, StoreUnavailableError
from eventstore.sql import load

QUEUE_MAX = 20_000  # waiting appends; more are refused at once
SETTLE_S = 30.0  # how long an append is tried before its caller hears that the store is unavailable
ANSWER_S = 20.0  # how long one batch may take; longer means the connection is dead
STATEMENT_MS_MAX = 15_000
LOCK_MS_MAX = 10_000  # waiting for other processes' batches
BACKOFF_FIRST_S = 0.02
BACKOFF_MAX_S = 1.0

_LOG = logging.getLogger(__name__)

# The server's answer never came: the batch may or may not be stored.
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
# The server refused for reasons of its own: the batch is not stored, and may be later.
_BUSY = (
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


class WriterStats:
    """Counters since the start, for metrics."""

    __slots__ = ("appends", "batches", "events", "last_batch_appends", "reconnects", "refused", "unavailable")

    def __init__(self) -> None:
        self.batches = 0
        self.appends = 0
        self.events = 0  # sent, facts that turned out to be duplicates included
        self.refused = 0
        self.unavailable = 0
        self.reconnects = 0
        self.last_batch_appends = 0


class Writer:
    """Queue, task and connection.  Hooks must not raise and not block."""

    def __init__(
        self,
        url: str,
        role: str | None,
        *,
        on_commit: Callable[[int], object] | None = None,
        on_batch: Callable[[int, int, float], object] | None = None,
    ) -> None:
        """`on_commit(position)` runs after each commit; `on_batch(appends, events, seconds)` tells each batch's latency."""
        self.stats = WriterStats()
        self._url = url
        self._role = role
        self._on_commit = on_commit
        self._on_batch = on_batch
        self._queue: deque[Item] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._connected_once = False
        self._floor = 0  # a position known to be committed before anything that is still uncertain

    @property
    def queued(self) -> int:
        """Appends that wait for a batch."""
        return len(self._queue)

    async def start(self) -> None:
        """Connect and begin.

        Raises:
            OSError | asyncpg.PostgresError: the database cannot be reached or lacks the schema or role.
        """
        await self._connect()
        self._task = asyncio.create_task(self._run(), name="eventstore-writer")

    async def close(self) -> None:
        """Settle what is queued, then stop.  Appends after this are refused."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
            self._task = None
        await self._disconnect()

    async def append(self, wish: Append, encoded: Sequence[tuple[str, bytes]]) -> Outcome:
        """Queue an append and wait for its outcome.

        Raises:
            StoreUnavailableError: the queue is full, the writer is closed, or the outcome is not known in time.
            AppendRefusedError: the store can never take it.
        """
        if self._closing or self._task is None:
            raise StoreUnavailableError("the event store is not open")
        if len(self._queue) >= QUEUE_MAX:
            self.stats.unavailable += 1
            raise StoreUnavailableError(f"{QUEUE_MAX} appends are waiting already")
        loop = asyncio.get_running_loop()
        item = Item(wish, encoded, loop.create_future(), loop.time() + SETTLE_S)
        self._queue.append(item)
        self._wake.set()
        return await item.future

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            items = batch.take(self._queue)
            if not items:
                continue
            try:
                await self._settle(items)
            except Exception as error:  # noqa: BLE001  a defect of ours must not stop the process's only writer
                _LOG.exception("append.failed")
                for item in items:
                    _fail(item, StoreUnavailableError(f"unexpected: {error!r}"))
            # The callers just answered may have more: one turn of the loop lets them join the next batch.
            await asyncio.sleep(0)

    async def _settle(self, items: list[Item]) -> None:
        """Answer every item: stored, refused, or given up at its deadline."""
        pause = BACKOFF_FIRST_S
        while items := self._in_time(items):
            try:
                await self._try(items)
            except (asyncpg.DataError, asyncpg.PostgresSyntaxError) as error:
                await self._halve(items, error)
            except _LOST as error:
                _LOG.warning("append.connection_lost", extra={"error": repr(error)})
                for item in items:
                    item.uncertain = True
                await self._disconnect()
            except _BUSY as error:
                _LOG.warning("append.busy", extra={"error": repr(error)})
            except asyncpg.PostgresError as error:
                await self._halve(items, error)
            else:
                return
            if items := [item for item in items if not item.future.done()]:
                await asyncio.sleep(pause)
                pause = min(pause * 2, BACKOFF_MAX_S)

    async def _try(self, items: list[Item]) -> None:
        connection = self._connection or await self._connect()
        if any(item.uncertain for item in items):
            items = await self._look_up(connection, items)
        if items:
            await self._send(connection, items)

    def _in_time(self, items: list[Item]) -> list[Item]:
        now = asyncio.get_running_loop().time()
        late = [item for item in items if item.deadline < now]
        for item in late:
            self.stats.unavailable += 1
            _fail(item, StoreUnavailableError(f"the database did not settle the append within {SETTLE_S:.0f} s"))
        return [item for item in items if item.deadline >= now] if late else items

    async def _send(self, connection: asyncpg.Connection[asyncpg.Record], items: list[Item]) -> None:
        slots = batch.arrange(items)
        started = perf_counter()
        rows = await connection.fetch(load("append"), *batch.arguments(slots), timeout=ANSWER_S)
        seconds = perf_counter() - started
        told = batch.answers(slots, rows)
        events = sum(len(slot.events) for slot in slots)
        moved = [item for item, answer in told if item.uncertain and _is_conflict(answer)]
        if moved:  # an earlier try, whose answer was lost, may have committed just before this one
            await self._look_up(connection, moved)
        for item, answer in told:
            _tell(item, answer)
        self.stats.batches += 1
        self.stats.appends += len(items)
        self.stats.events += events
        self.stats.last_batch_appends = len(items)
        position = max((a.position for _, a in told if isinstance(a, Outcome) and a.status is Status.OK), default=0)
        self._floor = max(self._floor, position)
        loop = asyncio.get_running_loop()
        if self._on_batch is not None:
            loop.call_soon(self._on_batch, len(items), events, seconds)
        if self._on_commit is not None and position:
            loop.call_soon(self._on_commit, position)

    async def _halve(self, items: list[Item], error: Exception) -> None:
        """Find the append that the database cannot take: it fails alone, its neighbours are stored."""
        if len(items) > 1:
            middle = len(items) // 2
            await self._settle(items[:middle])
            await self._settle(items[middle:])
            return
        if items[0].uncertain and self._connection is not None:
            items = await self._look_up(self._connection, items)
        for item in items:
            self.stats.refused += 1
            # Drivers quote arguments in their messages; the cause is for logs of ours, never for the caller's screen.
            refusal = AppendRefusedError(f"the database cannot store this append ({type(error).__name__})")
            refusal.__cause__ = error
            _fail(item, refusal)

    async def _look_up(self, connection: asyncpg.Connection[asyncpg.Record], items: list[Item]) -> list[Item]:
        """Answer those whose events are stored after all; return the others.

        Facts and commands with a receipt may simply be sent again.  For the rest the event ids tell: they were made once, and
        are unique, so that a late commit of the lost try and the new try cannot both succeed.
        """
        asked = {i.event_ids[-1]: i for i in items if i.uncertain and not i.wish.facts and i.wish.command_id is None}
        if not asked:
            return items
        rows = await connection.fetch(load("select_settled"), list(asked), self._floor, timeout=ANSWER_S)
        for row in rows:
            item = asked[row["event_id"]]
            _tell(item, Outcome(Status.OK, row["version"], row["position"]))
        return [item for item in items if not item.future.done()]

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        limits = {
            "statement_timeout": str(STATEMENT_MS_MAX),
            "lock_timeout": str(LOCK_MS_MAX),
            "plan_cache_mode": "force_generic_plan",  # one statement, one plan
        }
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            self._url,
            timeout=CONNECT_WAIT_S,
            server_settings=server_settings(self._role, application_name="crewkit-writer", **limits),
        )
        try:
            await prepare_connection(connection)
            self._floor = self._floor or await connection.fetchval(load("select_head"))
        except BaseException:
            connection.terminate()
            raise
        self.stats.reconnects += self._connected_once
        self._connected_once = True
        self._connection = connection
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await connection.close(timeout=1)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            connection.terminate()


def _is_conflict(answer: Outcome | AppendRefusedError) -> bool:
    return isinstance(answer, Outcome) and answer.status in {Status.CONFLICT, Status.TAKEN}


def _tell(item: Item, answer: Outcome | AppendRefusedError) -> None:
    if isinstance(answer, AppendRefusedError):
        _fail(item, answer)
    elif not item.future.done():
        item.future.set_result(answer)


def _fail(item: Item, error: Exception) -> None:
    if not item.future.done():
        item.future.set_exception(error)
