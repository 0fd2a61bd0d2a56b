"""Live streams (SSE): notices of what can be read now, resumable by position, working with and without NATS."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

import msgspec
import structlog
from litestar import Request, Router, get
from litestar.connection import ASGIConnection
from litestar.params import FromPath, HeaderParameter, QueryParameter
from litestar.response import Stream

from api.auth import principal_of, still_admitted
from api.errors import ApiError, not_found, unavailable
from api.services import Services, services_of
from eventstore.database import tenant
from projections.installation import DATABASE_AWAY, checkpoint
from projections.sessions.queries import find_session

RECHECK_S = 5.0  # how often an open stream asks whether its caller may still listen
POLL_S = 1.0  # how often a stream looks into the store itself while NATS is away
QUEUE_MAX = 256  # batches of notices waiting for one slow client
STREAMS_MAX = 1_000  # per process
CATCH_UP_EVENTS = 500  # events read at once when a stream resumes
RETRY_MS = 2_000
PROJECTION = "sessions"  # whose notices are streamed: what they name can be read through the sessions endpoints

_log = structlog.get_logger("api")
_encode = msgspec.json.encode
Item = dict[str, Any]


class Announcement(msgspec.Struct, frozen=True):
    """What a projector says on core NATS after a commit; items carry ids, kinds and positions only."""

    projection: str
    position: int
    items: list[Item] = []


_announcement = msgspec.json.Decoder(Announcement)


class Subscriber:
    """One open stream's mailbox.  When it is full it is emptied, and the stream catches up from the store.

    `lagged` tells the client so; `resync` means the same without blame (NATS was away, notices may be missing).
    """

    __slots__ = ("lagged", "mail", "resync", "wake")

    def __init__(self) -> None:
        self.mail: deque[Announcement] = deque()
        self.wake = asyncio.Event()
        self.lagged = False
        self.resync = False

    def put(self, announcement: Announcement) -> bool:
        """Whether there was room."""
        self.wake.set()
        if len(self.mail) < QUEUE_MAX and not self.lagged:
            self.mail.append(announcement)
            return True
        self.mail.clear()
        self.lagged = True
        return False

    def look(self) -> None:
        """Read the store now, whatever the mailbox says."""
        self.mail.clear()
        self.resync = True
        self.wake.set()


class Hub:
    """Hands notices to the open streams of their organization."""

    def __init__(self) -> None:
        self._subscribers: dict[str, set[Subscriber]] = {}
        self._open = 0
        self._trusting = False
        self.closing = False

    @property
    def open(self) -> int:
        """Streams open in this process."""
        return self._open

    def join(self, org_id: UUID) -> Subscriber:
        """Open a mailbox.

        Raises:
            ApiError: 503, as many streams as this process takes are open.
        """
        if self.closing or self._open >= STREAMS_MAX:
            raise unavailable("too many live streams are open here; try again later", retry_after_s=5)
        subscriber = Subscriber()
        self._subscribers.setdefault(org_id.hex, set()).add(subscriber)
        self._open += 1
        return subscriber

    def leave(self, org_id: UUID, subscriber: Subscriber) -> None:
        """Close a mailbox."""
        members = self._subscribers.get(org_id.hex, set())
        if subscriber in members:
            members.discard(subscriber)
            self._open -= 1
        if not members:
            self._subscribers.pop(org_id.hex, None)

    async def on_notice(self, org_hex: str, data: bytes) -> None:
        """Deliver one NATS message.  After a lost connection it only means "look", until `connected` is told."""
        members = self._subscribers.get(org_hex)
        if not members:
            return
        try:
            announcement = _announcement.decode(data)
        except msgspec.DecodeError:
            _log.warning("notice.unreadable", org=org_hex)
            return
        if announcement.projection != PROJECTION:
            return
        for subscriber in members:
            if self._trusting:
                subscriber.put(announcement)
            else:
                subscriber.look()

    def connected(self, up: bool) -> None:
        """NATS came or went: notices may have been missed, so every stream looks into the store."""
        self._trusting = up
        for members in self._subscribers.values():
            for subscriber in members:
                subscriber.look()

    def close(self) -> None:
        """End all streams, so that the server can stop at once."""
        self.closing = True
        for members in self._subscribers.values():
            for subscriber in members:
                subscriber.wake.set()


def frame(event: str, position: int | None, data: Any) -> bytes:
    """One server-sent event; its id is the position to resume after."""
    ident = b"" if position is None else b"id: %d\n" % position
    return b"%sevent: %s\ndata: %s\n\n" % (ident, event.encode(), _encode(data))


class Wire(msgspec.Struct, frozen=True):
    """How a feed speaks: one message as bytes, what comes before the first (empty: nothing), and what breaks long silence."""

    frame: Callable[[str, int | None, Any], bytes]
    opening: bytes
    heartbeat: bytes


SSE = Wire(frame=frame, opening=b"retry: %d\n\n" % RETRY_MS, heartbeat=b": keep-alive\n\n")


def wanted(item: Item, session_id: str | None) -> bool:
    """Whether a notice belongs on the stream: all do on the organization's."""
    return session_id is None or session_id in {item.get("session_id"), item.get("llm_session_id"), item.get("work_id")}


