"""Rules of exports of analytics rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec

from domain.exports.events import ExportCompleted, ExportExpired, ExportFailed, ExportRequested, Wishes
from domain.kernel import DomainError, Event, NotFoundError, Stream

HELD_MAX = 8  # files one organization has asked for or keeps: together with the largest size, a bound on the disk
FORMATS = ("duckdb", "parquet", "csv")
PARTITIONS = ("day", "month", "none")
FAILURES = ("deadline", "too_large", "memory", "behind", "error")
EXPIRIES = ("time", "cancelled", "erasure")


class WishesRefusedError(DomainError):
    """What is asked for does not fit together; `field` names the part."""

    code = "validation_failed"


class FileNotReadyError(DomainError):
    """The file is still being written; ask again later."""

    code = "conflict"


class Unasked(msgspec.Struct, frozen=True):
    """Nobody has asked for it."""


class Waiting(msgspec.Struct, frozen=True):
    """Asked for; a worker writes it, or will."""

    request: ExportRequested


class Ready(msgspec.Struct, frozen=True):
    """The file may be fetched until `completed.expires_at`."""

    request: ExportRequested
    completed: ExportCompleted


class Failed(msgspec.Struct, frozen=True):
    """There is no file and will be none."""

    request: ExportRequested
    failed: ExportFailed


class Gone(msgspec.Struct, frozen=True):
    """The file was deleted, or given up before it was written."""

    request: ExportRequested
    expired: ExportExpired


ExportState: TypeAlias = Unasked | Waiting | Ready | Failed | Gone
UNASKED: ExportState = Unasked()


def export_stream(export_id: UUID) -> Stream:
    """Where one export's facts live."""
    return Stream("Export", str(export_id))


def evolve(state: ExportState, event: Event) -> ExportState:
    """Apply one fact; facts of other kinds change nothing."""
    match event:
        case ExportRequested() if isinstance(state, Unasked):
            return Waiting(event)
        case ExportCompleted() if isinstance(state, Waiting):
            return Ready(state.request, event)
        case ExportFailed() if isinstance(state, Waiting):
            return Failed(state.request, event)
        case ExportExpired() if isinstance(state, Waiting | Ready):
            return Gone(state.request, event)
        case _:
            return state


def check(wishes: Wishes) -> None:
    """Whether such a file can be written.

    Raises:
        WishesRefusedError: an unknown format or partition, or a base for what is always written whole.
    """
    if wishes.format not in FORMATS:
        raise WishesRefusedError(f"format: expected one of {', '.join(FORMATS)}", field="format")
    if wishes.partition not in PARTITIONS:
        raise WishesRefusedError(f"partition: expected one of {', '.join(PARTITIONS)}", field="partition")
    if wishes.format == "duckdb" and wishes.partition != "none":
        raise WishesRefusedError("partition: expected none, a DuckDB database is one file", field="partition")
    if wishes.format == "duckdb" and wishes.base is not None:
        raise WishesRefusedError("base: a DuckDB database is always written whole", field="base")


def request(
    state: ExportState, *, export_id: UUID, wishes: Wishes, until: int, slot: int, requested_by: str, at: datetime
) -> list[Event]:
    """Ask for it.  Asking for the same one again changes nothing.

    Raises:
        WishesRefusedError: as `check`.
    """
    check(wishes)
    if not isinstance(state, Unasked):
        return []
    return [
        ExportRequested(
            export_id=export_id, wishes=wishes, until=until, slot=slot, requested_by=requested_by, requested_at=at
        )
    ]


def complete(
    state: ExportState,
    *,
    position: int,
    rows: int,
    files: int,
    partial: bool,
    size_bytes: int,
    sha256: str,
    at: datetime,
    keep: timedelta,
) -> list[Event]:
    """Say that the file is written.  One that is, failed, or was given up changes nothing.

    Raises:
        NotFoundError: nobody asked for it.
    """
    if isinstance(state, Unasked):
        raise NotFoundError("no such export")
    if not isinstance(state, Waiting):
        return []
    return [
        ExportCompleted(
            export_id=state.request.export_id,
            position=position,
            rows=rows,
            files=files,
            partial=partial,
            size_bytes=size_bytes,
            sha256=sha256,
            completed_at=at,
            expires_at=at + keep,
        )
    ]


def fail(state: ExportState, *, reason: str, at: datetime) -> list[Event]:
    """Say that there will be no file.  What is no longer waited for cannot fail.

    Raises:
        NotFoundError: nobody asked for it.
    """
    if isinstance(state, Unasked):
        raise NotFoundError("no such export")
    if not isinstance(state, Waiting):
        return []
    return [ExportFailed(export_id=state.request.export_id, reason=reason, failed_at=at)]


def fetchable(state: ExportState, at: datetime) -> Ready:
    """The export whose file is to be fetched.

    Raises:
        NotFoundError: there is no file, or no longer.
        FileNotReadyError: it is still being written.
    """
    match state:
        case Waiting():
            raise FileNotReadyError("the export is still being written; try again later")
        case Ready(completed=completed) if at < completed.expires_at:
            return state
        case _:
            raise NotFoundError("no such export")


def expire(state: ExportState, *, reason: str, at: datetime) -> list[Event]:
    """Delete the file, or give it up while it is waited for.  What has no file and never will changes nothing.

    Raises:
        NotFoundError: nobody asked for it.
    """
    match state:
        case Unasked():
            raise NotFoundError("no such export")
        case Waiting(request=asked) | Ready(request=asked):
            return [ExportExpired(export_id=asked.export_id, reason=reason, expired_at=at)]
        case _:
            return []
