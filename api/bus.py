"""NATS as the API uses it: pokes after commits, notices for live streams.  The API works without it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from uuid import UUID

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

POKE_SUBJECT = "crewkit.poke"
NOTICES_SUBJECT = "crewkit.notices.*"
REVOKED_SUBJECT = "crewkit.keys.revoked"  # payload: the id of an API key, hex
SHREDDED_SUBJECT = (
    "crewkit.keys.shredded"  # payload: organization and subject whose key is destroyed, 32 + 32 hex digits
)
RETRY_S = 2.0
CONNECT_S = 2
CLOSE_S = 2.0
POKE_EVERY_S = 0.01  # at rest a commit is told at once; under load relay and projectors get larger, cheaper blocks

_log = structlog.get_logger("api")
OnNotice = Callable[[str, bytes], Awaitable[None]]


class Bus:
    """A connection that is made, and made again, in the background."""

    def __init__(
        self,
        url: str | None,
        on_notice: OnNotice,
        on_state: Callable[[bool], None],
        on_revoked: Callable[[UUID], None] = lambda _: None,
        on_shredded: Callable[[UUID, UUID], None] = lambda _, __: None,
    ) -> None:
        self._url = url
        self._on_notice = on_notice
        self._on_state = on_state
        self._on_revoked = on_revoked
        self._on_shredded = on_shredded
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._poking: asyncio.Task[None] | None = None
        self._poke_at = 0.0  # event loop time of the earliest next poke
        self._poked = 0

    @property
    def configured(self) -> bool:
        """Whether there is a NATS server to talk to."""
        return self._url is not None

    @property
    def connected(self) -> bool:
        """Whether pokes and notices flow now."""
        return self._client is not None and self._client.is_connected

    def start(self) -> None:
        """Begin to connect; returns at once."""
        if self._url is not None:
            self._task = asyncio.create_task(self._connect(self._url))

    async def _connect(self, url: str) -> None:
        while True:
            try:
                self._client = await nats.connect(
                    url,
                    name="crewkit-api",
                    connect_timeout=CONNECT_S,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RETRY_S,
                    allow_reconnect=True,
                    error_cb=_ignore,
                    disconnected_cb=self._lost,
                    reconnected_cb=self._back,
                )
                await self._client.subscribe(NOTICES_SUBJECT, cb=self._notice)
                await self._client.subscribe(REVOKED_SUBJECT, cb=self._revocation)
                await self._client.subscribe(SHREDDED_SUBJECT, cb=self._shredding)
            except Exception as error:  # noqa: BLE001  whatever it was, trying again is the answer
                _log.warning("nats.unreachable", error=type(error).__name__, retry_s=RETRY_S)
                await asyncio.sleep(RETRY_S)
            else:
                self._on_state(True)
                _log.info("nats.connected")
                return

    async def _notice(self, message: Msg) -> None:
        await self._on_notice(message.subject.rpartition(".")[2], message.data)

    async def _revocation(self, message: Msg) -> None:
        with contextlib.suppress(ValueError):  # whatever else it is, it is no key of ours
            self._on_revoked(UUID(message.data.decode("ascii", "replace")))

    async def _shredding(self, message: Msg) -> None:
        text = message.data.decode("ascii", "replace")
        with contextlib.suppress(ValueError):  # whatever else it is, it names nobody
            self._on_shredded(UUID(text[:32]), UUID(text[32:]))

    async def revoked(self, key_id: UUID) -> None:
        """Tell the other processes to refuse a key at once.  Failing is fine: they ask the directory every few seconds."""
        await self._say(REVOKED_SUBJECT, key_id.hex)

    async def shredded(self, org_id: UUID, subject: UUID) -> None:
        """Tell the other processes that a subject's key is destroyed.  Failing is fine: they keep no key for long."""
        await self._say(SHREDDED_SUBJECT, org_id.hex + subject.hex)

    async def _say(self, subject: str, text: str) -> None:
        if self._client is None or not self.connected:
            return
        try:
            await asyncio.wait_for(self._client.publish(subject, text.encode()), CLOSE_S)
            await asyncio.wait_for(self._client.flush(), CLOSE_S)
        except Exception as error:  # noqa: BLE001  see above
            _log.warning("notice.untold", subject=subject, error=type(error).__name__)

    async def _lost(self) -> None:
        self._on_state(False)
        _log.warning("nats.disconnected")

    async def _back(self) -> None:
        self._on_state(True)
        _log.info("nats.connected")

    def poke(self, position: int) -> None:
        """Tell the relay that there is something new, at most once in `POKE_EVERY_S`.  Failing is fine: it also polls."""
        if position > self._poked:
            self._poked = position
            if self._poking is None and self.connected:
                self._poking = asyncio.create_task(self._poke())

    async def _poke(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            if (pause := self._poke_at - loop.time()) > 0:
                await asyncio.sleep(pause)
            self._poke_at = loop.time() + POKE_EVERY_S
            if (client := self._client) is not None:
                await client.publish(POKE_SUBJECT, str(self._poked).encode())
        except Exception as error:  # noqa: BLE001  the relay polls as well
            _log.debug("poke.failed", error=type(error).__name__)
        finally:
            self._poking = None

    async def ask(self, subject: str, payload: bytes, timeout_s: float) -> bytes | None:
        """The reply of whoever listens on `subject`; None when nobody does, or nobody replies in time."""
        client = self._client
        if client is None or not self.connected:
            return None
        try:
            return (await client.request(subject, payload, timeout=timeout_s)).data
        except (nats.errors.Error, TimeoutError, OSError) as error:
            _log.warning("ask.unanswered", subject=subject, error=type(error).__name__)
            return None

    async def close(self) -> None:
        """Stop trying, or hang up."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._poking is not None:
            self._poking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poking
        if self._client is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._client.close(), CLOSE_S)


async def _ignore(_: Exception) -> None:
    """Errors of the connection show as `connected`; nats-py would print them otherwise."""
