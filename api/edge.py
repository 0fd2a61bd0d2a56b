"""The outermost ring: request ids, one log line and one count per request, and a last net under everything."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from litestar import Litestar
from litestar.types import Message, Receive, Scope, Send

from api import hot
from api.errors import error_bytes
from api.metrics import Metrics
from api.requests import RequestLog
from api.upgrade import serve_socket
from eventstore.settings import Settings

_log = structlog.get_logger("api")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
UNROUTED = "(none)"
_QUIET = frozenset({"/health", "/api/health", "/health/live", "/health/ready", "/metrics"})


class Application(Litestar):
    """Litestar with the outermost ring around it; also answers that no route made (404, 405) pass through here."""

    settings: Settings
    edge_metrics: Metrics
    request_log: RequestLog

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            await serve(self._answer, self.edge_metrics, self.request_log, scope, receive, send)
        elif scope["type"] == "websocket":
            await serve_socket(super().__call__, request_id_of(scope["headers"]), scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if hot.recognise(scope):
            await hot.serve(self, scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def request_id_of(headers: list[tuple[bytes, bytes]]) -> str:
    """The caller's `X-Request-Id` where it is harmless, else a new one of 32 hex digits."""
    for name, value in headers:
        if name == b"x-request-id":
            if _REQUEST_ID.fullmatch(value):
                return value.decode()
            break
    return os.urandom(16).hex()


async def serve(
    app: Callable[[Any, Any, Any], Awaitable[None]],
    metrics: Metrics,
    log: RequestLog,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Run `app`; add `X-Request-Id` to its answer, count it, log it."""
    started = time.perf_counter()
    whole: Any = scope
    request_id = request_id_of(whole["headers"])
    whole["state"] = {**whole.get("state", {}), "request_id": request_id}
    header = (b"x-request-id", request_id.encode())
    status = 0

    async def tagged(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            message["headers"] = [*message["headers"], header]
        await send(message)

    try:
        await app(scope, receive, tagged)
    except Exception as error:  # noqa: BLE001  the last net: logged here, told as 500
        _log.error("request.failed", request_id=request_id, error=type(error).__name__, exc_info=error)
        if status == 0:
            status = 500
            await _answer_500(tagged, request_id)
    finally:
        seconds = time.perf_counter() - started
        route = whole.get("path_template") or UNROUTED
        metrics.observe(route, whole["method"], status, seconds)
        _log_request(log, whole, route, status, seconds, request_id)


def _log_request(log: RequestLog, scope: Any, route: str, status: int, seconds: float, request_id: str) -> None:
    if route in _QUIET:
        _log.debug("request.handled", method=scope["method"], route=route, status=status, request_id=request_id)
        return
    principal = scope["state"].get("principal")
    actor, org = (principal.actor, str(principal.org_id)) if principal else (None, None)
    log.note((scope["method"], route, status, actor, org), seconds, request_id)


async def _answer_500(send: Callable[[Any], Awaitable[None]], request_id: str) -> None:
    message = "something went wrong on our side; the request id finds it in the logs"
    body = error_bytes("internal_error", message, {}, request_id)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
