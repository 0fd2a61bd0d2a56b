"""`Idempotency-Key`: one name for a wish, so that sending it again cannot grant it twice."""

from __future__ import annotations

from typing import Any

from litestar import Request

from api.errors import ApiError

KEY_CHARS_MAX = 200


def idempotency_key(request: Request[Any, Any, Any]) -> str | None:
    """The caller's key, or None where none was sent.

    Raises:
        ApiError: 400, empty, too long or not printable.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not key or len(key) > KEY_CHARS_MAX or not key.isprintable():
        message = f"Idempotency-Key: expected 1 to {KEY_CHARS_MAX} printable characters"
        raise ApiError(400, message, details={"field": "Idempotency-Key"})
    return key
