"""Who a projection is in the database: its generations, where each stands, and what an operator may do about it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import structlog

from eventstore.database import Connection, Pool
from projections.base import Projection
from projections.tables import SCHEMA, create_generation, point_views, stored_name

log = structlog.get_logger("projector")

RUNNING, FILLING, FAILED, RETIRED = "running", "filling", "failed", "retired"
ERROR_CHARS_MAX = 2_000
_REGISTER_LOCKS = 0x637265  # first half of the two-part advisory locks that guard one projection's generations


# Compare and set: another instance may have been faster, or the generation stopped or retired.
ADVANCE = """UPDATE crewkit.checkpoint SET position = $4, error = NULL, updated_at = clock_timestamp()
            WHERE projection = $1 AND generation = $2 AND position = $3 AND status IN ('running', 'filling')"""
ADVANCE_PARAMETERS = 4  # name, generation, old position, new position


class Standing(msgspec.Struct, frozen=True):
    """Where a projection stands: the version and generation that is read, and that generation's checkpoint."""

    version: int
    generation: int
    position: int
    status: str


class ProjectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of one projection, for people and metrics.  `lag` counts events not folded yet."""

    name: str
    generation: int
    active: bool
    version: int | None
    position: int
    lag: int
    status: str
    error: str | None
    failed_position: int | None
    skipped: list[dict[str, Any]]
    updated_at: datetime


class Refused(Exception):  # noqa: N818  an operator's wish that does not fit the projection's state
    """The message says why."""


async def standing(source: Connection | Pool, name: str) -> Standing | None:
    """The active generation's standing; None before the projection is registered."""
    row = await source.fetchrow(
        """SELECT p.version, p.active_generation, c.position, c.status
             FROM crewkit.projection p
             JOIN crewkit.checkpoint c ON c.projection = p.name AND c.generation = p.active_generation
            WHERE p.name = $1""",
        name,
    )
    return None if row is None else Standing(*row)


async def lock_projection(connection: Connection, name: str) -> None:
    """Until the transaction ends, nobody else registers, starts or flips generations of this projection."""
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _REGISTER_LOCKS, name)


async def register(pool: Pool, projection: Projection) -> Standing:
    """The projection's standing; the first time, its first generation is created, empty and readable."""
    if (found := await standing(pool, projection.name)) is not None:
        return found
    async with pool.acquire() as connection, connection.transaction():
        await lock_projection(connection, projection.name)
        if (found := await standing(connection, projection.name)) is not None:
            return found
        await _make(connection, projection, 1, RUNNING)
        await connection.execute(
            "INSERT INTO crewkit.projection (name, version, active_generation) VALUES ($1, $2, 1)",
            projection.name,
            projection.version,
        )
        await point_views(connection, projection, 1)
    log.info("projector.registered", projection=projection.name, version=projection.version)
    return Standing(projection.version, 1, 0, RUNNING)


async def refuse(pool: Pool, projection: Projection, error: str) -> None:
    """Show that the first generation's tables cannot be made; once the cause is gone, a rebuild makes the next one."""
    async with pool.acquire() as connection, connection.transaction():
        await lock_projection(connection, projection.name)
        await connection.execute(
            """INSERT INTO crewkit.projection (name, version, active_generation) VALUES ($1, $2, 1)
               ON CONFLICT DO NOTHING""",
            projection.name,
            projection.version,
        )
        await connection.execute(
            """INSERT INTO crewkit.checkpoint (projection, generation, status, failed_position, error)
               VALUES ($1, 1, 'failed', 1, $2) ON CONFLICT DO NOTHING""",
            projection.name,
            error[:ERROR_CHARS_MAX],
        )
    log.error("projector.failed", projection=projection.name, generation=1, error=error)


async def _make(connection: Connection, projection: Projection, generation: int, status: str) -> None:
    await create_generation(connection, projection, generation)
    for table in projection.tables:
        await connection.execute(
            f'COMMENT ON TABLE {SCHEMA}."{stored_name(table.name, generation)}" '
            f"IS 'projection {projection.name}, version {projection.version}'"
        )
    await connection.execute(
        "INSERT INTO crewkit.checkpoint (projection, generation, status) VALUES ($1, $2, $3)",
        projection.name,
        generation,
        status,
    )


