"""Make sense of odd values: numbers sent as text, flags sent as text, missing and wrongly typed fields.  Nothing here raises."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, cast

COUNT_MAX = 2**53  # larger counts are nonsense and would not survive JSON readers
TEXT_CHARS_MAX = 200  # longest identifier or enumeration value that counts as structure
PICO = 10**12
NOTHING: dict[str, Any] = {}


def text(value: Any) -> str | None:
    """A non-empty string as it is, a number as text, else None."""
    if type(value) is str:
        return value or None
    if type(value) is int:
        return str(value)
    return None


def count(value: Any) -> int | None:
    """A whole number from 0 to `COUNT_MAX`, also out of `"41"`, `"41.0"` or `41.6` (rounded); else None."""
    if type(value) is int:
        return value if 0 <= value <= COUNT_MAX else None
    if type(value) is float:
        return round(value) if 0 <= value <= COUNT_MAX else None
    if type(value) is str and 0 < len(value) <= 32:
        try:
            return count(float(value)) if "." in value or "e" in value else count(int(value))
        except ValueError:
            return None
    return None


def tally(value: Any) -> int:
    """Like `count`, with 0 for what is not there."""
    if type(value) is int and 0 <= value <= COUNT_MAX:
        return value
    return count(value) or 0


def flag(value: Any) -> bool | None:
    """True and False, also as text; else None."""
    if type(value) is bool:
        return value
    if type(value) is str:
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    return None


def pico_usd(value: Any) -> int | None:
    """Dollars to pico-dollars, exact in the shortest decimal that names the float, so `0.004671999999999999` is 4672000000.

    Sums of binary floats are off by some 10⁻¹⁶ of their size; rounding to 10⁻¹² takes exactly that noise away.
    """
    if type(value) not in {int, float, str} or (type(value) is str and len(value) > 40):
        return None
    try:
        amount = Decimal(repr(value) if type(value) is float else value)
        if not amount.is_finite() or not 0 <= amount < 1_000_000:
            return None
        return int((amount * PICO).to_integral_value())
    except (InvalidOperation, ValueError):
        return None


def part(value: Any) -> dict[str, Any]:
    """The value when it is an object, else an empty one."""
    return cast("dict[str, Any]", value) if type(value) is dict else NOTHING


def parts(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; an empty list for anything else."""
    if type(value) is not list:
        return []
    return [item for item in value if type(item) is dict]


def moment(value: Any) -> datetime | None:
    """A point in time (UTC) out of ISO 8601 text, or epoch seconds or milliseconds; else None."""
    try:
        if type(value) is str and 10 <= len(value) <= 40:
            found = datetime.fromisoformat(value)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        if (type(value) is int or type(value) is float) and 0 < value < 1e14:
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
