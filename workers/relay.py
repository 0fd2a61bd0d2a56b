"""The relay: carries every event, in order, from Postgres to one JetStream stream.

One relay is active at a time: it holds a session-level advisory lock on its only connection, and every advance of the
cursor is fenced with the epoch it took in office.  What is published is always a contiguous run of the log: each block
states the stream sequence it must follow, so a block that got lost stops its successors, and a second relay's blocks are
refused.  A new term looks at the last message in the stream and goes on from there, so nothing is published twice.
Where the log is damaged (an event or its stream's row was removed by hand) it says so and stays in front of it: nothing is
left out, and nothing behind it is published until it is mended.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header, PubAck, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from eventstore.database import WORKER_ROLE, Connection, connect_pool
from eventstore.port import LogDamagedError
from eventstore.settings import Settings
from workers.blocks import LAST, LAST_ID, Block, Names, Page, cut
from workers.carrier import connected
from workers.lifecycle import (
    DATABASE_FAILURES,
    Backoff,
    close_pool,
    database_url,
    retry_forever,
    until_cancelled,
    wait_any,
)
from workers.log import LogReader

log = structlog.get_logger("relay")

LOCK_KEY = 0x637265776B690001  # "crewki", job 1
PAGE_EVENTS = 2_000
IN_FLIGHT_MAX = 8  # blocks published and not yet acknowledged
POLL_S = 0.15
GATHER_S = 0.01  # after a block: what is committed meanwhile is the next one, for blocks cost more than events
STANDBY_S = 1.0  # between tries to become the active relay
ACK_S = 5.0
AGE_MAX_S = 24 * 3600.0
BYTES_MIN = 16 * 1024 * 1024  # less room than this is no use
NO_ROOM = 10047  # NATS: insufficient storage resources available
DUPLICATE_WINDOW_S = 120.0


class FencedError(Exception):
    """Another relay took office; this one must stop at once."""


FAILURES = (*DATABASE_FAILURES, nats.errors.Error, FencedError)


def stream_config(names: Names, bytes_max: int) -> StreamConfig:
    """Hours of events on disk, the oldest discarded first: the stream is a carrier, not the archive."""
    return StreamConfig(
        name=names.stream,
        subjects=[names.events],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_age=AGE_MAX_S,
        max_bytes=bytes_max,
        duplicate_window=DUPLICATE_WINDOW_S,
    )


async def ensure_stream(js: JetStreamContext, names: Names) -> None:
    """Create the stream, or bring its limits up to date.  A server with little room gets a smaller stream."""
    try:
        found = (await js.stream_info(names.stream)).config
    except NotFoundError:
        await _create_stream(js, names)
        return
    room = found.max_bytes if found.max_bytes and found.max_bytes > 0 else names.bytes_max
    wanted = stream_config(names, min(names.bytes_max, room))
    fields = ("subjects", "discard", "max_age", "max_bytes", "duplicate_window")
    if any(getattr(found, field) != getattr(wanted, field) for field in fields):
        await js.update_stream(wanted)
        log.info("relay.stream_updated", stream=names.stream)


async def _create_stream(js: JetStreamContext, names: Names) -> None:
    bytes_max = names.bytes_max
    while True:
        try:
            await js.add_stream(stream_config(names, bytes_max))
        except APIError as error:
            if error.err_code != NO_ROOM or bytes_max // 2 < BYTES_MIN:
                raise
            bytes_max //= 2
        else:
            log.info("relay.stream_created", stream=names.stream, bytes_max=bytes_max)
            return


async def run_relay(settings: Settings, names: Names | None = None) -> None:
    """Relay until cancelled; then settle what is in flight and leave office."""
    relay = Relay(settings, names or Names())
    await until_cancelled(relay.run)


class Relay:
    """One candidate for the office."""

    def __init__(self, settings: Settings, names: Names) -> None:
        self._settings = settings
        self._names = names
        self._backoff = Backoff()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve one term after the other until `stop` is set."""

        def on_failure(error: BaseException, pause_s: float) -> None:
            # The first failure is a change of state; the following ones are the same state.
            tell = log.warning if self._backoff.tries == 1 else log.debug
            tell("relay.interrupted", error=f"{type(error).__name__}: {error}", retry_s=round(pause_s, 2))

        await retry_forever(lambda: self._term(stop), stop, FAILURES, on_failure, self._backoff)

    async def _term(self, stop: asyncio.Event) -> None:
        # A cursor lost in a power cut costs a second look at the stream's tail: no commit of ours needs the disk.
        pool = await connect_pool(
            database_url(self._settings), WORKER_ROLE, min_size=1, max_size=1, synchronous_commit="off"
        )
        connection = await pool.acquire()
        try:
            if not await self._win_office(connection, stop):
                return
            wake, lost = asyncio.Event(), asyncio.Event()
            # One connection per term: a term that loses it starts over from what the stream really holds.
            async with connected(self._settings, "crewkit-relay", lost) as client:

                async def on_poke(_: Msg) -> None:
                    wake.set()

                await client.subscribe(self._names.poke, cb=on_poke)
                term = Term(connection, client, self._names, wake=wake, lost=lost, stop=stop)
                await term.begin()
                self._backoff.reset()
                await term.serve()
        finally:
            await close_pool(pool, connection)

    async def _win_office(self, connection: Connection, stop: asyncio.Event) -> bool:
        waiting = False
        while not stop.is_set():
            if await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
                return True
            if not waiting:
                log.info("relay.standby")
                waiting = True
            await wait_any(STANDBY_S, stop)
        return False


