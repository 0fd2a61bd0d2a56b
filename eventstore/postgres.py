"""The event store on Postgres."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from domain.kernel import Stream
from eventstore import batch
from eventstore.database import API_ROLE, Connection, Pool, connect_pool
from eventstore.mapper import Mapper
from eventstore.port import PAGE_EVENTS_MAX, REPORTED_TYPES, Append, LogDamagedError, Meta, Outcome, Recorded
from eventstore.sql import load
from eventstore.writer import Writer, WriterStats

POOL_CONNECTIONS_MAX = 8
NAMES_MAX = 50_000  # stream names kept in memory
POSITION_MAX = 2**63 - 1

_META = msgspec.json.Decoder(Meta)


class PostgresStore:
    """Implements `eventstore.port.EventStore`.

    With role `crewkit_api` every read is bound to one organization by row-level security; `read_all` over all organizations
    needs role `crewkit_worker`.
    """

    def __init__(
        self,
        url: str,
        mapper: Mapper,
        *,
        role: str | None = API_ROLE,
        pool: Pool | None = None,
        on_commit: Callable[[int], object] | None = None,
        on_batch: Callable[[int, int, float], object] | None = None,
    ) -> None:
        """`pool` is used for reads, and must act as `role`; without it the store opens (and closes) one of its own.

        `on_commit(position)` is called after each commit, when the callers have been answered; `on_batch(appends, events,
        seconds)` for each batch.  Both are plain functions that return at once.
        """
        self.mapper = mapper
        self._url = url
        self._role = role
        self._pool = pool
        self._own_pool = pool is None
        self._writer = Writer(url, role, on_commit=on_commit, on_batch=on_batch)
        self._names: dict[UUID, Stream] = {}

    @property
    def stats(self) -> WriterStats:
        """Counters of the writer."""
        return self._writer.stats

    @property
    def queued(self) -> int:
        """Appends that wait for a batch."""
        return self._writer.queued

    @property
    def pool(self) -> Pool:
        """The connections reads use.

        Raises:
            RuntimeError: the store is not started.
        """
        if self._pool is None:
            raise RuntimeError("the event store is not started")
        return self._pool

    async def start(self) -> None:
        """Connect.

        Raises:
            OSError | asyncpg.PostgresError: the database cannot be reached or lacks the schema or role.
        """
        if self._pool is None:
            self._pool = await connect_pool(self._url, self._role, max_size=POOL_CONNECTIONS_MAX)
        try:
            await self._writer.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Settle what is queued and disconnect."""
        await self._writer.close()
        if self._own_pool and self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def append(self, wish: Append) -> Outcome:
        """See the port."""
        batch.check(wish)
        encoded = await self.mapper.encode(wish.org_id, [new.event for new in wish.events])
        return await self._writer.append(wish, encoded)

    async def read_all(
        self, after: int, limit: int = 1_000, *, org_id: UUID | None = None, until: int | None = None
    ) -> list[Recorded]:
        """See the port.

        Raises:
            PermissionError: all organizations were asked for with role `crewkit_api`.
        """
        if org_id is not None:
            last = POSITION_MAX if until is None else until
            return await self._read(org_id, "select_all_of_org", after, last, _page(limit), org_id)
        if self._role == API_ROLE:
            raise PermissionError("reading all organizations needs role crewkit_worker")
        size = _page(limit) if until is None else min(_page(limit), until - max(after, 0))
        return await self._read(None, "select_all", max(after, 0), size) if size > 0 else []

    async def read_stream(
        self, org_id: UUID, stream: Stream, *, after: int = 0, limit: int = 1_000, newest_first: bool = False
    ) -> list[Recorded]:
        """See the port."""
        name = "select_stream_newest_first" if newest_first else "select_stream"
        return await self._read(org_id, name, stream.uuid(org_id), after, _page(limit))

    async def head(self) -> int:
        """See the port."""
        return int(await self.pool.fetchval(load("select_head")))

    async def read_one(self, org_id: UUID, event_id: UUID) -> Recorded | None:
        """See the port."""
        found = await self._read(org_id, "select_one", event_id, org_id)
        return found[0] if found else None

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
        """See the port.  Times become positions first, so that every filter walks an index in order."""
        last = POSITION_MAX if until_position is None else until_position
        if since is not None:
            after = max(after, await self._position_before(since))
        if until is not None:
            last = min(last, await self.position_at(until))
        name = ("find" if stream is None else "find_in_stream") + ("_newest_first" if newest_first else "")
        of_stream = [] if stream is None else [stream.uuid(org_id)]
        decided = decided or (type is not None and type not in REPORTED_TYPES)
        return await self._read(org_id, name, org_id, after, last, type, actor, _page(limit), *of_stream, decided)

    async def position_at(self, moment: datetime) -> int:
        """See the port."""
        return int(await self.pool.fetchval(load("select_position_at"), moment))

    async def _position_before(self, moment: datetime) -> int:
        return int(await self.pool.fetchval(load("select_position_before"), moment))

    async def _read(self, org_id: UUID | None, name: str, *arguments: Any) -> list[Recorded]:
        async with self._reader(org_id) as connection:
            rows = await connection.fetch(load(name), *arguments)
            await self._learn_names(connection, rows)
        names, decode = self._names, self.mapper.decode
        return [
            Recorded(
                position=position,
                org_id=org,
                stream_id=stream_id,
                stream=names[stream_id],
                version=version,
                type=kind,
                event_id=event_id,
                recorded_at=recorded_at,
                data=data,
                meta=_META.decode(meta),
                event=decode(kind, data),
            )
            for position, org, stream_id, version, kind, event_id, recorded_at, data, meta in rows
        ]

    @asynccontextmanager
    async def _reader(self, org_id: UUID | None) -> AsyncGenerator[Connection, None]:
        async with self.pool.acquire() as connection:
            if org_id is None:
                yield connection
                return
            async with connection.transaction(readonly=True):
                await connection.execute(load("pin_reader"), str(org_id))
                yield connection

    async def _learn_names(self, connection: Connection, rows: Sequence[asyncpg.Record]) -> None:
        """Stream names never change, so most pages need no second query.

        Raises:
            LogDamagedError: an event's stream has no row.
        """
        needed = {row["stream_id"] for row in rows}
        if len(self._names) + len(needed) > NAMES_MAX:
            self._names = {stream_id: name for stream_id, name in self._names.items() if stream_id in needed}
        if unknown := [stream_id for stream_id in needed if stream_id not in self._names]:
            for stream_id, kind, ident in await connection.fetch(load("select_names"), unknown):
                self._names[stream_id] = Stream(kind, ident)
            for row in rows:
                if row["stream_id"] not in self._names:
                    raise LogDamagedError(row["position"], f"stream {row['stream_id']} has no row in crewkit.stream")


def _page(limit: int) -> int:
    if limit < 1:
        raise ValueError("limit: expected 1 or more")
    return min(limit, PAGE_EVENTS_MAX)
