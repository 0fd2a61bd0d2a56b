"""Pages for people without a dashboard: sign in, let a device in, manage passkeys.  Forms work without scripts."""

from __future__ import annotations

from litestar import Router
from litestar.exceptions import HTTPException

from api.pages import devices, invitations, login, passkeys
from api.pages.rendering import ASSETS, show_error

ROUTER = Router(
    "/",
    route_handlers=[*login.HANDLERS, *devices.HANDLERS, *invitations.HANDLERS, *passkeys.HANDLERS, *ASSETS],
    exception_handlers={Exception: show_error, HTTPException: show_error, 500: show_error},
    tags=["pages"],
)

__all__ = ["ROUTER"]
