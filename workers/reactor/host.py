"""The office of the reactor: one instance follows the log and reacts, others stand by.

Following and reacting are apart: noting what an event causes is one transaction with the checkpoint, and what is noted is
worked off in lanes of bounded width, so a slow or failing effect holds up neither the log nor another lane.  What was in
hand when a process died is found by its successor and tried again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg

from eventstore.database import WORKER_ROLE, Connection, Pool, connect_pool
from eventstore.mapper import Mapper
from eventstore.port import LogDamagedError, Recorded, StoreUnavailableError
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing
from eventstore.settings import Settings
from workers.blocks import Names
from workers.carrier import connected
from workers.keys import master_key
from workers.lifecycle import DATABASE_FAILURES, Backoff, close_pool, database_url, discard, retry_forever, wait_any
from workers.log import Decoder, Items, LogReader, Reads
from workers.reactor import table
from workers.reactor.base import Done, GiveUpError, Later, Reaction, Result, RetryError, Skipped, Tools
from workers.reactor.table import DEAD, DONE, SKIPPED, WAITING, Due, Wanted

log = structlog.get_logger("reactor")

LOCK_KEY = 0x637265776B690003  # "crewki", job 3
STANDBY_S = 1.0
POLL_S = 1.0
LISTEN_S = 3600.0
FOLLOW_PAUSE_S = 0.05  # under load the log is looked at so often, not at every commit
PRUNE_EVERY_S = 600.0
POOL_CONNECTIONS_MAX = 4
RETRY_FIRST_S = 2.0
RETRY_MAX_S = 900.0
RETRY_AFTER_MAX_S = 3600.0  # what another side may ask for at most
FAILURES = (*DATABASE_FAILURES, StoreUnavailableError)


class Reactor:
    """One candidate for the office."""

    def __init__(self, settings: Settings, names: Names, reactions: Sequence[Reaction]) -> None:
        self._settings = settings
        self._names = names
        self._reactions = reactions
        self._wake = asyncio.Event()
        self._backoff = Backoff()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve one term after the other until `stop` is set."""

        def on_failure(error: BaseException, pause_s: float) -> None:
            tell = log.warning if self._backoff.tries == 1 else log.debug
            tell("reactor.interrupted", error=f"{type(error).__name__}: {error}", retry_s=round(pause_s, 2))

        ear = asyncio.create_task(self._listen(stop), name="wake-up")
        try:
            await retry_forever(lambda: self._term(stop), stop, FAILURES, on_failure, self._backoff)
        finally:
            await discard(ear)

    async def _listen(self, stop: asyncio.Event) -> None:
        """Whoever commits pokes the relay: that wakes us too.  Without NATS the poll finds everything a second later."""
        backoff = Backoff()

        async def session() -> None:
            lost = asyncio.Event()
            async with connected(self._settings, "crewkit-reactor", lost) as client:

                async def on_poke(_: Msg) -> None:
                    self._wake.set()

                await client.subscribe(self._names.poke, cb=on_poke)
                backoff.reset()
                while not lost.is_set() and not stop.is_set():
                    await wait_any(LISTEN_S, lost, stop)

        def on_failure(error: BaseException, _: float) -> None:
            log.debug("reactor.nats_lost", error=f"{type(error).__name__}: {error}")

        if self._settings.nats_url:
            await retry_forever(session, stop, (OSError, TimeoutError, nats.errors.Error), on_failure, backoff)

    async def _term(self, stop: asyncio.Event) -> None:
        url = database_url(self._settings)
        pool = await connect_pool(url, WORKER_ROLE, max_size=POOL_CONNECTIONS_MAX)
        office = await pool.acquire()
        try:
            while not await office.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
                await wait_any(STANDBY_S, stop)
                if stop.is_set():
                    return
            ring = PostgresKeyRing(pool, master_key(self._settings))
            store = PostgresStore(url, Mapper(ring), role=WORKER_ROLE, pool=pool)
            await store.start()
            try:
                found = await table.free_all(office)
                log.info("reactor.active", kinds=[one.kind for one in self._reactions], found_in_hand=found)
                self._backoff.reset()
                tools = Tools(self._settings, pool, store, ring, set())
                await Term(tools, office, self._reactions, self._wake, stop).serve()
            finally:
                await store.close()
        finally:
            await close_pool(pool, office)


