"""`Crewkit-After`: answer only once the projection has seen what the caller has just written."""

from __future__ import annotations

from typing import Any

from litestar import Request

from api.errors import ApiError, unavailable
from api.services import services_of
from projections.freshness import wait_for

HEADER = "crewkit-after"
DIGITS_MAX = 18


def after_of(request: Request[Any, Any, Any]) -> int | None:
    """The position in `Crewkit-After`; None where it was not sent.

    Raises:
        ApiError: 400, it is no position.
    """
    text = request.headers.get(HEADER)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > DIGITS_MAX:
        raise ApiError(400, "Crewkit-After: expected a position (digits)", details={"field": "Crewkit-After"})
    return int(text)


async def wait_until_fresh(request: Request[Any, Any, Any], projection: str) -> None:
    """Wait, at most `settings.read_after_wait_s`, until `projection` has passed the position in `Crewkit-After`.

    Raises:
        ApiError: 400 the header is no position; 503 the projection is too far behind.
    """
    after = after_of(request)
    if after is None:
        return
    services = services_of(request)
    if not await wait_for(services.pool, projection, after, services.settings.read_after_wait_s):
        raise unavailable(f"the read model {projection!r} has not reached position {after} yet")
