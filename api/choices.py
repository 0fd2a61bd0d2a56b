"""Query parameters that take a word out of a known set: a misspelt word must not look like an empty list."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from api.errors import ApiError

LISTED_MAX = 24  # of a longer set only what is near to the word is told


def one_of(name: str, value: str | None, known: Collection[str]) -> str | None:
    """The value, if it can match anything.

    Raises:
        ApiError: 400, it is none of the known ones; `details` names the parameter.
    """
    if value is not None and value not in known:
        raise unknown(name, value, known)
    return value


def unknown(name: str, value: str, known: Collection[str]) -> ApiError:
    """The answer to a word that is none of the known ones."""
    near = sorted(known) if len(known) <= LISTED_MAX else get_close_matches(value, sorted(known), n=3, cutoff=0.0)
    expected = ", ".join(near)
    such = "one of" if len(known) <= LISTED_MAX else "a known one, such as"
    return ApiError(
        400, f"{name}: expected {such} {expected}, got {value[:100]!r}", details={"field": name, "expected": expected}
    )
