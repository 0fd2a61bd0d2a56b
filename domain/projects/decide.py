"""Rules about projects.  Who may do what is the organization's business and decided before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from domain.kernel import DomainError, Event, NotFoundError, Sealed, Stream
from domain.organizations.decide import check_slug
from domain.organizations.manage import KEEP_DELETED, NotDueError, check_confirmed, check_name
from domain.organizations.state import InvalidFieldError
from domain.projects.events import (
    ProjectCreated,
    ProjectDeleted,
    ProjectPurged,
    ProjectRestored,
    ProjectSlugChanged,
    ProjectStackOverridden,
    ProjectStacksDetected,
    ProjectUpdated,
)
from domain.projects.remotes import names_host, normalized
from domain.projects.stacks import STACKS

DESCRIPTION_CHARS_MAX = 5_000
REMOTES_MAX = 20
STACKS_MAX = 20
BRANCH_CHARS_MAX = 200


class Absent(msgspec.Struct, frozen=True):
    """There is no such project."""


class Project(msgspec.Struct, frozen=True):
    """A project.  `manual` None: what was detected counts."""

    project_id: UUID
    slug: str
    name: str
    git_remotes: tuple[str, ...] = ()
    default_branch: str | None = None
    detected: tuple[str, ...] = ()
    manual: tuple[str, ...] | None = None
    deleted_at: datetime | None = None
    purged: bool = False


class ProjectChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; None leaves a field.  `stacks` are the manual override, `no_override` removes it."""

    name: str | None = None
    slug: str | None = None
    description: Sealed | None = None
    git_remotes: Sequence[str] | None = None
    default_branch: str | None = None
    stacks: Sequence[str] | None = None
    no_override: bool = False


ProjectState: TypeAlias = Absent | Project
NO_PROJECT: ProjectState = Absent()


class NotDeletedError(DomainError):
    """Only what is deleted is purged."""

    code = "conflict"


def project_stream(project_id: UUID) -> Stream:
    """Where one project's facts live."""
    return Stream("Project", str(project_id))


def evolve(state: ProjectState, event: Event) -> ProjectState:
    """Apply one fact; facts of other kinds change nothing."""
    if isinstance(event, ProjectCreated):
        remotes = tuple(event.git_remotes)
        return Project(event.project_id, event.slug, event.name, remotes, event.default_branch)
    if isinstance(state, Project) and (step := _STEPS.get(type(event))) is not None:
        return step(state, event)
    return state


def living(state: ProjectState) -> Project:
    """The project, where it exists and is not deleted.

    Raises:
        NotFoundError: it does not, or it is.
    """
    project = existing(state)
    if project.deleted_at is not None:
        raise NotFoundError("project not found")
    return project


def existing(state: ProjectState) -> Project:
    """The project, deleted or not.

    Raises:
        NotFoundError: there is none, or it is purged.
    """
    if isinstance(state, Absent) or state.purged:
        raise NotFoundError("project not found")
    return state


def create(
    state: ProjectState,
    *,
    project_id: UUID,
    slug: str,
    name: str,
    description: Sealed | None = None,
    git_remotes: Sequence[str] = (),
    default_branch: str | None = None,
    stacks: Sequence[str] | None = None,
    at: datetime,
) -> list[Event]:
    """Begin a project.  The same one again changes nothing.

    Raises:
        InvalidFieldError: a value cannot be accepted.
    """
    if isinstance(state, Project):
        return []
    check_slug(slug)
    check_name(name)
    _check_description(description)
    _check_branch(default_branch)
    events: list[Event] = [
        ProjectCreated(
            project_id=project_id,
            slug=slug,
            name=name,
            description=description,
            git_remotes=remotes_of(git_remotes),
            default_branch=default_branch,
            created_at=at,
        )
    ]
    if stacks is not None:
        told = stacks_of(stacks)
        events.append(ProjectStackOverridden(project_id=project_id, stacks=told, overridden_at=at))
    return events


def update(state: ProjectState, *, changes: ProjectChanges, at: datetime) -> list[Event]:
    """Change it.  What is already so tells nothing; a description is sealed, so it always counts as new.

    Raises:
        NotFoundError: there is no such project.
        InvalidFieldError: a value cannot be accepted.
    """
    project = living(state)
    _check_description(changes.description)
    _check_branch(changes.default_branch)
    name = None if changes.name in {None, project.name} else changes.name
    if name is not None:
        check_name(name)
    branch = None if changes.default_branch == project.default_branch else changes.default_branch
    remotes = None if changes.git_remotes is None else remotes_of(changes.git_remotes)
    remotes = None if remotes == list(project.git_remotes) else remotes
    known = project.project_id
    events: list[Event] = []
    if any(value is not None for value in (name, changes.description, branch, remotes)):
        events.append(
            ProjectUpdated(
                project_id=known,
                name=name,
                description=changes.description,
                git_remotes=remotes,
                default_branch=branch,
                updated_at=at,
            )
        )
    if changes.slug not in {None, project.slug}:
        check_slug(changes.slug or "")
        events.append(ProjectSlugChanged(project_id=known, slug=changes.slug or "", before=project.slug, changed_at=at))
    manual = None if changes.stacks is None else tuple(stacks_of(changes.stacks))
    wanted = None if changes.no_override else project.manual if manual is None else manual
    if wanted != project.manual:
        told = None if wanted is None else list(wanted)
        events.append(ProjectStackOverridden(project_id=known, stacks=told, overridden_at=at))
    return events


