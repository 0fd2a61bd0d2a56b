"""Ids in paths: what may stand there, and the paths made of them."""

from __future__ import annotations

from urllib.parse import quote

from api.errors import ApiError

ID_CHARS_MAX = 200


def checked_id(value: str, name: str) -> str:
    """The id, where it can name something.

    Raises:
        ApiError: 400, empty, too long or not printable.
    """
    if not value or not value.isprintable() or len(value) > ID_CHARS_MAX:
        message = f"{name}: expected 1 to {ID_CHARS_MAX} printable characters"
        raise ApiError(400, message, details={"field": name})
    return value


def items_path(base: str, llm_session_id: str) -> str:
    """Where the records of an agent session are read."""
    return f"{base}/observability/llm_sessions/{quote(llm_session_id, safe='')}/items"
