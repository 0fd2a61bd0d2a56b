"""Projects and framework stacks as requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType


class NewProject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A project to begin.  Without a `slug` one is made of the name; `stacks` say what it is made of, whatever is detected."""

    name: str
    slug: str | None = None
    description: str | None = None
    git_remotes: list[str] = []
    default_branch: str | None = None
    stacks: list[str] | None = None


class ProjectPatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to change.  `git_remotes` are all of them; `stacks` null: what is detected counts again."""

    name: str | None = None
    slug: str | None = None
    description: str | None = None
    git_remotes: list[str] | None = None
    default_branch: str | None = None
    stacks: list[str] | UnsetType | None = UNSET


class ProjectView(msgspec.Struct, frozen=True, kw_only=True):
    """A project.  `stacks` are the manual ones where there are any, else the detected (`stacks_source` says which).

    `description` null: there is none, or its writer was erased.
    """

    project_id: UUID
    organization_id: UUID
    org_id: UUID
    slug: str
    name: str
    description: str | None
    git_remotes: list[str]
    default_branch: str | None
    stacks: list[str]
    stacks_source: str | None
    detected_stacks: list[str]
    manual_stacks: list[str] | None
    created_at: datetime
    updated_at: datetime
    links: dict[str, str] = msgspec.field(name="_links")


class ProjectPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of projects.  `total` counts all pages."""

    items: list[ProjectView]
    page: int
    page_size: int
    total: int
    links: dict[str, str] = msgspec.field(name="_links")


class Resolve(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which project is this repository?  Also what it is made of: `stacks` as detected, or signs to detect them by.

    `files` are paths in the repository, `manifests` maps paths to their text (`package.json`, `Gemfile`, …).
    """

    git_remote: str
    stacks: list[str] | None = None
    files: list[str] | None = None
    manifests: dict[str, str] | None = None


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """The project and what applies to it.  `recorded`: what was detected is news and is on record now."""

    project: ProjectView
    git_remote: str
    stacks: list[str]
    stacks_source: str | None
    recorded: bool
    playbooks: list[dict[str, Any]]
    conventions: list[dict[str, Any]]
    links: dict[str, str] = msgspec.field(name="_links")


class StackView(msgspec.Struct, frozen=True, kw_only=True):
    """A framework stack and its signs.  `covers`: more general ones that are not named beside it."""

    slug: str
    name: str
    language: str
    files: list[str]
    dependencies: list[str]
    covers: list[str]
    links: dict[str, str] = msgspec.field(name="_links")


class StackPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of framework stacks.  `total` counts all pages."""

    items: list[StackView]
    page: int
    page_size: int
    total: int
    links: dict[str, str] = msgspec.field(name="_links")