class Term:
    """The time in office of one reactor."""

    def __init__(
        self,
        tools: Tools,
        office: Connection,
        reactions: Sequence[Reaction],
        wake: asyncio.Event,
        stop: asyncio.Event,
    ) -> None:
        self._tools = tools
        self._pool: Pool = tools.pool
        self._office = office
        self._by_kind = {reaction.kind: reaction for reaction in reactions}
        self._wanted = Wanted(reactions, [reaction.delay_s(tools.settings) for reaction in reactions])
        self._lanes: defaultdict[str, list[str]] = defaultdict(list)
        self._places: dict[str, int] = {}
        for reaction in reactions:
            self._lanes[reaction.lane].append(reaction.kind)
            self._places[reaction.lane] = max(self._places.get(reaction.lane, 0), reaction.lane_max)
        self._running: dict[asyncio.Task[None], str] = {}
        self._wake = wake
        self._stop = stop
        self._reader = LogReader(self._pool)
        self._decoder = Decoder(tools.store.mapper)
        self._lost: BaseException | None = None

    async def serve(self) -> None:
        """Follow and react until told to stop or until the database is lost; ends with nothing in hand."""
        prune_at = time.monotonic()
        try:
            while not self._stop.is_set():
                self._wake.clear()
                await self._office.execute("SELECT 1")  # still in office?
                ahead = await table.follow(self._office, self._wanted)
                await self._take()
                if time.monotonic() >= prune_at:
                    await table.prune(self._office, list(self._by_kind))
                    prune_at = time.monotonic() + PRUNE_EVERY_S
                if self._lost is not None:
                    raise self._lost
                if not ahead:
                    await wait_any(FOLLOW_PAUSE_S, self._stop)
                    await wait_any(POLL_S, self._wake, self._stop)
            if self._running:
                await asyncio.wait(set(self._running))
        finally:
            for task in list(self._running):
                await discard(task)

    async def _take(self) -> None:
        busy = list(self._running.values())
        for lane, kinds in self._lanes.items():
            free = self._places[lane] - busy.count(lane)
            for due in await table.take(self._office, kinds, free) if free > 0 else ():
                task = asyncio.create_task(self._react(due), name=f"{due.kind} {due.position}")
                self._running[task] = lane
                task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lost = error  # its outcome could not be written down: the next term finds it in hand
        self._wake.set()

    async def _react(self, due: Due) -> None:
        started_s = time.monotonic()
        reaction = self._by_kind[due.kind]
        try:
            verdict = _verdict(await self._try(due, reaction))
        except GiveUpError as error:
            verdict = Verdict(DEAD, str(error))
        except RetryError as error:
            verdict = _again(due, reaction, str(error), error.after_s)
        except TimeoutError:
            verdict = _again(due, reaction, f"took longer than {reaction.timeout_s:.0f} s", None)
        except Exception as error:  # a defect of one reaction is its own; its text may hold anything
            log.debug("reactor.defect", kind=due.kind, position=due.position, exc_info=True)
            verdict = _again(due, reaction, type(error).__name__, None)
        if verdict.state == DEAD and reaction.given_up is not None:
            await self._tell(due, reaction, verdict.remark or "")
        await table.settle(self._pool, due, verdict.state, verdict.remark, after_s=verdict.after_s, tried=verdict.tried)
        failed = verdict.state == DEAD or (verdict.state == WAITING and verdict.tried)
        tell = log.warning if failed else log.info if verdict.tried else log.debug
        tell(
            "reactor.reacted",
            kind=due.kind,
            position=due.position,
            state=verdict.state,
            tries=due.tries,
            remark=verdict.remark,
            retry_s=round(verdict.after_s, 1),
            ms=round((time.monotonic() - started_s) * 1000, 1),
        )

    async def _tell(self, due: Due, reaction: Reaction, reason: str) -> None:
        """Best effort: a reaction that cannot even tell that it was given up is given up all the same."""
        try:
            async with asyncio.timeout(reaction.timeout_s):
                if reaction.given_up is not None:
                    await reaction.given_up(self._tools, await self._event(due.position), reason)
        except Exception as error:  # noqa: BLE001
            log.error("reactor.untold", kind=due.kind, position=due.position, error=type(error).__name__)  # noqa: TRY400

    async def _try(self, due: Due, reaction: Reaction) -> Result:
        async with asyncio.timeout(reaction.timeout_s):
            recorded = await self._event(due.position)
            age_s = (datetime.now(UTC) - recorded.recorded_at).total_seconds()
            if age_s > reaction.valid_s:
                return Skipped("too late to be of use")
            return await reaction.run(self._tools, recorded)

    async def _event(self, position: int) -> Recorded:
        try:
            page = await self._reader.page(position - 1, 1)
        except LogDamagedError as error:
            raise GiveUpError(str(error)) from error
        items = Items(page, self._decoder).wanted(0, len(page.data), Reads(None, self._decoder))
        if not items or items[0].position != position:
            raise GiveUpError("the event is missing from the log")
        if not isinstance(items[0], Recorded):
            raise GiveUpError("the event cannot be decoded")
        return items[0]


class Verdict(msgspec.Struct, frozen=True):
    """What became of one try; `tried` False gives the try back."""

    state: str
    remark: str | None = None
    after_s: float = 0.0
    tried: bool = True


def _verdict(result: Result) -> Verdict:
    match result:
        case Done():
            return Verdict(DONE)
        case Skipped(reason=reason):
            return Verdict(SKIPPED, reason)
        case Later(after_s=after_s):
            return Verdict(WAITING, None, after_s, tried=False)


def _again(due: Due, reaction: Reaction, remark: str, after_s: float | None) -> Verdict:
    """The next try, each later than the last and never before the other side wants it; none after the last."""
    if due.tries >= reaction.tries_max:
        return Verdict(DEAD, remark)
    pause_s = min(RETRY_FIRST_S * 2.0 ** min(due.tries - 1, 16), RETRY_MAX_S)
    pause_s *= 0.75 + random.random() / 2  # noqa: S311  spreads load, guards nothing
    if after_s is not None:
        pause_s = max(pause_s, min(after_s, RETRY_AFTER_MAX_S))
    return Verdict(WAITING, remark, pause_s)
