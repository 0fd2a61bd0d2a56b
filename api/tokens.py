"""Access and refresh tokens: exchange, end, and the public keys to check them with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, post

from api.answers import POSITION, body_of, json_answer
from api.auth import claims_of, principal_of
from api.bodies import is_empty, read_json
from api.errors import ApiError
from api.services import Services, services_of
from api.visits import A, pair_answer
from commands.tokens import BadTokenError, refresh_family_of, revoke_family, rotate_refresh_token
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
    """The login of the token that asks, or, with `token`, the login of that refresh or access token of the same user."""
    body = Revocation() if is_empty(request) else await read_json(request, _revocation)
    if body.token is None:
        return await _end(request)
    services, principal = services_of(request), principal_of(request)
    family_id, more = await _named(services, body.token)
    if await family_owner(services.tools.store, family_id) == principal.user_id:
        position = await revoke_family(services.tools, family_id, reason="revoked", meta=principal.meta(), **more)
        await _tell(request, family_id)
        return _ended(position)
    return _ended(None)  # RFC 7009, section 2.2: the same for tokens that never were


async def _named(services: Services, token: str) -> tuple[UUID, dict[str, Any]]:
    """The login that a refresh or access token belongs to; of an access token also what is denied.

    Raises:
        ApiError: 422, it is neither.
    """
    if (family_id := refresh_family_of(token)) is not None:
        return family_id, {}
    try:
        claims = await services.tools.tokens.check(token)
    except BadTokenError as error:
        message = "token must be a refresh token, or an access token that has not expired"
        raise ApiError(422, message, details={"field": "token"}) from error
    return claims.family_id, {"jti": claims.jti, "expires_at": datetime.fromtimestamp(claims.exp, UTC)}


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
    return _ended(position)


def _ended(position: int | None) -> Response[None]:
    return Response(None, status_code=204, headers={} if position is None else {POSITION: str(position)})


async def _tell(request: Request[Any, Any, Any], family_id: UUID) -> None:
    """Refuse its access tokens at once, here and in every process that NATS reaches."""
    services = services_of(request)
    services.people.end(family_id)
    await services.bus.revoked(family_id)


ROUTER = Router("/", route_handlers=[jwks, refresh, revoke, logout], tags=["signing in"])
