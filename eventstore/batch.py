"""Batches: which waiting appends may go together, what is sent for them, and what each of them is told.  No I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from eventstore.ids import uuid7
from eventstore.port import BATCH_EVENTS_MAX, Append, AppendRefusedError, Claim, Outcome, Status

COMMANDS_MAX = 512  # appends in one batch
BYTES_MAX = 1024 * 1024  # of events in one batch; a single larger append goes alone
DEFERRED_MAX = 512  # appends passed over while one batch is put together
EVENT_BYTES_EXTRA = 100  # an event's ids, type and numbers

_META = msgspec.json.Encoder()
_STATES = (Status.OK, Status.DUPLICATE, Status.CONFLICT, Status.TAKEN)
_MISUSED = 4


def check(wish: Append) -> None:
    """Refuse what no store may take.

    Raises:
        ValueError: no events, too many, or facts with an expected version.
    """
    if not wish.events:
        raise ValueError("an append needs at least one event")
    if len(wish.events) > BATCH_EVENTS_MAX:
        raise ValueError(f"an append takes at most {BATCH_EVENTS_MAX} events, got {len(wish.events)}")
    if wish.facts and wish.expected is not None:
        raise ValueError("facts are appended without an expected version")
    if wish.expected is not None and wish.expected < 0:
        raise ValueError("an expected version is 0 or more")


def misused(wish: Append) -> AppendRefusedError:
    """The refusal for a command id that was used for another stream."""
    return AppendRefusedError(f"the command id was already used for another stream than {wish.stream.kind}")


class Item:
    """One waiting append: its wish, its encoded events, and the future its caller awaits."""

    __slots__ = ("data", "deadline", "event_ids", "future", "meta", "size", "stream_id", "types", "uncertain", "wish")

    def __init__(
        self, wish: Append, encoded: Sequence[tuple[str, bytes]], future: asyncio.Future[Outcome], deadline: float
    ) -> None:
        self.wish = wish
        self.stream_id = wish.stream.uuid(wish.org_id)
        self.types = [kind for kind, _ in encoded]
        self.data = [data for _, data in encoded]
        self.event_ids = [new.event_id or uuid7() for new in wish.events]
        meta = wish.meta
        if wish.command_id is not None and meta.command_id is None:
            meta = msgspec.structs.replace(meta, command_id=wish.command_id)
        self.meta = _META.encode(meta)
        self.size = sum(map(len, self.data)) + len(encoded) * (len(self.meta) + EVENT_BYTES_EXTRA)
        self.future = future
        self.deadline = deadline  # event loop time after which the append is given up
        self.uncertain = False  # sent at least once without an answer

    @property
    def mergeable(self) -> bool:
        """Plain facts of one stream can share a slot."""
        wish = self.wish
        return wish.facts and wish.command_id is None and not wish.claims and not wish.releases


class Slot:
    """What is sent for one stream: one append, or several that tell plain facts."""

    __slots__ = ("events", "items", "places", "seen")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.events: list[tuple[Item, int]] = []  # distinct events, in order
        self.places: list[list[int]] = []  # per item, per event: index into `events`; a repeat within the batch is -1
        self.seen: set[int] = set()  # ids as integers: hashing a UUID object runs Python code

    def add(self, item: Item) -> None:
        """Take the item's events, facts only once."""
        places: list[int] = []
        facts = item.wish.facts
        for index, event_id in enumerate(item.event_ids):
            number = event_id.int
            if facts and number in self.seen:
                places.append(-1)
                continue
            self.seen.add(number)
            places.append(len(self.events))
            self.events.append((item, index))
        self.items.append(item)
        self.places.append(places)


def take(queue: deque[Item]) -> list[Item]:
    """Remove from the queue what fits into one batch, oldest first; appends to one stream keep their order."""
    taken: list[Item] = []
    deferred: list[Item] = []
    streams: dict[UUID, bool] = {}  # taken or passed over; True: more plain facts may join
    keys: set[tuple[Any, ...]] = set()
    size = events = 0
    while queue and len(taken) < COMMANDS_MAX and len(deferred) < DEFERRED_MAX:
        item = queue[0]
        if taken and (size + item.size > BYTES_MAX or events + len(item.data) > BATCH_EVENTS_MAX):
            break
        queue.popleft()
        if item.future.done():  # its caller stopped waiting before anything was sent
            continue
        wanted = _exclusive(item)
        joins = streams.get(item.stream_id, True) if item.mergeable else item.stream_id not in streams
        if not joins or not keys.isdisjoint(wanted):
            deferred.append(item)
            streams[item.stream_id] = False
            continue
        streams[item.stream_id] = item.mergeable
        keys.update(wanted)
        taken.append(item)
        size += item.size
        events += len(item.data)
    queue.extendleft(reversed(deferred))
    return taken


