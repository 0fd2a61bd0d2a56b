"""Blocks from JetStream into the window, and notices out.  Everything here may fail at any time: Postgres is the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from eventstore.settings import Settings
from workers.blocks import FIRST, LAST, LAST_ID, Names
from workers.carrier import connected
from workers.lifecycle import Backoff, retry_forever, wait_any
from workers.projector.window import Window

log = structlog.get_logger("projector")

CHECK_S = 5.0  # between looks at whether our consumer still exists
PENDING_BYTES_MAX = 16 * 1024 * 1024
NOTICE_ITEMS_MAX = 200  # in one message
INACTIVE_S = 60.0  # after which the server forgets the consumer of a dead process

IsOurs = Callable[[int, str], Awaitable[bool]]


class Feed:
    """One subscription to the whole stream, starting with what is new: older events come from Postgres."""

    def __init__(self, settings: Settings, names: Names, window: Window, is_ours: IsOurs) -> None:
        self._settings = settings
        self._names = names
        self._window = window
        self._is_ours = is_ours
        self._client: Client | None = None
        self._backoff = Backoff()
        self._last = 0  # position of the block taken last in this session
        self._encode = msgspec.json.Encoder().encode

    @property
    def alive(self) -> bool:
        """Whether blocks can be expected to arrive by themselves."""
        return self._client is not None

    async def run(self, stop: asyncio.Event) -> None:
        """Stay subscribed until `stop` is set."""

        def on_failure(error: BaseException, pause_s: float) -> None:
            tell = log.warning if self._backoff.tries == 1 else log.debug
            tell("projector.nats_lost", error=f"{type(error).__name__}: {error}", retry_s=round(pause_s, 2))

        failures = (OSError, TimeoutError, nats.errors.Error)
        await retry_forever(lambda: self._session(stop), stop, failures, on_failure, self._backoff)

    async def _session(self, stop: asyncio.Event) -> None:
        lost = asyncio.Event()
        self._last = 0

        try:
            async with connected(self._settings, "crewkit-projector", lost) as client:
                await self._follow(client, stop, lost)
        finally:
            self._client = None
            self._window.clear()  # whatever the next session brings is checked afresh

    async def _follow(self, client: Client, stop: asyncio.Event, lost: asyncio.Event) -> None:
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.NEW,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=INACTIVE_S,
            mem_storage=True,
        )
        subscription = await client.jetstream().subscribe(
            self._names.events,
            stream=self._names.stream,
            config=config,
            cb=self._on_block,
            manual_ack=True,
            pending_bytes_limit=PENDING_BYTES_MAX,
        )
        self._client = client
        self._backoff.reset()
        log.info("projector.subscribed", stream=self._names.stream)
        while not stop.is_set() and not lost.is_set():
            await wait_any(CHECK_S, stop, lost)
            if not stop.is_set() and not lost.is_set():
                await subscription.consumer_info()
        if not stop.is_set():
            raise nats.errors.ConnectionClosedError

    async def _on_block(self, message: Msg) -> None:
        headers = message.headers or {}
        try:
            first, last = int(headers[FIRST]), int(headers[LAST])
        except (KeyError, ValueError):
            log.warning("projector.foreign_message", subject=message.subject)
            return
        # A block that does not continue what we hold is compared with the log: the carrier may carry another one's.
        if first != self._last + 1 and not await self._is_ours(last, headers.get(LAST_ID, "")):
            log.warning("projector.foreign_block", first=first, last=last)
            return
        self._last = last
        self._window.push(first, last, message.data)

    async def announce(self, projection: str, position: int, notices: Sequence[tuple[UUID, msgspec.Raw]]) -> None:
        """Tell live readers, one subject per organization, what can now be read.  Best effort."""
        client = self._client
        if client is None or not notices:
            return
        by_org: dict[UUID, list[msgspec.Raw]] = {}
        for org_id, notice in notices:
            by_org.setdefault(org_id, []).append(notice)
        try:
            for org_id, items in by_org.items():
                subject = f"{self._names.notices}.{org_id.hex}"
                for start in range(0, len(items), NOTICE_ITEMS_MAX):
                    part = items[start : start + NOTICE_ITEMS_MAX]
                    body = {"projection": projection, "position": position, "items": part}
                    await client.publish(subject, self._encode(body))
        except (nats.errors.Error, OSError) as error:
            log.debug("projector.notice_lost", error=str(error))
