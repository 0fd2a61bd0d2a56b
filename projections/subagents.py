"""Subagents across sessions: those at work now, and one by its id."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from eventstore.database import tenant

ACTIVE_MAX = 200


class SubagentFound(msgspec.Struct, frozen=True, kw_only=True):
    """Where a subagent ran, and how it stands."""

    agent_id: str
    llm_session_id: str
    session_id: str
    agent_type: str | None
    status: str
    background: bool | None
    model: str | None
    started_at: datetime | None
    ended_at: datetime | None


_COLUMNS = """
SELECT a.agent_id, a.llm_session_id, l.session_id, a.agent_type, a.status, a.background, a.model, a.started_at, a.ended_at
  FROM crewkit.subagent_session a
  JOIN crewkit.llm_session l ON l.org_id = a.org_id AND l.llm_session_id = a.llm_session_id
 WHERE a.org_id = $1 AND a.real
"""
# A subagent of a conversation that is over is not at work, whatever its last word was.
_ACTIVE = _COLUMNS + (
    " AND a.status = 'running' AND l.status = 'active' ORDER BY a.started_at DESC NULLS LAST, a.agent_id LIMIT $2"
)
_ONE = _COLUMNS + " AND a.agent_id = $2 ORDER BY a.started_at DESC NULLS LAST LIMIT 1"


async def active(pool: asyncpg.Pool[asyncpg.Record], org_id: UUID) -> list[SubagentFound]:
    """Subagents at work, latest start first, at most `ACTIVE_MAX`."""
    async with tenant(pool, org_id) as connection:
        rows = await connection.fetch(_ACTIVE, org_id, ACTIVE_MAX)
    return [SubagentFound(**dict(row)) for row in rows]


async def find(pool: asyncpg.Pool[asyncpg.Record], org_id: UUID, agent_id: str) -> SubagentFound | None:
    """The subagent of that id; where an id occurs twice (a fork), the one started last."""
    async with tenant(pool, org_id) as connection:
        row = await connection.fetchrow(_ONE, org_id, agent_id)
    return SubagentFound(**dict(row)) if row else None
