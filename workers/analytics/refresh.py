"""From the sessions read model into the file: what a run of events touched, or everything into a new file.

Events say which rows may have changed; the rows are read in the snapshot that also tells how far the read model is, and are
written with that position.  Rows and checkpoint therefore agree, and no second fold can drift away from the session's page.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import structlog

from domain.kernel import tag_of
from domain.organizations.events import OrganizationPurged
from eventstore.database import Connection, Pool
from projections.analytics import changes, facts
from projections.analytics.changes import Touched
from projections.coaching import Coaching, coaching_of
from projections.sessions import PROJECTION
from workers.analytics.file import AnalyticsFile, Batch, Stand
from workers.log import Broken, Decoder, Items, LogReader, Reads
from workers.projector.control import RUNNING, Standing, standing

log = structlog.get_logger("analytics")

EVENTS_MAX = 50_000  # whose rows one transaction takes
PAGE_EVENTS = 5_000
SESSIONS_PER_PAGE = 4_000  # of a rebuild
PARTS = 4  # files that DuckDB reads side by side
IDS_PER_QUERY_MAX = 1_000  # sessions whose rows are made at once

T = TypeVar("T")
# The scheduler removes a purged organization's rows after the fact: a rebuild meanwhile must not take them in.
_ORGANIZATIONS = (
    "SELECT DISTINCT s.org_id FROM crewkit.session s WHERE NOT EXISTS (SELECT FROM crewkit.event e"
    " WHERE e.org_id = s.org_id AND e.type = $1 AND e.position <= $2) ORDER BY s.org_id"
)
# The directory keeps a row of purged organizations too, so that their slug is not given to another.
_DIRECTORY = "SELECT org_id, slug, name FROM crewkit.organization WHERE deleted_at IS NULL"
OTHERS = ("contracts", "coaching", "directory")  # the other read models that rows are made of
_OTHERS = (
    "SELECT min(c.position) FROM crewkit.checkpoint c JOIN crewkit.projection p"
    " ON p.name = c.projection AND p.active_generation = c.generation WHERE p.name = ANY ($1::text[])"
)
_DISCOUNTS = (
    "SELECT org_id, discount_id, pattern, basis_points, valid_from, valid_until FROM crewkit.contract_discount"
    " WHERE removed_at IS NULL"
)


class Known(msgspec.Struct, frozen=True):
    """What has to be known about an organization's people: whose ids must not be kept, and who was coached when."""

    erased: frozenset[UUID]
    coaching: Coaching


class MovedError(Exception):
    """The read model became another one while it was read: start over."""


class NotReadyError(Exception):
    """There is no sessions read model to read yet."""


