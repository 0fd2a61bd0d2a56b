"""How the installation is doing: head of the log, relay, projections.  Positions and states only, no tenant's data."""

from __future__ import annotations

import asyncpg
import msgspec

DATABASE_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class ProjectionVitals(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of one projection.  `lag` is events behind the head; `status` running, filling, failed or retired.

    `waited_s` is the age of the oldest event it has not folded, in seconds; 0: none.
    """

    projection: str
    generation: int
    active: bool
    position: int
    lag: int
    status: str
    failed_position: int | None
    skipped: int
    waited_s: float = 0.0


class ConsolidationVitals(msgspec.Struct, frozen=True, kw_only=True):
    """Objects that hold items, and failed attempts, so far; `backlog` is generations started and not completed."""

    objects: int = 0
    items: int = 0
    bytes: int = 0
    failures: int = 0
    backlog: int = 0


class ReactionVitals(msgspec.Struct, frozen=True, kw_only=True):
    """Effects of one kind that are still to come (`waiting`) or were given up (`dead`), and the age of the oldest."""

    kind: str
    state: str
    count: int
    oldest_s: float


class AnalyticsVitals(msgspec.Struct, frozen=True, kw_only=True):
    """One analytics replica, as it told `heard_s` ago.  `lag` is events of the sessions read model it has not taken yet.

    `asked` questions since its start, of which `failed` failed; `p50_s` and `p99_s` of the newest ones.
    """

    replica: str
    position: int
    lag: int
    rows: int
    file_bytes: int
    written: int
    rebuilds: int
    asked: int
    failed: int
    p50_s: float
    p99_s: float
    heard_s: float


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """`relay_lag` is events that are stored but not yet published, `reactor_lag` those the reactor has not looked at;
    `…_waited_s` is the age of the oldest of them in seconds.

    `sealed_number` and `sealed_position` are those of the last checkpoint; `unsealed_s` is how long the oldest event that no
    checkpoint covers has waited, in seconds.
    """

    head: int
    relay_position: int
    relay_lag: int
    projections: list[ProjectionVitals]
    relay_waited_s: float = 0.0
    reactor_waited_s: float = 0.0
    sealed_number: int = 0
    sealed_position: int = 0
    unsealed_s: float = 0.0
    consolidation: ConsolidationVitals = ConsolidationVitals()
    reactor_position: int = 0
    reactor_lag: int = 0
    reactions: list[ReactionVitals] = []
    analytics: list[AnalyticsVitals] = []


_PROJECTIONS = """
SELECT c.projection, c.generation, c.position, c.status, c.failed_position, json_array_length(c.skipped) AS skipped,
       coalesce(p.active_generation = c.generation, false) AS active
  FROM crewkit.checkpoint c LEFT JOIN crewkit.projection p ON p.name = c.projection
 ORDER BY c.projection, c.generation
"""
_SEALED = """
SELECT coalesce(c.number, 0) AS number, coalesce(c.size, 0) AS size,
       greatest(0, coalesce(extract(epoch FROM clock_timestamp() - crewkit.unsealed_since()), 0))::float8 AS waiting
  FROM (SELECT) one LEFT JOIN LATERAL
       (SELECT number, size FROM crewkit.proof_checkpoint ORDER BY number DESC LIMIT 1) c ON true
"""
_ANALYTICS = """
SELECT replica, position, lag, rows, file_bytes, written, rebuilds, asked, failed, p50_s, p99_s,
       extract(epoch FROM clock_timestamp() - updated_at)::float8 AS heard_s
  FROM crewkit.analytics_replica ORDER BY replica
"""
_WAITED = "SELECT position, seconds FROM crewkit.waited_s($1)"
_CONSOLIDATION = "SELECT objects, items, bytes, failures, backlog FROM crewkit.consolidation_total"


async def vitals(pool: asyncpg.Pool[asyncpg.Record], timeout_s: float) -> Vitals:
    """Read everything at once.

    Raises:
        any of DATABASE_AWAY: the database does not answer within `timeout_s`.
    """
    async with pool.acquire(timeout=timeout_s) as connection:
        # Checkpoints first: read the other way round, a projection could seem to be ahead of the log.
        rows = await connection.fetch(_PROJECTIONS, timeout=timeout_s)
        reactor = await connection.fetchval("SELECT max(position) FROM crewkit.reactor", timeout=timeout_s)
        reactions = await connection.fetch(
            "SELECT kind, state, count, oldest_s FROM crewkit.open_reactions() ORDER BY kind, state", timeout=timeout_s
        )
        relay = await connection.fetchval("SELECT max(position) FROM crewkit.relay", timeout=timeout_s)
        sealed = await connection.fetchrow(_SEALED, timeout=timeout_s)
        head = await connection.fetchval("SELECT crewkit.head()", timeout=timeout_s)
        readers = {position or 0 for position in (relay, reactor, *(row["position"] for row in rows))}
        late = [position + 1 for position in readers if position < head]
        ages = await connection.fetch(_WAITED, late, timeout=timeout_s) if late else []
        waited: dict[int, float] = {row["position"]: row["seconds"] for row in ages}
        replicas = await connection.fetch(_ANALYTICS, timeout=timeout_s)
        told = await connection.fetchval("SELECT to_regclass('crewkit.consolidation_total')", timeout=timeout_s)
        kept = await connection.fetchrow(_CONSOLIDATION, timeout=timeout_s) if told is not None else None
    projections = [
        ProjectionVitals(
            projection=row["projection"],
            generation=row["generation"],
            active=row["active"],
            position=row["position"],
            lag=max(0, head - row["position"]),
            status=row["status"],
            failed_position=row["failed_position"],
            skipped=row["skipped"],
            waited_s=waited.get(row["position"] + 1, 0.0),
        )
        for row in rows
    ]
    return Vitals(
        head=head,
        relay_position=relay or 0,
        relay_lag=max(0, head - (relay or 0)),
        projections=projections,
        relay_waited_s=waited.get((relay or 0) + 1, 0.0),
        reactor_waited_s=waited.get((reactor or 0) + 1, 0.0),
        sealed_number=sealed["number"] if sealed else 0,
        sealed_position=sealed["size"] if sealed else 0,
        unsealed_s=sealed["waiting"] if sealed else 0.0,
        consolidation=ConsolidationVitals(**dict(kept)) if kept else ConsolidationVitals(),
        reactor_position=reactor or 0,
        reactor_lag=max(0, head - (reactor or 0)),
        reactions=[ReactionVitals(**dict(row)) for row in reactions],
        analytics=[AnalyticsVitals(**dict(row)) for row in replicas],
    )


async def checkpoint(pool: asyncpg.Pool[asyncpg.Record], projection: str) -> int:
    """The position up to which the projection's active generation can be read; 0 before it first ran.

    Raises:
        any of DATABASE_AWAY: the database does not answer.
    """
    position = await pool.fetchval(
        "SELECT c.position FROM crewkit.checkpoint c JOIN crewkit.projection p "
        "ON p.name = c.projection AND p.active_generation = c.generation WHERE c.projection = $1",
        projection,
    )
    return position or 0
