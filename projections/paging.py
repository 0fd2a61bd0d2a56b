"""One page of a table, and how many rows there are in all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import asyncpg
import msgspec

from eventstore.database import Connection

PAGE_ROWS_MAX = 100
RowT = TypeVar("RowT")


class Paging(msgspec.Struct, frozen=True, kw_only=True):
    """Which page.  `order` and `tie` are SQL columns from a fixed list, never a caller's text; pages count from 1."""

    page: int = 1
    page_size: int = 50
    order: str
    tie: str
    descending: bool = False

    def cut(self, rows: Sequence[RowT]) -> Sequence[RowT]:
        """This page of rows that are in memory and in order."""
        start = (self.page - 1) * self.page_size
        return rows[start : start + min(self.page_size, PAGE_ROWS_MAX)]


async def page_of(
    connection: Connection, sql: str, given: Sequence[Any], paging: Paging
) -> tuple[list[asyncpg.Record], int]:
    """The rows of `sql` on that page, and the number of all of them."""
    total: int = await connection.fetchval(f"SELECT count(*) FROM ({sql}) counted", *given)  # noqa: S608
    way = "DESC" if paging.descending else "ASC"
    size, skipped = min(paging.page_size, PAGE_ROWS_MAX), (paging.page - 1) * paging.page_size
    rows = await connection.fetch(
        f"{sql} ORDER BY {paging.order} {way}, {paging.tie} {way} LIMIT {size:d} OFFSET {skipped:d}", *given
    )
    return list(rows), total
