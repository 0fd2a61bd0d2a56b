"""What every slice of the domain is made of: facts, sealed text, stream names and refusals.  No I/O, no clock."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid5

import msgspec

# The organization of what belongs to no tenant: users, their sign-ins, signing keys.  Row-level security treats it as one more.
PLATFORM = UUID("00000000-0000-8000-8000-000000000001")
STREAM_IDS_MAX = 50_000  # stream ids remembered: an agent's session is told about thousands of times


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """A fact.  Subclasses pass `tag="subject.verb.vN"`: that is what the store keeps, so classes and modules may move.

    Events ignore unknown fields when read back: a newer writer must not stop an older reader of a known version.
    """


class Sealed:
    """Text about one person, encrypted with that person's key wherever it is stored.

    In a decision it carries `text`; read back from the store it carries `box` (ciphertext) until someone who may see it
    opens it through the key ring.  Destroying the subject's key makes every box of that subject unreadable for ever.
    """

    __slots__ = ("box", "subject", "text")

    def __init__(self, subject: UUID, text: str | None = None, box: str | None = None) -> None:
        self.subject = subject
        self.text = text
        self.box = box

    def __repr__(self) -> str:  # never the text: reprs end up in logs
        return f"Sealed({self.subject})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sealed):
            return NotImplemented
        return (self.subject, self.text, self.box) == (other.subject, other.text, other.box)

    def __hash__(self) -> int:
        return hash((self.subject, self.text, self.box))


class Stream(msgspec.Struct, frozen=True, order=True):
    """The name of one history inside one organization, shown as `"Kind:id"` (for example `"LlmSession:0447534f-…"`)."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    def uuid(self, org_id: UUID) -> UUID:
        """The stored stream id: derived from the organization, so that two tenants can never share a stream."""
        return _stream_id(org_id.int, f"{self.kind}:{self.id}")

    @staticmethod
    def parse(text: str) -> Stream:
        """Read `"Kind:id"` back.

        Raises:
            ValueError: there is no colon, or a side of it is empty.
        """
        kind, _, ident = text.partition(":")
        if not kind or not ident:
            raise ValueError(f"expected 'Kind:id', got {text!r}")
        return Stream(kind, ident)


@lru_cache(maxsize=STREAM_IDS_MAX)
def _stream_id(org: int, name: str) -> UUID:
    return uuid5(UUID(int=org), name)


class FactIds:
    """The event ids of one stream's facts: 8 bytes that name the stream, then 8 bytes that name the fact inside it.

    The same fact told twice has the same id, which is how the store recognises a duplicate.  The leading half keeps the ids
    of one session on neighbouring index pages (docs/adr/0003).  Version 8 of RFC 9562 marks an id with private content.
    """

    __slots__ = ("_hasher", "_head")

    def __init__(self, stream_id: UUID) -> None:
        self._hasher = blake2b(digest_size=8, key=stream_id.bytes)
        text = str(stream_id)
        self._head = f"{text[:14]}8{text[15:19]}"  # the version is the first digit of the third group

    def of(self, natural_key: str) -> str:
        """The id of a fact, as text."""
        hasher = self._hasher.copy()
        hasher.update(natural_key.encode())
        tail = hasher.hexdigest()
        return f"{self._head}{_VARIANT[tail[0]]}{tail[1:4]}-{tail[4:]}"


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # its two highest bits become 10


def fact_id(stream_id: UUID, natural_key: str) -> UUID:
    """The event id of one fact; see `FactIds`."""
    return UUID(FactIds(stream_id).of(natural_key))


class DomainError(Exception):
    """A wish was refused.  `code` is stable and part of the API; the message is for people."""

    code: ClassVar[str] = "conflict"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class NotFoundError(DomainError):
    """The thing a wish is about does not exist (for this organization)."""

    code = "not_found"


EventT = TypeVar("EventT", bound=Event)


def tag_of(event_type: type[Event]) -> str:
    """The stored name of an event class, for example `session.started.v1`."""
    return str(event_type.__struct_config__.tag)
