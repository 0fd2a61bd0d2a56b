"""One organization's rows in a DuckDB database of their own: copied in one snapshot, then described."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from projections.analytics.exported import EXPORTED, INFO, INFO_COLUMNS, KPI_BETWEEN, SINCE, Source, views
from projections.analytics.kpis import MICRO_USD
from projections.analytics.schema import SCHEMA_VERSION, Column
from workers.analytics.export.job import Job, Order
from workers.analytics.file import META

if TYPE_CHECKING:
    import duckdb

STORAGE_VERSION = "v1.2.0"  # of the database's file: every DuckDB from 1.2 on opens it
THREADS = 1


def wanted(tables: Sequence[str]) -> list[Source]:
    """The tables of an export."""
    return [source for name, source in EXPORTED.items() if not tables or name in tables]


def copy(connection: duckdb.DuckDBPyConnection, job: Job, path: Path) -> int:
    """Copy the rows into a new database at `path`; up to which position they go.

    All tables are read in one transaction, so they fit together.  It holds up nobody: the worker goes on writing.

    Raises:
        StoppedError: the job was told to end.
        duckdb.Error: it was interrupted, or failed.
    """
    order = job.order
    sources, name = wanted(order.wishes.tables), f"export_{order.export_id.hex}"
    job.begin("copying", len(sources))
    run = connection.execute
    run(f"ATTACH '{_quoted(path)}' AS {name} (STORAGE_VERSION '{STORAGE_VERSION}')")
    try:
        run("BEGIN")
        found = run(f"SELECT position FROM {META}").fetchone()  # noqa: S608
        position = int(found[0]) if found else 0
        for source in sources:
            job.step(_copy_table(connection, source, name, order))
        columns = ", ".join(f"{column.name} {column.type}" for column in INFO_COLUMNS)
        run(f"CREATE TABLE {name}.{INFO} ({columns})")
        now = datetime.now(UTC).replace(tzinfo=None)
        values = [order.export_id, order.org_id, position, order.since, SCHEMA_VERSION, now]
        run(f"INSERT INTO {name}.{INFO} VALUES (?, ?, ?, ?, ?, ?)", values)  # noqa: S608
        run("COMMIT")
    except BaseException:
        with contextlib.suppress(Exception):
            run("ROLLBACK")
        with contextlib.suppress(Exception):
            run(f"DETACH {name}")
        raise
    run(f"DETACH {name}")
    return position


def _copy_table(connection: duckdb.DuckDBPyConnection, source: Source, name: str, order: Order) -> int:
    table = source.table.name
    columns = ", ".join(f"{column.name} {column.type}" for column in source.columns)
    connection.execute(f"CREATE TABLE {name}.{table} ({columns})")
    where, values = source.whose, list[Any]([order.org_id])
    if order.since is not None and source.moment is not None:
        where = f"{where} AND {SINCE.get(table, source.moment)} >= ?"
        values.append(order.since)
    found = connection.execute(
        f"INSERT INTO {name}.{table} SELECT {source.names} FROM {table} WHERE {where}",  # noqa: S608
        values,
    ).fetchone()
    return int(found[0]) if found else 0


def opened(job: Job, path: Path) -> duckdb.DuckDBPyConnection:
    """The database by itself: with memory of its own, so that writing files takes none from questions."""
    import duckdb  # noqa: PLC0415

    return duckdb.connect(
        str(path),
        config={
            "memory_limit": f"{job.order.memory_mb}MB",
            "threads": THREADS,
            "temp_directory": str(job.order.folder / "tmp"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )


def describe(connection: duckdb.DuckDBPyConnection, tables: Sequence[str]) -> None:
    """Add the views, and a comment to every table, view and column."""
    sources = wanted(tables)
    names = {source.table.name for source in sources}
    run = connection.execute
    run("BEGIN")  # one write to the disk, not one per comment
    run(MICRO_USD)
    if {"fact_session", "agg_usage"} <= names:
        run(KPI_BETWEEN)
    for source in sources:
        _comment(connection, "TABLE", source.table.name, source.table.comment, source.columns)
    for view in views(names):
        run(f"CREATE VIEW {view.name} AS {view.sql}")
        columns = tuple(Column(name, "", comment) for name, comment in view.columns)
        _comment(connection, "VIEW", view.name, view.comment, columns)
    _comment(connection, "TABLE", INFO, "What this file is: one row", INFO_COLUMNS)
    run("COMMIT")


def _comment(
    connection: duckdb.DuckDBPyConnection, kind: str, name: str, comment: str, columns: tuple[Column, ...]
) -> None:
    connection.execute(f"COMMENT ON {kind} {name} IS '{_quoted(comment)}'")
    for column in columns:
        connection.execute(f"COMMENT ON COLUMN {name}.{column.name} IS '{_quoted(column.comment)}'")


def _quoted(text: object) -> str:
    return str(text).replace("'", "''")
