"""A small projection and a log to fold it from, shared by the tests of the workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec

from domain.kernel import Stream, fact_id
from domain.sessions.events import SessionEnded, SessionStarted
from eventstore.database import WORKER_ROLE, connect_pool
from eventstore.mapper import Mapper
from eventstore.port import Append, NewEvent, Recorded
from eventstore.postgres import PostgresStore
from eventstore.sealing import MemoryKeyRing
from eventstore.settings import Settings
from projections.base import Projection, Rows, Table
from workers.blocks import Names

ORG = UUID("11111111-1111-4111-8111-111111111111")
PERSON = UUID("22222222-2222-4222-8222-222222222222")
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
WAIT_S = 60.0


class TallyRow(msgspec.Struct, kw_only=True):
    """What happened to one session; `path` is the sum of position times position, so order and repeats show."""

    org_id: UUID
    session_id: str
    events: int = 0
    path: int = 0
    kinds: list[str] = []
    seen: dict[str, int] = {}
    last_at: datetime | None = None


TALLY = Table("tally", TallyRow, ("org_id", "session_id"))
DDL = """
CREATE TABLE crewkit.tally__g{g} (
    org_id uuid NOT NULL, session_id text NOT NULL, events integer NOT NULL, path numeric NOT NULL,
    kinds text[] NOT NULL, seen jsonb NOT NULL DEFAULT '{}', last_at timestamptz,
    PRIMARY KEY (org_id, session_id)
);
"""


def tally_fold(rows: Rows, recorded: Recorded) -> None:
    """Count.  Folding an event twice, or out of order, gives another row: the runtime must not do that."""
    event = recorded.event
    row = rows.get(TALLY, (recorded.org_id, recorded.stream.id))
    if row is None:
        row = TallyRow(org_id=recorded.org_id, session_id=recorded.stream.id)
    row.events += 1
    row.path = (row.path * 31 + recorded.position) % (10**30)
    if isinstance(event, SessionStarted):
        row.kinds = [*row.kinds[-4:], event.kind]
    row.seen = row.seen | {recorded.type: row.seen.get(recorded.type, 0) + 1}
    row.last_at = recorded.recorded_at
    rows.put(TALLY, row)


def tally(
    name: str = "tally",
    version: int = 1,
    fold: Callable[[Rows, Recorded], None] = tally_fold,
    ddl: str = DDL,
) -> Projection:
    """A fresh projection object."""
    return Projection(
        name,
        version,
        tables=(TALLY,),
        ddl=ddl,
        touches=lambda recorded: [(TALLY, (recorded.org_id, recorded.stream.id))],
        fold=fold,
        notice=lambda recorded: {"session": recorded.stream.id},
    )


def settings_for(postgres_url: str, nats_url: str, folder: Path) -> Settings:
    """Settings of a worker in a test."""
    return Settings(
        database_url=postgres_url, nats_url=nats_url, data_dir=str(folder), key_file=str(folder / "master.key")
    )


def fresh_names() -> Names:
    """Stream and subjects nobody else uses on the shared NATS server."""
    mark = uuid4().hex[:12]
    return Names(
        stream=f"T{mark}",
        events=f"t{mark}.events",
        poke=f"t{mark}.poke",
        notices=f"t{mark}.notices",
        bytes_max=32 * 1024 * 1024,
    )


class Log:
    """A log to append to and to look at."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store

    async def add(self, count: int, *, sessions: int = 7, kind: str = "cli") -> int:
        """Append `count` facts spread over `sessions` streams; the head afterwards."""
        start = await self.store.head()
        wishes: list[Append] = []
        for n in range(sessions):
            stream = Stream("Session", f"s{n}")
            events = [
                NewEvent(
                    SessionStarted(session_id=f"s{n}", kind=kind, person_id=PERSON, started_at=AT),
                    fact_id(stream.uuid(ORG), f"{start}:{i}"),
                )
                for i in range(n, count, sessions)
            ]
            wishes += [
                Append(org_id=ORG, stream=stream, events=events[k : k + 500], facts=True)
                for k in range(0, len(events), 500)
            ]
        await asyncio.gather(*(self.store.append(wish) for wish in wishes))
        return await self.store.head()

    async def end(self, session: str) -> int:
        """Append one event of another type; its position."""
        stream = Stream("Session", session)
        event = NewEvent(SessionEnded(session_id=session, outcome="completed", ended_at=AT))
        return (await self.store.append(Append(org_id=ORG, stream=stream, events=[event], facts=True))).position

    async def alien(self) -> int:
        """Append an event of a type this program does not know, as a newer one would; its position."""
        head = await self.store.head()
        stream = Stream("Session", "alien")
        await self.store.pool.execute(
            """SELECT * FROM crewkit.append(ARRAY[$1::uuid], ARRAY[$2::uuid], ARRAY['Session'], ARRAY['alien'],
                 ARRAY[-1::bigint], ARRAY[true], ARRAY[1], ARRAY[NULL::text], ARRAY[1], ARRAY[$3::uuid],
                 ARRAY['session.teleported.v9'], ARRAY['{"type":"session.teleported.v9"}'::json], ARRAY['{}'::json],
                 '{}', '{}', '{}', '{}', '{}', '{}')""",
            ORG,
            stream.uuid(ORG),
            uuid4(),
        )
        return head + 1

    async def folded(self, *, without: Iterable[int] = ()) -> list[TallyRow]:
        """An independent fold of the whole log, event by event."""
        rows, left_out, after = Rows(), set(without), 0
        while page := await self.store.read_all(after, 1_000):
            for recorded in page:
                if recorded.position not in left_out:
                    tally_fold(rows, recorded)
            after = page[-1].position
        return sorted(rows.all(TALLY), key=lambda row: row.session_id)

    async def stored(self, view: str = "tally") -> list[TallyRow]:
        """What readers see."""
        records = await self.store.pool.fetch(f"SELECT * FROM crewkit.{view} ORDER BY session_id")
        return [
            TallyRow(
                **{
                    **dict(record),
                    "seen": msgspec.json.decode(record["seen"]),
                    "path": int(record["path"]),
                }
            )
            for record in records
        ]

    async def checkpoint(self, projection: str = "tally") -> asyncpg.Record:
        """The checkpoint of the generation that is read."""
        record = await self.store.pool.fetchrow(
            """SELECT c.* FROM crewkit.checkpoint c JOIN crewkit.projection p
                   ON p.name = c.projection AND p.active_generation = c.generation WHERE c.projection = $1""",
            projection,
        )
        return record or {"position": -1, "status": "absent", "generation": 0, "error": None, "failed_position": None}

    async def reached(self, position: int, projection: str = "tally") -> None:
        """Wait until the projection has passed `position`."""
        await until(lambda: self._at_least(position, projection))

    async def _at_least(self, position: int, projection: str) -> bool:
        return (await self.checkpoint(projection))["position"] >= position

    async def has_status(self, status: str, projection: str = "tally") -> None:
        """Wait until the projection's status is `status`."""

        async def holds() -> bool:
            return (await self.checkpoint(projection))["status"] == status

        await until(holds)

    async def relayed(self, position: int) -> None:
        """Wait until the relay has passed `position`."""

        async def holds() -> bool:
            return await self.store.pool.fetchval("SELECT position FROM crewkit.relay") >= position

        await until(holds)


