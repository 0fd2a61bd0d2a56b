"""Tell of a session's worktree, and of what became of it."""

from __future__ import annotations

from datetime import datetime

from commands.bus import Principal, transact
from domain.kernel import Stream
from domain.sessions import worktree
from eventstore.port import EventStore, Outcome


async def create_worktree(
    store: EventStore, principal: Principal, session_id: str, *, path: str, branch: str, at: datetime
) -> Outcome | None:
    """Tell where the session works; None when that is known.

    Raises:
        WorktreeExistsError: it works in another worktree.
        WorktreeInvalidError: path or branch is not one.
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        principal.org_id,
        Stream("Session", session_id),
        worktree.evolve,
        worktree.INITIAL,
        lambda state: worktree.create(
            state, session_id=session_id, person_id=principal.person_id, path=path, branch=branch, at=at
        ),
        meta=principal.meta(),
    )


async def resolve_worktree(
    store: EventStore, principal: Principal, session_id: str, *, resolution: str, at: datetime
) -> Outcome | None:
    """Tell what became of the worktree; None when that is known.

    Raises:
        NoWorktreeError: there is none.
        WorktreeExistsError: it was resolved otherwise.
        WorktreeInvalidError: the resolution is not one of ours.
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        principal.org_id,
        Stream("Session", session_id),
        worktree.evolve,
        worktree.INITIAL,
        lambda state: worktree.resolve(state, session_id=session_id, resolution=resolution, at=at),
        meta=principal.meta(),
    )
