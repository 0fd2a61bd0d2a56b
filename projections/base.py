"""A projection is a pure fold from events to rows.  The runtime (workers/projector) loads, folds, writes and checkpoints.

`touches` names the rows an event may read or change, so that the runtime can load them in one query per table; `fold`
then works on `Rows`, memory only.  Whoever folds the same log again, in batches of any size, gets the same rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from domain.kernel import Event, Sealed
from eventstore.port import Recorded

RowT = TypeVar("RowT", bound=msgspec.Struct)
Key = tuple[Any, ...]


class Table(Generic[RowT]):
    """A read-model table: `row` is a mutable Struct whose fields are its columns, `key` the names of its key columns.

    `parent` is a table whose key begins this one's, and whose row exists wherever a row of this one does: below a new
    parent the runtime then need not ask for rows.
    """

    __slots__ = ("key", "key_of", "name", "parent", "row")

    def __init__(self, name: str, row: type[RowT], key: tuple[str, ...], *, parent: Table[Any] | None = None) -> None:
        if parent is not None and key[: len(parent.key)] != parent.key:
            raise ValueError(f"the key of {name} does not begin with that of {parent.name}")
        self.name: str = name
        self.row = row
        self.key: tuple[str, ...] = key
        self.parent: Table[Any] | None = parent
        self.key_of: Callable[[RowT], Key] = lambda row: tuple(getattr(row, part) for part in key)

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names in the order of the Struct's fields."""
        return self.row.__struct_fields__


class Rows:
    """Rows in memory, with a note of which were changed since the last `clear_dirty`."""

    __slots__ = ("_dirty", "_rows")

    def __init__(self) -> None:
        self._rows: defaultdict[str, dict[Key, Any]] = defaultdict(dict)
        self._dirty: defaultdict[str, dict[int, Any]] = defaultdict(dict)  # by the row's identity: quicker than by key

    def get(self, table: Table[RowT], key: Key) -> RowT | None:
        """The row, or None.  To change it, mutate it and `put` it back."""
        return self._rows[table.name].get(key)

    def put(self, table: Table[RowT], row: RowT) -> None:
        """Insert or replace a row and note that it must be written."""
        dirty = self._dirty[table.name]
        if id(row) in dirty:
            return
        rows, key = self._rows[table.name], table.key_of(row)
        if (old := rows.get(key)) is not None and old is not row:
            dirty.pop(id(old), None)  # replaced before it was written
        rows[key] = dirty[id(row)] = row

    def remember(self, table: Table[RowT], row: RowT) -> None:
        """Take over a row as loaded from the database: nothing to write."""
        self._rows[table.name][table.key_of(row)] = row

    def known(self, table: Table[Any], key: Key) -> bool:
        """Whether the row is in memory."""
        return key in self._rows[table.name]

    def dirty(self, table: Table[RowT]) -> list[RowT]:
        """Rows to write."""
        return list(self._dirty[table.name].values())

    def changed(self) -> int:
        """How many rows must be written."""
        return sum(map(len, self._dirty.values()))

    def clear_dirty(self) -> None:
        """After a commit."""
        self._dirty.clear()

    def forget(self) -> None:
        """Drop everything: after a lost race, or to bound memory."""
        self._rows.clear()
        self._dirty.clear()

    def all(self, table: Table[RowT]) -> Iterator[RowT]:
        """Every row of a table in memory, for tests and independent folds."""
        return iter(self._rows[table.name].values())

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))


class Services(Protocol):
    """What the runtime lends to a fold that needs more than the event: see `Projection.bind`."""

    def open_text(self, recorded: Recorded, sealed: Sealed) -> str | None:
        """The text of a sealed field of `recorded`; None when its subject was erased.

        Synchronous and without I/O: the runtime has prepared the keys of every subject named in the batch before folding.
        """
        ...


class Projection:
    """One named read model.

    `version` rises when tables or fold change: the runtime then fills a new generation from position 0 and flips.  `ddl` is
    SQL that creates the generation's tables; `{g}` in it stands for the generation number (table `session` is stored as
    `session__g{g}` and read through the view `session`).  `notice` names what to announce after a batch is committed.
    `erase` is SQL that forgets what the tables say in plain about person $2 of organization $1 (`{g}` as in `ddl`); the runtime
    runs it in the transaction that passes the person's `subject.shredded`, after which nothing of theirs can be opened.
    `reads` are the event classes it is about: the runtime hands it no others, so those cost it nothing.  None: all.

    A fold that reads sealed text gives `bind`: the runtime calls it once per process with its `Services` and runs the
    projection it returns (same name, version, tables and ddl; `touches`, `fold` and `notice` may close over the services).
    Unbound, such a projection folds as if nothing could be opened.
    """

    __slots__ = ("_bind", "ddl", "erase", "fold", "name", "notice", "reads", "tables", "touches", "version")

    def __init__(
        self,
        name: str,
        version: int,
        *,
        tables: tuple[Table[Any], ...],
        ddl: str,
        touches: Callable[[Recorded], Iterable[tuple[Table[Any], Key]]],
        fold: Callable[[Rows, Recorded], None],
        reads: Iterable[type[Event]] | None = None,
        erase: str | None = None,
        notice: Callable[[Recorded], dict[str, Any] | None] = lambda _: None,
        bind: Callable[[Services], Projection] | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.tables = tables
        self.ddl = ddl
        self.touches = touches
        self.fold = fold
        self.reads = None if reads is None else frozenset(reads)
        self.erase = erase
        self.notice = notice
        self._bind = bind

    def bound(self, services: Services) -> Projection:
        """The projection to run with `services`: itself when it asked for none."""
        return self if self._bind is None else self._bind(services)
