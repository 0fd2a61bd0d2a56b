"""Erasures and exports of personal data as lists: folded purely, and twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from domain.data_exports.events import (
    DataExportCompleted,
    DataExportDownloaded,
    DataExportExpired,
    DataExportRequested,
)
from domain.erasure.events import ErasedSubject, ErasureCertified, ErasureRequested, Subject
from domain.kernel import Event, Sealed
from projections import data_exports, erasure
from projections.base import Projection, Rows
from tests.projections.test_directory import ORG, PERSON, recorded

AT = datetime(2026, 11, 25, 4, tzinfo=UTC)
ID = UUID(int=7)
SUBJECT = Subject(ORG, PERSON)
ASKED = ErasureRequested(
    erasure_id=ID, subjects=[SUBJECT], reason="subject_request", requested_by="key:1", requested_at=AT
)
CERTIFIED = ErasureCertified(
    erasure_id=ID,
    subjects=[ErasedSubject(org_id=ORG, subject=PERSON, key_sha256=None, key_destroyed_at=AT, position=3)],
    reason="subject_request",
    requested_by="key:1",
    requested_at=AT,
    certified_at=AT,
    note="note",
    public_key="key",
)
WISH = DataExportRequested(
    export_id=ID,
    person_id=PERSON,
    subjects=[SUBJECT],
    key=Sealed(PERSON, box="box"),
    until=9,
    requested_by="key:1",
    requested_at=AT,
)
WRITTEN = DataExportCompleted(
    export_id=ID, events=3, parts=1, stored_bytes=99, completed_at=AT, expires_at=AT + timedelta(days=7)
)
FETCHED = DataExportDownloaded(export_id=ID, downloaded_by="key:1", downloaded_at=AT)
OVER = DataExportExpired(export_id=ID, reason="time", expired_at=AT)


def folded(projection: Projection, *events: Event, times: int = 1) -> Any:
    rows = Rows()
    for _ in range(times):
        for position, event in enumerate(events, 1):
            projection.fold(rows, recorded(position, event))
    (table,) = projection.tables
    found = list(rows.all(table))
    return found[0] if found else None


def test_an_erasure_is_open_until_it_is_certified() -> None:
    row = folded(erasure.PROJECTION, ASKED)
    assert (row.subjects, row.certified_at, row.note) == (1, None, None)
    row = folded(erasure.PROJECTION, ASKED, CERTIFIED)
    assert (row.certified_at, row.note, row.public_key) == (AT, "note", "key")
    assert folded(erasure.PROJECTION, ASKED, CERTIFIED, times=2) == row
    assert folded(erasure.PROJECTION, CERTIFIED) is None


def test_an_export_is_written_fetched_and_over() -> None:
    assert folded(data_exports.PROJECTION, WISH).status == "requested"
    row = folded(data_exports.PROJECTION, WISH, WRITTEN, FETCHED, FETCHED)
    assert (row.status, row.events, row.downloads) == ("ready", 3, 2)
    over = folded(data_exports.PROJECTION, WISH, WRITTEN, FETCHED, OVER)
    assert (over.status, over.downloads, over.expired_at) == ("expired", 1, AT)
    assert folded(data_exports.PROJECTION, WISH, WRITTEN, FETCHED, OVER, times=2) == over
    assert folded(data_exports.PROJECTION, FETCHED, OVER) is None
