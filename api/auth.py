"""Who calls, and may they?  Every request passes `guard` before its body is read."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.exceptions import WebSocketException
from litestar.handlers.base import BaseRouteHandler

from api.errors import ApiError, not_found
from api.limits import IP_FACTOR
from api.permissions import TABLE, Access
from api.services import services_of
from api.upgrade import REFUSED
from commands.bus import Principal
from commands.organizations import key_hash, key_id_of
from projections.directory import KeyFound

KNOWN_TTL_S = 5.0  # a revoked key works no longer than this where no notice of it arrived
UNKNOWN_TTL_S = 1.0
REVOKED_TTL_S = 3600.0  # by then the directory knows
CACHED_KEYS_MAX = 10_000
KEY_CHARS_MAX = 200
QUERY_KEY = "api_key"
SUBPROTOCOL = "crewkit"
SOCKET = "WS"  # the method of WebSockets in the permission table
_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})

Lookup = Callable[[UUID], Awaitable[KeyFound | None]]
AnyConnection = ASGIConnection[Any, Any, Any, Any]


class Authenticator:
    """Checks API keys against the directory, remembering answers (also "unknown") for a few seconds."""

    def __init__(self, lookup: Lookup, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup
        self._clock = clock
        self._cache: OrderedDict[UUID, tuple[float, KeyFound | None]] = OrderedDict()
        self._asking: dict[UUID, asyncio.Task[KeyFound | None]] = {}

    async def key(self, text: str) -> KeyFound:
        """The key behind `text`.

        Raises:
            ApiError: 401, with the same words whatever was wrong with it.
        """
        if len(text) > KEY_CHARS_MAX or (key_id := key_id_of(text)) is None:
            raise invalid_key()
        found = await self._find(key_id)
        # Compare in any case, so that an unknown id takes as long as a wrong secret.
        stored = found.secret_sha256 if found else "0" * 64
        same = hmac.compare_digest(key_hash(text), stored)
        if found is None or not same or found.revoked_at is not None:
            raise invalid_key()
        if found.expires_at is not None and found.expires_at <= datetime.now(UTC):
            raise invalid_key()
        return found

    def forget(self, key_id: UUID) -> None:
        """Ask the directory again next time."""
        self._cache.pop(key_id, None)

    def revoke(self, key_id: UUID) -> None:
        """Refuse the key from now on, whatever the directory says while it catches up."""
        self._cache.pop(key_id, None)
        self._remember(key_id, self._clock() + REVOKED_TTL_S, None)

    async def _find(self, key_id: UUID) -> KeyFound | None:
        now = self._clock()
        cached = self._cache.get(key_id)
        if cached is not None and cached[0] > now:
            return cached[1]
        # Hundreds of requests may find the answer too old at the same moment: one of them asks, for all.
        asking = self._asking.get(key_id)
        if asking is None:
            asking = self._asking[key_id] = asyncio.create_task(self._ask(key_id))
            asking.add_done_callback(lambda _: self._asking.pop(key_id, None))
        return await asyncio.shield(asking)

    async def _ask(self, key_id: UUID) -> KeyFound | None:
        now = self._clock()
        found = await self._lookup(key_id)
        meanwhile = self._cache.pop(key_id, None)
        # Only "unknown" for so long means revoked, and it was told while we asked.
        if meanwhile is not None and meanwhile[1] is None and meanwhile[0] > now + KNOWN_TTL_S:
            self._remember(key_id, *meanwhile)
            return None
        self._remember(key_id, now + (KNOWN_TTL_S if found else UNKNOWN_TTL_S), found)
        return found

    def _remember(self, key_id: UUID, until: float, found: KeyFound | None) -> None:
        self._cache[key_id] = (until, found)
        if len(self._cache) > CACHED_KEYS_MAX:
            self._cache.popitem(last=False)


def invalid_key() -> ApiError:
    """401."""
    return ApiError(
        401,
        "send a valid API key as X-API-Key or Authorization: Bearer",
        headers={"WWW-Authenticate": 'Bearer realm="crewkit"'},
    )


async def guard(connection: AnyConnection, _: BaseRouteHandler) -> None:
    """`admit`, as the framework calls it; a WebSocket's refusal is a close code that api/upgrade.py answers in HTTP."""
    try:
        await admit(connection)
    except ApiError as error:
        if connection.scope["type"] != ScopeType.WEBSOCKET:
            raise
        raise WebSocketException(code=REFUSED + error.status, detail=error.message) from error


async def admit(connection: AnyConnection) -> None:
    """Let the request through, with its principal in `scope["state"]`, or refuse it.

    Raises:
        ApiError: 401 no valid key, 404 another organization's path, 403 scope missing, 429 too fast.
    """
    services = services_of(connection)
    scope: Any = connection.scope
    method = scope.get("method", SOCKET)
    access = TABLE.get((method, scope["path_template"]))
    if access is None and method == "OPTIONS":
        return
    if access is None:  # start-up checks the table, so this is a route added while running
        raise not_found("path")
    client = connection.client
    if services.limiter.per_s > 0:
        services.limiter.take(f"ip:{client.host if client else ''}", factor=IP_FACTOR)
    if access.public or (access.loopback and _is_local(connection)):
        return
    found = await services.auth.key(_key_text(connection))
    services.limiter.take(f"key:{found.key_id}")
    _check_tenant(connection, found)
    _check_scope(access, found)
    state = scope["state"]
    state["principal"] = Principal(
        actor=f"key:{found.key_id}",
        org_id=found.org_id,
        person_id=found.person_id,
        scopes=found.scopes,
        request_id=state.get("request_id"),
    )
    state["slug"] = found.slug


def principal_of(connection: AnyConnection) -> Principal:
    """Who asks; set by `guard`."""
    principal: Principal = connection.scope["state"]["principal"]
    return principal


def base_path(connection: AnyConnection) -> str:
    """The canonical tenant path for links, by slug."""
    return f"/api/v1/{connection.scope['state']['slug']}"


def _key_text(connection: AnyConnection) -> str:
    headers = connection.headers
    if text := headers.get("x-api-key"):
        return text.strip()
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and text:
        return text.strip()
    if (protocols := offered_protocols(connection))[:1] == [SUBPROTOCOL] and len(protocols) > 1:
        return protocols[1]
    if text := connection.query_params.get(QUERY_KEY):  # the last resort: query strings end up in other people's logs
        return str(text)
    raise invalid_key()


def offered_protocols(connection: AnyConnection) -> list[str]:
    """What a WebSocket's client offers.  Browsers cannot send headers of their own, so the key may stand after `crewkit`."""
    scope: Any = connection.scope
    return list(scope.get("subprotocols") or ())


def _check_tenant(connection: AnyConnection, found: KeyFound) -> None:
    named = (connection.path_params.get("organization_id"), connection.headers.get("x-organization"))
    for name in named:
        if name is not None and not _names(str(name), found):
            raise not_found("organization")


def _names(name: str, found: KeyFound) -> bool:
    if name == found.slug:
        return True
    try:
        return UUID(name) == found.org_id
    except ValueError:
        return False


def _check_scope(access: Access, found: KeyFound) -> None:
    if not access.scopes & found.scopes:
        wanted = " or ".join(sorted(access.scopes))
        raise ApiError(403, f"this key lacks the scope {wanted}", details={"scope": sorted(access.scopes)})


def _is_local(connection: AnyConnection) -> bool:
    """Whether the caller sits on this machine and is no proxy speaking for somebody else."""
    client = connection.client
    if client is None or any(name in connection.headers for name in _FORWARDED):
        return False
    return client.host in _LOOPBACK
