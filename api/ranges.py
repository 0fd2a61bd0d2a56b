"""Parts of a file over HTTP: `Range`, `If-Range` and `If-None-Match` of RFC 9110, for files that never change."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

_ONE = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})")


class Part(msgspec.Struct, frozen=True):
    """What to answer: 200 with everything, 206 with `length` bytes from `start` on, 304 or 416 with none."""

    status: int
    start: int = 0
    length: int = 0


def chosen_part(headers: Mapping[str, str], size: int, etag: str) -> Part:
    """The part that a request's headers (lower-case names) ask for.

    Several ranges, and ranges of what is not the file of `etag` any more, are answered with the whole file, as the RFC permits.
    """
    known = [one.strip().removeprefix("W/") for one in headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Part(304)
    everything = Part(200, 0, size)
    found = _ONE.fullmatch(headers.get("range", "").replace(" ", ""))
    if found is None or headers.get("if-range", etag).strip() != etag:
        return everything
    first, last = found["first"], found["last"]
    if first:
        start = int(first)
        end = min(int(last) if last else size - 1, size - 1)
        if last and int(last) < start:
            return everything
    elif last:
        start, end = max(0, size - int(last)), size - 1
    else:
        return everything
    return Part(416) if start >= size or start > end else Part(206, start, end - start + 1)
