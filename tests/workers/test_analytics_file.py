"""Sums that stand in tables of their own follow the rows they are sums of, whatever a batch changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import msgspec
import pytest

from tests.benchmarks.analytics import generate
from workers.analytics.file import AnalyticsFile, Batch, Stand
from workers.analytics.sums import SUM_UP

SUMS = ("agg_slot", "agg_day", "agg_begun", "agg_begun_day")
SESSIONS, CALLS = 40, 400


@pytest.fixture
def file(tmp_path: Path) -> Any:
    opened = AnalyticsFile(tmp_path / "1.duckdb", memory_mb=512)
    opened.create()
    for place, idents in generate.pages(7, SESSIONS, CALLS, tmp_path, days=9):
        batch = Batch(place, Stand(1, 1, 1), fresh=True, whole=True)
        batch.llm_sessions[generate.ORG] = idents
        opened.write(batch)
    yield opened
    opened.close()


def sums(file: AnalyticsFile) -> dict[str, list[Any]]:
    cursor = file.cursor()
    return {name: sorted(cursor.execute(f"FROM {name}").fetchall(), key=repr) for name in SUMS}


def made_again(file: AnalyticsFile) -> dict[str, list[Any]]:
    """The same sums from nothing; the file keeps its own."""
    cursor = file.cursor()
    cursor.execute("BEGIN")
    for name in SUMS:
        cursor.execute(f"DELETE FROM {name}")
    for statement in SUM_UP:
        cursor.execute(statement)
    found = {name: sorted(cursor.execute(f"FROM {name}").fetchall(), key=repr) for name in SUMS}
    cursor.execute("ROLLBACK")
    return found


def test_a_file_that_was_filled_has_them(file: AnalyticsFile) -> None:
    assert all(sums(file).values())
    assert sums(file) == made_again(file)


@pytest.mark.parametrize("days_at_once", [0, 31])
def test_sessions_that_come_and_that_are_corrected_move_them(
    file: AnalyticsFile, tmp_path: Path, days_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.analytics.sums.DAYS_AT_ONCE_MAX", days_at_once)
    before = sums(file)
    for place, idents in generate.pages(8, 20, 100, tmp_path, first=1_000, days=5):
        batch = Batch(place, Stand(1, 1, 2))
        batch.sessions[generate.ORG] = batch.llm_sessions[generate.ORG] = idents
        file.write(batch)
        # One began two days later than it seemed, and is another person's.
        rows = [msgspec.json.decode(line) for line in (place / "sessions").read_bytes().splitlines()]
        rows[0]["started_at"] = rows[1]["started_at"]
        rows[0]["person_id"] = str(UUID(int=999))
        (place / "sessions").write_bytes(msgspec.json.encode(rows[0]))
        for name in ("usage", "llm_sessions", *(path.name for path in place.glob("calls.*"))):
            (place / name).write_bytes(b"")
        file.write(Batch(place, Stand(1, 1, 3), sessions={generate.ORG: [rows[0]["session_id"]]}))
    assert sums(file) != before
    assert sums(file) == made_again(file)


class Exhausted:
    """A connection that has no memory left for the end of a transaction, as beside questions that take all of it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.execute_all = connection.execute
        self.close = connection.close

    def execute(self, query: str, values: Any = None) -> Any:
        if query in {"COMMIT", "ROLLBACK"}:
            raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate data of size 2.0 KiB")
        return self.execute_all(query, values)


def test_a_batch_that_could_not_even_be_undone_leaves_nothing_and_is_written_the_next_time(
    file: AnalyticsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sums(file)
    ((place, idents),) = generate.pages(8, SESSIONS, CALLS, tmp_path, first=1_000, days=5)
    batch = Batch(place, Stand(1, 1, 2))
    batch.sessions[generate.ORG] = batch.llm_sessions[generate.ORG] = idents
    monkeypatch.setattr(file, "_connection", Exhausted(file.cursor()))
    with pytest.raises(duckdb.OutOfMemoryException):
        file.write(batch)
    assert sums(file) == before
    assert file.stand == Stand(1, 1, 1)
    assert file.write(batch) > 0
    assert sums(file) == made_again(file) != before
    assert file.stand == Stand(1, 1, 2)


def test_people_who_are_erased_and_organizations_that_go_leave_them(file: AnalyticsFile, tmp_path: Path) -> None:
    row = file.cursor().execute("SELECT person_id FROM fact_session LIMIT 1").fetchone()
    assert row is not None
    file.write(Batch(tmp_path / "none", Stand(1, 1, 2), erased={generate.ORG: [row[0]]}))
    assert sums(file) == made_again(file)
    assert str(row[0]) not in repr(sums(file))
    file.write(Batch(tmp_path / "none", Stand(1, 1, 3), purged=[generate.ORG]))
    assert sums(file) == {name: [] for name in SUMS}
