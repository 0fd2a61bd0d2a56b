"""Blocks: runs of consecutive events, encoded once and carried as one message.

A block is a msgpack list of `Stored` rows, exactly the columns Postgres keeps, so that the relay decodes nothing and
whoever receives it reads it with the same mapper as a row read from the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

EVENTS_MAX = 1_000  # events in one block
BYTES_MAX = 512 * 1024  # bytes in one block; NATS refuses messages above 1 MB by default
FIRST = "Crewkit-First"
LAST = "Crewkit-Last"
LAST_ID = "Crewkit-Last-Id"
_HEAD_BYTES = 5
_ARRAY32 = b"\xdd"  # msgpack: an array whose length is the next four bytes


class Names(msgspec.Struct, frozen=True):
    """What an installation calls its JetStream stream and its subjects; `bytes_max` is the room the stream may take."""

    stream: str = "CREWKIT"
    events: str = "crewkit.events"
    poke: str = "crewkit.poke"
    notices: str = "crewkit.notices"
    bytes_max: int = 1024 * 1024 * 1024


class Stored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of `crewkit.event` with its stream's kind and id; `data` and `meta` are JSON, as bytes."""

    position: int
    org_id: UUID
    stream_id: UUID
    kind: str
    id: str
    version: int
    type: str
    event_id: UUID
    recorded_at: datetime
    data: bytes
    meta: bytes


class Block(msgspec.Struct, frozen=True):
    """`payload` is empty when the block is one event too large to carry: receivers read it from Postgres."""

    first: int
    last: int
    last_id: UUID
    payload: bytes

    @property
    def message_id(self) -> str:
        """What JetStream recognises a repeat by."""
        return f"{self.first}-{self.last}"

    @property
    def headers(self) -> dict[str, str]:
        """The first and last position and the last event's id, readable without the payload."""
        return {FIRST: str(self.first), LAST: str(self.last), LAST_ID: str(self.last_id)}


_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decoder = msgspec.msgpack.Decoder(list[Stored])


def _block(rows: Sequence[Stored], parts: Sequence[bytes]) -> Block:
    payload = _ARRAY32 + len(parts).to_bytes(4) + b"".join(parts)
    if len(payload) > BYTES_MAX:
        payload = b""
    return Block(rows[0].position, rows[-1].position, rows[-1].event_id, payload)


def cut(rows: Sequence[Stored]) -> list[Block]:
    """Blocks of `rows`, in order, each within `EVENTS_MAX` and `BYTES_MAX`.

    Raises:
        ValueError: the positions are not consecutive.
    """
    if rows and rows[-1].position - rows[0].position != len(rows) - 1:
        raise ValueError(
            f"{len(rows)} rows from position {rows[0].position} to {rows[-1].position}: the log has no gaps"
        )
    blocks: list[Block] = []
    start = 0
    parts: list[bytes] = []
    size = _HEAD_BYTES
    for n, row in enumerate(rows):
        part = _encode(row)
        if parts and (len(parts) == EVENTS_MAX or size + len(part) > BYTES_MAX):
            blocks.append(_block(rows[start:n], parts))
            start, parts, size = n, [], _HEAD_BYTES
        parts.append(part)
        size += len(part)
    if parts:
        blocks.append(_block(rows[start:], parts))
    return blocks


def decode(payload: bytes) -> list[Stored]:
    """The rows of a block, oldest first.

    Raises:
        msgspec.DecodeError: the payload is not a block.
    """
    return _decoder.decode(payload) if payload else []
