"""Write the items of a conversation to the object store, one generation after the other.

A generation's range is fixed by the event that starts it, its objects are named by the hash of what they hold, and the event
that completes it carries their manifest.  So whoever was killed in between writes the same objects again, and nobody else's
work is doubled or lost.  What is written is what the log holds, line by line: sealed text stays sealed.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import BinaryIO, TypeAlias, cast
from uuid import UUID

import msgspec

from commands.bus import PAGE_EVENTS, Principal, transact
from domain.kernel import DomainError, Stream
from domain.sessions import streaming
from domain.sessions.events import ChannelFact, ConsolidatedObject
from domain.sessions.reading.common import subagent_of
from domain.sessions.streaming import Consolidating, Consolidation, ConsolidationEvent, consolidation_stream
from eventstore.objects import ObjectRefusedError, Objects, ObjectsUnavailableError
from eventstore.port import EventStore, Meta, Recorded

Decision: TypeAlias = Callable[[Consolidation], list[ConsolidationEvent]]

READ_EVENTS = 200  # items read at once: each may hold 64 KiB of content
SUBAGENTS_MAX = (
    200  # subagents of one generation with an object of their own; items of others stay in the conversation's
)
IN_MEMORY_BYTES_MAX = 1024 * 1024  # of one object while it grows; more waits on disk
HASH_BYTES = 1024 * 1024
MAIN = "main"


class ArchivedItem(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an object: the item's envelope, and `data` as the log holds it."""

    position: int
    version: int
    event_id: UUID
    type: str
    recorded_at: datetime
    meta: Meta
    data: msgspec.Raw


class Unwritten(msgspec.Struct, frozen=True):
    """A generation that could not be written now.  `reason` as in the event that tells so."""

    reason: str
    message: str


def object_folder(org_id: UUID, llm_session_id: str) -> str:
    """Where the objects of a conversation stand; named by its stream's id, so whatever agents call sessions is a key."""
    return f"items/{org_id}/{Stream('LlmSession', llm_session_id).uuid(org_id)}"


async def begin_consolidation(
    store: EventStore, principal: Principal, llm_session_id: str, *, at: datetime
) -> Consolidation:
    """Start the next generation where one is due; how the conversation stands then.

    Raises:
        StreamMovedError: others kept changing it.
    """
    newest = await store.read_stream(principal.org_id, Stream("LlmSession", llm_session_id), limit=1, newest_first=True)
    last = newest[0].version if newest else 0
    await _transact(
        store,
        principal,
        llm_session_id,
        lambda state: streaming.start(state, llm_session_id=llm_session_id, last_version=last, at=at),
    )
    return await load_consolidation(store, principal.org_id, llm_session_id)


async def load_consolidation(store: EventStore, org_id: UUID, llm_session_id: str) -> Consolidation:
    """How far the items of a conversation are consolidated."""
    state, version = streaming.INITIAL, 0
    while page := await store.read_stream(
        org_id, consolidation_stream(llm_session_id), after=version, limit=PAGE_EVENTS
    ):
        for recorded in page:
            state = streaming.evolve(state, recorded.event)
        version = page[-1].version
    return state


async def consolidate_session(
    store: EventStore, objects: Objects, principal: Principal, llm_session_id: str, *, at: datetime
) -> int | Unwritten:
    """Write the generation under way, where it is due at `at`, and say so; the number of items, 0 where nothing was due.

    Raises:
        StoreUnavailableError: the log could not take the event; the next call writes the same objects and tells of them.
    """
    state = await load_consolidation(store, principal.org_id, llm_session_id)
    if not isinstance(state, Consolidating) or (state.due_at is not None and state.due_at > at):
        return 0
    try:
        written, positions = await _write(store, objects, principal.org_id, llm_session_id, state)
    except (ObjectsUnavailableError, ObjectRefusedError) as error:
        reason = "refused" if isinstance(error, ObjectRefusedError) else "unavailable"
        await _failed(store, principal, llm_session_id, state, reason, at)
        return Unwritten(reason, str(error))
    await _transact(
        store,
        principal,
        llm_session_id,
        lambda now: streaming.complete(
            now,
            llm_session_id=llm_session_id,
            generation=state.generation,
            from_position=positions[0],
            to_position=positions[1],
            objects=written,
            at=at,
        ),
    )
    return sum(one.items for one in written)


async def note_defect(store: EventStore, principal: Principal, llm_session_id: str, *, at: datetime) -> None:
    """Tell that the generation under way failed by a defect of ours, so that it waits before it is tried again."""
    state = await load_consolidation(store, principal.org_id, llm_session_id)
    if isinstance(state, Consolidating):
        await _failed(store, principal, llm_session_id, state, "defect", at)


