"""The one shape of every error answer."""

from __future__ import annotations

from typing import Any

import msgspec


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """`code` is stable, for programs; `message` is for people; `request_id` finds the request in the logs.

    `details` names what was wrong where that is known: `field` (a path such as `$.events[0].payload`), `expected`, ….
    """

    code: str
    message: str
    details: dict[str, Any] = {}
    request_id: str | None = None


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`message` repeats the error's message for clients that only look there."""

    error: ErrorDetail
    message: str
