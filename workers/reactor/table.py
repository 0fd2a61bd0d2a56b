"""The reactor's tables: following the log, taking what is due, writing down what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from domain.kernel import tag_of
from eventstore.database import Connection, Pool
from workers.reactor.base import Reaction

FOLLOW_EVENTS_MAX = 20_000  # events looked at in one step
KEEP = timedelta(days=7)  # how long what is over can be looked at
PRUNE_ROWS_MAX = 10_000
REMARK_CHARS_MAX = 500
WAITING, DONE, SKIPPED, DEAD = "waiting", "done", "skipped", "dead"

_STANDING = "SELECT r.position, crewkit.head() FROM crewkit.reactor r"
_NOTE = """
INSERT INTO crewkit.reaction (kind, event_id, org_id, position, due_at)
SELECT DISTINCT ON (e.position, w.kind)
       w.kind, e.event_id, e.org_id, e.position, clock_timestamp() + make_interval(secs => w.delay_s)
  FROM crewkit.event e
  JOIN unnest($3::text[], $4::text[], $5::text[], $6::float8[]) AS w (kind, type, mark, delay_s)
    ON e.type = w.type AND (w.mark = '' OR strpos(e.data::text, w.mark) > 0)
 WHERE e.position > $1 AND e.position <= $2 AND e.type = ANY ($4)
    ON CONFLICT DO NOTHING
"""
_TAKE = """
UPDATE crewkit.reaction r SET running = true, tries = r.tries + 1, updated_at = clock_timestamp()
  FROM (SELECT event_id, kind FROM crewkit.reaction
         WHERE kind = ANY ($1) AND state = 'waiting' AND NOT running AND due_at <= clock_timestamp()
         ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED) AS due
 WHERE r.event_id = due.event_id AND r.kind = due.kind
RETURNING r.kind, r.event_id, r.org_id, r.position, r.tries
"""
_SETTLE = """
UPDATE crewkit.reaction
   SET state = $3, remark = $4, running = false, tries = tries - $5, updated_at = clock_timestamp(),
       due_at = clock_timestamp() + make_interval(secs => $6)
 WHERE event_id = $1 AND kind = $2 AND state = 'waiting'
"""
_PRUNE = """
DELETE FROM crewkit.reaction WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM crewkit.reaction
     WHERE state IN ('done', 'skipped') AND updated_at < clock_timestamp() - $1::interval LIMIT $2))
"""
# A kind that nobody hosts (it was switched off, or is of another version) may come back; after `KEEP` it is not waited for.
_FORSAKEN = """
UPDATE crewkit.reaction SET state = 'skipped', remark = 'nobody does this any more', updated_at = clock_timestamp()
 WHERE state = 'waiting' AND NOT running AND kind <> ALL ($2) AND created_at < clock_timestamp() - $1::interval
"""
_SPEND = """
INSERT INTO crewkit.reaction_budget AS b (kind, org_id, day, used) VALUES ($1, $2, $3, 1)
    ON CONFLICT (kind, org_id, day) DO UPDATE SET used = b.used + 1 WHERE b.used < $4
RETURNING used
"""


class Due(msgspec.Struct, frozen=True):
    """A reaction that was taken in hand; `tries` counts this one."""

    kind: str
    event_id: UUID
    org_id: UUID
    position: int
    tries: int


class Wanted:
    """Which events cause which kinds, as the columns of one query."""

    def __init__(self, reactions: Sequence[Reaction], delays_s: Sequence[float]) -> None:
        rows = [
            (reaction.kind, tag_of(on.event), on.mark, delay_s)
            for reaction, delay_s in zip(reactions, delays_s, strict=True)
            for on in reaction.on
        ]
        self.columns = (
            [row[0] for row in rows],
            [row[1] for row in rows],
            [row[2] for row in rows],
            [row[3] for row in rows],
        )


async def follow(connection: Connection, wanted: Wanted) -> int:
    """Note what the next events cause and move past them, in one transaction; how many events lie ahead still.

    A lost commit loses both, so it need not wait for the disk.
    """
    row = await connection.fetchrow(_STANDING)
    head: int = row[1] if row is not None else 0
    if row is None or head <= row[0]:
        return 0
    async with connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = off")
        after: int = await connection.fetchval("SELECT position FROM crewkit.reactor FOR UPDATE")
        upto = min(head, after + FOLLOW_EVENTS_MAX)
        if wanted.columns[0]:
            await connection.execute(_NOTE, after, upto, *wanted.columns)
        await connection.execute(
            "UPDATE crewkit.reactor SET position = $1, updated_at = clock_timestamp() WHERE position < $1", upto
        )
    return max(0, head - upto)


async def free_all(connection: Connection) -> int:
    """What an earlier office holder had in hand when it went is nobody's now; how many."""
    tag = await connection.execute("UPDATE crewkit.reaction SET running = false WHERE running")
    return int(tag.rpartition(" ")[2])


async def take(connection: Connection, kinds: Sequence[str], limit: int) -> list[Due]:
    """Take up to `limit` due reactions in hand, the longest due first."""
    return [Due(*record) for record in await connection.fetch(_TAKE, list(kinds), limit)]


async def settle(
    pool: Pool, due: Due, state: str, remark: str | None, *, after_s: float = 0.0, tried: bool = True
) -> None:
    """Write down what became of it.  `tried` False gives the try back."""
    text = None if remark is None else remark.replace("\x00", "�")[:REMARK_CHARS_MAX]
    await pool.execute(_SETTLE, due.event_id, due.kind, state, text, 0 if tried else 1, after_s)


async def prune(connection: Connection, kinds: Sequence[str]) -> None:
    """Forget what is long over, and end what none of the hosted `kinds` will do."""
    await connection.execute(_FORSAKEN, KEEP, list(kinds))
    await connection.execute(_PRUNE, KEEP, PRUNE_ROWS_MAX)
    await connection.execute("DELETE FROM crewkit.reaction_budget WHERE day < $1", (datetime.now(UTC) - KEEP).date())


async def spend(pool: Pool, kind: str, org_id: UUID, limit: int) -> bool:
    """Count one use of today's budget before it is made; False when the organization has used it up."""
    if limit < 1:
        return False
    return await pool.fetchval(_SPEND, kind, org_id, datetime.now(UTC).date(), limit) is not None