class Refresher:
    """Brings one file forward.  `writing` is the thread that the file belongs to."""

    def __init__(self, pool: Pool, decoder: Decoder, writing: ThreadPoolExecutor, scratch: Path) -> None:
        self._pool = pool
        self._decoder = decoder
        self._reads = Reads(frozenset({*(PROJECTION.reads or ()), OrganizationPurged}), decoder)
        self._writing = writing
        self._scratch = scratch

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, work, *args)

    @asynccontextmanager
    async def _snapshot(self) -> AsyncGenerator[tuple[Connection, Standing]]:
        """A view of the database that stands still, and where the read model is in it."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            found = await standing(connection, PROJECTION.name)
            if found is None:
                raise NotReadyError
            yield connection, found

    async def _check(self, found: Standing) -> None:
        """Views follow the active generation at once, whatever a snapshot says: rows are good only if it is still that one.

        Raises:
            MovedError: it is another one.
        """
        now = await standing(self._pool, PROJECTION.name)
        if now is None or now.generation != found.generation:
            raise MovedError

    async def step(self, file: AnalyticsFile, stand: Stand) -> tuple[Stand, int]:
        """Write what happened after `stand`; the new stand and how many rows were written.

        Raises:
            MovedError: the rows of the file belong to another generation: rebuild.
            NotReadyError: there is no read model.
        """
        async with self._snapshot() as (connection, found):
            if found.generation != stand.generation or found.version != stand.sessions_version:
                raise MovedError
            if found.position <= stand.position:
                return stand, 0
            until = min(await _passed(connection, found.position), stand.position + EVENTS_MAX)
            if until <= stand.position:
                return stand, 0
            touched = await self._touched(connection, stand.position, until)
            with _folder(self._scratch) as folder:
                batch = Batch(folder, msgspec.structs.replace(stand, position=until))
                for org_id, mine in touched.items():
                    await self._gather(connection, file, batch, org_id, mine)
                batch.dimensions = await _dimensions(connection)
                await self._check(found)
                written = await self._in_thread(file.write, batch)
        return batch.stand, written

    async def _touched(self, connection: Connection, after: int, until: int) -> dict[UUID, Touched]:
        reader, found = LogReader(connection), dict[UUID, Touched]()
        while after < until:
            page = await reader.page(after, min(PAGE_EVENTS, until - after))
            items = Items(page, self._decoder)
            for item in items.wanted(0, len(page.data), self._reads):
                if isinstance(item, Broken):
                    raise RuntimeError(f"position {item.position}: {item.error}")  # noqa: TRY004
                changes.note(found, item, PROJECTION.touches)
            if page.last <= after:
                raise RuntimeError(f"position {after + 1} is missing from the log")
            after = page.last
            await asyncio.sleep(0)
        return found

    async def _gather(
        self, connection: Connection, file: AnalyticsFile, batch: Batch, org_id: UUID, mine: Touched
    ) -> None:
        """Put the rows of what was touched into the batch's folder."""
        if mine.purged:
            batch.purged.append(org_id)
            return
        calls = set(mine.calls)
        if mine.messages:
            calls.update(await self._in_thread(file.repeats, org_id, sorted(mine.messages)))
        wanted = sorted(calls)
        llms = set(mine.llm_sessions)
        if wanted:
            llms.update(await self._in_thread(file.owners, org_id, wanted))
            await _copy(connection, batch.path("calls"), changes.CALLS, org_id, wanted)
        await _copy(connection, batch.path("calls"), changes.STAND_INS, org_id, sorted(llms), wanted)
        for name, sql, pairs in (
            ("tools", changes.TOOLS, sorted(mine.tools)),
            ("prompts", changes.PROMPTS, sorted(mine.prompts)),
        ):
            if pairs:
                await _copy(connection, batch.path(name), sql, org_id, [a for a, _ in pairs], [b for _, b in pairs])
        sessions = set(mine.sessions)
        sessions.update(record[0] for record in await connection.fetch(facts.OWNERS, org_id, sorted(llms)))
        known = await _known(connection, org_id)
        ids = sorted(sessions)
        for start in range(0, len(ids), IDS_PER_QUERY_MAX):
            llms.update(await self._sessions(connection, batch, org_id, ids[start : start + IDS_PER_QUERY_MAX], known))
        batch.sessions[org_id] = ids
        batch.llm_sessions[org_id] = sorted(llms)
        if mine.erased:
            batch.erased[org_id] = sorted(mine.erased)

    async def _sessions(
        self, connection: Connection, batch: Batch, org_id: UUID, ids: Sequence[str], known: Known
    ) -> list[str]:
        """Sessions, their conversations and subagents, and the usage of these; the ids of the conversations."""
        rows = await facts.rows_of(connection, org_id, ids, known.erased, known.coaching)
        for name, found in (
            ("sessions", rows.sessions),
            ("llm_sessions", rows.llm_sessions),
            ("subagents", rows.subagents),
        ):
            if found:
                _append(batch.path(name), found)
        if rows.llm_session_ids:
            await _copy(connection, batch.path("usage"), changes.USAGE, org_id, rows.llm_session_ids)
        return rows.llm_session_ids

    async def rebuild(self, file: AnalyticsFile) -> Stand:
        """Fill an empty file with everything, in one snapshot.

        Raises:
            MovedError: the read model became another one meanwhile; the file is of no use.
            NotReadyError: there is no read model.
        """
        started_s, total = time.monotonic(), 0
        await self._in_thread(file.create)
        async with self._snapshot() as (connection, found):
            stand = Stand(found.version, found.generation, found.position)
            writing: asyncio.Future[int] | None = None
            loop = asyncio.get_running_loop()
            for record in await connection.fetch(_ORGANIZATIONS, tag_of(OrganizationPurged), found.position):
                org_id: UUID = record[0]
                known = await _known(connection, org_id)
                after = ""
                while page := await connection.fetch(facts.SESSION_PAGE, org_id, after, SESSIONS_PER_PAGE):
                    ids = [row[0] for row in page]
                    after = ids[-1]
                    folder = Path(tempfile.mkdtemp(dir=self._scratch))
                    try:
                        batch = Batch(folder, stand, fresh=True)
                        batch.llm_sessions[org_id] = await self._page(connection, batch, org_id, ids, known)
                        if writing is not None:
                            total += await writing
                    except BaseException:
                        shutil.rmtree(folder, ignore_errors=True)
                        raise
                    # While DuckDB takes this page in, Postgres is asked for the next one.
                    writing = loop.run_in_executor(self._writing, _write_page, file, batch)
            if writing is not None:
                total += await writing
            batch = Batch(
                self._scratch / "nothing", stand, fresh=True, whole=True, dimensions=await _dimensions(connection)
            )
            await self._check(found)
            await self._in_thread(file.write, batch)
        log.info(
            "analytics.rebuilt", position=stand.position, rows=total, seconds=round(time.monotonic() - started_s, 1)
        )
        return stand

    async def _page(
        self, connection: Connection, batch: Batch, org_id: UUID, ids: Sequence[str], known: Known
    ) -> list[str]:
        llms = await self._sessions(connection, batch, org_id, ids, known)
        if llms:
            for part in range(PARTS):
                await _copy(connection, batch.path(f"calls.{part}"), changes.CALLS_OF, org_id, llms[part::PARTS])
            await _copy(connection, batch.path("tools"), changes.TOOLS_OF, org_id, llms)
            await _copy(connection, batch.path("prompts"), changes.PROMPTS_OF, org_id, llms)
        return llms


