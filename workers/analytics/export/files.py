"""Tables as files: hive-partitioned Parquet or CSV, of which only those partitions are written that changed since a base.

A partition is told by how many rows it has and by sums of their hashes.  Late facts, corrections and erasures change it, so
whoever takes the changed partitions of an export in place of their own has what a whole export would hold.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from projections.analytics.dictionary import page
from projections.analytics.exported import Source
from projections.analytics.schema import SCHEMA_VERSION, Column
from workers.analytics.export.database import wanted
from workers.analytics.export.job import Job
from workers.analytics.file import engine

if TYPE_CHECKING:
    import duckdb

FORMAT_VERSION = 1
WHOLE = ""  # the name of the only partition of a table that is not divided
# Where rows stand of which no moment is known.  The name for NULL that Hive has keeps pandas from reading the folder at all.
UNKNOWN = {"day": "1970-01-01", "month": "1970-01"}
FLUSH_ROWS = 50_000  # per open partition, so that memory does not grow with the number of days
PIECE_BYTES = 1024 * 1024
PATTERNS = {"day": "%Y-%m-%d", "month": "%Y-%m"}
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
# Cells that a spreadsheet would take for a formula, and those that look like the mark itself, get a mark in front.
_MARK = "''''"  # an apostrophe, in SQL
_DANGEROUS = "^[=+\\-@\\t\\r\\n''＝＋－＠]"


class FileEntry(msgspec.Struct, frozen=True):
    """One file below the folder."""

    path: str
    size_bytes: int
    sha256: str


class PartEntry(msgspec.Struct, frozen=True):
    """One partition of a table; `digest` changes with any of its rows."""

    digest: str
    rows: int
    files: tuple[FileEntry, ...]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds once this export was put into it, by table and partition.

    `partial`: the archive brings only what differs from `base`; everything else is in the folder already.
    """

    format_version: int = FORMAT_VERSION
    schema_version: int = SCHEMA_VERSION
    engine: str
    export_id: str
    org_id: str
    position: int
    format: str
    partition: str
    base: str | None
    partial: bool
    tables: dict[str, dict[str, PartEntry]]


def comparable(base: Manifest | None) -> bool:
    """Whether digests of a manifest mean the same as ours."""
    return base is not None and (base.format_version, base.schema_version, base.engine) == (
        FORMAT_VERSION,
        SCHEMA_VERSION,
        engine(),
    )


class Packed(msgspec.Struct, frozen=True):
    """What came of it: `rows` and `files` are those in the archive."""

    manifest: Manifest
    rows: int
    files: int


def pack(connection: duckdb.DuckDBPyConnection, job: Job, position: int, base: Manifest | None, target: Path) -> Packed:
    """Write the tables as files into a zip file at `target`.

    Raises:
        StoppedError: the job was told to end.
    """
    wishes, known = job.order.wishes, base if comparable(base) else None
    sources = wanted(wishes.tables)
    job.begin("writing", len(sources))
    connection.execute(f"SET partitioned_write_flush_threshold = {FLUSH_ROWS}")
    tables: dict[str, dict[str, PartEntry]] = {}
    rows = files = 0
    # Parquet is compressed already; a text file gains much.
    how = zipfile.ZIP_STORED if wishes.format == "parquet" else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(target, "w", how, allowZip64=True) as archive:
        for source in sources:
            before = known.tables.get(source.table.name, {}) if known else {}
            found = _table(connection, job, source, before, archive)
            tables[source.table.name] = found
            fresh = [part for name, part in found.items() if before.get(name) is not part]
            rows += sum(part.rows for part in fresh)
            files += sum(len(part.files) for part in fresh)
            job.step()
        manifest = Manifest(
            engine=engine(),
            export_id=str(job.order.export_id),
            org_id=str(job.order.org_id),
            position=position,
            format=wishes.format,
            partition=wishes.partition,
            base=str(wishes.base) if known else None,
            partial=known is not None,
            tables=tables,
        )
        archive.writestr("data-dictionary.md", page())
        archive.writestr("manifest.json", msgspec.json.encode(manifest))
    return Packed(manifest, rows, files)


def _table(
    connection: duckdb.DuckDBPyConnection,
    job: Job,
    source: Source,
    before: dict[str, PartEntry],
    archive: zipfile.ZipFile,
) -> dict[str, PartEntry]:
    name, partition = source.table.name, job.order.wishes.partition
    divided = partition in PATTERNS and source.moment is not None
    key = (
        f"coalesce(strftime({source.moment}, '{PATTERNS[partition]}'), '{UNKNOWN[partition]}')"
        if divided
        else f"'{WHOLE}'"
    )
    digests = _digests(connection, source, key) or {UNKNOWN[partition] if divided else WHOLE: ("", 0)}
    stale = [part for part, told in digests.items() if part not in before or before[part].digest != told[0]]
    if not stale:
        return {part: before[part] for part in digests}
    folder = job.order.folder / "out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write(connection, job, source, key if divided else None, stale if len(stale) < len(digests) else None, folder)
    found = {part: before[part] for part in digests if part not in stale}
    for part in stale:
        place = folder / name / f"{partition}={part}" if divided else folder / name
        found[part] = PartEntry(digests[part][0], digests[part][1], tuple(_add(archive, job, folder, place)))
    shutil.rmtree(folder)
    return {part: found[part] for part in sorted(found)}


