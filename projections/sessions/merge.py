"""Commutative ways to combine what two facts say, and guards that keep odd input storable."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

ID_CHARS_MAX = 200  # an index entry of Postgres must stay well below 2,700 bytes
TEXT_CHARS_MAX = 200
PROMPT_CHARS_MAX = 8_000  # of a prompt's text kept for titles and search
INT_MAX = 10**10  # of one record's count: four months of milliseconds.  900 million of these fit a bigint
BYTES_MAX = 10**13  # of memory
PICO_MAX = 10**18  # of a total that an agent tells: a million dollars.  Sums of these need more than a bigint
CALL_PICO_MAX = 10**16  # of one model call: ten thousand dollars.  Nine hundred of these fit a bigint
SUM_MAX = 9 * 10**18  # what a bigint holds; sums that are kept in a row end there
TEXTS_CACHED_MAX = 32_768  # ids and names come again and again within a session
CLOCK_AHEAD_MAX = timedelta(minutes=5)  # a client's clock may run ahead this far before the server's is taken


@lru_cache(TEXTS_CACHED_MAX)
def ident(value: str) -> str:
    """An id as it can be a key: as it is, or cut and marked by its hash when too long, without characters Postgres refuses.

    Distinct ids stay distinct.
    """
    if len(value) <= ID_CHARS_MAX and (value.isascii() or _storable(value)) and "\x00" not in value:
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{clean(value)[: ID_CHARS_MAX - 34]}~{digest}"


@lru_cache(TEXTS_CACHED_MAX)
def short(value: str | None) -> str | None:
    """An enumeration value or name, cut to `TEXT_CHARS_MAX`."""
    if value is None or (len(value) <= TEXT_CHARS_MAX and value.isascii() and "\x00" not in value):
        return value
    return clean(value)[:TEXT_CHARS_MAX]


def clean(value: str) -> str:
    """Text without NUL and lone surrogates, which Postgres cannot store."""
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _storable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return len(value) * 4 <= 2_000  # bytes


def larger(old: Any, new: Any) -> Any:
    """The larger of two values, either of which may be None (unknown)."""
    if old is None or (new is not None and new > old):
        return new
    return old


def smaller(old: Any, new: Any) -> Any:
    """The smaller of two values, either of which may be None (unknown)."""
    if old is None or (new is not None and new < old):
        return new
    return old


def bounded(value: int | None, most: int = INT_MAX) -> int | None:
    """A count (or with another bound a total cost, or bytes) of one record, cut where it is absurd: nobody's sums may outgrow their columns."""
    if value is None or 0 <= value <= most:
        return value
    return max(0, min(value, most))


def credible(pico_usd: int | None) -> int | None:
    """The cost of one model call; what no call can cost is not known."""
    return pico_usd if pico_usd is not None and 0 <= pico_usd <= CALL_PICO_MAX else None


def summed(total: int | None, more: int | None) -> int:
    """A sum that is kept in a row.  Like every sum of what is not negative, it does not depend on the order, also where it ends."""
    return min((total or 0) + (more or 0), SUM_MAX)


_TOLD_AT = {
    name: f"{name}_at"
    for name in ("repo", "branch", "commit_hash", "project", "agent_version", "permission_mode", "model")
}


def newest(row: Any, name: str, value: str | None, at: datetime) -> bool:
    """Set `row.<name>` when `value` is known and told at or after `row.<name>_at`; whether it changed.

    Two values told in the same instant: the larger one, so that order of arrival does not matter.
    """
    if value is None:
        return False
    value = short(value) or value
    name_at = _TOLD_AT[name]
    old_at = getattr(row, name_at)
    old = getattr(row, name)
    if old_at is not None and (at < old_at or (at == old_at and value <= old)):
        return False
    setattr(row, name_at, at)
    if old == value:
        return False
    setattr(row, name, value)
    return True
