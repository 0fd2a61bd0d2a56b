"""Ways to sign in, all ending in the same pair of tokens."""

from __future__ import annotations

from litestar import Router

from api.signin import device, mail, passkeys, password

ROUTER = Router(
    "/",
    route_handlers=[*password.HANDLERS, *mail.HANDLERS, *device.HANDLERS, *passkeys.HANDLERS],
    tags=["signing in"],
)

__all__ = ["ROUTER"]
