"""What the ways to sign in share: where a request comes from, the pair as an answer, answers that tell nothing by time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from litestar import Request, Response

from api.answers import json_answer
from api.people import BROWSER_COOKIE
from api.services import services_of
from commands.signin.devices import user_code_key
from commands.tokens import Pair
from commands.users import accounts
from commands.users.ceremony import RelyingParty
from commands.users.login import Visit
from eventstore.settings import Settings, public_url
from projections.freshness import wait_for
from projections.users import PROJECTION
from projections.users.queries import user_of_email, waiting_device
from projections.users.tables import DeviceRow
from schemas.signin import Accepted, TokenPair

# Longer than a look-up, a password hash and two commits: who has an account is not told by how long an answer takes.
LEVEL_S = 0.25
BROWSER_CHARS_MAX = 100
NO_STORE = {"Cache-Control": "no-store"}
A = "/api/v1/auth"

AnyRequest = Request[Any, Any, Any]


def visit_of(request: AnyRequest, browser: str | None = None) -> Visit:
    """Where the request comes from; `browser` where a page has just made the browser's id."""
    client = request.client
    browser = browser or request.cookies.get(BROWSER_COOKIE)
    return Visit(
        ip=client.host if client else None,
        user_agent=request.headers.get("user-agent"),
        browser=browser if browser and len(browser) <= BROWSER_CHARS_MAX else None,
        request_id=request.scope["state"].get("request_id"),
    )


def party_of(settings: Settings) -> RelyingParty:
    """This site, as authenticators know it."""
    origin = public_url(settings)
    parts = urlsplit(origin)
    return RelyingParty(parts.hostname or "localhost", f"{parts.scheme}://{parts.netloc}")


async def account_of(request: AnyRequest, email: str) -> tuple[str, UUID | None]:
    """The keyed hash of an address, and whose it is, if anybody's.

    Raises:
        InvalidFieldError: it is no address.
    """
    services = services_of(request)
    key = accounts.email_key(services.tools.secret, email)
    return key, await user_of_email(services.pool, key)


async def device_of(request: AnyRequest, user_code: str) -> DeviceRow | None:
    """The device that waits with this code.  One that started a moment ago is waited for, until the read model has it."""
    services = services_of(request)
    key = user_code_key(services.tools.secret, user_code)
    found = await waiting_device(services.pool, key)
    if found is None:
        head = await services.store.head()
        await wait_for(services.pool, PROJECTION.name, head, services.settings.read_after_wait_s)
        found = await waiting_device(services.pool, key)
    return found


@contextlib.asynccontextmanager
async def level() -> AsyncGenerator[None]:
    """However the block ends, it takes at least `LEVEL_S`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + LEVEL_S
    try:
        yield
    finally:
        await asyncio.sleep(max(0.0, until - loop.time()))


def pair_answer(pair: Pair) -> Response[TokenPair]:
    """Signed in."""
    answer = TokenPair(
        access_token=pair.access_token,
        token_type="Bearer",  # noqa: S106  the name of a scheme
        expires_in=pair.expires_in,
        refresh_token=pair.refresh_token,
        refresh_expires_at=pair.refresh_expires_at,
        user_id=pair.user_id,
        links={"self": f"{A}/me", "refresh": f"{A}/refresh", "logout": f"{A}/logout"},
    )
    return json_answer(answer, position=pair.position, headers=NO_STORE)


def accepted(status: str, message: str, **links: str) -> Response[Accepted]:
    """202 in the same words for everybody."""
    return json_answer(Accepted(status=status, message=message, links=links), 202, headers=NO_STORE)
