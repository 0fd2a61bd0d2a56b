"""The outermost ring for WebSockets: request ids, one log line, and refusals that a client can read before the upgrade."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from api.errors import CODE_OF_STATUS, error_bytes

REFUSED = 4000  # a close code of this plus an HTTP status, before the upgrade, is a refusal with that status
DENIAL = "websocket.http.response"  # the ASGI extension by which servers let us answer in HTTP

_log = structlog.get_logger("api")


async def serve_socket(
    app: Callable[[Any, Any, Any], Awaitable[None]], request_id: str, scope: Any, receive: Any, send: Any
) -> None:
    """Run `app`; a refusal becomes an HTTP answer in the shape of all others; the query string is never logged."""
    started = time.perf_counter()
    scope["state"] = {**scope.get("state", {}), "request_id": request_id}
    status = 0

    async def answering(message: Any) -> None:
        nonlocal status
        if message["type"] == "websocket.accept":
            status = 101
        elif message["type"] == "websocket.close" and status == 0:
            status = _status(scope, message.get("code", 0))
            if DENIAL in (scope.get("extensions") or {}):
                await _deny(send, status, message.get("reason") or "", request_id)
                return
        await send(message)

    try:
        await app(scope, receive, answering)
    finally:
        principal = scope["state"].get("principal")
        _log.info(
            "socket.closed",
            route=scope.get("path_template") or "(none)",
            status=status,
            ms=round((time.perf_counter() - started) * 1000, 2),
            request_id=request_id,
            actor=principal.actor if principal else None,
            org=str(principal.org_id) if principal else None,
        )


def _status(scope: Any, code: int) -> int:
    if scope.get("path_template") is None:
        return 404  # the router words this like a failure of ours
    return code - REFUSED if 400 <= code - REFUSED < 600 else 500


async def _deny(send: Any, status: int, reason: str, request_id: str) -> None:
    body = error_bytes(CODE_OF_STATUS.get(status, "internal_error"), reason, {}, request_id)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
    ]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