class Feed:
    """One stream from its first byte to its last.  `cursor` is the position up to which everything was sent.

    `admitted` says whether the caller may still listen: a stream must not outlive the key it was opened with.  `shut_out`
    tells afterwards that it ended for this reason.
    """

    def __init__(
        self,
        services: Services,
        org_id: UUID,
        cursor: int | None,
        session_id: str | None,
        admitted: Callable[[], Awaitable[bool]],
        wire: Wire = SSE,
    ) -> None:
        self.shut_out = False
        self._admitted = admitted
        self._asked = self._looked = time.monotonic()
        self._heartbeat_s = services.settings.heartbeat_interval_s
        self._services = services
        self._wire = wire
        self._org_id = org_id
        self._session_id = session_id
        self._resumes = cursor is not None
        self._cursor = cursor or 0
        self._beaten = time.monotonic()
        self._subscriber = services.hub.join(org_id)

    async def run(self) -> AsyncGenerator[bytes]:
        """The bytes of the stream; ends when the client goes or the process stops."""
        hub = self._services.hub
        self._services.metrics.streams_open.inc()
        try:
            now = await self._readable()
            if not self._resumes:
                self._cursor = now
            if self._wire.opening:
                yield self._wire.opening
            yield self._wire.frame("open", self._cursor, {"position": self._cursor, "session_id": self._session_id})
            async for part in self._catch_up(now):
                yield part
            while not hub.closing:
                if await self._is_shut_out():
                    yield self._wire.frame("shut-out", self._cursor, {"position": self._cursor})
                    return
                async for part in self._next():
                    yield part
        finally:
            self._services.metrics.streams_open.dec()
            hub.leave(self._org_id, self._subscriber)

    async def _is_shut_out(self) -> bool:
        """Ask, at most every `RECHECK_S`, whether the caller may still listen."""
        now = time.monotonic()
        if now - self._asked >= RECHECK_S:
            self._asked = now
            self.shut_out = not await self._admitted()
        return self.shut_out

    async def _next(self) -> AsyncIterator[bytes]:
        """Frames of the next announcement, or of what a look into the store finds, or a heartbeat."""
        subscriber = self._subscriber
        if subscriber.lagged or subscriber.resync:
            if subscriber.lagged:
                self._services.metrics.streams_lagged.inc()
                yield self._wire.frame("lagged", self._cursor, {"position": self._cursor})
            subscriber.lagged = subscriber.resync = False
            async for part in self._catch_up(await self._readable()):
                yield part
        elif subscriber.mail:
            announcement = subscriber.mail.popleft()
            for part in self._frames(announcement.items, announcement.position):
                yield part
        else:
            async for part in self._wait():
                yield part

    async def _wait(self) -> AsyncIterator[bytes]:
        subscriber = self._subscriber
        subscriber.wake.clear()
        if subscriber.mail or subscriber.lagged or subscriber.resync or self._services.hub.closing:
            return
        silence_s = self._heartbeat_s if self._services.bus.connected else POLL_S
        try:
            await asyncio.wait_for(subscriber.wake.wait(), min(silence_s, RECHECK_S))
        except TimeoutError:
            if time.monotonic() - self._looked < silence_s:
                return
            self._looked = time.monotonic()
            # Notices may be lost on the way; the store never loses anything.
            quiet = True
            async for part in self._catch_up(await self._readable()):
                quiet = False
                yield part
            if quiet and time.monotonic() - self._beaten >= self._heartbeat_s:
                self._beaten = time.monotonic()
                yield self._wire.heartbeat

    def _frames(self, items: list[Item], upto: int) -> list[bytes]:
        # Up to the last item only: a large announcement comes in several messages of the same position.
        parts: list[bytes] = []
        told = self._cursor
        for item in items:
            position = item.get("position", upto)
            if not isinstance(position, int):
                continue
            if position > self._cursor and wanted(item, self._session_id):
                parts.append(self._wire.frame("notice", position, item))
            told = max(told, position)
        self._cursor = max(self._cursor, told)
        return parts

    async def _catch_up(self, upto: int) -> AsyncIterator[bytes]:
        """Everything after the cursor up to `upto`, from the store."""
        while self._cursor < upto:
            page = await self._services.store.read_all(self._cursor, CATCH_UP_EVENTS, org_id=self._org_id, until=upto)
            items = [
                {**item, "position": recorded.position}
                for recorded in page
                if (item := self._services.notice(recorded)) is not None
            ]
            last = page[-1].position if len(page) == CATCH_UP_EVENTS else upto
            for part in self._frames(items, last):
                yield part
            self._cursor = max(self._cursor, last)

    async def _readable(self) -> int:
        """The position up to which the sessions projection can be read; the old cursor when the database is away."""
        try:
            return await checkpoint(self._services.pool, PROJECTION)
        except DATABASE_AWAY:
            return self._cursor


