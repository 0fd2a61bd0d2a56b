"""What the JSON and the protobuf reading of OTLP share: counting of refused records, small conversions."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from schemas.otlp import OtlpRecord

REASONS_MAX = 3  # different reasons named in a partial success
VALUE_DEPTH_MAX = 32
_bodily_name = re.compile(r"(?:claude_code|codex|gemini_cli)\.[a-z0-9_.]{1,100}").fullmatch
TEMPORALITIES = {
    0: "",
    1: "delta",
    2: "cumulative",
    "AGGREGATION_TEMPORALITY_DELTA": "delta",
    "AGGREGATION_TEMPORALITY_CUMULATIVE": "cumulative",
}


class UndecodableError(Exception):
    """The body as a whole cannot be read; `path` names the place where that is known."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class Decoded(msgspec.Struct):
    """The records of one request, and why others of it were refused."""

    records: list[OtlpRecord]
    rejected: int = 0
    reasons: list[str] = []

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count records that could not be read."""
        self.rejected += count
        if len(self.reasons) < REASONS_MAX and reason not in self.reasons:
            self.reasons.append(reason)


def whole(value: Any) -> int:
    """An int64 as the JSON encoding may carry it (number or string); 0 for nothing or nonsense."""
    if type(value) is int:
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return 0
    if isinstance(value, float) and math.isfinite(value):
        return int(value)
    return 0


def number(value: Any) -> float | int | None:
    """A metric's value; None for nothing, nonsense and what JSON cannot carry (NaN, infinity)."""
    if type(value) is int:
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
    return value if isinstance(value, float) and math.isfinite(value) else None


def temporality(value: Any) -> str:
    """`delta`, `cumulative` or empty."""
    return TEMPORALITIES.get(value, "") if isinstance(value, int | str) else ""


def named(attributes: dict[str, Any], event_name: Any, body: Any) -> tuple[str, Any]:
    """A log record's name, and its body when that is more than the name.

    A body is a name only where it is one of an agent's: names are stored readable, and any other text may be personal.
    """
    name = attributes.get("event.name") or event_name
    if not isinstance(name, str) or not name:
        return (body, None) if isinstance(body, str) and _bodily_name(body) else ("", body)
    # Claude writes the prefixed name as body: `claude_code.api_request` for event `api_request`.
    repeats = isinstance(body, str) and (body == name or body.endswith(f".{name}"))
    return name, None if repeats or body == "" else body
