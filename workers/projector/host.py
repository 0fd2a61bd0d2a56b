"""All projections of a process, each in a task of its own: one that fails or lags does not hold up the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import msgspec
import structlog

import projections
from domain.discover import collect
from eventstore.database import WORKER_ROLE, Pool, connect_pool
from eventstore.mapper import Mapper
from eventstore.sealing import PostgresKeyRing
from eventstore.settings import Settings
from projections.base import Projection
from workers.blocks import Names
from workers.keys import master_key
from workers.lifecycle import Backoff, close_pool, database_url, discard, retry_forever, wait_any
from workers.log import Decoder
from workers.projector import control
from workers.projector.control import RUNNING, Refused
from workers.projector.engine import OpenedTexts
from workers.projector.feed import Feed
from workers.projector.passing import Passing
from workers.projector.runner import MovedError, Runner, Source, StoppedError, make_runner
from workers.projector.window import Window

log = structlog.get_logger("projector")

POLL_S = 1.0  # between looks into Postgres while blocks arrive by NATS
POLL_ALONE_S = 0.1  # while they do not
QUICK_S = 10.0  # Postgres was ahead of NATS: the relay may be down, so look more often for a while
CONTROL_S = 1.0  # between looks at what operators and other instances did
NEWER_S = 5.0
CONTENTION_S = 0.5
CONNECTIONS_PER_PROJECTION = 4
_FILL_LOCKS = 0x637266  # first half of the advisory lock of whoever fills a generation of a projection


def found_projections() -> list[Projection]:
    """Every projection of the program."""
    return collect(projections, Projection)


class Workshop:
    """What every projection of a process shares: connections, decoder, keys, the window."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self.pool = pool
        self.ring = PostgresKeyRing(pool, master_key(settings))
        self.decoder = Decoder(Mapper(self.ring))
        self.texts = OpenedTexts(self.ring)
        self.window = Window(self.decoder)
        self.passing = Passing(pool)

    def source(self, projection: Projection | None = None) -> Source:
        """A reader of what a projection is about; of everything without one."""
        return Source(self.pool, self.decoder, self.window, projection.reads if projection else None)

    async def is_ours(self, position: int, event_id: str) -> bool:
        """Whether the log has this event at this position."""
        found = await self.pool.fetchval("SELECT event_id FROM crewkit.event WHERE position = $1", position)
        return str(found) == event_id


@asynccontextmanager
async def workshop(settings: Settings, count: int) -> AsyncGenerator[Workshop]:
    """Open a workshop for `count` projections.

    Rows and checkpoint travel in one transaction, so losing its last moments in a power cut only means folding them again:
    commits need not wait for the disk.
    """
    pool = await connect_pool(
        database_url(settings),
        WORKER_ROLE,
        max_size=CONNECTIONS_PER_PROJECTION * count + 1,
        synchronous_commit="off",
    )
    shop = Workshop(pool, settings)
    try:
        yield shop
    finally:
        await shop.passing.close()
        await close_pool(pool)


async def silent(_: str, __: int, ___: Sequence[tuple[UUID, msgspec.Raw]]) -> None:
    """Announce nothing: a rebuild tells no news."""