async def is_empty(pool: Pool) -> bool:
    """Whether the read model has no session at all."""
    return not await pool.fetchval("SELECT EXISTS (SELECT FROM crewkit.session)")


def is_current(found: Standing | None, stand: Stand | None) -> bool:
    """Whether rows of `stand` can be brought forward: the read model is still that one, and runs."""
    return (
        found is not None
        and stand is not None
        and (found.version, found.generation) == (stand.sessions_version, stand.generation)
        and (found.status == RUNNING or found.position >= stand.position)
    )


def _write_page(file: AnalyticsFile, batch: Batch) -> int:
    try:
        return file.write(batch)
    finally:
        shutil.rmtree(batch.folder, ignore_errors=True)


class _folder:  # noqa: N801  used like a function
    """A folder that is gone afterwards."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._path: Path | None = None

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(dir=self._parent))
        return self._path

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)


def _append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    encode = msgspec.json.encode
    with path.open("ab") as file:
        file.writelines(encode(row) + b"\n" for row in rows)


async def _copy(connection: Connection, path: Path, sql: str, *values: Any) -> None:
    """Append the rows of a query to a CSV file."""
    with path.open("ab") as file:
        await connection.copy_from_query(sql, *values, output=file, format="csv")


async def _known(connection: Connection, org_id: UUID) -> Known:
    erased = frozenset(record[0] for record in await connection.fetch(facts.ERASED, org_id))
    return Known(erased, await coaching_of(connection, org_id))


async def _passed(connection: Connection, position: int) -> int:
    """What every read model that rows are made of has passed, as far as each has run at all."""
    others = await connection.fetchval(_OTHERS, list(OTHERS))
    return position if others is None else min(position, others)


async def _dimensions(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Small tables, read whole; those of read models that have not run yet are left as they are."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table, source, sql in (
        ("dim_organization", "organization", _DIRECTORY),
        ("dim_discount", "contract_discount", _DISCOUNTS),
    ):
        if await connection.fetchval("SELECT to_regclass($1)", f"crewkit.{source}") is not None:
            found[table] = [dict(record) for record in await connection.fetch(sql)]
    return found