async def start_generation(pool: Pool, projection: Projection, *, resume: bool) -> tuple[int, int] | None:
    """A generation to fill, `(generation, position)`; None: one of this version has failed and waits for an operator.

    An interrupted filling of the same version goes on with `resume`, or when an operator skipped an event in it.  Otherwise
    unfinished generations are dropped and a new one starts at 0.
    """
    async with pool.acquire() as connection, connection.transaction():
        await lock_projection(connection, projection.name)
        active = await connection.fetchval(
            "SELECT active_generation FROM crewkit.projection WHERE name = $1", projection.name
        )
        rows = await connection.fetch(
            """SELECT generation, position, status, skipped::jsonb <> '[]'::jsonb AS skipped FROM crewkit.checkpoint
                WHERE projection = $1 AND generation > $2 ORDER BY generation""",
            projection.name,
            active,
        )
        for row in rows:
            if await _same_version(connection, projection, row["generation"]):
                if row["status"] == FILLING and (resume or row["skipped"]):
                    return row["generation"], row["position"]
                if row["status"] == FAILED and resume:
                    return None
            await _drop(connection, projection.name, row["generation"])
        generation = active + 1
        await _make(connection, projection, generation, FILLING)
    log.info("projector.filling", projection=projection.name, version=projection.version, generation=generation)
    return generation, 0


async def _same_version(connection: Connection, projection: Projection, generation: int) -> bool:
    found = await connection.fetchval(
        "SELECT obj_description(to_regclass($1), 'pg_class')",
        f'{SCHEMA}."{stored_name(projection.tables[0].name, generation)}"',
    )
    return bool(found == f"projection {projection.name}, version {projection.version}")


async def _drop(connection: Connection, name: str, generation: int) -> None:
    """Tables are found by their comment, because older code may have had other ones; a view left over goes with them."""
    tables = await connection.fetch(
        r"""SELECT c.relname FROM pg_class c
             WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r'
               AND obj_description(c.oid, 'pg_class') LIKE 'projection ' || $2 || ', version %'
               AND c.relname LIKE '%\_\_g' || $3""",
        SCHEMA,
        name,
        str(generation),
    )
    for table in tables:
        await connection.execute(f'DROP TABLE {SCHEMA}."{table["relname"]}" CASCADE')
    await connection.execute(
        "DELETE FROM crewkit.checkpoint WHERE projection = $1 AND generation = $2", name, generation
    )
    log.info("projector.generation_dropped", projection=name, generation=generation)


async def drop_old_generations(pool: Pool, name: str) -> None:
    """Drop what is older than the generation before the active one."""
    async with pool.acquire() as connection, connection.transaction():
        await lock_projection(connection, name)
        rows = await connection.fetch(
            """SELECT c.generation FROM crewkit.checkpoint c JOIN crewkit.projection p ON p.name = c.projection
                WHERE c.projection = $1 AND c.generation < p.active_generation
                ORDER BY c.generation DESC OFFSET 1""",
            name,
        )
        for row in rows:
            await _drop(connection, name, row["generation"])


async def advance(connection: Connection, name: str, generation: int, old: int, new: int) -> bool:
    """Move the checkpoint; False when it is not at `old` any more."""
    return await connection.execute(ADVANCE, name, generation, old, new) == "UPDATE 1"


async def fail(pool: Pool, name: str, generation: int, at: int, failed_position: int, error: str) -> bool:
    """Stop a generation visibly; False when it has moved meanwhile."""
    tag = await pool.execute(
        """UPDATE crewkit.checkpoint
              SET status = 'failed', error = $5, failed_position = $4, updated_at = clock_timestamp()
            WHERE projection = $1 AND generation = $2 AND position = $3 AND status IN ('running', 'filling')""",
        name,
        generation,
        at,
        failed_position,
        error.replace("\x00", "\ufffd")[:ERROR_CHARS_MAX],
    )
    return tag == "UPDATE 1"