WORKFLOW = "workflow"  # the kind of session that a workflow works in
After = Annotated[int | None, QueryParameter(name="after", ge=0, description="resume after this position")]
LastEventId = Annotated[str | None, HeaderParameter(name="Last-Event-ID", description="resume after this position")]


def _cursor(last_event_id: str | None, after: int | None) -> int | None:
    if last_event_id is None or last_event_id == "":
        return after
    if not last_event_id.isascii() or not last_event_id.isdigit():
        raise ApiError(400, "Last-Event-ID: expected a position (digits)", details={"field": "Last-Event-ID"})
    return int(last_event_id)


def _stream(request: Request[Any, Any, Any], cursor: int | None, session_id: str | None) -> Stream:
    feed = Feed(services_of(request), principal_of(request).org_id, cursor, session_id, lambda: still_admitted(request))
    return Stream(
        feed.run(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


@get(
    ["/api/v1/{organization_id:str}/events/stream", "/api/v1/{organization_id:str}/logs/stream", "/api/logs/stream"],
    summary="What happens in the organization, live (SSE)",
)
async def organization_stream(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str | None] = None,  # noqa: ARG001  checked by the guard
    last_event_id: LastEventId = None,
    after: After = None,
) -> Stream:
    """Each event's id is a position; reconnecting with `Last-Event-ID` misses nothing.

    An organization's log is its event stream, so the log is followed here too, under the names a dashboard knows it by.
    """
    return _stream(request, _cursor(last_event_id, after), None)


@get("/api/v1/{organization_id:str}/sessions/{session_id:str}/events/stream", summary="One session, live (SSE)")
async def session_stream(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    session_id: FromPath[str],
    last_event_id: LastEventId = None,
    after: After = None,
) -> Stream:
    """As the organization's stream, only what belongs to the session."""
    return _stream(request, _cursor(last_event_id, after), session_id)


async def workflow_of(connection: ASGIConnection[Any, Any, Any, Any], workflow_id: str) -> str:
    """The session to follow for a workflow: a workflow's work is a crewkit session of kind `workflow` (docs/adr/0024).

    Raises:
        ApiError: 404, the organization has no such session.
    """
    org_id = principal_of(connection).org_id
    async with tenant(services_of(connection).pool, org_id) as database:
        found = await find_session(database, org_id, workflow_id)
    if found is None or found.kind != WORKFLOW:
        raise not_found("workflow")
    return found.session_id


@get(
    [
        "/api/v1/{organization_id:str}/workflows/{workflow_id:str}/events",
        "/api/v1/{organization_id:str}/workflows/{workflow_id:str}/events/stream",
        "/events/workflows/{workflow_id:str}",
        "/events/workflows/{workflow_id:str}/stream",
    ],
    summary="One workflow, live (SSE)",
)
async def workflow_stream(
    request: Request[Any, Any, Any],
    workflow_id: FromPath[str],
    organization_id: FromPath[str | None] = None,  # noqa: ARG001  checked by the guard
    last_event_id: LastEventId = None,
    after: After = None,
) -> Stream:
    """As the session's stream, for a session of kind `workflow`."""
    return _stream(request, _cursor(last_event_id, after), await workflow_of(request, workflow_id))


ROUTER = Router("/", route_handlers=[organization_stream, session_stream, workflow_stream], tags=["live"])
