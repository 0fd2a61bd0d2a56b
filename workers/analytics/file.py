"""The DuckDB file: rows, checkpoint and the version of both in one place, changed in one transaction at a time.

A folder holds one file in use, named by `CURRENT`; a rebuild fills another one, and replacing `CURRENT` is the moment readers
of a next start see it.  DuckDB replays its log after a kill, so that a file opens with the last committed batch.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from projections.analytics import facts, schema
from projections.analytics.changes import USAGE_COLUMNS
from projections.analytics.schema import BY_NAME, Table
from workers.analytics.sums import OF_SESSIONS, OF_USAGE, REST, SUM_UP, SUMS, USAGE

if TYPE_CHECKING:
    import duckdb

CURRENT = "CURRENT"
SUFFIX = ".duckdb"
SPILL = ".tmp"  # the folder beside a file into which DuckDB puts what memory does not hold
META = "crewkit_analytics"
THREADS = 2  # while it is filled
CHECKPOINT_BYTES = "64MB"  # of DuckDB's own log, after which it is folded into the file
CSV_TABLES = {"calls": "fact_llm_call", "tools": "fact_tool_call", "prompts": "fact_prompt"}
JSON_TABLES = {"sessions": "fact_session", "llm_sessions": "fact_llm_session", "subagents": "fact_subagent"}

_META_DDL = f"""
CREATE TABLE {META} (
    schema_version INTEGER, engine VARCHAR, sessions_version INTEGER, generation INTEGER, position BIGINT,
    updated_at TIMESTAMP
)
"""


class Stand(msgspec.Struct, frozen=True):
    """Of which version and generation of the sessions read model the rows are, and up to which position of the log."""

    sessions_version: int
    generation: int
    position: int


class Batch(msgspec.Struct):
    """What one transaction changes.  The rows lie as files in `folder`, by the names of `CSV_TABLES` and `JSON_TABLES`, and
    `usage`; a missing file means no rows.

    `fresh`: nothing of it is in the file yet; `whole`: it is the last of those that fill a file.  `sessions` and `llm_sessions` are the ids, by organization, whose rows are
    replaced by those in the files; `erased` people whose ids go, `purged` organizations
    all of whose rows go.  `dimensions` are small tables by name, replaced whole.
    """

    folder: Path
    stand: Stand
    fresh: bool = False
    whole: bool = False
    sessions: dict[UUID, list[str]] = {}
    llm_sessions: dict[UUID, list[str]] = {}
    erased: dict[UUID, list[UUID]] = {}
    purged: list[UUID] = []
    dimensions: dict[str, list[dict[str, Any]]] = {}

    def path(self, name: str) -> Path:
        """The file that holds the rows of that name."""
        return self.folder / name

    def parts(self, name: str) -> list[Path]:
        """The files with rows of that name: `name`, and `name.…` where it is in parts, which DuckDB reads side by side."""
        found = [self.folder / name, *sorted(self.folder.glob(f"{name}.*"))]
        return [path for path in found if _has_rows(path)]


class AnalyticsFile:
    """One open file.  `write` and what it calls are for one thread; `cursor` gives others a connection of their own."""

    def __init__(self, path: Path, *, memory_mb: int, threads: int = THREADS) -> None:
        """Open or create.

        Raises:
            duckdb.Error: it is no file of ours, or another process has it.
        """
        import duckdb  # noqa: PLC0415  takes 0.1 s and 40 MB: only for who opens a file

        self.path = path
        self._filling = False
        scratch = path.with_suffix(SPILL)
        shutil.rmtree(
            scratch, ignore_errors=True
        )  # of a process that was killed: DuckDB itself never looks at it again
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_mb}MB",
            "threads": threads,
            "temp_directory": str(scratch),
            "checkpoint_threshold": CHECKPOINT_BYTES,
            "preserve_insertion_order": False,  # or files are read side by side and written one after the other
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._opened: duckdb.DuckDBPyConnection = duckdb.connect(str(path), config=self._config)
        self._connection = self._opened.cursor()  # the writer's

    @property
    def stand(self) -> Stand | None:
        """Where it stands; None while it is empty or of another version of schema or engine."""
        tables = self._connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE table_name = ?", [META]
        ).fetchone()
        if not tables or not tables[0]:
            return None
        row = self._connection.execute(
            f"SELECT sessions_version, generation, position FROM {META}"  # noqa: S608  a constant
            " WHERE schema_version = ? AND engine = ?",
            [schema.SCHEMA_VERSION, engine()],
        ).fetchone()
        return None if row is None else Stand(*row)

    def settle(self) -> None:
        """Now questions are asked: each of the callers' threads does its own work, and what is written has one.

        A thread of DuckDB's own would write at full priority beside them, whatever the writer's (host.step_back) is.
        `_config` stays as it was: `apart` must open with what the file was first opened with.
        """
        self._connection.execute("SET threads = 1")

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Another connection to the same data, for another thread."""
        return self._opened.cursor()

    def apart(self) -> duckdb.DuckDBPyConnection:
        """A connection that outlives `close`: for work that may take longer than the file is in use.

        Raises:
            FileNotFoundError: the file was replaced and removed; DuckDB would make an empty one in its place.
        """
        import duckdb  # noqa: PLC0415

        if not self.path.is_file():
            raise FileNotFoundError(self.path)
        return duckdb.connect(str(self.path), config=self._config)

    def close(self) -> None:
        """Fold DuckDB's log into the file and give it up."""
        try:
            self._connection.close()
        finally:
            self._opened.close()

    def create(self) -> None:
        """Make the tables of an empty file."""
        run = self._connection.execute
        run("BEGIN")
        for statement in schema.statements():
            run(statement)
        run(_META_DDL)
        run("COMMIT")

    def write(self, batch: Batch) -> int:
        """Apply a batch and its checkpoint in one transaction; how many rows were inserted.

        Batches that fill a file share one, which the last of them (`whole`) commits: rows then go into the file once, and not
        into DuckDB's log first.
        """
        run = self._connection.execute
        begun, self._filling = self._filling, batch.fresh and not batch.whole
        try:
            if not begun:
                run("BEGIN")
            written = self._apply(batch)
            if not self._filling:
                run(f"DELETE FROM {META}")  # noqa: S608
                run(
                    f"INSERT INTO {META} VALUES (?, ?, ?, ?, ?, CAST(now() AT TIME ZONE 'UTC' AS TIMESTAMP))",  # noqa: S608
                    [schema.SCHEMA_VERSION, engine(), *msgspec.structs.astuple(batch.stand)],
                )
                run("COMMIT")
        except BaseException:
            self._filling = False
            self._roll_back()
            raise
        return written

    def _roll_back(self) -> None:
        """Leave no transaction behind; where questions left no memory even to say ROLLBACK, by giving its connection up."""
        try:
            self._connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001  whatever it was, nothing may be written in what is left of that transaction
            self._connection.close()
            self._connection = self._opened.cursor()

    def _apply(self, batch: Batch) -> int:
        written = 0
        if not batch.fresh:
            self._mark(batch, first=True)
            self._clear(batch)
        for name, table in JSON_TABLES.items():
            if _has_rows(batch.path(name)):
                written += self._insert(BY_NAME[table], _json_source(BY_NAME[table], batch.path(name)))
        for name, table in CSV_TABLES.items():
            if paths := batch.parts(name):
                written += self._replace(BY_NAME[table], paths, fresh=batch.fresh)
        written += self._usage(batch)
        self._erase(batch)
        if not batch.fresh:
            self._mark(batch, first=False)
            for sums in SUMS:
                sums.again(self._connection.execute)
        elif batch.whole:
            for statement in SUM_UP:
                self._connection.execute(statement)
        self._dimensions(batch)
        return written

    def _mark(self, batch: Batch, *, first: bool) -> None:
        """Note whose sums have to be made again: of what the batch replaces, then of what it brings."""
        run = self._connection.execute
        if first:
            for sums in SUMS:
                run(sums.mark)
                for org_id, people in batch.erased.items():
                    run(sums.note_theirs, [org_id, people])
        for sums, ids_of in ((OF_USAGE, batch.llm_sessions), (OF_SESSIONS, batch.sessions)):
            for org_id, ids in ids_of.items():
                run(sums.note_these, [org_id, ids])

    def _erase(self, batch: Batch) -> None:
        for org_id, people in batch.erased.items():
            for table in ("fact_session", "fact_llm_session", "fact_prompt", "agg_usage"):
                self._connection.execute(
                    f"UPDATE {table} SET person_id = NULL WHERE org_id = ? AND person_id IN (SELECT unnest(?::UUID[]))",  # noqa: S608
                    [org_id, people],
                )

    def _clear(self, batch: Batch) -> None:
        run = self._connection.execute
        for org_id, ids in batch.sessions.items():
            given = "(SELECT hash(?::UUID, unnest(?::VARCHAR[])))"
            run(f"DELETE FROM fact_session WHERE row_hash IN {given}", [org_id, ids])  # noqa: S608
        for org_id, ids in batch.llm_sessions.items():
            given = "(SELECT hash(?::UUID, unnest(?::VARCHAR[])))"
            run(f"DELETE FROM fact_llm_session WHERE row_hash IN {given}", [org_id, ids])  # noqa: S608
            run(f"DELETE FROM fact_subagent WHERE hash(org_id, llm_session_id) IN {given}", [org_id, ids])  # noqa: S608
            run(f"DELETE FROM agg_usage WHERE row_hash IN {given}", [org_id, ids])  # noqa: S608
        for org_id in batch.purged:
            for table in schema.TABLES:
                if table.columns[0].name == "org_id":
                    run(f"DELETE FROM {table.name} WHERE org_id = ?", [org_id])  # noqa: S608

    def _insert(self, table: Table, source: str) -> int:
        names = [column.name for column in table.columns]
        values = [column.made_of or column.name for column in table.columns]
        found = self._connection.execute(
            f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {', '.join(values)} FROM {source}"  # noqa: S608
        ).fetchone()
        return int(found[0]) if found else 0

    def _replace(self, table: Table, paths: Sequence[Path], *, fresh: bool) -> int:
        """Insert rows in place of those with the same keys."""
        source = _csv_source({column.name: column.type for column in table.told}, paths)
        if not fresh:
            key = next(column.made_of for column in table.columns if column.name == "row_hash")
            self._connection.execute(
                f"DELETE FROM {table.name} WHERE row_hash IN (SELECT {key} FROM {source})"  # noqa: S608
            )
        return self._insert(table, source)

    def _usage(self, batch: Batch) -> int:
        written = 0
        if paths := batch.parts("usage"):
            found = self._connection.execute(USAGE.format(source=_csv_source(USAGE_COLUMNS, paths))).fetchone()
            written = int(found[0]) if found else 0
        for org_id, ids in batch.llm_sessions.items():
            self._connection.execute(REST, [org_id, ids])
        return written

    def _dimensions(self, batch: Batch) -> None:
        for table, rows in batch.dimensions.items():
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608
            self._put(BY_NAME[table], rows)
        self._models()

    def _models(self) -> None:
        """Give models that were used for the first time their row."""
        used = self._connection.execute(
            "SELECT DISTINCT model FROM agg_usage WHERE model IS NOT NULL EXCEPT SELECT model FROM dim_model"
        ).fetchall()
        self._put(BY_NAME["dim_model"], facts.models((row[0] for row in used), datetime.now(UTC)))

    def _put(self, table: Table, rows: Iterable[dict[str, Any]]) -> None:
        names = [column.name for column in table.columns]
        marks = ", ".join("?" * len(names))
        values = [[row.get(name) for name in names] for row in rows]
        if values:
            self._connection.executemany(f"INSERT INTO {table.name} VALUES ({marks})", values)  # noqa: S608

    def repeats(self, org_id: UUID, messages: Sequence[str]) -> list[str]:
        """Keys of calls that go by one of these message ids: which of them counts may have changed."""
        rows = self._connection.execute(
            "SELECT call_key FROM fact_llm_call WHERE message_hash IN (SELECT hash(?::UUID, unnest(?::VARCHAR[])))",
            [org_id, messages],
        ).fetchall()
        return [row[0] for row in rows]

    def owners(self, org_id: UUID, calls: Sequence[str]) -> list[str]:
        """Conversations that own these calls so far."""
        rows = self._connection.execute(
            "SELECT DISTINCT llm_session_id FROM fact_llm_call"
            " WHERE row_hash IN (SELECT hash(?::UUID, unnest(?::VARCHAR[])))",
            [org_id, calls],
        ).fetchall()
        return [row[0] for row in rows]

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        return {
            name: int(size)
            for name, size in self._connection.execute(
                "SELECT table_name, estimated_size FROM duckdb_tables() WHERE NOT internal"
            ).fetchall()
            if name in BY_NAME
        }