async def flip(connection: Connection, projection: Projection, generation: int) -> None:
    """Let readers see `generation`, inside the caller's transaction, which holds the projection's lock."""
    await point_views(connection, projection, generation)
    await connection.execute(
        """UPDATE crewkit.checkpoint SET status = 'retired', updated_at = clock_timestamp()
            WHERE projection = $1 AND generation < $2 AND status <> 'retired'""",
        projection.name,
        generation,
    )
    await connection.execute(
        "UPDATE crewkit.checkpoint SET status = 'running', updated_at = clock_timestamp() "
        "WHERE projection = $1 AND generation = $2",
        projection.name,
        generation,
    )
    await connection.execute(
        "UPDATE crewkit.projection SET version = $2, active_generation = $3, updated_at = clock_timestamp() "
        "WHERE name = $1",
        projection.name,
        projection.version,
        generation,
    )


async def read_status(source: Connection | Pool) -> list[ProjectionStatus]:
    """Every generation of every projection, by name."""
    rows: list[asyncpg.Record] = await source.fetch(
        """SELECT c.projection, c.generation, c.generation = p.active_generation AS active,
                  CASE WHEN c.generation = p.active_generation THEN p.version END AS version,
                  c.position, greatest(0, crewkit.head() - c.position) AS lag,
                  c.status, c.error, c.failed_position, c.skipped, c.updated_at
             FROM crewkit.checkpoint c JOIN crewkit.projection p ON p.name = c.projection
            ORDER BY c.projection, c.generation"""
    )
    return [
        ProjectionStatus(
            name=row["projection"],
            generation=row["generation"],
            active=row["active"],
            version=row["version"],
            position=row["position"],
            lag=row["lag"],
            status=row["status"],
            error=row["error"],
            failed_position=row["failed_position"],
            skipped=msgspec.json.decode(row["skipped"]),
            updated_at=row["updated_at"],
        )
        for row in rows
    ]


_FAILED_ONE = """
SELECT c.generation, c.position, c.failed_position, p.active_generation
  FROM crewkit.checkpoint c JOIN crewkit.projection p ON p.name = c.projection
 WHERE c.projection = $1 AND c.status = 'failed'
 ORDER BY c.generation <> p.active_generation, c.generation DESC
 LIMIT 1 FOR UPDATE OF c
"""


async def _failed(connection: Connection, name: str) -> asyncpg.Record:
    row = await connection.fetchrow(_FAILED_ONE, name)
    if row is None:
        if await standing(connection, name) is None:
            raise Refused(f"there is no projection {name!r}")
        raise Refused(f"projection {name!r} has not failed; nothing to do")
    return row


async def clear_failure(pool: Pool, name: str) -> int:
    """Let a failed projection try the same event again; its position.

    Raises:
        Refused: it has not failed, or there is none.
    """
    async with pool.acquire() as connection, connection.transaction():
        row = await _failed(connection, name)
        await _restart(connection, name, row, row["position"])
        return int(row["failed_position"])


async def skip_event(pool: Pool, name: str, position: int, reason: str, actor: str) -> None:
    """Go past exactly the event at which the projection failed, and keep a note of who decided it and why.

    Raises:
        Refused: it has not failed, or failed at another position, or no reason is given.
    """
    if not reason.strip():
        raise Refused("skipping an event needs a reason")
    async with pool.acquire() as connection, connection.transaction():
        row = await _failed(connection, name)
        if row["failed_position"] != position or row["position"] != position - 1:
            raise Refused(f"projection {name!r} failed at position {row['failed_position']}, not {position}")
        note = [{"position": position, "reason": reason, "actor": actor}]
        await connection.execute(
            """UPDATE crewkit.checkpoint
                  SET skipped = (skipped::jsonb || jsonb_set($3::jsonb, '{0,at}', to_jsonb(clock_timestamp())))::json
                WHERE projection = $1 AND generation = $2""",
            name,
            row["generation"],
            msgspec.json.encode(note),
        )
        await _restart(connection, name, row, position)
    log.warning("projector.skipped", projection=name, position=position, reason=reason, actor=actor)


async def _restart(connection: Connection, name: str, row: asyncpg.Record, position: int) -> None:
    await connection.execute(
        """UPDATE crewkit.checkpoint SET status = $3, error = NULL, failed_position = NULL, position = $4,
                  updated_at = clock_timestamp()
            WHERE projection = $1 AND generation = $2""",
        name,
        row["generation"],
        RUNNING if row["generation"] == row["active_generation"] else FILLING,
        position,
    )
