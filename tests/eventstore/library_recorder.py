"""A synchronous recorder of the `eventsourcing` library over our asynchronous store, so that its own suites judge us.

The library's event (originator, version, topic, state bytes) is kept whole in one event type made for this.  Its versions
may begin at any number (its suites use 0 and 1) while ours begin at 1: the first event of an originator fixes the distance.
One insert may concern one originator only, as every append of ours concerns one stream.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    IntegrityError,
    Notification,
    StoredEvent,
    Subscription,
)

from domain.kernel import Event, Stream
from eventstore.database import WORKER_ROLE
from eventstore.mapper import Mapper
from eventstore.port import BATCH_EVENTS_MAX, PAGE_EVENTS_MAX, Append, NewEvent, Recorded, Status
from eventstore.postgres import PostgresStore
from eventstore.sealing import MemoryKeyRing

ORG = UUID(int=1)
POLL_S = 0.01
ANSWER_S = 60.0

T = TypeVar("T")


class LibraryEvent(Event, frozen=True, kw_only=True, tag="library.stored.v1"):
    """One `StoredEvent` of the library."""

    originator_id: UUID
    originator_version: int
    topic: str
    state: bytes


class StoreThread:
    """The store on an event loop of its own."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.store = self.call(self._open(url))

    async def _open(self, url: str) -> PostgresStore:
        store = PostgresStore(url, Mapper(MemoryKeyRing(), types=[LibraryEvent]), role=WORKER_ROLE)
        await store.start()
        return store

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_S)

    def close(self) -> None:
        self.call(self.store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class CrewkitAggregateRecorder(AggregateRecorder):
    def __init__(self, thread: StoreThread) -> None:
        super().__init__()
        self._call = thread.call
        self._store = thread.store

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        self._call(self._insert(stored_events))
        return None

    async def _insert(self, stored_events: Sequence[StoredEvent]) -> list[int]:
        if not stored_events:
            return []
        first = stored_events[0]
        if len({event.originator_id for event in stored_events}) > 1:
            raise ValueError("one insert concerns one originator")
        numbers = [event.originator_version for event in stored_events]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise IntegrityError("versions must follow each other")
        stream = Stream("Library", str(first.originator_id))
        begun = await self._store.read_stream(ORG, stream, limit=1)
        distance = library_event(begun[0]).originator_version if begun else numbers[0]
        if numbers[0] < distance:
            raise IntegrityError("the version is before the first")
        outcome = await self._store.append(
            Append(
                org_id=ORG,
                stream=stream,
                expected=numbers[0] - distance,
                events=[
                    NewEvent(
                        LibraryEvent(
                            originator_id=UUID(str(event.originator_id)),
                            originator_version=event.originator_version,
                            topic=event.topic,
                            state=event.state,
                        )
                    )
                    for event in stored_events
                ],
            )
        )
        if outcome.status is not Status.OK:
            raise IntegrityError(f"{outcome}")
        return list(range(outcome.position - len(stored_events) + 1, outcome.position + 1))

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        stream = Stream("Library", str(originator_id))
        page = self._call(self._store.read_stream(ORG, stream, limit=BATCH_EVENTS_MAX, newest_first=desc))
        events = [library_event(recorded) for recorded in page]
        return [
            StoredEvent(event.originator_id, event.originator_version, event.topic, event.state)
            for event in events
            if (gt is None or event.originator_version > gt) and (lte is None or event.originator_version <= lte)
        ][:limit]


class CrewkitApplicationRecorder(CrewkitAggregateRecorder, ApplicationRecorder):
    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        return self._call(self._insert(stored_events))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = 0 if start is None else start - inclusive_of_start
        found: list[Notification] = []
        size = PAGE_EVENTS_MAX if topics else min(limit, PAGE_EVENTS_MAX)
        while len(found) < limit and (page := self._call(self._store.read_all(after, size, until=stop))):
            after = page[-1].position
            for recorded in page:
                event = library_event(recorded)
                if not topics or event.topic in topics:
                    note = Notification(
                        event.originator_id, event.originator_version, event.topic, event.state, id=recorded.position
                    )
                    found.append(note)
        return found[:limit]

    def max_notification_id(self) -> int | None:
        return self._call(self._store.head()) or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        return PollingSubscription(self, gt, topics)


class PollingSubscription(Subscription[ApplicationRecorder]):
    """Reads on from the last position; positions have no gaps, so there is nothing else to it."""

    def __init__(self, recorder: ApplicationRecorder, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder, gt, topics)
        self._last = gt or 0
        self._topics_wanted = topics
        self._page: list[Notification] = []
        self._stop = threading.Event()

    def stop(self) -> None:
        super().stop()
        self._stop.set()

    def __next__(self) -> Notification:
        while not self._page:
            if self._stop.is_set():
                raise StopIteration
            self._page = list(
                self._recorder.select_notifications(
                    self._last, 100, topics=self._topics_wanted, inclusive_of_start=False
                )
            )
            if not self._page:
                self._stop.wait(POLL_S)
        if self._stop.is_set():
            raise StopIteration
        note = self._page.pop(0)
        self._last = note.id
        return note


def library_event(recorded: Recorded) -> LibraryEvent:
    assert isinstance(recorded.event, LibraryEvent)
    return recorded.event
