"""Facts about exports of personal data."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.erasure.events import Subject
from domain.kernel import Event, Sealed


class DataExportRequested(Event, frozen=True, kw_only=True, tag="data_export.requested.v1"):
    """Somebody asked for everything about `person_id`, as the log stood at position `until`.

    `key` (base64) encrypts the archive, and is sealed for the person: erasing them makes an archive that is still there
    unreadable too.
    """

    export_id: UUID
    person_id: UUID
    subjects: list[Subject]
    key: Sealed
    until: int
    requested_by: str
    requested_at: datetime


class DataExportCompleted(Event, frozen=True, kw_only=True, tag="data_export.completed.v1"):
    """The archive is written and may be fetched until `expires_at`.  `events` is how many it tells of."""

    export_id: UUID
    events: int
    parts: int
    stored_bytes: int
    completed_at: datetime
    expires_at: datetime


class DataExportDownloaded(Event, frozen=True, kw_only=True, tag="data_export.downloaded.v1"):
    """Somebody who may began to fetch the archive."""

    export_id: UUID
    downloaded_by: str
    downloaded_at: datetime


class DataExportExpired(Event, frozen=True, kw_only=True, tag="data_export.expired.v1"):
    """The archive is deleted.  `reason` is `time`, `request` or `too_large`."""

    export_id: UUID
    reason: str
    expired_at: datetime
