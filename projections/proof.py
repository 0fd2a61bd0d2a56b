"""Proofs for readers: checkpoints, one event's inclusion, and an organization's whole history as a file that proves itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any
from uuid import UUID

import msgspec

from domain.kernel import Stream
from domain.proof.leaf import event_leaf, microseconds
from domain.proof.lines import FORMAT, End, Head, Shown, Skipped, write_line
from domain.proof.merkle import (
    Node,
    blocks,
    consistency_spans,
    inclusion_spans,
    leaf_hash,
    span_hash,
)
from domain.proof.note import Checkpoint, parse_note
from eventstore.database import Connection, Pool
from eventstore.proof import log_hashes, organization_hashes
from eventstore.sql import load

PAGE_EVENTS = 500
SHOWN_CHECKPOINTS = 64  # of those between the first and the last: enough for two exports to meet
INCLUDED_MAX = 100
LIST_MAX = 200

_CHECKPOINT = "SELECT number, size, sealed_at, public_key, note FROM crewkit.proof_checkpoint"
_OWN = """
SELECT ordinal, events, peaks FROM crewkit.proof_organization
 WHERE org_id = $1 AND number <= $2 ORDER BY number DESC LIMIT 1
"""


class NothingSealedError(LookupError):
    """No checkpoint covers an event of the organization yet: try again in some seconds."""


class NoSuchCheckpointError(LookupError):
    """There is no checkpoint of that number, or they do not follow each other as asked."""


class Sealed(msgspec.Struct, frozen=True):
    """A checkpoint: its parsed text, its signed note, the key that signed it."""

    checkpoint: Checkpoint
    note: str
    public_key: str


class Inclusion(msgspec.Struct, frozen=True, kw_only=True):
    """That one event is in the log: its leaf (hex), and the path (hex hashes) to the root of `sealed`."""

    position: int
    leaf: str
    path: list[str]
    sealed: Sealed


class Consistency(msgspec.Struct, frozen=True, kw_only=True):
    """That the log of `first` is the beginning of that of `second` (path in hex hashes)."""

    first: Sealed
    second: Sealed
    path: list[str]


async def checkpoints(pool: Pool, *, before: int | None = None, limit: int = 50) -> list[Sealed]:
    """The newest first; `before`: only with a lower number."""
    rows = await pool.fetch(
        f"{_CHECKPOINT} WHERE $1::bigint IS NULL OR number < $1 ORDER BY number DESC LIMIT $2",
        before,
        min(limit, LIST_MAX),
    )
    return [_sealed(row) for row in rows]


async def checkpoint(pool: Pool | Connection, number: int | None = None) -> Sealed | None:
    """One checkpoint, by default the newest."""
    row = await pool.fetchrow(
        f"{_CHECKPOINT} WHERE $1::bigint IS NULL OR number = $1 ORDER BY number DESC LIMIT 1",
        number,
    )
    return None if row is None else _sealed(row)


async def inclusion(pool: Pool, org_id: UUID, event_id: UUID) -> Inclusion | None:
    """The proof for one event of the organization; None: there is no such event.

    Raises:
        NothingSealedError: no checkpoint covers it yet.
    """
    async with _reader(pool, org_id) as connection:
        row = await connection.fetchrow(load("select_one"), event_id, org_id)
        if row is None:
            return None
        last = await checkpoint(connection)
        if last is None or last.checkpoint.size < row["position"]:
            raise NothingSealedError
        spans = inclusion_spans(row["position"] - 1, last.checkpoint.size)
        known = await log_hashes(connection, _nodes(spans))
    path = [span_hash(span, known.__getitem__).hex() for span in spans]
    return Inclusion(position=row["position"], leaf=_leaf(row).hex(), path=path, sealed=last)


async def consistency(pool: Pool, first: int, second: int) -> Consistency:
    """The proof that checkpoint `second` only added to `first`.

    Raises:
        NoSuchCheckpointError: one does not exist, or they are the wrong way round.
    """
    async with pool.acquire() as connection:
        one, two = await checkpoint(connection, first), await checkpoint(connection, second)
        if one is None or two is None or first > second:
            raise NoSuchCheckpointError
        spans = consistency_spans(one.checkpoint.size, two.checkpoint.size)
        known = await log_hashes(connection, _nodes(spans))
    return Consistency(first=one, second=two, path=[span_hash(span, known.__getitem__).hex() for span in spans])


class Export:
    """An export that is about to be written: everything that could refuse it has been looked at."""

    def __init__(self, pool: Pool, org_id: UUID, head: Head, end: End, marks: Sequence[int]) -> None:
        self.last = parse_note(head.checkpoints[-1])[0]
        self._pool = pool
        self._org_id = org_id
        self._head = head
        self._end = end
        self._marks = marks  # sizes of the checkpoints in it, rising
        self._names: dict[UUID, str] = {}

    async def chunks(self) -> AsyncIterator[bytes]:
        """The file, some hundred lines at a time."""
        yield write_line(self._head)
        at = after = self._head.start_size
        while True:
            async with _reader(self._pool, self._org_id) as connection:
                rows = await connection.fetch(
                    load("select_all_of_org"), after, self.last.size, PAGE_EVENTS, self._org_id
                )
                await self._learn(connection, rows)
                plan: list[tuple[int, list[Node]] | Any] = []
                for row in rows:
                    plan += self._gaps(at, row["position"] - 1)
                    plan.append(row)
                    at = after = row["position"]
                if len(rows) < PAGE_EVENTS:
                    plan += self._gaps(at, self.last.size)
                known = await log_hashes(
                    connection, [node for step in plan if isinstance(step, tuple) for node in step[1]]
                )
            yield b"".join(self._line(step, known) for step in plan)
            if len(rows) < PAGE_EVENTS:
                break
        yield write_line(self._end)

    def _gaps(self, at: int, until: int) -> Iterator[tuple[int, list[Node]]]:
        """What is skipped, cut where a checkpoint stands."""
        for mark in [*(mark for mark in self._marks if at < mark < until), until]:
            if mark > at:
                yield mark, list(blocks(at, mark))
                at = mark

    def _line(self, step: tuple[int, list[Node]] | Any, known: dict[Node, bytes]) -> bytes:
        if isinstance(step, tuple):
            until, nodes = step
            return write_line(Skipped(until=until, hashes=b"".join(known[node] for node in nodes)))
        return write_line(
            Shown(
                position=step["position"],
                stream=self._names[step["stream_id"]],
                version=step["version"],
                type=step["type"],
                event_id=step["event_id"],
                recorded_at=step["recorded_at"].astimezone(UTC),
                data=step["data"].decode(),
                meta=step["meta"].decode(),
                hash=leaf_hash(_leaf(step)),
            )
        )

    async def _learn(self, connection: Connection, rows: Sequence[Any]) -> None:
        """Names of the page's streams only: an export may be of any length."""
        self._names = {
            stream_id: str(Stream(kind, ident))
            for stream_id, kind, ident in await connection.fetch(
                load("select_names"), list({row["stream_id"] for row in rows})
            )
        }


