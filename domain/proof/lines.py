"""What an audit export consists of: JSON lines, each spelled in exactly one way, so that no byte of it can change unnoticed.

A `Head`, then the log from left to right (`Shown` an event of the organization, `Skipped` leaves of others), then an `End`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import msgspec

from domain.proof.merkle import ProofError

FORMAT = 1
LINE_BYTES_MAX = 16 * 1024 * 1024


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    pass


class Head(_Line, frozen=True, kw_only=True, tag="head"):
    """`checkpoints` are signed notes, oldest first; the last one bounds the export.  `keys` are the public keys they need.

    The rest is where the walk begins: nothing, or (after an earlier checkpoint) the perfect subtrees of the log's and of the
    organization's own tree as they were then, hashes one after the other.
    """

    format: int
    organization_id: UUID
    checkpoints: list[str]
    keys: list[str]
    start_size: int = 0
    start_peaks: bytes = b""
    start_events: int = 0
    start_organization_peaks: bytes = b""


class Shown(_Line, frozen=True, kw_only=True, tag="event"):
    """An event as stored: `data` and `meta` are the columns' exact text.  `hash` lets a changed event be named."""

    position: int
    stream: str
    version: int
    type: str
    event_id: UUID
    recorded_at: datetime
    data: str
    meta: str
    hash: bytes


class Skipped(_Line, frozen=True, kw_only=True, tag="others"):
    """Events of other organizations up to position `until`: the hashes of the perfect subtrees they make."""

    until: int
    hashes: bytes


class End(_Line, frozen=True, kw_only=True, tag="end"):
    """The organization's place in the tree of organizations of the last checkpoint, and the path from there to its root.

    `events` is how many events of the organization that checkpoint commits to.
    """

    events: int
    ordinal: int
    path: bytes


Line: TypeAlias = Head | Shown | Skipped | End

_encode = msgspec.json.Encoder().encode
_decode: Callable[[bytes], Line] = msgspec.json.Decoder(Line).decode


def write_line(line: Line) -> bytes:
    """The one spelling of a line, with its line break."""
    return _encode(line) + b"\n"


def read_line(raw: bytes) -> Line:
    """What a line says.

    Raises:
        ProofError: it is none, or spelled in another way than it is written.
    """
    try:
        line = _decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProofError(f"this is no line of an export: {error}") from error
    if write_line(line) != raw:
        raise ProofError("the line is not spelled as it is written")
    return line
