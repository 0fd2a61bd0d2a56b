"""Facts about projects.  Free text is sealed for who wrote it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.kernel import Event, Sealed


class ProjectCreated(Event, frozen=True, kw_only=True, tag="project.created.v1"):
    """There is a project.  `slug` is unique in the organization; `git_remotes` are in one spelling, `host/path`."""

    project_id: UUID
    slug: str
    name: str
    description: Sealed | None = None
    git_remotes: list[str]
    default_branch: str | None = None
    created_at: datetime


class ProjectUpdated(Event, frozen=True, kw_only=True, tag="project.updated.v1"):
    """Something about it changed.  None: that field stayed; `git_remotes` are all of them afterwards."""

    project_id: UUID
    name: str | None = None
    description: Sealed | None = None
    git_remotes: list[str] | None = None
    default_branch: str | None = None
    updated_at: datetime


class ProjectSlugChanged(Event, frozen=True, kw_only=True, tag="project.slug_changed.v1"):
    """It goes by another slug; the old one is free for others."""

    project_id: UUID
    slug: str
    before: str
    changed_at: datetime


class ProjectStackOverridden(Event, frozen=True, kw_only=True, tag="project.stack_overridden.v1"):
    """Somebody says what it is made of, whatever is detected.  `stacks` None: detection counts again."""

    project_id: UUID
    stacks: list[str] | None = None
    overridden_at: datetime


class ProjectStacksDetected(Event, frozen=True, kw_only=True, tag="project.stacks_detected.v1"):
    """What its repository is made of was seen to be something else than before."""

    project_id: UUID
    stacks: list[str]
    detected_at: datetime


class ProjectDeleted(Event, frozen=True, kw_only=True, tag="project.deleted.v1"):
    """It is hidden; nothing is lost until it is purged."""

    project_id: UUID
    deleted_at: datetime


class ProjectRestored(Event, frozen=True, kw_only=True, tag="project.restored.v1"):
    """A deleted project is back as it was."""

    project_id: UUID
    restored_at: datetime


class ProjectPurged(Event, frozen=True, kw_only=True, tag="project.purged.v1"):
    """The end of a deleted project: its slug is free."""

    project_id: UUID
    purged_at: datetime
