"""What operators see of the reactor, and what they may do about a reaction that was given up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import msgspec

from eventstore.database import WORKER_ROLE, Pool, connect_pool
from eventstore.settings import Settings
from workers.lifecycle import database_url

LIST_MAX = 1_000


class ReactionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One effect of one event: what it is, how it stands and why."""

    kind: str
    event_id: UUID
    position: int
    state: str
    tries: int
    due_at: datetime
    remark: str | None
    updated_at: datetime


class Refused(Exception):  # noqa: N818  an operator's wish that does not fit; the message says why
    """Nothing was changed."""


@asynccontextmanager
async def _pool(settings: Settings) -> AsyncGenerator[Pool]:
    pool = await connect_pool(database_url(settings), WORKER_ROLE, max_size=1)
    try:
        yield pool
    finally:
        await pool.close()


async def listed(settings: Settings, state: str | None, kind: str | None, limit: int) -> list[ReactionStatus]:
    """Reactions by state and kind, the newest first; at most `LIST_MAX`."""
    async with _pool(settings) as pool:
        found = await pool.fetch(
            """SELECT kind, event_id, position, state, tries, due_at, remark, updated_at FROM crewkit.reaction
                WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR kind = $2)
                ORDER BY position DESC, kind LIMIT $3""",
            state,
            kind,
            min(limit, LIST_MAX),
        )
    return [ReactionStatus(**dict(record)) for record in found]


async def retry(settings: Settings, kind: str | None, event_id: UUID | None) -> int:
    """Let dead reactions (all, of a kind, of an event) be tried again from the first try on; how many.

    Raises:
        Refused: there is none.
    """
    async with _pool(settings) as pool:
        tag = await pool.execute(
            """UPDATE crewkit.reaction SET state = 'waiting', tries = 0, due_at = clock_timestamp(),
                      updated_at = clock_timestamp()
                WHERE state = 'dead' AND ($1::text IS NULL OR kind = $1) AND ($2::uuid IS NULL OR event_id = $2)""",
            kind,
            event_id,
        )
    return _count(tag)


async def drop(settings: Settings, kind: str | None, event_id: UUID | None, reason: str) -> int:
    """Go without dead reactions (all, of a kind, of an event); how many.  The reason is kept with each.

    Raises:
        Refused: there is none, or no reason is given.
    """
    if not reason.strip():
        raise Refused("dropping a reaction needs a reason")
    async with _pool(settings) as pool:
        tag = await pool.execute(
            """UPDATE crewkit.reaction SET state = 'skipped', remark = left('dropped: ' || $3, 500),
                      updated_at = clock_timestamp()
                WHERE state = 'dead' AND ($1::text IS NULL OR kind = $1) AND ($2::uuid IS NULL OR event_id = $2)""",
            kind,
            event_id,
            reason,
        )
    return _count(tag)


def _count(tag: str) -> int:
    changed = int(tag.rpartition(" ")[2])
    if not changed:
        raise Refused("no reaction that was given up fits; see `crewkit reactions list --state dead`")
    return changed
