"""How a worker ends and how it tries again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from eventstore.database import Pool
from eventstore.settings import Settings

GRACE_S = 15.0  # how long the batch in flight may take to finish after a stop
CLOSE_S = 5.0
COLLECT_AFTER = (100_000, 20, 100)  # objects made and not freed, then young and middle collections
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0
# The driver calls it its own defect when the server's last words arrive between two queries; for us the connection is lost.
DATABASE_FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def database_url(settings: Settings) -> str:
    """Where Postgres is.

    Raises:
        ValueError: nobody said.
    """
    if not settings.database_url:
        raise ValueError("CREWKIT_DATABASE_URL is not set; `crewkit up` sets it for the workers it starts")
    return settings.database_url


def nats_url(settings: Settings) -> str:
    """Where NATS is.

    Raises:
        ValueError: nobody said.
    """
    if not settings.nats_url:
        raise ValueError("CREWKIT_NATS_URL is not set; `crewkit up` sets it for the workers it starts")
    return settings.nats_url


async def close_pool(pool: Pool, *held: PoolConnectionProxy[asyncpg.Record]) -> None:
    """Close a pool and the connections still `held` from it, politely for `CLOSE_S`, then by force."""
    try:
        async with asyncio.timeout(CLOSE_S):
            for connection in held:
                await pool.release(connection)  # gives session locks back too
            await pool.close()
    except DATABASE_FAILURES:
        pool.terminate()


@contextlib.contextmanager
def rare_collections() -> Generator[None]:
    """Let the cycle collector look rarely, and never at what was there before.

    Events and rows are trees of many small objects without cycles: at the usual thresholds a projector spends a quarter of
    its time searching them for garbage that reference counts have already freed.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class Backoff:
    """Pauses between tries: doubling, bounded, jittered so that many workers do not come back at once."""

    def __init__(self, first_s: float = RETRY_FIRST_S, max_s: float = RETRY_MAX_S) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self.tries = 0

    def reset(self) -> None:
        """After a success."""
        self.tries = 0

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        pause_s = min(self._first_s * float(2 ** min(self.tries, 16)), self._max_s)
        self.tries += 1
        return pause_s * (0.75 + random.random() / 4)  # noqa: S311  spreads load, guards nothing


async def wait_any(timeout_s: float, *events: asyncio.Event) -> None:
    """Return when one of `events` is set, or after `timeout_s`."""
    if any(event.is_set() for event in events):
        return
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def until_cancelled(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]], grace_s: float = GRACE_S) -> None:
    """Run `work(stop)`.  When cancelled, set `stop` and give the work `grace_s` to finish what it has in its hands.

    Cutting a transaction short leaves its outcome unknown, so the work is only cancelled when the grace is over.
    """
    stop = asyncio.Event()
    task = asyncio.create_task(work(stop))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        try:
            await asyncio.wait({task}, timeout=grace_s)
        finally:
            await discard(task)
        raise


async def discard(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it is gone, whatever it ended with."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


async def retry_forever(
    attempt: Callable[[], Awaitable[None]],
    stop: asyncio.Event,
    failures: tuple[type[BaseException], ...],
    on_failure: Callable[[BaseException, float], None],
    backoff: Backoff,
) -> None:
    """Call `attempt` until `stop` is set; after one of `failures`, tell `on_failure` the pause in seconds and wait."""
    while not stop.is_set():
        try:
            await attempt()
        except failures as error:
            pause_s = backoff.next_s()
            on_failure(error, pause_s)
            await wait_any(pause_s, stop)