class Host:
    """Runs projections until told to stop."""

    def __init__(self, shop: Workshop, feed: Feed, wanted: Sequence[Projection]) -> None:
        self._shop = shop
        self._feed = feed
        self._projections = [projection.bound(shop.texts) for projection in wanted]
        self._positions: dict[str, int] = {}  # of those that are running, to know what the window may forget

    async def run(self, stop: asyncio.Event) -> None:
        """One task per projection and one for the feed; ends when all have ended after `stop`."""
        feed = asyncio.create_task(self._feed.run(stop), name="feed")
        try:
            await asyncio.gather(*(self._keep(projection, stop) for projection in self._projections))
        finally:
            await discard(feed)

    async def _keep(self, projection: Projection, stop: asyncio.Event) -> None:
        backoff = Backoff()

        def on_failure(error: BaseException, pause_s: float) -> None:
            self._positions.pop(projection.name, None)
            tell = log.warning if backoff.tries == 1 else log.debug
            problem = f"{type(error).__name__}: {error}"
            tell("projector.interrupted", projection=projection.name, error=problem, retry_s=round(pause_s, 2))

        await retry_forever(lambda: self._run(projection, stop, backoff), stop, (Exception,), on_failure, backoff)

    async def _run(self, projection: Projection, stop: asyncio.Event, backoff: Backoff) -> None:
        try:
            found = await control.register(self._shop.pool, projection)
        except (asyncpg.SyntaxOrAccessError, LookupError) as error:  # the ddl is wrong, or its names are taken
            await control.refuse(self._shop.pool, projection, f"{type(error).__name__}: {error}")
            raise
        if found.version == projection.version:
            await self._live(projection, found, stop, backoff)
        elif found.version < projection.version:
            if not await fill(self._shop, projection, stop, resume=True):
                await wait_any(CONTROL_S, stop)
        else:  # a newer program has taken over; this one must not write into tables of a shape it does not know
            log.info("projector.outdated", projection=projection.name, ours=projection.version, stored=found.version)
            await wait_any(NEWER_S, stop)

    async def _live(
        self, projection: Projection, found: control.Standing, stop: asyncio.Event, backoff: Backoff
    ) -> None:
        """Follow the log in one generation, until another one is read."""
        pool, name = self._shop.pool, projection.name
        try:
            runner = await make_runner(
                pool, projection, found.generation, found.position, self._shop.texts, self._feed.announce
            )
        except LookupError as error:
            await control.fail(pool, name, found.generation, found.position, found.position + 1, str(error))
            raise
        log.info("projector.running", projection=name, generation=found.generation, position=found.position)
        source, wake = self._shop.source(projection), asyncio.Event()
        self._shop.window.listeners.add(wake)
        running, looked_s = found.status == RUNNING, time.monotonic()
        try:
            while not stop.is_set():
                wake.clear()
                if running and time.monotonic() - looked_s < CONTROL_S:
                    running = await self._step(runner, source, name, wake, stop)
                    if running:
                        backoff.reset()
                        continue
                elif not running:
                    await wait_any(CONTROL_S, stop)
                now = await control.standing(pool, name)
                looked_s = time.monotonic()
                if now is None or now.generation != runner.generation or now.version != projection.version:
                    return
                running = now.status == RUNNING
                if now.position != runner.position:
                    runner.reset(now.position)
        finally:
            self._shop.window.listeners.discard(wake)
            self._positions.pop(name, None)
            await runner.close()

    async def _step(self, runner: Runner, source: Source, name: str, wake: asyncio.Event, stop: asyncio.Event) -> bool:
        """Fold what is there, or wait for more; False when the checkpoint must be looked at."""
        run = source.at_hand(runner.position, runner.limit)
        if run.last == runner.position:
            if source.dry and not source.heard_beyond(runner.position):
                quick = not self._feed.alive or time.monotonic() - source.gap_filled_s < QUICK_S
                await wait_any(POLL_ALONE_S if quick else POLL_S, wake, stop)
                if wake.is_set() or stop.is_set():
                    return True
            run = await source.fetched(runner.position, runner.limit)
            if run.last == runner.position:
                return True
        try:
            if run.items:
                await runner.take(run)
            else:
                await runner.skim(run, self._shop.passing)
        except MovedError:
            log.info("projector.moved", projection=name, position=runner.position)
            await wait_any(CONTENTION_S, stop)
            return False
        except StoppedError:
            self._positions.pop(name, None)
            return False
        self._positions[name] = runner.position
        self._shop.window.trim(min(self._positions.values()))
        return True


async def fill(shop: Workshop, projection: Projection, stop: asyncio.Event, *, resume: bool) -> Runner | None:
    """Fill a new generation and flip to it.  None: another process is at it, it has failed, or `stop` was set.

    Raises:
        StoppedError: an event cannot be folded.
    """
    async with shop.pool.acquire() as guard:
        key = "SELECT pg_try_advisory_lock($1, hashtext($2))"
        if not await guard.fetchval(key, _FILL_LOCKS, projection.name):
            return None
        try:
            return await _fill(shop, projection, stop, resume=resume)
        finally:
            await guard.execute("SELECT pg_advisory_unlock($1, hashtext($2))", _FILL_LOCKS, projection.name)


async def _fill(shop: Workshop, projection: Projection, stop: asyncio.Event, *, resume: bool) -> Runner | None:
    started = await control.start_generation(shop.pool, projection, resume=resume)
    if started is None:
        return None
    generation, position = started
    runner = await make_runner(shop.pool, projection, generation, position, shop.texts, silent, filling=True)
    source = shop.source(projection)
    try:
        while not stop.is_set():
            while not stop.is_set() and await runner.fill(source):
                pass
            if not stop.is_set() and await runner.flip(source):
                await control.drop_old_generations(shop.pool, projection.name)
                return runner
    finally:
        await runner.close()
    return None


def named(name: str) -> Projection:
    """The projection called `name`.

    Raises:
        Refused: there is none.
    """
    known = {projection.name: projection for projection in found_projections()}
    if name not in known:
        raise Refused(f"there is no projection {name!r}; known are: {', '.join(sorted(known)) or 'none'}")
    return known[name]


def make_host(shop: Workshop, settings: Settings, names: Names, wanted: Sequence[Projection]) -> Host:
    """A host with its feed."""
    return Host(shop, Feed(settings, names, shop.window, shop.is_ours), wanted)
