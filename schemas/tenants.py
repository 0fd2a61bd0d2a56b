"""Organizations as requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class NewOrganization(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An organization to found.  Without a `slug` one is made of the name; `region` is `na` or `eu`."""

    name: str
    slug: str | None = None
    region: str = "na"


class OrganizationPatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to change.  `settings` are merged: a value of null removes that setting.  `coaching_enforcement`: `soft`, `hard`."""

    name: str | None = None
    slug: str | None = None
    settings: dict[str, Any] | None = None
    coaching_enforcement: str | None = None


class Confirmation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The slug of what is to be deleted."""

    confirm: str | None = None


class OrganizationView(msgspec.Struct, frozen=True, kw_only=True):
    """An organization.  `org_id` and `external_id` repeat id and slug under older names; `permission` is the caller's."""

    organization_id: UUID
    org_id: UUID
    slug: str
    external_id: str
    name: str
    region: str
    api_base_url: str
    settings: dict[str, Any]
    coaching_enforcement: str
    permission: str | None
    created_at: datetime
    updated_at: datetime
    links: dict[str, str] = msgspec.field(name="_links")


class OrganizationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of organizations.  `total` counts all pages."""

    items: list[OrganizationView]
    page: int
    page_size: int
    total: int
    links: dict[str, str] = msgspec.field(name="_links")


class SlugAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a slug is free; `reason` says why not: it cannot be a slug, is reserved, or is taken."""

    slug: str
    available: bool
    reason: str | None
    links: dict[str, str] = msgspec.field(name="_links")
