"""The ingest routes without the framework's layers: they carry nearly all traffic, and routing, dependency injection and
response building cost more than storing an event.

Nothing else is different: the same guard, the same reading of bodies, the same commands, the same errors.  Everything this
module does not recognise (another spelling of a path, another method) goes to the framework, whose handlers for the same
routes stand in api/ingest.py.
"""

from __future__ import annotations

import re
from typing import Any

from litestar import Litestar, Request
from litestar.types import Receive, Scope, Send

from api.answers import POSITION, encoded
from api.auth import admit
from api.errors import error_bytes, log_unforeseen, translate
from api.ingest import ingest
from api.items import ingest_batches
from api.paths import checked_id
from schemas.ingest import BatchesAnswer, IngestAnswer

_EVENTS = "/api/v1/{organization_id}/observability/events"
_SESSION_EVENTS = "/api/v1/{organization_id}/observability/sessions/{session_id}/events"
_ITEMS = "/api/v1/{organization_id}/observability/items"
_PATH = re.compile(
    r"/api/v1/(?P<organization_id>[^/]+)/observability/(?:(?:sessions/(?P<session_id>[^/]+)/)?events|(?P<items>items))",
    re.ASCII,
)
_JSON = (b"content-type", b"application/json")
_POSITION = POSITION.lower().encode()


def recognise(scope: Scope) -> bool:
    """Whether this is a hot route; notes the parameters of its path in `scope`, as the framework would."""
    whole: Any = scope
    if whole["method"] != "POST" or whole.get("root_path"):
        return False
    found = _PATH.fullmatch(whole["path"])
    if found is None or any(name == b"origin" for name, _ in whole["headers"]):  # pages of other sites: the framework
        return False
    params = found.groupdict()
    items = params.pop("items") is not None
    whole["path_params"] = {name: value for name, value in params.items() if value is not None}
    whole["path_template"] = _ITEMS if items else _EVENTS if found["session_id"] is None else _SESSION_EVENTS
    return True


async def serve(app: Litestar, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that `recognise` took."""
    whole: Any = scope
    whole["app"] = whole["litestar_app"] = app
    try:
        request: Request[Any, Any, Any] = Request(scope, receive, send)
        await admit(request)
        session_id = whole["path_params"].get("session_id")
        answer: IngestAnswer | BatchesAnswer
        if whole["path_template"] is _ITEMS:
            answer = await ingest_batches(request)
        else:
            answer = await ingest(request, None if session_id is None else checked_id(session_id, "session_id"))
        status, body, headers = 202, encoded(answer), [(_POSITION, b"%d" % answer.position)]
    except Exception as error:  # noqa: BLE001  every failure has its answer
        told = translate(error)
        request_id = whole["state"].get("request_id")
        log_unforeseen(told, error, request_id)
        status, body = told.status, error_bytes(told.code, told.message, told.details, request_id)
        headers = [(name.lower().encode(), value.encode()) for name, value in told.headers.items()]
    headers += [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