class Term:
    """The time in office of one relay on one NATS connection."""

    def __init__(
        self,
        connection: Connection,
        client: Client,
        names: Names,
        *,
        wake: asyncio.Event,
        lost: asyncio.Event,
        stop: asyncio.Event,
    ) -> None:
        self._connection = connection
        self._log = LogReader(connection)
        self._js = client.jetstream(timeout=ACK_S)
        self._names = names
        self._wake = wake
        self._lost = lost
        self._stop = stop
        self._epoch = 0
        self._read = 0  # the last position that was published, acknowledged or not
        self._sequence = 0  # the stream sequence of the block published last
        self._in_flight: deque[tuple[Block, asyncio.Future[PubAck]]] = deque()
        self._published_s = -math.inf  # monotonic time of the last block
        self._damage = Backoff()  # between looks at a damaged place of the log

    async def begin(self) -> None:
        """Take an epoch, make the stream fit, and find where to go on."""
        await ensure_stream(self._js, self._names)
        row = await self._connection.fetchrow(
            "UPDATE crewkit.relay SET epoch = epoch + 1, updated_at = clock_timestamp() RETURNING epoch, position"
        )
        if row is None:
            raise FencedError("table crewkit.relay has no row; run the migrations")
        self._epoch = row["epoch"]
        self._read = await self._resume(row["position"])
        if self._read > row["position"]:
            await self._advance(self._read)
        log.info("relay.active", epoch=self._epoch, position=self._read, stream=self._names.stream)

    async def _resume(self, cursor: int) -> int:
        """The last position that the stream holds; where it is empty, the cursor."""
        state = (await self._js.stream_info(self._names.stream)).state
        self._sequence = state.last_seq
        if not state.messages:
            return cursor
        headers = (await self._js.get_msg(self._names.stream, seq=state.last_seq)).headers or {}
        last, last_id = headers.get(LAST, ""), headers.get(LAST_ID, "")
        if last.isdecimal() and last_id == str(await self._event_id(int(last))):
            return int(last)
        # Its tail is no event of this log: the stream belongs to a database that was replaced or restored.
        log.error("relay.stream_replaced", stream=self._names.stream, tail=last)
        await self._js.delete_stream(self._names.stream)
        await ensure_stream(self._js, self._names)
        self._sequence = 0
        return cursor

    async def _event_id(self, position: int) -> Any:
        return await self._connection.fetchval("SELECT event_id FROM crewkit.event WHERE position = $1", position)

    async def serve(self) -> None:
        """Publish until told to stop or until the connection is lost; always ends with nothing in flight."""
        try:
            while not self._stop.is_set() and not self._lost.is_set():
                pause_s = self._published_s + GATHER_S - time.monotonic()
                if pause_s > 0:
                    await wait_any(pause_s, self._lost, self._stop)
                await self._carry()
            while self._in_flight:
                await self._settle()
        finally:
            for _, future in self._in_flight:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # seen: it failed because of an earlier one
            self._in_flight.clear()
        if self._lost.is_set():
            raise nats.errors.ConnectionClosedError

    async def _carry(self) -> None:
        """Publish the next page, or wait for one."""
        self._wake.clear()
        page = await self._page()
        if page is None:
            return
        count = len(page.data)
        if count == 0 and not self._in_flight:
            await wait_any(POLL_S, self._wake, self._lost, self._stop)
            return
        for block in cut(page):
            while len(self._in_flight) >= IN_FLIGHT_MAX:
                await self._settle()
            await self._publish(block)
        if count == PAGE_EVENTS:
            self._published_s = -math.inf  # there is more already
            return
        while self._in_flight:
            await self._settle()

    async def _page(self) -> Page | None:
        """The next page; None after a pause in front of a damaged event."""
        try:
            page = await self._log.page(self._read, PAGE_EVENTS)
        except LogDamagedError as error:
            while self._in_flight:
                await self._settle()
            pause_s = self._damage.next_s()
            tell = log.error if self._damage.tries == 1 else log.debug
            tell("relay.log_damaged", position=error.position, error=str(error), retry_s=round(pause_s, 2))
            await wait_any(pause_s, self._lost, self._stop)
            return None
        if self._damage.tries and page.data:
            log.info("relay.log_mended", position=page.first)
            self._damage.reset()
        return page

    async def _publish(self, block: Block) -> None:
        headers = {
            **block.headers,
            Header.MSG_ID: block.message_id,
            Header.EXPECTED_LAST_SEQUENCE: str(self._sequence),
        }
        future = await self._js.publish_async(
            self._names.events, block.payload, wait_stall=ACK_S, stream=self._names.stream, headers=headers
        )
        self._in_flight.append((block, future))
        self._published_s = time.monotonic()
        self._read = block.last
        self._sequence += 1

    async def _settle(self) -> None:
        """Wait for the oldest acknowledgement, take those that are there already, move the cursor behind them."""
        started_s = time.monotonic()
        block, future = self._in_flight[0]
        lost = asyncio.ensure_future(self._lost.wait())
        either: list[asyncio.Future[Any]] = [future, lost]
        try:
            await asyncio.wait(either, timeout=ACK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        if not future.done():
            raise TimeoutError(f"no acknowledgement for block {block.message_id}")
        first, blocks = block.first, 0
        while self._in_flight and self._in_flight[0][1].done():
            block, future = self._in_flight[0]
            future.result()
            self._in_flight.popleft()
            blocks += 1
        await self._advance(block.last)
        log.debug(
            "relay.published",
            first=first,
            last=block.last,
            blocks=blocks,
            ms=round((time.monotonic() - started_s) * 1000, 1),
        )

    async def _advance(self, position: int) -> None:
        tag = await self._connection.execute(
            "UPDATE crewkit.relay SET position = greatest(position, $1), updated_at = clock_timestamp() "
            "WHERE epoch = $2",
            position,
            self._epoch,
        )
        if tag != "UPDATE 1":
            raise FencedError(f"epoch {self._epoch} is over")
