"""The port every event store implements, and the plain data that passes through it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Protocol
from uuid import UUID

import msgspec

from domain.kernel import DomainError, Event, Stream

BATCH_EVENTS_MAX = 2_000  # events in one append; more is refused before anything is sent
PAGE_EVENTS_MAX = 5_000  # events in one read

# What agents report, by far the most events, as opposed to what somebody decided.  Migration 0016 keeps an index of the others.
REPORTED_TYPES = frozenset({"hook.recorded.v1", "telemetry.recorded.v1", "transcript.recorded.v1"})


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who and why.  Ids only: nothing personal may stand here.

    `actor` is `"key:<uuid>"`, `"user:<uuid>"` or `"system:<name>"`; `request_id` the HTTP request; `causation_id` the event
    that made a reactor act; `reason` a fixed phrase, never free text from a person.
    """

    actor: str = "system:crewkit"
    request_id: str | None = None
    correlation_id: str | None = None
    causation_id: UUID | None = None
    command_id: str | None = None
    reason: str | None = None


class Claim(msgspec.Struct, frozen=True):
    """A name that only one stream of the installation may hold (`scope` "organization.slug", `key` "acme")."""

    scope: str
    key: str


class NewEvent(msgspec.Struct, frozen=True):
    """An event to append.  `event_id` None means: make a UUIDv7.  Facts bring the id of their natural key."""

    event: Event
    event_id: UUID | None = None


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """One command's wish.

    `expected` is the stream version the decision was based on (0: the stream must not exist).  `facts=True` means no version
    check and per-event deduplication by `event_id`.  `command_id` makes a repeat of the same wish a `duplicate` that answers
    what the first one answered.  `claims` are taken, `releases` given back, in the same transaction.
    """

    org_id: UUID
    stream: Stream
    events: Sequence[NewEvent]
    expected: int | None = None
    facts: bool = False
    command_id: str | None = None
    claims: Sequence[Claim] = ()
    releases: Sequence[Claim] = ()
    meta: Meta = Meta()


class Status(Enum):
    """What became of an append."""

    OK = "ok"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    TAKEN = "taken"


class Outcome(msgspec.Struct, frozen=True):
    """The answer to one append, given only after the commit is on disk.

    `version` and `position` are the stream's version and the global position after it (of the first telling, for a
    duplicate).  `duplicates` are the indexes, within the append's events, of facts the store already had.
    """

    status: Status
    version: int
    position: int
    duplicates: tuple[int, ...] = ()


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event as stored.  `position` is global, gapless and in commit order; `version` counts inside the stream from 1.

    `data` is the stored JSON; `event` its decoded, upcasted form (sealed fields still boxed).
    """

    position: int
    org_id: UUID
    stream_id: UUID
    stream: Stream
    version: int
    type: str
    event_id: UUID
    recorded_at: datetime
    data: bytes
    meta: Meta
    event: Event


class StreamMovedError(DomainError):
    """Somebody else changed the stream first; load again and decide again."""

    code = "conflict"


class NameTakenError(DomainError):
    """A claimed name belongs to another stream."""

    code = "conflict"


class AppendRefusedError(DomainError):
    """The store refuses this append as it is, and repeating it cannot help: a used command id or event id, unstorable text."""

    code = "conflict"


class StoreUnavailableError(Exception):
    """The store could not take the append now; nothing was written, or it cannot be known yet.  Retry with the same ids."""


class UnknownEventTypeError(Exception):
    """An event type or version this program does not know: readers stop rather than skip."""


class LogDamagedError(RuntimeError):
    """Somebody removed rows by hand: the event at `position`, or the row of its stream, is missing.  Readers stop there."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"the log is damaged at position {position}: {problem}")
        self.position = position


class EventStore(Protocol):
    """Append and read.  Implementations: `eventstore.memory.MemoryStore`, `eventstore.postgres.PostgresStore`."""

    async def append(self, wish: Append) -> Outcome:
        """Make one append durable and answer.  Conflicts and taken names are outcomes, not exceptions.

        Raises:
            ValueError: no events, or more than `BATCH_EVENTS_MAX`; or facts with an expected version.
            AppendRefusedError: its command id belongs to another stream, an event id is used, or the text cannot be stored.
            StoreUnavailableError: the outcome could not be settled within the time limit.
        """
        ...

    async def read_all(
        self, after: int, limit: int = 1_000, *, org_id: UUID | None = None, until: int | None = None
    ) -> list[Recorded]:
        """Events with position > `after` (and <= `until`), oldest first; of one organization where `org_id` is given."""
        ...

    async def read_stream(
        self, org_id: UUID, stream: Stream, *, after: int = 0, limit: int = 1_000, newest_first: bool = False
    ) -> list[Recorded]:
        """Events of one stream with version > `after`, oldest first (or newest first)."""
        ...

    async def head(self) -> int:
        """The last position, 0 for an empty store."""
        ...

    async def read_one(self, org_id: UUID, event_id: UUID) -> Recorded | None:
        """One event of an organization, None when there is none."""
        ...

    async def find(
        self,
        org_id: UUID,
        *,
        after: int = 0,
        limit: int = 100,
        stream: Stream | None = None,
        type: str | None = None,  # noqa: A002  the envelope's own word
        actor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        until_position: int | None = None,
        decided: bool = False,
        newest_first: bool = False,
    ) -> list[Recorded]:
        """History: events with `after` < position <= `until_position`, recorded in [`since`, `until`], that match the rest.

        `decided` leaves out `REPORTED_TYPES`; what is left is found without walking past them.
        """
        ...

    async def position_at(self, moment: datetime) -> int:
        """The last position recorded at or before `moment`, 0 for none: what was known then is everything up to it."""
        ...