def _has_rows(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def engine() -> str:
    """The version of DuckDB: hashes and files are its own."""
    import duckdb  # noqa: PLC0415

    return str(duckdb.__version__)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _types(columns: dict[str, str]) -> str:
    return "{" + ", ".join(f"{_literal(name)}: {_literal(kind)}" for name, kind in columns.items()) + "}"


def _csv_source(columns: dict[str, str], paths: Sequence[Path]) -> str:
    """Rows as Postgres' COPY writes them: an empty text is quoted, nothing is NULL."""
    return (
        f"read_csv([{', '.join(_literal(str(path)) for path in paths)}], header = false, auto_detect = false, delim = ',', quote = '\"', escape = '\"',"
        f" nullstr = '', allow_quoted_nulls = false, strict_mode = true, columns = {_types(columns)})"
    )


def _json_source(table: Table, path: Path) -> str:
    columns = {column.name: column.type for column in table.told}
    return f"read_json({_literal(str(path))}, format = 'newline_delimited', columns = {_types(columns)})"


def current(folder: Path) -> Path | None:
    """The file in use; None where there is none."""
    try:
        name = (folder / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    path = folder / name
    return path if name and path.is_file() else None


def next_path(folder: Path) -> Path:
    """Where the next file goes: a name never used in this folder."""
    used = [int(path.name.split(".")[0]) for path in folder.glob(f"*{SUFFIX}") if path.name.split(".")[0].isdigit()]
    return folder / f"{max(used, default=0) + 1}{SUFFIX}"


def switch(folder: Path, path: Path) -> None:
    """Make `path` the file in use, at once or not at all."""
    draft = folder / f".{CURRENT}.{os.getpid()}"
    with draft.open("w", encoding="utf-8") as file:
        file.write(path.name + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / CURRENT)


def sweep(folder: Path, keep: Path | None, read: Path | None = None) -> None:
    """Remove every other file, and what was spilled for it: of rebuilds that were cut off, and those that were replaced.

    `read` is one that somebody still has open.  It can lose its name, but not the folder in which more is written for it.
    """
    used = {path.stem for path in (keep, read) if path is not None}
    for path in folder.iterdir():
        if not path.name.split(".")[0].isdigit():
            continue
        if SUFFIX in path.name and (keep is None or not path.name.startswith(keep.name)):
            path.unlink(missing_ok=True)
        elif path.suffix == SPILL and path.stem not in used:
            shutil.rmtree(path, ignore_errors=True)
