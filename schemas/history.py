"""The event stream as answers: raw history and the audit view of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class HistoryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One stored event.  Sealed values in `data` show as `{"sealed": true}` unless the caller may open them.

    `position` is its place in the one order of the log; `stream` reads `"Kind:id"`; `version` counts inside the stream.
    """

    position: int
    event_id: UUID
    stream: str
    version: int
    type: str
    recorded_at: datetime
    data: dict[str, Any]
    meta: dict[str, Any]
    links: dict[str, str] = msgspec.field(name="_links")


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """`next_cursor` None: this was the last page.  `as_of` is the position the answer is bounded by."""

    items: list[HistoryEvent]
    next_cursor: str | None
    as_of: int
    links: dict[str, str] = msgspec.field(name="_links")


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One deed for people: who (`actor`) did what (`action`) to which thing (`resource_type`, `resource_id`), and when.

    `summary` says it in a sentence; `details` is the event's data with sealed values opened where that is possible.
    """

    event_id: UUID
    position: int
    at: datetime
    actor: str
    actor_kind: str
    action: str
    resource_type: str
    resource_id: str
    summary: str
    request_id: str | None
    reason: str | None
    details: dict[str, Any]
    links: dict[str, str] = msgspec.field(name="_links")


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """`next_cursor` None: this was the last page."""

    items: list[AuditEntry]
    next_cursor: str | None
    as_of: int
    links: dict[str, str] = msgspec.field(name="_links")


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """Values a filter takes."""

    items: list[str]