def _exclusive(item: Item) -> list[tuple[Any, ...]]:
    """What only one append of a batch may use: its command id, and the names it claims or releases."""
    wish = item.wish
    keys: list[tuple[Any, ...]] = [(claim.scope, claim.key) for claim in (*wish.claims, *wish.releases)]
    if wish.command_id is not None:
        keys.append((wish.org_id, wish.command_id, None))
    return keys


def arrange(items: Sequence[Item]) -> list[Slot]:
    """Slots for items that `take` found compatible (or for any part of them)."""
    slots: dict[UUID, Slot] = {}
    for item in items:
        slots.setdefault(item.stream_id, Slot()).add(item)
    return list(slots.values())


def arguments(slots: Sequence[Slot]) -> tuple[list[Any], ...]:
    """The 19 arrays of `crewkit.append`."""
    firsts = [slot.items[0] for slot in slots]
    wishes = [item.wish for item in firsts]
    rows = [(number, item, index) for number, slot in enumerate(slots, 1) for item, index in slot.events]
    claims = _names([wish.claims for wish in wishes])
    releases = _names([wish.releases for wish in wishes])
    return (
        [wish.org_id for wish in wishes],
        [item.stream_id for item in firsts],
        [wish.stream.kind for wish in wishes],
        [wish.stream.id for wish in wishes],
        [-1 if wish.expected is None else wish.expected for wish in wishes],
        [wish.facts for wish in wishes],
        [len(slot.events) for slot in slots],
        [wish.command_id for wish in wishes],
        [number for number, _, _ in rows],
        [item.event_ids[index] for _, item, index in rows],
        [item.types[index] for _, item, index in rows],
        [item.data[index] for _, item, index in rows],
        [item.meta for _, item, _ in rows],
        *claims,
        *releases,
    )


def _names(per_slot: Sequence[Sequence[Claim]]) -> tuple[list[int], list[str], list[str]]:
    names = [(number, claim) for number, claims in enumerate(per_slot, 1) for claim in claims]
    return [n for n, _ in names], [claim.scope for _, claim in names], [claim.key for _, claim in names]


def answers(slots: Sequence[Slot], rows: Sequence[Any]) -> list[tuple[Item, Outcome | AppendRefusedError]]:
    """What each append is told.  `rows` are the answer of `crewkit.append`: (state, version, last, gone)."""
    known = {index - 1 for index in rows[0][3] or ()}
    told: list[tuple[Item, Outcome | AppendRefusedError]] = []
    start = 0
    for slot, (state, version, last, _) in zip(slots, rows, strict=True):
        if state == _MISUSED:
            told.append((slot.items[0], misused(slot.items[0].wish)))
        elif state != 0 or not slot.items[0].wish.facts:
            told.append((slot.items[0], Outcome(_STATES[state], version, last)))
        else:
            gone = {index - start for index in known if start <= index < start + len(slot.events)} if known else known
            told += _tell_facts(slot, version, last, gone)
        start += len(slot.events)
    return told


def _tell_facts(slot: Slot, version: int, last: int, gone: set[int]) -> list[tuple[Item, Outcome]]:
    """`version` and `last` are the stream's after the whole slot; each append is told its own last event's."""
    ranks: list[int] = []  # of each event among the stored ones, from 1
    rank = 0
    for index in range(len(slot.events)):
        rank += index not in gone
        ranks.append(rank)
    told: list[tuple[Item, Outcome]] = []
    for item, places in zip(slot.items, slot.places, strict=True):
        duplicates = tuple(i for i, place in enumerate(places) if place < 0 or place in gone)
        if duplicates:  # what it repeats may have come with any append of the slot
            told.append((item, Outcome(Status.OK, version, last, duplicates)))
        else:
            behind = rank - ranks[places[-1]]
            told.append((item, Outcome(Status.OK, version - behind, last - behind)))
    return told
