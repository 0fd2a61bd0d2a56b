"""Access and refresh tokens: exchange, end, and the public keys to check them with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, post

from api.answers import body_of, json_answer
from api.auth import claims_of, principal_of
from api.bodies import is_empty, read_json
from api.errors import ApiError
from api.services import services_of
from api.visits import A, pair_answer
from commands.tokens import refresh_family_of, revoke_family, rotate_refresh_token
from commands.tokens.families import ReusedTokenError, family_owner
from schemas.signin import Refresh, Revocation, TokenPair

JWKS_MAX_AGE_S = 60  # a new key signs only after `KEY_LEAD`, which is longer
_refresh = msgspec.json.Decoder(Refresh)
_revocation = msgspec.json.Decoder(Revocation)


@get("/.well-known/jwks.json", summary="Public keys of access tokens")
async def jwks(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """RFC 7517.  Empty until somebody signs in for the first time."""
    keys = await services_of(request).tools.tokens.keys.jwks()
    return json_answer(keys, headers={"Cache-Control": f"public, max-age={JWKS_MAX_AGE_S}"})


@post(f"{A}/refresh", status_code=200, summary="Exchange a refresh token", operation_class=body_of(Refresh))
async def refresh(request: Request[Any, Any, Any]) -> Response[TokenPair]:
    """A new pair, once.  A refresh token that comes a second time ends the login: somebody has a copy."""
    body = await read_json(request, _refresh)
    return await rotated(request, body.refresh_token)


async def rotated(request: Request[Any, Any, Any], token: str) -> Response[TokenPair]:
    """The next pair for a refresh token."""
    services = services_of(request)
    request_id = request.scope["state"].get("request_id")
    try:
        return pair_answer(await rotate_refresh_token(services.tools, token, request_id=request_id))
    except ReusedTokenError as reused:
        await _tell(request, reused.family_id)
        raise


@post(f"{A}/revoke", status_code=204, summary="End a login", operation_class=body_of(Revocation))
async def revoke(request: Request[Any, Any, Any]) -> Response[None]:
    """The login of the token that asks, or, with `token`, the login of a refresh token of the same user."""
    body = Revocation() if is_empty(request) else await read_json(request, _revocation)
    if body.token is None:
        return await _end(request)
    family_id = refresh_family_of(body.token)
    if family_id is None:
        raise ApiError(422, "token must be a refresh token", details={"field": "token"})
    services, principal = services_of(request), principal_of(request)
    if await family_owner(services.tools.store, family_id) == principal.user_id:
        await revoke_family(services.tools, family_id, reason="revoked", meta=principal.meta())
        await _tell(request, family_id)
    return Response(None, status_code=204)  # RFC 7009, section 2.2: the same for tokens that never were


@delete(f"{A}/logout", status_code=204, summary="Sign out")
async def logout(request: Request[Any, Any, Any]) -> Response[None]:
    """The same as revoking the token that asks."""
    return await _end(request)


async def _end(request: Request[Any, Any, Any]) -> Response[None]:
    services, principal, claims = services_of(request), principal_of(request), claims_of(request)
    position = await revoke_family(
        services.tools,
        claims.family_id,
        reason="logout",
        meta=principal.meta(),
        jti=claims.jti,
        expires_at=datetime.fromtimestamp(claims.exp, UTC),
    )
    await _tell(request, claims.family_id)
    headers = {} if position is None else {"Crewkit-Position": str(position)}
    return Response(None, status_code=204, headers=headers)


async def _tell(request: Request[Any, Any, Any], family_id: UUID) -> None:
    """Refuse its access tokens at once, here and in every process that NATS reaches."""
    services = services_of(request)
    services.people.end(family_id)
    await services.bus.revoked(family_id)


ROUTER = Router("/", route_handlers=[jwks, refresh, revoke, logout], tags=["signing in"])