async def _failed(
    store: EventStore, principal: Principal, llm_session_id: str, state: Consolidating, reason: str, at: datetime
) -> None:
    await _transact(
        store,
        principal,
        llm_session_id,
        lambda now: streaming.fail(
            now, llm_session_id=llm_session_id, generation=state.generation, reason=reason, at=at
        ),
    )


async def _transact(store: EventStore, principal: Principal, llm_session_id: str, decide: Decision) -> None:
    await transact(
        store,
        principal.org_id,
        consolidation_stream(llm_session_id),
        streaming.evolve,
        streaming.INITIAL,
        decide,
        meta=principal.meta(),
    )


async def _write(
    store: EventStore, objects: Objects, org_id: UUID, llm_session_id: str, state: Consolidating
) -> tuple[list[ConsolidatedObject], tuple[int, int]]:
    """Store the generation's objects; their manifest, and the first and last position of its range."""
    folder = object_folder(org_id, llm_session_id)
    growing: dict[str | None, _Growing] = {}
    first = last = 0
    try:
        version = state.after
        while version < state.upto:
            page = await store.read_stream(
                org_id,
                Stream("LlmSession", llm_session_id),
                after=version,
                limit=min(READ_EVENTS, state.upto - version),
            )
            if not page:
                raise MissingItemsError(f"the stream of {llm_session_id} ends at {version}, not at {state.upto}")
            await asyncio.to_thread(_sort_in, growing, page)
            first, last, version = first or page[0].position, page[-1].position, page[-1].version
        written: list[ConsolidatedObject] = []
        for number, (subagent_id, one) in enumerate(sorted(growing.items(), key=lambda item: item[0] or "")):
            written.append(await one.store(objects, f"{folder}/{state.generation:06d}", number, subagent_id))
    finally:
        for one in growing.values():
            one.close()
    return written, (first, last)


class MissingItemsError(DomainError):
    """The range of a generation is not in the log: somebody took events away."""

    code = "conflict"


def _sort_in(growing: dict[str | None, _Growing], page: Sequence[Recorded]) -> None:
    for recorded in page:
        if not isinstance(recorded.event, ChannelFact):
            continue
        subagent_id = subagent_of(recorded.event)
        if subagent_id not in growing and len(growing) > SUBAGENTS_MAX:
            subagent_id = None
        if subagent_id not in growing:
            growing[subagent_id] = _Growing()
        growing[subagent_id].add(recorded)


class _Growing:
    """One object while its lines are collected: compressed into memory, then into a file of its own."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES_MAX)  # noqa: SIM115  `close` closes it
        # The same lines give the same bytes: no name, no time.
        self._zip = gzip.GzipFile(filename="", mode="wb", fileobj=cast("BinaryIO", self._file), mtime=0)
        self._lines = hashlib.sha256()
        self._encode = msgspec.json.Encoder().encode
        self._items = 0
        self._first = 0
        self._last = 0

    def add(self, recorded: Recorded) -> None:
        """Append one line."""
        line = self._encode(
            ArchivedItem(
                position=recorded.position,
                version=recorded.version,
                event_id=recorded.event_id,
                type=recorded.type,
                recorded_at=recorded.recorded_at,
                meta=recorded.meta,
                data=msgspec.Raw(recorded.data),
            )
        )
        for part in (line, b"\n"):
            self._zip.write(part)
            self._lines.update(part)
        self._items += 1
        self._first = self._first or recorded.position
        self._last = recorded.position

    async def store(self, objects: Objects, start: str, number: int, subagent_id: str | None) -> ConsolidatedObject:
        """Put the object away; its entry in the manifest."""
        size, sha256 = await asyncio.to_thread(self._finish)
        lines = self._lines.hexdigest()
        # A subagent is told by its number: what agents call subagents may be no key.
        key = f"{start}-{MAIN if subagent_id is None else f'subagent-{number}'}-{lines}.jsonl.gz"
        await objects.put(key, cast("BinaryIO", self._file))
        return ConsolidatedObject(
            key=key,
            subagent_id=subagent_id,
            items=self._items,
            bytes=size,
            sha256=sha256,
            lines_sha256=lines,
            from_position=self._first,
            to_position=self._last,
        )

    def close(self) -> None:
        """Let go of the bytes."""
        self._zip.close()
        self._file.close()

    def _finish(self) -> tuple[int, str]:
        self._zip.close()
        size = self._file.tell()
        self._file.seek(0)
        digest = hashlib.sha256()
        while chunk := self._file.read(HASH_BYTES):
            digest.update(chunk)
        self._file.seek(0)
        return size, digest.hexdigest()