_DAMAGES = {"event": "position = $1", "stream": "stream_id = (SELECT stream_id FROM crewkit.event WHERE position = $1)"}


async def damage(postgres_url: str, position: int, table: str) -> Callable[[], Awaitable[None]]:
    """Remove the event at `position` (`table` "event"), or its stream's row ("stream"), past all triggers; what mends it."""

    async def as_superuser(*statements: str) -> None:
        connection = await asyncpg.connect(postgres_url, server_settings={"session_replication_role": "replica"})
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    rows = f"FROM crewkit.{table} WHERE {_DAMAGES[table].replace('$1', str(position))}"
    await as_superuser(f"CREATE TABLE public.removed AS SELECT * {rows}", f"DELETE {rows}")
    return lambda: as_superuser(f"INSERT INTO crewkit.{table} SELECT * FROM public.removed")


@asynccontextmanager
async def open_log(postgres_url: str) -> AsyncIterator[Log]:
    """A started store on the database."""
    pool = await connect_pool(postgres_url, WORKER_ROLE, max_size=4)
    store = PostgresStore(postgres_url, Mapper(MemoryKeyRing()), role=WORKER_ROLE, pool=pool)
    await store.start()
    try:
        yield Log(store)
    finally:
        await store.close()
        await pool.close()


async def until(condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Wait until `condition()` holds; fails after `WAIT_S`."""
    deadline = time.monotonic() + WAIT_S
    while not await condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(*works: Coroutine[Any, Any, None]) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
    """Run workers beside the test and stop them as a supervisor would; a worker that ends by itself fails the test."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield tasks
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