def _digests(connection: duckdb.DuckDBPyConnection, source: Source, key: str) -> dict[str, tuple[str, int]]:
    """Digest and number of rows by partition."""
    every = f"hash({source.names})"
    found = connection.execute(
        f"SELECT {key} AS part, count(*), sum({every}::HUGEINT), bit_xor(hash({every}, 1))"  # noqa: S608
        f" FROM {source.table.name} GROUP BY part"
    ).fetchall()
    return {row[0]: (":".join(str(value) for value in row[1:]), row[1]) for row in found}


def _write(
    connection: duckdb.DuckDBPyConnection,
    job: Job,
    source: Source,
    key: str | None,
    parts: Sequence[str] | None,
    folder: Path,
) -> None:
    """Write the rows of `parts` (None: of all) below `folder`."""
    wishes, name = job.order.wishes, source.table.name
    csv = wishes.format == "csv"
    columns = ", ".join(_shown(column, csv=csv) for column in source.columns)
    options = f"FORMAT csv, HEADER, TIMESTAMPFORMAT '{TIME}'" if csv else "FORMAT parquet, COMPRESSION zstd"
    target = folder / name
    if key is None:
        target.mkdir()
        connection.execute(f"COPY (SELECT {columns} FROM {name}) TO '{target}/data_0.{wishes.format}' ({options})")  # noqa: S608
    elif _is_empty(connection, name):  # readers want at least one file
        target = target / f"{wishes.partition}={UNKNOWN[wishes.partition]}"
        target.mkdir(parents=True)
        connection.execute(f"COPY (SELECT {columns} FROM {name}) TO '{target}/data_0.{wishes.format}' ({options})")  # noqa: S608
    else:
        only = f" WHERE {key} IN ({', '.join(repr(part) for part in parts)})" if parts is not None else ""
        connection.execute(
            f"COPY (SELECT {columns}, {key} AS {wishes.partition} FROM {name}{only})"  # noqa: S608
            f" TO '{target}' ({options}, PARTITION_BY ({wishes.partition}))"
        )
    if csv:
        for file in target.rglob("*.csv"):
            job.check()
            _with_crlf(file)


def _is_empty(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    return connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (0,)  # noqa: S608


def _shown(column: Column, *, csv: bool) -> str:
    """A column as files have it.  Ids are texts there: Polars reads Parquet's own type for them as bytes."""
    name = column.name
    if csv and column.type == "VARCHAR":
        return f"CASE WHEN regexp_matches({name}, '{_DANGEROUS}') THEN {_MARK} || {name} ELSE {name} END AS {name}"
    return f"CAST({name} AS VARCHAR) AS {name}" if column.type == "UUID" else name


def _with_crlf(file: Path) -> None:
    """End records as RFC 4180 wants it.  Line breaks inside quotes are data and stay; a doubled quote changes nothing."""
    draft, inside = file.with_suffix(".draft"), False
    with file.open("rb") as source, draft.open("wb") as out:
        while piece := source.read(PIECE_BYTES):
            texts = piece.split(b'"')
            for number, text in enumerate(texts):
                if number:
                    out.write(b'"')
                    inside = not inside
                out.write(text if inside else text.replace(b"\n", b"\r\n"))
    draft.replace(file)


def _add(archive: zipfile.ZipFile, job: Job, folder: Path, place: Path) -> Iterator[FileEntry]:
    """Put the files of a partition into the archive, one after the other."""
    for file in sorted(place.iterdir()):
        told, path = hashlib.sha256(), file.relative_to(folder).as_posix()
        size = file.stat().st_size
        info = zipfile.ZipInfo.from_file(file, path)
        info.compress_type = archive.compression
        with file.open("rb") as source, archive.open(info, "w", force_zip64=size > 2**31) as out:
            while piece := source.read(PIECE_BYTES):
                job.check()
                told.update(piece)
                out.write(piece)
        file.unlink()
        yield FileEntry(path, size, told.hexdigest())


def sha256_of(path: Path, job: Job) -> str:
    """The checksum of a file, hex."""
    told: Any = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            job.check()
            told.update(piece)
    return str(told.hexdigest())