def record_stacks(state: ProjectState, *, stacks: Sequence[str], at: datetime) -> list[Event]:
    """Note what was detected; nothing where it is what was detected before.

    Raises:
        NotFoundError: there is no such project.
        InvalidFieldError: there is no such stack.
    """
    project = living(state)
    told = stacks_of(stacks)
    if tuple(told) == project.detected:
        return []
    return [ProjectStacksDetected(project_id=project.project_id, stacks=told, detected_at=at)]


def delete(state: ProjectState, *, confirm: str | None, at: datetime) -> list[Event]:
    """Hide it.  Twice changes nothing.

    Raises:
        NotFoundError: there is no such project.
        ConfirmationRequiredError: `confirm` is not its slug.
    """
    project = existing(state)
    if project.deleted_at is not None:
        return []
    check_confirmed(confirm, project.slug)
    return [ProjectDeleted(project_id=project.project_id, deleted_at=at)]


def restore(state: ProjectState, *, at: datetime) -> list[Event]:
    """Bring a deleted one back.  One that is not deleted stays as it is.

    Raises:
        NotFoundError: there is no such project, or it is purged.
    """
    project = existing(state)
    return [] if project.deleted_at is None else [ProjectRestored(project_id=project.project_id, restored_at=at)]


def purge(state: ProjectState, *, at: datetime) -> list[Event]:
    """End one that has been deleted for `KEEP_DELETED`.  Twice changes nothing.

    Raises:
        NotFoundError: there never was one.
        NotDeletedError: it is not deleted.
        NotDueError: not for long enough.
    """
    if isinstance(state, Absent):
        raise NotFoundError("project not found")
    if state.purged:
        return []
    if state.deleted_at is None:
        raise NotDeletedError("only a deleted project is purged")
    if at - state.deleted_at < KEEP_DELETED:
        raise NotDueError(f"a deleted project is kept for {KEEP_DELETED.days} days")
    return [ProjectPurged(project_id=state.project_id, purged_at=at)]


def remotes_of(told: Sequence[str]) -> list[str]:
    """The repositories in one spelling, each once, in the order told.

    Raises:
        InvalidFieldError: one is no repository's address, names no host, or there are too many.
    """
    found = list(dict.fromkeys(normalized(one) for one in told))
    if len(found) > REMOTES_MAX:
        raise InvalidFieldError(f"a project has at most {REMOTES_MAX} repositories", field="git_remotes")
    if nameless := [one for one in found if not names_host(one)]:
        raise InvalidFieldError(f"a repository's address names its host, got {nameless[0]!r}", field="git_remotes")
    return found


def stacks_of(told: Sequence[str]) -> list[str]:
    """The stacks, each once, in alphabetical order.

    Raises:
        InvalidFieldError: one is not known, or there are too many.
    """
    found = sorted(set(told))
    if unknown := [one for one in found if one not in STACKS]:
        raise InvalidFieldError(f"there is no framework stack {unknown[0][:60]!r}", field="stacks")
    if len(found) > STACKS_MAX:
        raise InvalidFieldError(f"a project has at most {STACKS_MAX} stacks", field="stacks")
    return found


def _check_description(description: Sealed | None) -> None:
    if description is not None and len(description.text or "") > DESCRIPTION_CHARS_MAX:
        raise InvalidFieldError(
            f"description must have at most {DESCRIPTION_CHARS_MAX} characters", field="description"
        )


def _check_branch(branch: str | None) -> None:
    if branch is not None and (not branch.strip() or len(branch) > BRANCH_CHARS_MAX or not branch.isprintable()):
        raise InvalidFieldError(
            f"default_branch must have 1 to {BRANCH_CHARS_MAX} printable characters", field="default_branch"
        )


def _updated(state: Project, event: ProjectUpdated) -> Project:
    return _replace(
        state,
        name=state.name if event.name is None else event.name,
        git_remotes=state.git_remotes if event.git_remotes is None else tuple(event.git_remotes),
        default_branch=state.default_branch if event.default_branch is None else event.default_branch,
    )


_replace = msgspec.structs.replace
_STEPS: dict[type[Event], Callable[[Project, Any], Project]] = {
    ProjectUpdated: _updated,
    ProjectSlugChanged: lambda state, event: _replace(state, slug=event.slug),
    ProjectStackOverridden: lambda state, event: _replace(
        state, manual=None if event.stacks is None else tuple(event.stacks)
    ),
    ProjectStacksDetected: lambda state, event: _replace(state, detected=tuple(event.stacks)),
    ProjectDeleted: lambda state, event: _replace(state, deleted_at=event.deleted_at),
    ProjectRestored: lambda state, _: _replace(state, deleted_at=None),
    ProjectPurged: lambda state, _: _replace(state, purged=True),
}
