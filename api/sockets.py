"""The same live notices as api/streams.py, over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
from litestar import Router, WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath

from api.auth import SUBPROTOCOL, offered_protocols, principal_of, still_admitted
from api.errors import ApiError
from api.services import services_of
from api.streams import Feed, Wire, workflow_of
from api.upgrade import REFUSED

GOING_AWAY = 1012  # the service restarts: come back and resume
BAD_POSITION = "after: expected a position (digits)"
DIGITS_MAX = 18

AnySocket = WebSocket[Any, Any, Any]


def message(event: str, position: int | None, data: Any) -> bytes:
    """One message; `position` resumes after it."""
    return msgspec.json.encode({"event": event, "position": position, "data": data})


MESSAGES = Wire(frame=message, opening=b"", heartbeat=message("keep-alive", None, None))


def _after(socket: AnySocket) -> int | None:
    text = socket.query_params.get("after")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > DIGITS_MAX:
        raise ApiError(400, BAD_POSITION, details={"field": "after"})
    return int(text)


async def _tell(socket: AnySocket, feed: Feed, patience_s: float) -> None:
    """Send what the feed says; a client that takes nothing for `patience_s` counts as gone.

    Raises:
        TimeoutError: it does.
    """
    async with contextlib.aclosing(feed.run()) as parts:
        async for part in parts:
            async with asyncio.timeout(patience_s):
                await socket.send_data(part.decode(), mode="text")


async def _hear(socket: AnySocket) -> None:
    """What clients say means nothing here; hearing it tells when they go."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.receive_data(mode="text")


@websocket("/ws/{session_id:str}")
async def session_socket(socket: AnySocket, session_id: FromPath[str]) -> None:
    """Live notices of one session: `{"event", "position", "data"}` as JSON text; `?after=<position>` resumes."""
    await _serve(socket, session_id)


@websocket("/ws/workflows/{workflow_id:str}")
async def workflow_socket(socket: AnySocket, workflow_id: FromPath[str]) -> None:
    """The same for a session of kind `workflow`."""
    try:
        session_id = await workflow_of(socket, workflow_id)
    except ApiError as error:
        await socket.close(code=REFUSED + error.status, reason=error.message)
        return
    await _serve(socket, session_id)


async def _serve(socket: AnySocket, session_id: str) -> None:
    try:
        services, org_id = services_of(socket), principal_of(socket).org_id
        feed = Feed(services, org_id, _after(socket), session_id, lambda: still_admitted(socket), MESSAGES)
    except ApiError as error:
        await socket.close(code=REFUSED + error.status, reason=error.message)
        return
    offered = offered_protocols(socket)
    await socket.accept(subprotocols=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    telling = asyncio.create_task(_tell(socket, feed, services.settings.heartbeat_timeout_s))
    hearing = asyncio.create_task(_hear(socket))
    try:
        await asyncio.wait((telling, hearing), return_when=asyncio.FIRST_COMPLETED)
        ours = telling.done() and not hearing.done() and telling.exception() is None
    finally:
        for task in (telling, hearing):
            task.cancel()
        await asyncio.gather(telling, hearing, return_exceptions=True)
    if ours:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the client may have gone meanwhile
            if feed.shut_out:
                await socket.close(code=REFUSED + 401, reason="the key does not let you in any more")
            else:
                await socket.close(code=GOING_AWAY, reason="the service restarts")


ROUTER = Router("/", route_handlers=[session_socket, workflow_socket], tags=["live"])