async def open_export(
    pool: Pool, org_id: UUID, *, after: int = 0, until: int | None = None, include: Sequence[int] = ()
) -> Export:
    """Prepare the export of what happened after checkpoint `after` (0: everything) up to checkpoint `until` (the newest).

    Checkpoints of `include` are met on the way, so that somebody who knows one can compare it.

    Raises:
        NothingSealedError: nothing of the organization is sealed yet.
        NoSuchCheckpointError: a checkpoint that was named does not exist or lies outside.
    """
    async with _reader(pool, org_id) as connection:
        last = await checkpoint(connection, until)
        if last is None and until is None:
            raise NothingSealedError
        if last is None or not all(after <= number <= last.checkpoint.number for number in (after, *include)):
            raise NoSuchCheckpointError
        number = last.checkpoint.number
        own = await connection.fetchrow(_OWN, org_id, number)
        if own is None:
            raise NothingSealedError
        wanted = sorted({*include, number, *([after] if after else []), *_spread(after, number)})
        rows = await connection.fetch(f"{_CHECKPOINT} WHERE number = ANY ($1::bigint[]) ORDER BY number", wanted)
        if len(rows) != len(wanted):
            raise NoSuchCheckpointError
        start = rows[0]["size"] if after else 0
        begun = await connection.fetchrow(_OWN, org_id, after) if after else None
        peaks = list(blocks(0, start))
        known = await log_hashes(connection, peaks)
        head = Head(
            format=FORMAT,
            organization_id=org_id,
            checkpoints=[row["note"] for row in rows],
            keys=sorted({row["public_key"] for row in rows}),
            start_size=start,
            start_peaks=b"".join(known[node] for node in peaks),
            start_events=begun["events"] if begun else 0,
            start_organization_peaks=begun["peaks"] if begun else b"",
        )
        count = last.checkpoint.organizations
        spans = inclusion_spans(own["ordinal"], count)
        above = await organization_hashes(connection, _nodes(spans), number)
        path = b"".join(span_hash(span, above.__getitem__) for span in spans)
    end = End(events=own["events"], ordinal=own["ordinal"], path=path)
    return Export(pool, org_id, head, end, [row["size"] for row in rows])


def _spread(after: int, last: int) -> Iterable[int]:
    """Some checkpoints between the two."""
    step = max(1, (last - after) // SHOWN_CHECKPOINTS)
    return range(after + step, last, step)


@asynccontextmanager
async def _reader(pool: Pool, org_id: UUID) -> AsyncGenerator[Connection, None]:
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute(load("pin_reader"), str(org_id))
        yield connection


def _nodes(spans: Iterable[tuple[int, int]]) -> list[Node]:
    return [node for span in spans for node in blocks(*span)]


def _leaf(row: Any) -> bytes:
    return event_leaf(
        row["position"],
        row["org_id"],
        row["stream_id"],
        row["version"],
        row["type"],
        row["event_id"],
        microseconds(row["recorded_at"]),
        row["data"],
        row["meta"],
    )


def _sealed(row: Any) -> Sealed:
    return Sealed(parse_note(row["note"])[0], row["note"], row["public_key"])
