"""The git worktree that a session works in: created once, and resolved at the end."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import msgspec

from domain.kernel import DomainError, Event, NotFoundError, Sealed
from domain.sessions.events import SessionWorktreeCreated, SessionWorktreeResolved

RESOLUTIONS = ("merged", "pull_request", "discarded", "kept")
PATH_CHARS_MAX = 4_096
BRANCH_CHARS_MAX = 200

WorktreeEvent: TypeAlias = SessionWorktreeCreated | SessionWorktreeResolved


class WorktreeExistsError(DomainError):
    """The session has another worktree, or its worktree was resolved otherwise."""

    code = "conflict"


class NoWorktreeError(NotFoundError):
    """The session has no worktree."""


class WorktreeInvalidError(DomainError):
    """The path, the branch or the resolution is not one."""

    code = "validation_failed"


class Without(msgspec.Struct, frozen=True):
    """The session works where it was started."""


class Working(msgspec.Struct, frozen=True):
    """The session works in its worktree, on `branch`."""

    branch: str


class Resolved(msgspec.Struct, frozen=True):
    """The work on `branch` was merged, proposed, thrown away or kept."""

    branch: str
    resolution: str


Worktree: TypeAlias = Without | Working | Resolved
INITIAL: Worktree = Without()


def evolve(worktree: Worktree, event: Event) -> Worktree:
    """Apply one fact.  Never refuses: what happened, happened.  Facts of other kinds change nothing."""
    match event:
        case SessionWorktreeCreated(branch=branch):
            return Working(branch)
        case SessionWorktreeResolved(resolution=resolution):
            return worktree if isinstance(worktree, Without) else Resolved(worktree.branch, resolution)
        case _:
            return worktree


def create(
    worktree: Worktree, *, session_id: str, person_id: UUID, path: str, branch: str, at: datetime
) -> list[WorktreeEvent]:
    """Tell where the session works.  The same branch again changes nothing; after a resolution another one may follow.

    Raises:
        WorktreeExistsError: it works in another worktree, which is not resolved.
        WorktreeInvalidError: path or branch is empty, too long or not printable.
    """
    for name, told, most in (("worktree_path", path, PATH_CHARS_MAX), ("worktree_branch", branch, BRANCH_CHARS_MAX)):
        if not 0 < len(told) <= most or not told.isprintable():
            message = f"{name}: expected 1 to {most} printable characters"
            raise WorktreeInvalidError(message, field=name)
    match worktree:
        case Working(branch=known) if known != branch:
            raise WorktreeExistsError(f"session {session_id} works on {known}; resolve that first")
        case Working():
            return []
        case Without() | Resolved():
            place = Sealed(person_id, path)
            return [
                SessionWorktreeCreated(
                    session_id=session_id, person_id=person_id, path=place, branch=branch, created_at=at
                )
            ]


def resolve(worktree: Worktree, *, session_id: str, resolution: str, at: datetime) -> list[WorktreeEvent]:
    """Tell what became of the worktree.  The same resolution twice changes nothing.

    Raises:
        NoWorktreeError: there is none.
        WorktreeExistsError: it was resolved otherwise.
        WorktreeInvalidError: the resolution is not one of `RESOLUTIONS`.
    """
    if resolution not in RESOLUTIONS:
        message = f"worktree: expected one of {', '.join(RESOLUTIONS)}, got {resolution!r}"
        raise WorktreeInvalidError(message, field="worktree")
    match worktree:
        case Without():
            raise NoWorktreeError(f"session {session_id} has no worktree")
        case Resolved(resolution=known) if known == resolution:
            return []
        case Resolved(resolution=known):
            raise WorktreeExistsError(f"the worktree of session {session_id} is {known} already")
        case Working():
            return [SessionWorktreeResolved(session_id=session_id, resolution=resolution, resolved_at=at)]
