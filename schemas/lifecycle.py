"""Opening and ending sessions."""

from __future__ import annotations

from datetime import datetime

import msgspec


class StartSession(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A piece of work to open.  `session_id` None: one is made.  `kind`: `cli`, `dashboard`, `kickoff` or `workflow`.

    `worktree_path` and `worktree_branch`, both or neither, name the git worktree that the session works in.
    """

    session_id: str | None = None
    kind: str = "cli"
    started_at: datetime | None = None
    repo: str | None = None
    branch: str | None = None
    commit: str | None = None
    project: str | None = None
    worktree_path: str | None = None
    worktree_branch: str | None = None


class EndSession(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`outcome`: `completed`, `failed` or `abandoned`.  `worktree`: what became of the session's worktree, where it has one."""

    outcome: str = "completed"
    ended_at: datetime | None = None
    worktree: str | None = None


class SessionChanged(msgspec.Struct, frozen=True, kw_only=True):
    """`changed` False: it was so already.  `position` (None where nothing changed) can be given back as `Crewkit-After`."""

    session_id: str
    changed: bool
    position: int | None
    links: dict[str, str] = msgspec.field(name="_links")
