"""Between events and the JSON that is stored: stable tags, sealed fields, old shapes lifted to new ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

import domain
from domain.discover import subclasses
from domain.kernel import Event, Sealed, tag_of
from eventstore.port import UnknownEventTypeError
from eventstore.sealing import KeyNotReadyError, KeyRing, unboxed
from eventstore.upcasters import UPCASTERS, Upcasters

TAG = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+\.v[1-9][0-9]*")


def released_events() -> dict[str, type[Event]]:
    """Every event class of the domain by its tag.  Classes without a tag of their own are bases.

    Raises:
        ValueError: two classes share a tag.
    """
    found: dict[str, type[Event]] = {}
    for event_type in subclasses(domain, Event):
        tag = tag_of(event_type)
        if TAG.fullmatch(tag) is None:
            continue
        if tag in found:
            raise ValueError(f"{tag} is the tag of {found[tag]} and of {event_type}")
        found[tag] = event_type
    return found


def decode_hook(wanted: type, value: Any) -> Any:
    """For msgspec: read `Sealed` from its stored string."""
    if wanted is Sealed and isinstance(value, str):
        return unboxed(value)
    raise ValueError(f"expected {wanted.__name__}, got {type(value).__name__}")


class Mapper:
    """Encodes and decodes.  Not for use by several threads at once."""

    def __init__(
        self, ring: KeyRing, *, types: Iterable[type[Event]] | None = None, upcasters: Upcasters = UPCASTERS
    ) -> None:
        self.ring = ring
        self.types = released_events() if types is None else {tag_of(event_type): event_type for event_type in types}
        if old := [tag for tag in self.types if tag in upcasters]:
            raise ValueError(f"these tags have both a class and an upcaster: {', '.join(old)}")
        self._tags = {event_type: tag for tag, event_type in self.types.items()}
        self._upcasters = upcasters
        self._decoders = {
            tag: msgspec.json.Decoder(event_type, dec_hook=decode_hook) for tag, event_type in self.types.items()
        }
        self._encoder = msgspec.json.Encoder(enc_hook=self._seal)
        self._org_id = UUID(int=0)
        self._tag = ""
        self._missing: set[UUID] = set()

    async def encode(self, org_id: UUID, events: Sequence[Event]) -> list[tuple[str, bytes]]:
        """`(type, JSON)` of each event, with its sealed fields sealed; keys that do not exist yet are made.

        Raises:
            UnknownEventTypeError: an event's class is not registered.
        """
        encoded = [self._encode(org_id, event) for event in events]
        while self._missing:
            missing, self._missing = self._missing, set()
            await self.ring.prepare(org_id, missing)
            encoded = [self._encode(org_id, event) for event in events]
        return encoded

    def decoder(self, tag: str) -> Callable[[bytes], Event]:
        """`decode` for one type, for who reads many events of it."""
        decoder = self._decoders.get(tag)
        return partial(self._decode_old, tag) if decoder is None else decoder.decode

    def decode(self, tag: str, data: bytes) -> Event:
        """The event in its newest shape; sealed fields stay boxed.

        Raises:
            UnknownEventTypeError: neither a class nor an upcaster knows `tag`.
            msgspec.ValidationError: the data does not fit its type.
        """
        decoder = self._decoders.get(tag)
        if decoder is not None:
            return decoder.decode(data)
        return self._decode_old(tag, data)

    def _decode_old(self, tag: str, data: bytes) -> Event:
        if tag not in self._upcasters:
            raise UnknownEventTypeError(f"event type {tag!r} is not known to this version of crewkit")
        newest, plain = self._upcasters.newest(tag, msgspec.json.decode(data, type=dict[str, Any]))
        event_type = self.types.get(newest)
        if event_type is None:
            raise UnknownEventTypeError(f"event type {newest!r} (from {tag!r}) is not known to this version of crewkit")
        return msgspec.convert(plain | {"type": newest}, event_type, dec_hook=decode_hook)

    def _encode(self, org_id: UUID, event: Event) -> tuple[str, bytes]:
        tag = self._tags.get(type(event))
        if tag is None:
            raise UnknownEventTypeError(f"{type(event).__name__} ({tag_of(type(event))}) is no registered event")
        self._org_id, self._tag = org_id, tag
        return tag, self._encoder.encode(event)

    def _seal(self, value: Any) -> str:
        if not isinstance(value, Sealed):
            raise NotImplementedError(f"an event may not hold a {type(value).__name__}")  # the answer msgspec asks for
        try:
            return self.ring.seal(self._org_id, self._tag, value)
        except KeyNotReadyError:
            self._missing.add(value.subject)
            return ""
