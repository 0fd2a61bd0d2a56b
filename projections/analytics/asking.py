"""How questions and answers travel: one request, one reply, JSON, compressed where it would not fit.

JSON of many equal names shrinks to a tenth, but 260 KB travel through NATS on one machine in 1.2 ms as they are and in 3.1 ms
compressed.
"""

from __future__ import annotations

import zlib
from datetime import datetime
from uuid import UUID

import msgspec

SUBJECT = "crewkit.analytics.ask"
QUEUE = "analytics"
ANSWER_BYTES_MAX = 8_000_000  # as JSON: 1,500 periods of every KPI are 2 MB
REPLY_BYTES_MAX = 900_000  # NATS refuses messages above 1 MB by default
_PACKED = b"\x78"  # how zlib begins; JSON does not


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A question by name.  `after`: answer once this position is in; `wait_s` for it, `deadline_s` for everything."""

    question: str
    org_id: UUID
    params: msgspec.Raw = msgspec.Raw(b"{}")
    after: int = 0
    wait_s: float = 0.0
    deadline_s: float = 5.0


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`answer`, or `error` with what went wrong: `busy`, `behind`, `deadline`, `memory`, `too_large`, `invalid`, `unknown`,
    `failed` or `starting`.

    `position` says up to which event the rows go, `as_of` when that was written.
    """

    position: int = 0
    as_of: datetime | None = None
    answer: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    message: str = ""
    field: str | None = None


def packed(answer: Answer) -> bytes:
    """The reply that carries an answer; one that does not fit says so instead."""
    plain = _encode(answer)
    if len(plain) <= REPLY_BYTES_MAX:
        return plain
    reply = zlib.compress(plain, 1) if len(plain) <= ANSWER_BYTES_MAX else plain
    if len(reply) <= REPLY_BYTES_MAX:
        return reply
    return _encode(Answer(error="too_large", message="the answer is too large; ask for a smaller part"))


def unpacked(reply: bytes) -> Answer:
    """The answer that a reply carries.

    Raises:
        msgspec.DecodeError: it is none.
    """
    if not reply.startswith(_PACKED):
        return _decode(reply)
    opened = zlib.decompressobj()
    plain = opened.decompress(reply, ANSWER_BYTES_MAX)
    if not opened.eof:
        raise msgspec.DecodeError(f"expected at most {ANSWER_BYTES_MAX} bytes")
    return _decode(plain)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Answer).decode
