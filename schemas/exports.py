"""Exports of analytics rows as requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

TABLES_MAX = 50
_Name = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,62}$")]


class ExportWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file shall hold.

    `partition` (folders per day or month, `none`: one file per table) is `day` for Parquet and `none` for others where it is
    not given.  `tables`: all where none are named.  `since`: rows from this moment on.  `base`: only what has changed since that
    export.
    """

    format: Literal["duckdb", "parquet", "csv"] = "duckdb"
    partition: Literal["day", "month", "none"] | None = None
    tables: Annotated[list[_Name], msgspec.Meta(max_length=TABLES_MAX)] = []
    since: datetime | None = None
    base: UUID | None = None


class ExportProgress(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is doing: `done` of `total` tables are through the stage `copying`, `writing` or `storing`."""

    stage: str
    done: int
    total: int
    rows: int
    tries: int


class ExportView(msgspec.Struct, frozen=True, kw_only=True):
    """One export.  `status` is `requested`, `ready`, `failed` or `expired`; `_links.download` is there while it is ready.

    `position` says up to which event the rows go.  `partial`: the file holds only what changed since `base`.
    """

    export_id: UUID
    status: str
    reason: str | None
    format: str
    partition: str
    tables: list[str]
    since: datetime | None
    base: UUID | None
    requested_by: str
    requested_at: datetime
    progress: ExportProgress | None
    position: int | None
    rows: int | None
    files: int | None
    partial: bool
    size_bytes: int | None
    sha256: str | None
    completed_at: datetime | None
    expires_at: datetime | None
    links: dict[str, str] = msgspec.field(name="_links")


class ExportPage(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first."""

    items: list[ExportView]
    links: dict[str, str] = msgspec.field(name="_links")
