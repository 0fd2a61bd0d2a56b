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
from api.people import COOKIE, CSRF_HEADER, check_csrf
from api.permissions import PERMISSIONS, PLATFORM_ROLES, SCOPES_OF_PERMISSION, TABLE, Access, at_least
from api.services import services_of
from api.upgrade import REFUSED
from commands.bus import Principal
from commands.organizations import key_hash, key_id_of
from commands.tokens import Claims
from domain.kernel import PLATFORM
from projections.directory import KeyFound
from projections.installation import DATABASE_AWAY
from projections.members import Membership

KNOWN_TTL_S = 5.0  # a revoked key works no longer than this where no notice of it arrived
UNKNOWN_TTL_S = 1.0
REVOKED_TTL_S = 3600.0  # by then the directory knows
CACHED_KEYS_MAX = 10_000
KEY_CHARS_MAX = 200
SHUT_OUT = frozenset({401, 403, 404})
QUERY_KEY = "api_key"
SUBPROTOCOL = "crewkit"
SOCKET = "WS"  # the method of WebSockets in the permission table
TOKEN_START = "eyJ"  # noqa: S105  every JSON Web Token begins with an opening brace in base64
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
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
        self.used: dict[UUID, UUID] = {}  # keys that worked, and their organizations; `api.used` tells and empties it

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
        self.used[key_id] = found.org_id
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
        "send a valid API key as X-API-Key or Authorization: Bearer, or the access token of a login as the latter",
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
        ApiError: 401 no valid key or token, 404 another organization's path, 403 scope or permission missing, 429 too fast.
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
    if access.guessable:
        services.sign_in_limiter.take(f"ip:{client.host if client else ''}")
    if access.public or (access.loopback and _is_local(connection)):
        return
    text = _key_text(connection)
    if text.startswith(TOKEN_START):
        await _admit_user(connection, access, text)
        return
    found = await services.auth.key(text)
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


async def _admit_user(connection: AnyConnection, access: Access, text: str) -> None:
    services = services_of(connection)
    signed_in = await services.people.who(text)
    claims = signed_in.claims
    services.limiter.take(f"user:{claims.user_id}")
    if text == _cookie(connection):
        _check_same_site(connection, claims)
    name, membership = _organization_of(connection), None
    if name is not None:
        membership = await services.people.member(name, claims.user_id)
        _check_named(connection, membership)
    elif access.permission is not None:
        membership = await services.people.only_member(claims.user_id)
        name = membership.slug if membership else None
    _check_user(access, name, membership, signed_in.platform_role)
    permission = membership.permission if membership else None
    client = connection.client
    state: Any = connection.scope["state"]
    state["principal"] = Principal(
        actor=f"user:{claims.user_id}",
        org_id=membership.org_id if membership else PLATFORM,
        person_id=claims.user_id,
        scopes=SCOPES_OF_PERMISSION.get(permission or "", frozenset()),
        request_id=state.get("request_id"),
        user_id=claims.user_id,
        permission=permission,
        platform_role=signed_in.platform_role,
        ip=client.host if client else None,
    )
    state["slug"] = membership.slug if membership else ""
    state["claims"] = claims


def _organization_of(connection: AnyConnection) -> str | None:
    name = connection.path_params.get("organization_id") or connection.headers.get("x-organization")
    return None if name is None else str(name)


def _check_named(connection: AnyConnection, membership: Membership | None) -> None:
    """Path and header must not name two different organizations."""
    header = connection.headers.get("x-organization")
    if membership is not None and header is not None and not _names(header, membership.slug, membership.org_id):
        raise not_found("organization")


def _check_user(access: Access, name: str | None, membership: Membership | None, platform_role: str) -> None:
    if access.platform is not None and at_least(platform_role, access.platform, PLATFORM_ROLES):
        return
    if access.permission is not None:
        if name is None:
            message = "organization: say which one you mean with the header X-Organization"
            raise ApiError(422, message, details={"field": "organization", "expected": "X-Organization"})
        if membership is None:
            raise not_found("organization")
        if not at_least(membership.permission, access.permission, PERMISSIONS):
            message = f"this needs the permission {access.permission}"
            raise ApiError(403, message, details={"permission": access.permission})
        return
    if access.platform is not None:
        raise ApiError(403, "this is for the staff of this installation", details={"platform_role": access.platform})
    if not access.user:
        raise ApiError(403, "this is for API keys, not for users", details={"scope": sorted(access.scopes)})


def _cookie(connection: AnyConnection) -> str | None:
    return connection.cookies.get(COOKIE)


def _check_same_site(connection: AnyConnection, claims: Claims) -> None:
    """Browsers send cookies along with whatever other sites make them do: those cannot know the CSRF token.

    A WebSocket cannot carry one; there the browser says which site it acts for.
    """
    if connection.scope["type"] == ScopeType.WEBSOCKET:
        origin = connection.headers.get("origin", "")
        if origin.partition("://")[2] != connection.headers.get("host"):
            raise ApiError(403, "this connection was opened by another site", details={"field": "Origin"})
        return
    if connection.scope.get("method") not in _SAFE_METHODS:
        secret = services_of(connection).person_secret
        check_csrf(secret, str(claims.family_id), connection.headers.get(CSRF_HEADER, ""))


def claims_of(connection: AnyConnection) -> Claims:
    """The access token of a signed-in caller; set by `guard` for users only.

    Raises:
        ApiError: 403, an API key asks.
    """
    claims = connection.scope["state"].get("claims")
    if not isinstance(claims, Claims):
        raise ApiError(403, "this is for signed-in users, not for API keys")
    return claims


async def still_admitted(connection: AnyConnection) -> bool:
    """Whether a caller who was let in would be let in again, with the same credentials: asked while a live stream is open.

    True while nobody can tell: the database is away, or the caller has just asked too often.
    """
    try:
        await admit(connection)
    except ApiError as error:
        return error.status not in SHUT_OUT
    except DATABASE_AWAY:
        return True
    return True


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
    if text := _cookie(connection):
        return text
    raise invalid_key()


def offered_protocols(connection: AnyConnection) -> list[str]:
    """What a WebSocket's client offers.  Browsers cannot send headers of their own, so the key may stand after `crewkit`."""
    scope: Any = connection.scope
    return list(scope.get("subprotocols") or ())


def _check_tenant(connection: AnyConnection, found: KeyFound) -> None:
    named = (connection.path_params.get("organization_id"), connection.headers.get("x-organization"))
    for name in named:
        if name is not None and not _names(str(name), found.slug, found.org_id):
            raise not_found("organization")


def _names(name: str, slug: str, org_id: UUID) -> bool:
    if name == slug:
        return True
    try:
        return UUID(name) == org_id
    except ValueError:
        return False


def _check_scope(access: Access, found: KeyFound) -> None:
    if not access.scopes:
        raise ApiError(403, "this is for signed-in users, not for API keys")
    if not access.scopes & found.scopes:
        wanted = " or ".join(sorted(access.scopes))
        raise ApiError(403, f"this key lacks the scope {wanted}", details={"scope": sorted(access.scopes)})


def _is_local(connection: AnyConnection) -> bool:
    """Whether the caller sits on this machine and is no proxy speaking for somebody else."""
    client = connection.client
    if client is None or any(name in connection.headers for name in _FORWARDED):
        return False
    return client.host in _LOOPBACK
