"""Moments in requests: times with and without a zone, and `as_of`, a position or a time of the log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from litestar.params import QueryParameter

from api.errors import ApiError
from api.services import Services

AsOf = Annotated[str | None, QueryParameter(description="a position or a time: nothing newer is shown")]


def in_utc(moment: datetime | None) -> datetime | None:
    """The moment; without a zone it is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


async def position_as_of(services: Services, text: str | None) -> int | None:
    """The last position of the log that `as_of` still shows; None: it was not given.

    Raises:
        ApiError: 400, it is neither a position nor a time.
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    try:
        # A plus sign in a query string means a space; nobody should have to know.
        moment = in_utc(datetime.fromisoformat(text.replace(" ", "+")))
        known = None if moment is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = "as_of: expected a position or an ISO 8601 time"
        raise ApiError(400, message, details={"field": "as_of", "expected": "position or time"}) from error
    return None if known is None else await services.store.position_at(known)
