"""API keys as requests and answers."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class NewApiKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A key to make.  `scopes`: some of `ingest`, `read`, `audit`, `admin`; `person_id` None: it acts for the caller."""

    label: str
    scopes: list[str]
    person_id: UUID | None = None
    expires_at: datetime | None = None


class ApiKeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it may be shown: never its text.  `status` is `active`, `expired` or `revoked`; `last_used_at` is the hour."""

    key_id: UUID
    label: str
    scopes: list[str]
    person_id: UUID
    status: str
    issued_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    links: dict[str, str] = msgspec.field(name="_links")


class IssuedApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to making a key.  `key` is told once: a repeat with the same `Idempotency-Key` says so and holds null."""

    key_id: UUID
    key: str | None
    repeated: bool
    label: str
    scopes: list[str]
    issued_at: datetime
    expires_at: datetime | None
    position: int
    links: dict[str, str] = msgspec.field(name="_links")


class ApiKeyPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the organization's keys; `total` counts all of them."""

    items: list[ApiKeyView]
    page: int
    page_size: int
    total: int
    links: dict[str, str] = msgspec.field(name="_links")
