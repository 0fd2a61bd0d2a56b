"""The event store in memory: the same promises as Postgres makes, for tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.kernel import Stream
from eventstore import batch
from eventstore.ids import uuid7
from eventstore.mapper import Mapper
from eventstore.port import (
    PAGE_EVENTS_MAX,
    REPORTED_TYPES,
    Append,
    AppendRefusedError,
    Claim,
    Outcome,
    Recorded,
    Status,
)
from eventstore.sealing import MemoryKeyRing


class MemoryStore:
    """Implements `eventstore.port.EventStore`."""

    def __init__(
        self,
        mapper: Mapper | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_commit: Callable[[int], object] | None = None,
    ) -> None:
        self.mapper = mapper or Mapper(MemoryKeyRing())
        self._clock = clock
        self._on_commit = on_commit
        self._log: list[Recorded] = []
        self._streams: dict[UUID, list[Recorded]] = {}
        self._by_id: dict[UUID, Recorded] = {}
        self._receipts: dict[tuple[UUID, str], tuple[UUID, Outcome]] = {}
        self._claims: dict[Claim, UUID] = {}

    async def start(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to disconnect from."""

    async def append(self, wish: Append) -> Outcome:
        """See the port."""
        batch.check(wish)
        encoded = await self.mapper.encode(wish.org_id, [new.event for new in wish.events])
        stream_id = wish.stream.uuid(wish.org_id)
        if (early := self._refusal(wish, stream_id)) is not None:
            return early
        ids = [new.event_id or uuid7() for new in wish.events]
        duplicates = self._duplicates(wish, ids)
        gone = frozenset(duplicates)
        meta = wish.meta
        if wish.command_id is not None and meta.command_id is None:
            meta = msgspec.structs.replace(meta, command_id=wish.command_id)
        history = self._streams.setdefault(stream_id, [])
        now = self._clock()
        for index, ((kind, data), event_id) in enumerate(zip(encoded, ids, strict=True)):
            if index in gone:
                continue
            recorded = Recorded(
                position=len(self._log) + 1,
                org_id=wish.org_id,
                stream_id=stream_id,
                stream=wish.stream,
                version=len(history) + 1,
                type=kind,
                event_id=event_id,
                recorded_at=now,
                data=data,
                meta=meta,
                event=self.mapper.decode(kind, data),
            )
            self._log.append(recorded)
            history.append(recorded)
            self._by_id[event_id] = recorded
        outcome = Outcome(Status.OK, len(history), history[-1].position, duplicates)
        if wish.command_id is not None:
            self._receipts[wish.org_id, wish.command_id] = (stream_id, outcome)
        for claim in wish.releases:
            if self._claims.get(claim) == stream_id:
                del self._claims[claim]
        self._claims |= dict.fromkeys(wish.claims, stream_id)
        if self._on_commit is not None and len(gone) < len(ids):
            self._on_commit(len(self._log))
        return outcome

    def _refusal(self, wish: Append, stream_id: UUID) -> Outcome | None:
        history = self._streams.get(stream_id, [])
        version, position = len(history), history[-1].position if history else 0
        if wish.command_id is not None and (receipt := self._receipts.get((wish.org_id, wish.command_id))) is not None:
            if receipt[0] != stream_id:
                raise batch.misused(wish)
            return Outcome(Status.DUPLICATE, receipt[1].version, receipt[1].position)
        if wish.expected is not None and wish.expected != version:
            return Outcome(Status.CONFLICT, version, position)
        if any(self._claims.get(claim, stream_id) != stream_id for claim in wish.claims):
            return Outcome(Status.TAKEN, version, position)
        return None

    def _duplicates(self, wish: Append, ids: list[UUID]) -> tuple[int, ...]:
        found: list[int] = []
        seen: set[UUID] = set()
        for index, event_id in enumerate(ids):
            if event_id in self._by_id or event_id in seen:
                found.append(index)
            seen.add(event_id)
        if found and not wish.facts:
            raise AppendRefusedError("an event id is already used")
        return tuple(found)

    async def read_all(
        self, after: int, limit: int = 1_000, *, org_id: UUID | None = None, until: int | None = None
    ) -> list[Recorded]:
        """See the port."""
        page = self._log[max(after, 0) : until]
        return [e for e in page if org_id is None or e.org_id == org_id][: _page(limit)]

    async def read_stream(
        self, org_id: UUID, stream: Stream, *, after: int = 0, limit: int = 1_000, newest_first: bool = False
    ) -> list[Recorded]:
        """See the port."""
        page = self._streams.get(stream.uuid(org_id), [])[max(after, 0) :]
        return (page[::-1] if newest_first else page)[: _page(limit)]

    async def head(self) -> int:
        """See the port."""
        return len(self._log)

    async def read_one(self, org_id: UUID, event_id: UUID) -> Recorded | None:
        """See the port."""
        found = self._by_id.get(event_id)
        return found if found is not None and found.org_id == org_id else None

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
        """See the port."""
        wanted: dict[str, Any] = {"org_id": org_id, "stream": stream, "type": type}
        page = [
            event
            for event in self._log[max(after, 0) : until_position]
            if all(value is None or getattr(event, name) == value for name, value in wanted.items())
            and (actor is None or event.meta.actor == actor)
            and not (decided and event.type in REPORTED_TYPES)
            and (since is None or event.recorded_at >= since)
            and (until is None or event.recorded_at <= until)
        ]
        return (page[::-1] if newest_first else page)[: _page(limit)]

    async def position_at(self, moment: datetime) -> int:
        """See the port."""
        return max((event.position for event in self._log if event.recorded_at <= moment), default=0)


def _page(limit: int) -> int:
    if limit < 1:
        raise ValueError("limit: expected 1 or more")
    return min(limit, PAGE_EVENTS_MAX)
