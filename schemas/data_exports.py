"""Exports of personal data as answers."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class DataExportView(msgspec.Struct, frozen=True, kw_only=True):
    """One export.  `status` is `requested`, `ready` or `expired`; `_links.download` is there while it is ready."""

    export_id: UUID
    person_id: UUID
    status: str
    requested_by: str
    requested_at: datetime
    events: int | None
    completed_at: datetime | None
    expires_at: datetime | None
    links: dict[str, str] = msgspec.field(name="_links")


class DataExportPage(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first."""

    items: list[DataExportView]
    links: dict[str, str] = msgspec.field(name="_links")
