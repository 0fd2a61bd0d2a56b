"""What tables and views are described with."""

from __future__ import annotations

import msgspec

HASHES = ("row_hash", "message_hash")  # columns of the file's own, of no use to readers


class Column(msgspec.Struct, frozen=True):
    """One column: DuckDB type and meaning, with the unit.  `made_of`: the worker computes it by this expression."""

    name: str
    type: str
    comment: str
    made_of: str | None = None


class Table(msgspec.Struct, frozen=True):
    """One table.  `key` names the columns no two rows agree in."""

    name: str
    comment: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def told(self) -> tuple[Column, ...]:
        """The columns that rows are handed over with."""
        return tuple(column for column in self.columns if column.made_of is None)

    def ddl(self) -> str:
        """The statement that makes it."""
        columns = ", ".join(f"{column.name} {column.type}" for column in self.columns)
        return f"CREATE TABLE {self.name} ({columns})"


class View(msgspec.Struct, frozen=True):
    """One view: its query, and the meaning of each column in order."""

    name: str
    comment: str
    sql: str
    columns: tuple[tuple[str, str], ...]
