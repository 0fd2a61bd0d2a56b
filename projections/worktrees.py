"""The git worktrees that sessions work in.  Paths stay in their boxes: whoever may read a session opens them with the key ring."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from domain.kernel import tag_of
from domain.sessions.events import SessionWorktreeCreated, SessionWorktreeResolved
from eventstore.database import Connection
from eventstore.port import Recorded
from eventstore.sealing import KeyRing, unboxed
from projections.base import Key, Projection, Rows, Table
from projections.sessions.merge import ident
from schemas.sessions import Worktree


class WorktreeRow(msgspec.Struct):
    """The newest worktree of one session; `resolution` is None while the session works in it."""

    org_id: UUID
    session_id: str
    path_box: str | None
    branch: str
    created_at: datetime
    resolution: str | None = None
    resolved_at: datetime | None = None


WORKTREES = Table("worktree", WorktreeRow, ("org_id", "session_id"))
DDL = """
CREATE TABLE crewkit.worktree__g{g} (
    org_id uuid NOT NULL,
    session_id text NOT NULL,
    path_box text,
    branch text NOT NULL,
    created_at timestamptz NOT NULL,
    resolution text,
    resolved_at timestamptz,
    PRIMARY KEY (org_id, session_id)
);
"""
READS = (SessionWorktreeCreated, SessionWorktreeResolved)


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The session's row."""
    event = recorded.event
    return ((WORKTREES, (recorded.org_id, ident(event.session_id))),) if isinstance(event, READS) else ()


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    match recorded.event:
        case SessionWorktreeCreated() as event:
            row = WorktreeRow(recorded.org_id, ident(event.session_id), event.path.box, event.branch, event.created_at)
            rows.put(WORKTREES, row)
        case SessionWorktreeResolved() as event:
            if (known := rows.get(WORKTREES, (recorded.org_id, ident(event.session_id)))) is not None:
                known.resolution, known.resolved_at = event.resolution, event.resolved_at
                rows.put(WORKTREES, known)
        case _:
            pass


PROJECTION = Projection("worktrees", 1, tables=(WORKTREES,), ddl=DDL, touches=touches, fold=fold, reads=READS)

_FIND = """
SELECT path_box, branch, created_at, resolution, resolved_at FROM crewkit.worktree
 WHERE org_id = $1 AND session_id = $2
"""


async def worktree_row(connection: Connection, org_id: UUID, session_id: str) -> asyncpg.Record | None:
    """The newest worktree of a session as stored, for `open_worktree`."""
    return await connection.fetchrow(_FIND, org_id, session_id)


async def open_worktree(ring: KeyRing, org_id: UUID, row: asyncpg.Record | None) -> Worktree | None:
    """What a row says; the path is None once its person is erased.  The ring may ask for a connection of its own."""
    if row is None:
        return None
    path = None
    if row["path_box"] is not None:
        [path] = await ring.open_many(org_id, [(tag_of(SessionWorktreeCreated), unboxed(row["path_box"]))])
    return Worktree(
        path=path,
        branch=row["branch"],
        state=row["resolution"] or "open",
        created_at=row["created_at"],
        resolved_at=row["resolved_at"],
    )
