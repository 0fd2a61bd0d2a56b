"""Folding a batch in memory and writing what changed: the part that live runs and rebuilds share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, get_type_hints
from uuid import UUID

import msgspec
import structlog

from domain.kernel import Event, Sealed
from domain.organizations.events import SubjectShredded
from eventstore.database import Connection, Pool
from eventstore.port import Recorded
from eventstore.sealing import KeyRing
from projections.base import Key, Projection, Rows, Table
from projections.tables import StoredTable
from workers.projector.control import ADVANCE, ADVANCE_PARAMETERS

log = structlog.get_logger("projector")

ROWS_MAX = 50_000  # rows kept in memory between batches, per projection
_encode = msgspec.json.Encoder().encode
SEEN_MAX = 1_000_000  # keys of a new generation remembered, so that new rows need not be asked for


class FoldError(Exception):
    """The event at `position` cannot be folded; the ones before it can."""

    def __init__(self, position: int, cause: BaseException | str) -> None:
        super().__init__(cause if isinstance(cause, str) else f"{type(cause).__name__}: {cause}")
        self.position = position


class OpenedTexts:
    """`projections.base.Services`: opens sealed text with keys that `prepare` has fetched for the batch."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._sealed_fields: dict[type[Event], tuple[str, ...]] = {}

    def open_text(self, recorded: Recorded, sealed: Sealed) -> str | None:
        """The text, or None when the subject was erased."""
        return self._ring.open(recorded.org_id, recorded.type, sealed)

    async def prepare(self, events: Iterable[Recorded]) -> set[tuple[UUID, UUID]]:
        """Fetch the keys of every subject whose sealed text is in `events`; forget those of erased subjects and name them."""
        shredded: set[tuple[UUID, UUID]] = set()
        subjects: dict[UUID, set[UUID]] = {}
        org_id = subject = None
        for recorded in events:
            event = recorded.event
            if type(event) is SubjectShredded:
                # The command destroyed the key before it told so; this drops our copy (and completes a cut-off command).
                await self._ring.destroy(recorded.org_id, event.person_id)
                shredded.add((recorded.org_id, event.person_id))
                continue
            for name in self._sealed_fields.get(type(event)) or self._fields(type(event)):
                sealed = getattr(event, name)
                if sealed is None or (sealed.subject is subject and recorded.org_id is org_id):
                    continue  # events of one person come in crowds, with one and the same object for the person
                if sealed.box is not None:
                    org_id, subject = recorded.org_id, sealed.subject
                    subjects.setdefault(org_id, set()).add(subject)
        for wanted_org, wanted in subjects.items():
            await self._ring.load(wanted_org, wanted)
        return shredded

    def _fields(self, event_type: type[Event]) -> tuple[str, ...]:
        found = self._sealed_fields.get(event_type)
        if found is None:
            hints = get_type_hints(event_type)
            # `Sealed` and `Sealed | None`; events keep sealed text in fields of their own, never inside collections.
            found = tuple(
                name
                for name in event_type.__struct_fields__
                if hints[name] is Sealed or Sealed in getattr(hints[name], "__args__", ())
            )
            self._sealed_fields[event_type] = found
        return found


