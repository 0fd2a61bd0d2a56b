"""Rules of exports of personal data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec

from domain.data_exports.events import (
    DataExportCompleted,
    DataExportDownloaded,
    DataExportExpired,
    DataExportRequested,
)
from domain.erasure.events import Subject
from domain.kernel import DomainError, Event, NotFoundError, Sealed, Stream

KEEP = timedelta(days=7)
REASONS = ("time", "request", "too_large")


class ExportNotReadyError(DomainError):
    """The archive is still being written; ask again later."""

    code = "conflict"


class Unasked(msgspec.Struct, frozen=True):
    """Nobody has asked for it."""


class Writing(msgspec.Struct, frozen=True):
    """Asked for; the archive grows."""

    request: DataExportRequested


class Ready(msgspec.Struct, frozen=True):
    """The archive may be fetched until `completed.expires_at`."""

    request: DataExportRequested
    completed: DataExportCompleted


class Gone(msgspec.Struct, frozen=True):
    """The archive was deleted."""

    request: DataExportRequested


ExportState: TypeAlias = Unasked | Writing | Ready | Gone
UNASKED: ExportState = Unasked()


def export_stream(export_id: UUID) -> Stream:
    """Where one export's facts live."""
    return Stream("DataExport", str(export_id))


def evolve(state: ExportState, event: Event) -> ExportState:
    """Apply one fact; facts of other kinds change nothing."""
    match event:
        case DataExportRequested() if isinstance(state, Unasked):
            return Writing(event)
        case DataExportCompleted() if isinstance(state, Writing):
            return Ready(state.request, event)
        case DataExportExpired() if isinstance(state, Writing | Ready):
            return Gone(state.request)
        case _:
            return state


def request(
    state: ExportState,
    *,
    export_id: UUID,
    person_id: UUID,
    subjects: Sequence[Subject],
    key: Sealed,
    until: int,
    requested_by: str,
    at: datetime,
) -> list[Event]:
    """Ask for it.  Asking for the same one again changes nothing."""
    if not isinstance(state, Unasked):
        return []
    return [
        DataExportRequested(
            export_id=export_id,
            person_id=person_id,
            subjects=sorted(set(subjects)),
            key=key,
            until=until,
            requested_by=requested_by,
            requested_at=at,
        )
    ]


def complete(state: ExportState, *, events: int, parts: int, stored_bytes: int, at: datetime) -> list[Event]:
    """Say that the archive is written.  One that is, or is gone, changes nothing.

    Raises:
        NotFoundError: nobody asked for it.
    """
    if isinstance(state, Unasked):
        raise NotFoundError("no such export")
    if not isinstance(state, Writing):
        return []
    return [
        DataExportCompleted(
            export_id=state.request.export_id,
            events=events,
            parts=parts,
            stored_bytes=stored_bytes,
            completed_at=at,
            expires_at=at + KEEP,
        )
    ]


def download(state: ExportState, *, by: str, at: datetime) -> list[Event]:
    """Begin to fetch the archive.

    Raises:
        NotFoundError: there is none, or no longer.
        ExportNotReadyError: it is still being written.
    """
    match state:
        case Writing():
            raise ExportNotReadyError("the export is still being written; try again later")
        case Ready(request=asked, completed=completed) if at < completed.expires_at:
            return [DataExportDownloaded(export_id=asked.export_id, downloaded_by=by, downloaded_at=at)]
        case _:
            raise NotFoundError("no such export")


def expire(state: ExportState, *, reason: str, at: datetime) -> list[Event]:
    """Delete the archive, whether it is ready or still being written.  One that is gone changes nothing.

    Raises:
        NotFoundError: nobody asked for it.
    """
    match state:
        case Unasked():
            raise NotFoundError("no such export")
        case Gone():
            return []
        case Writing(request=asked) | Ready(request=asked):
            return [DataExportExpired(export_id=asked.export_id, reason=reason, expired_at=at)]
