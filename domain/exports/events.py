"""Facts about exports of analytics rows."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from domain.kernel import Event


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What a file shall hold.

    `format` is `duckdb`, `parquet` or `csv`; `partition` is `day`, `month` or `none`.  `tables` are names, none means all.
    `since`: rows from this moment on.  `base`: leave out what has not changed since that export, which must have had the same
    wishes.
    """

    format: str
    partition: str
    tables: list[str] = []
    since: datetime | None = None
    base: UUID | None = None


class ExportRequested(Event, frozen=True, kw_only=True, tag="export.requested.v1"):
    """Somebody asked for a file that knows at least every event up to position `until`.

    `slot` is the place it takes among those the organization may keep.
    """

    export_id: UUID
    wishes: Wishes
    until: int
    slot: int
    requested_by: str
    requested_at: datetime


class ExportCompleted(Event, frozen=True, kw_only=True, tag="export.completed.v1"):
    """The file is written, with the rows as of `position`, and may be fetched until `expires_at`.

    `rows` are those in the file; `size_bytes` and `sha256` are the file's.  `partial`: it holds only what changed since
    `wishes.base`.
    """

    export_id: UUID
    position: int
    rows: int
    files: int
    partial: bool
    size_bytes: int
    sha256: str
    completed_at: datetime
    expires_at: datetime


class ExportFailed(Event, frozen=True, kw_only=True, tag="export.failed.v1"):
    """There will be no file.  `reason` is `deadline`, `too_large`, `memory`, `behind` or `error`."""

    export_id: UUID
    reason: str
    failed_at: datetime


class ExportExpired(Event, frozen=True, kw_only=True, tag="export.expired.v1"):
    """The file is deleted, or will not be written.  `reason` is `time`, `cancelled` or `erasure`."""

    export_id: UUID
    reason: str
    expired_at: datetime