class Engine:
    """The rows of one generation of one projection, as far as they are in memory."""

    def __init__(
        self,
        projection: Projection,
        generation: int,
        stored: dict[str, StoredTable[Any]],
        texts: OpenedTexts,
        rows_max: int = ROWS_MAX,
    ) -> None:
        self.projection = projection
        self.stored = stored
        self._erase_sql = (projection.erase or "").replace("{g}", str(generation))
        self._texts = texts
        self._rows_max = rows_max
        self._rows = Rows()
        self._settled: defaultdict[Table[Any], set[Key]] = defaultdict(set)  # in memory, or not in the database either
        self._absent: dict[str, set[Key]] = {}  # keys that the database does not hold
        self._new: dict[Table[Any], set[Key]] = {  # rows begun here, so that all rows below them are in memory
            table.parent: set() for table in projection.tables if table.parent is not None
        }
        self._statements: dict[tuple[str, ...], str] = {}
        self._seen: set[int] | None = None
        self._whole: dict[str, set[Key]] | None = None  # all rows there are are in memory, these of them stored
        self._erased: set[tuple[UUID, UUID]] = set()  # organization and person

    def starts_empty(self) -> None:
        """The tables hold nothing: until rows are forgotten nothing must be asked for, and then only keys met before.

        Of those, hashes are enough: a collision only asks.
        """
        self._seen = set()
        self._whole = {table.name: set() for table in self.projection.tables}

    async def fold(self, events: Sequence[Recorded], source: Connection | Pool) -> None:
        """Fold consecutive events; keys and missing rows are fetched first, in one query per table.

        Raises:
            FoldError: an event cannot be folded.  Rows in memory are then half done: `forget` them.
        """
        if (reads := self.projection.reads) is not None:
            events = [recorded for recorded in events if type(recorded.event) in reads]
        if not events:
            return
        shredded = await self._texts.prepare(events)
        if self.projection.erase is not None:
            self._erased.update(shredded)
        if self._whole is None:
            await self._load(events, source)
        fold, rows = self.projection.fold, self._rows
        recorded = events[0]
        try:
            for recorded in events:
                fold(rows, recorded)
        except Exception as error:
            raise FoldError(recorded.position, error) from error

    async def _load(self, events: Sequence[Recorded], source: Connection | Pool) -> None:
        touches, settled = self.projection.touches, self._settled
        wanted: defaultdict[Table[Any], list[Key]] = defaultdict(list)
        recorded = events[0]
        try:
            for recorded in events:
                for table, key in touches(recorded):
                    known = settled[table]
                    if key not in known:
                        known.add(key)
                        wanted[table].append(key)
        except Exception as error:
            raise FoldError(recorded.position, error) from error
        for table in sorted(wanted, key=lambda table: table.parent is not None):  # parents first
            keys = wanted[table]
            missing = set(keys)
            for row in await self.stored[table.name].load(source, self._perhaps_stored(table, keys)):
                self._rows.remember(table, row)
                missing.discard(table.key_of(row))
            self._absent.setdefault(table.name, set()).update(missing)
            if (new := self._new.get(table)) is not None:
                new |= missing

    def _perhaps_stored(self, table: Table[Any], keys: list[Key]) -> list[Key]:
        if table.parent is not None:
            new, width = self._new[table.parent], len(table.parent.key)
            keys = [key for key in keys if key[:width] not in new]
        return self._perhaps_met(table.name, keys)

    def _perhaps_met(self, name: str, keys: list[Key]) -> list[Key]:
        seen = self._seen
        if seen is None:
            return keys
        if len(seen) > SEEN_MAX:
            self._seen = None
            return keys
        asked: list[Key] = []
        for key in keys:
            mark = hash((name, key))
            if mark in seen:
                asked.append(key)
            else:
                seen.add(mark)
        return asked

    @property
    def changed(self) -> int:
        """How many rows must be written."""
        return self._rows.changed()

    def statement(self) -> tuple[str, list[bytes]] | None:
        """Rows and checkpoint as one statement, and its arguments after those of `control.ADVANCE`; None: it takes several.

        It answers 1, or 0 where the checkpoint was elsewhere: then nothing was written.
        """
        if self._erased:
            return None
        names: list[str] = []
        texts: list[bytes] = []
        for table in self.projection.tables:
            if rows := self._rows.dirty(table):
                text = self.stored[table.name].as_json(rows)
                if text is None:
                    return None
                names.append(table.name)
                texts.append(text)
        key = tuple(names)
        sql = self._statements.get(key)
        if sql is None:
            writes = [
                f"w{n} AS ({self.stored[name].upsert_from(ADVANCE_PARAMETERS + n, 'moved')})"
                for n, name in enumerate(names, 1)
            ]
            sql = f"WITH {', '.join([f'moved AS ({ADVANCE} RETURNING 1)', *writes])} SELECT count(*) FROM moved"  # noqa: S608
            self._statements[key] = sql
        return sql, texts

    async def write(self, connection: Connection, *, bulk: bool = False) -> int:
        """Write changed rows; how many.  `bulk` copies those known to be new: only for who is alone on the generation."""
        written = 0
        for table in self.projection.tables:
            rows = self._rows.dirty(table)
            stored = self.stored[table.name]
            written += len(rows)
            if bulk:
                fresh, rows = self._parted(table, rows)
                await stored.copy(connection, fresh)
            await stored.upsert(connection, rows)
        for org_id, person_id in self._erased:
            await connection.execute(self._erase_sql, org_id, person_id)
        return written

    def _parted(self, table: Table[Any], rows: list[Any]) -> tuple[list[Any], list[Any]]:
        """Those that the database does not hold yet, and the others."""
        fresh: list[Any] = []
        rest: list[Any] = []
        if self._whole is not None:
            known = self._whole[table.name]
            for row in rows:
                key = table.key_of(row)
                (rest if key in known else fresh).append(row)
                known.add(key)
        else:
            absent = self._absent.get(table.name, set())
            for row in rows:
                (fresh if table.key_of(row) in absent else rest).append(row)
        return fresh, rest

    def committed(self) -> None:
        """The write was committed: rows in memory equal the table's; keep a bounded number of them."""
        self._rows.clear_dirty()
        self._absent.clear()
        if self._erased or max(len(self._rows), sum(map(len, self._settled.values()))) > self._rows_max:
            # Rows of an erased person still hold their texts in memory.  Those in use are soon asked for again.
            self.forget()

    def forget(self) -> None:
        """Rows in memory may be wrong: another instance wrote, or a fold or a commit failed."""
        if self._whole is not None:
            self._whole = None
            self._seen = {
                hash((table.name, table.key_of(row)))
                for table in self.projection.tables
                for row in self._rows.all(table)
            }
        self._rows.forget()
        self._settled.clear()
        self._erased.clear()
        self._absent.clear()
        for new in self._new.values():
            new.clear()


def notices_of(projection: Projection, events: Sequence[Recorded]) -> list[tuple[UUID, msgspec.Raw]]:
    """What to announce about `events`, as JSON, equal notices once.

    One that cannot be made is logged: rows matter more.
    """
    found: dict[tuple[UUID, bytes], None] = {}
    notice_of, reads = projection.notice, projection.reads
    for recorded in events:
        if reads is not None and type(recorded.event) not in reads:
            continue
        try:
            notice = notice_of(recorded)
            if notice is not None:
                found[recorded.org_id, _encode(notice)] = None
        except Exception as error:  # noqa: BLE001
            log.warning("projector.notice_failed", position=recorded.position, error=f"{type(error).__name__}: {error}")
    return [(org_id, msgspec.Raw(text)) for org_id, text in found]
