"""What all three channels share: whose data it is, when it happened, and appending facts stream by stream."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

from msgspec import convert

from commands.bus import Principal
from domain.kernel import STREAM_IDS_MAX, Event, FactIds, Sealed, Stream
from domain.organizations.events import PersonObserved
from domain.sessions.coerce import part
from domain.sessions.split import Cut, content_text
from eventstore.port import BATCH_EVENTS_MAX, Append, EventStore, NewEvent, Status, StoreUnavailableError
from schemas.ingest import Person

CLOCK_AHEAD_MAX = timedelta(minutes=5)  # a client's clock further ahead is wrong, and the server's is used for reading
CLOCK_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)  # no agent we know is older
ID_CHARS_MAX = 200  # longest session id and kind
EMAIL_CHARS_MAX = 320


class People:
    """Who works: the key's owner, or whom a record names by e-mail (then the id is a keyed hash of the address)."""

    __slots__ = ("_known", "_principal", "_secret", "observed")

    def __init__(self, principal: Principal, secret: bytes) -> None:
        self._principal = principal
        self._secret = secret
        self._known: dict[tuple[str, str | None], UUID] = {}
        self.observed: dict[UUID, list[tuple[str, PersonObserved]]] = {}

    def of(self, user: Person | None) -> UUID:
        """The data subject of a record that names `user`, or nobody."""
        email = user.email.strip().lower() if user is not None and user.email else ""
        if user is None or not email or len(email) > EMAIL_CHARS_MAX:
            return self._principal.person_id
        if (known := self._known.get((email, user.name))) is not None:
            return known
        person_id = person_id_of(self._secret, self._principal.org_id, email)
        self._known[email, user.name] = person_id
        name = Sealed(person_id, user.name) if user.name else None
        seen = PersonObserved(person_id=person_id, email=Sealed(person_id, email), name=name)
        told = f"{email}|{user.name or ''}"
        key = f"observed|{_keyed(self._secret, self._principal.org_id, told)}"
        self.observed.setdefault(person_id, []).append((key, seen))
        return person_id


def person_id_of(secret: bytes, org_id: UUID, email: str) -> UUID:
    """The id of the person behind an e-mail address in one organization; version 8, so never taken for a random one."""
    value = int(_keyed(secret, org_id, email.strip().lower()), 16)
    value = value & ~(0xF << 76) | 8 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def _keyed(secret: bytes, org_id: UUID, text: str) -> str:
    return hmac.digest(secret or b"crewkit", org_id.bytes + text.encode(), "sha256").hex()[:32]


def occurred(told: datetime | None, received_at: datetime, attrs: dict[str, Any]) -> datetime:
    """The client's time as it is; where it is plainly wrong, `derived.at` in `attrs` says what readers shall use."""
    if told is None:
        return received_at
    at = told.replace(tzinfo=UTC) if told.tzinfo is None else told
    if at > received_at + CLOCK_AHEAD_MAX or at < CLOCK_EARLIEST:
        attrs["derived"] = {**part(attrs.get("derived")), "at": received_at.isoformat()}
    return at


def sealed(person_id: UUID, content: Mapping[str, Any]) -> tuple[Sealed | None, Cut | None]:
    """The content as text to be sealed for a person; None where there is none."""
    if not content:
        return None, None
    cut = content_text(cast("dict[str, Any]", content))
    return Sealed(person_id, cut.text), cut


def usable_id(value: Any) -> bool:
    """Whether a value can name a session or a kind."""
    return type(value) is str and 0 < len(value) <= ID_CHARS_MAX and value.isprintable()


@lru_cache(maxsize=STREAM_IDS_MAX)
def _ids(org: int, kind: str, ident: str) -> FactIds:
    return FactIds(Stream(kind, ident).uuid(UUID(int=org)))


class Group:
    """The facts of one stream."""

    __slots__ = ("_id_of", "events", "ids", "indexes", "repeated")

    def __init__(self, id_of: Callable[[str], str]) -> None:
        """`id_of` makes the id of a fact out of its natural key."""
        self._id_of = id_of
        self.events: list[NewEvent] = []
        self.indexes: list[int] = []
        self.ids: set[str] = set()
        self.repeated: list[int] = []

    def add(self, natural_key: str, event: Event, index: int) -> str:
        """Note a fact; `index` is its place in the request (-1: not from it).  Answers the fact's id."""
        event_id = self._id_of(natural_key)
        if event_id in self.ids:
            self.repeated.append(index)
        else:
            self.ids.add(event_id)
            self.events.append(NewEvent(event, convert(event_id, UUID)))
            self.indexes.append(index)
        return event_id


class Batch:
    """Facts grouped by stream.  `commit` appends every group, at once and side by side."""

    __slots__ = ("_groups", "_org_id")

    def __init__(self, org_id: UUID) -> None:
        self._org_id = org_id
        self._groups: dict[tuple[str, str], Group] = {}

    def group(self, kind: str, ident: str) -> Group:
        """The group of the stream `kind:ident`."""
        group = self._groups.get((kind, ident))
        if group is None:
            group = self._groups[kind, ident] = Group(_ids(self._org_id.int, kind, ident).of)
        return group

    async def commit(self, store: EventStore, principal: Principal, people: People) -> tuple[set[int], int]:
        """Append everything.  Answers the indexes of duplicates and the highest position.

        Raises:
            StoreUnavailableError: some stream could not be appended; sending all again is safe.
        """
        for person_id, seen in people.observed.items():
            for key, event in seen:
                self.group("Person", str(person_id)).add(key, event, -1)
        appends = [_append(store, principal, Stream(*name), group) for name, group in self._groups.items()]
        if len(appends) == 1:  # one session, the usual batch: no task needed
            return await appends[0]
        results = await asyncio.gather(*appends, return_exceptions=True)
        duplicates: set[int] = set()
        position = 0
        for result in results:
            if isinstance(result, BaseException):
                raise result
            duplicates |= result[0]
            position = max(position, result[1])
        return duplicates, position


async def _append(store: EventStore, principal: Principal, stream: Stream, group: Group) -> tuple[set[int], int]:
    duplicates, position = set(group.repeated), 0
    for start in range(0, len(group.events), BATCH_EVENTS_MAX):
        outcome = await store.append(
            Append(
                org_id=principal.org_id,
                stream=stream,
                events=group.events[start : start + BATCH_EVENTS_MAX],
                facts=True,
                meta=principal.meta(),
            )
        )
        if outcome.status not in {Status.OK, Status.DUPLICATE}:
            raise StoreUnavailableError(f"facts of {stream.kind} were answered with {outcome.status.value}")
        duplicates.update(group.indexes[start + index] for index in outcome.duplicates)
        position = max(position, outcome.position)
    return duplicates, position


def indexes_of(duplicates: Iterable[int]) -> int:
    """How many of the request's own records were duplicates (people are not a part of the request)."""
    return sum(index >= 0 for index in duplicates)
