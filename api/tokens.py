"""Access and refresh tokens: the public keys to check them with."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, Router, get

from api.answers import json_answer
from api.services import services_of

JWKS_MAX_AGE_S = 60  # a new key signs only after `KEY_LEAD`, which is longer


@get("/.well-known/jwks.json", summary="Public keys of access tokens")
async def jwks(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """RFC 7517.  Empty until somebody signs in for the first time."""
    keys = await services_of(request).tools.tokens.keys.jwks()
    return json_answer(keys, headers={"Cache-Control": f"public, max-age={JWKS_MAX_AGE_S}"})


ROUTER = Router("/", route_handlers=[jwks], tags=["signing in"])
