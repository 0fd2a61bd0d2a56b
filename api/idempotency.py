"""`Idempotency-Key`: one name for a wish, so that sending it again cannot grant it twice."""

from __future__ import annotations

import hmac
from typing import Any

import msgspec
from litestar import Request

from api.auth import principal_of
from api.errors import ApiError
from api.services import services_of
from commands.bus import Once

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


def once_of(request: Request[Any, Any, Any], operation: str, body: msgspec.Struct | None = None) -> Once | None:
    """The wish behind the caller's key, or None where none was sent.

    `operation` is what is asked for, whatever path it came by; the key means nothing for other callers and other operations.

    Raises:
        ApiError: 400 as `idempotency_key`.
    """
    key = idempotency_key(request)
    if key is None:
        return None
    principal, secret = principal_of(request), services_of(request).person_secret

    def hashed(*parts: bytes) -> str:  # keyed, because bodies hold addresses that anybody could try
        return hmac.digest(secret, b"\n".join(parts), "sha256").hex()[:32]

    wish = msgspec.json.encode(body, order="deterministic") if body is not None else b""
    name = (operation.encode(), principal.actor.encode(), principal.org_id.bytes, key.encode())
    return Once(hashed(*name), hashed(*name, wish))
