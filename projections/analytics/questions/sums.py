"""KPIs out of the coarsest tables that hold what is asked: any table gives the same numbers, and coarse ones have few rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from projections.analytics.kpis import PEOPLE, SESSION_KPIS, SESSION_PARTS, USAGE_KPIS, USAGE_PARTS, Part, made
from projections.analytics.periods import Period
from projections.analytics.questions import base
from projections.analytics.questions.base import Cursor, Scope, Where, utc
from projections.analytics.schema import DIMENSIONS

QUARTER, DAY = timedelta(minutes=15), timedelta(days=1)
_FILTERS = ("person_id", "agent", "project", "repo", "branch", "model")
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class By(msgspec.Struct, frozen=True):
    """What KPIs are grouped by: the column of a table, and what to make of it; nothing by default."""

    column: str = ""
    key: Callable[[str], str] = str

    @staticmethod
    def periods(periods: Sequence[Period]) -> By:
        """By the number of the period."""
        return By("slot_at", lambda moment: period_number(periods, moment))


NOTHING = By()
ALL = None  # the key of what is not grouped
Row = tuple[Any, ...]


def period_number(periods: Sequence[Period], moment: str) -> str:
    """SQL for which of the periods, which follow each other, a moment of the range lies in.

    Most are equally long, so the number is how many of that length have passed since an origin, which moves wherever a period
    is shorter or longer: CASE chooses among origins, and there is one division.  (With a division in each branch DuckDB takes
    5.8 ms instead of 4.1 for 75,000 rows.)
    """
    if len(periods) <= 1:
        return "0"
    lengths = [(period.end - period.start) // _MICROSECOND for period in periods]
    length = Counter(lengths[1:-1] or [max(lengths)]).most_common(1)[0][0]
    if max(lengths) > 2 * length:  # one that is longer than two would be given two numbers
        length = max(lengths)
    begin = _microseconds(periods[0].start)
    # From when on which origin counts.  The first period may be cut off: its number is counted from where it would have begun.
    origins = [(begin, begin + min(0, lengths[0] - length))]
    for number, (period, own) in enumerate(zip(periods, lengths, strict=True)):
        origin = _microseconds(period.end) - (number + 1) * length
        if origin != origins[-1][1]:
            # In a longer one before a whole length has passed; after a shorter one.
            change = _microseconds(period.start) + length if own > length else _microseconds(period.end)
            origins.append((change, origin))
    at = f"epoch_us({moment})"
    ends = _microseconds(periods[-1].end)
    return f"({at} - {_origin([one for one in origins if one[0] < ends], at)}) // {length}"


def _origin(origins: Sequence[tuple[int, int]], at: str) -> str:
    if len(origins) == 1:
        return str(origins[0][1])
    half = len(origins) // 2
    return (
        f"CASE WHEN {at} < {origins[half][0]} THEN {_origin(origins[:half], at)} ELSE {_origin(origins[half:], at)} END"
    )


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def session_kpis(cursor: Cursor, org_id: UUID, scope: Scope, by: By = NOTHING) -> dict[Any, dict[str, Any]]:
    """KPIs of the sessions that began in the range, by key; people are ids as text."""
    where = begun(org_id, scope, by.column)

    def counted(cursor: Cursor) -> dict[Any, Row]:
        return _grouped(cursor, _added(SESSION_PARTS), where, by, "slot_at")

    if by.column == "person_id":
        found = counted(cursor)
        people = {key: (int(key is not None),) for key in found}
    else:
        found, people = base.beside(cursor, counted, lambda cursor: _people(cursor, org_id, scope, by))
    # Rows may be written between the two reads: a group that people were not counted of yet has none until it is asked again.
    rows = [(*row, *people.get(key, (0,))) for key, row in found.items()]
    return dict(zip(found, made(SESSION_KPIS, (*SESSION_PARTS, PEOPLE), rows), strict=True))


def _people(cursor: Cursor, org_id: UUID, scope: Scope, by: By) -> dict[Any, Row]:
    """How many people worked: apart, because who worked in two parts of a range is one person in the whole."""
    where = base.sessions(org_id, scope)
    return _grouped(cursor, PEOPLE.sql, Where(f"fact_session WHERE {where.sql}", where.values), by, "started_at")


def usage_kpis(cursor: Cursor, org_id: UUID, scope: Scope, by: By = NOTHING) -> dict[Any, dict[str, Any]]:
    """KPIs of what was used in the range, by key; people are ids as text."""
    found = _grouped(cursor, _added(USAGE_PARTS), used(org_id, scope, by.column), by, "slot_at")
    return dict(zip(found, made(USAGE_KPIS, USAGE_PARTS, list(found.values())), strict=True))


def _added(parts: Sequence[Part]) -> str:
    """Columns that add up sums.  Those of pico-USD outgrow BIGINT; the others do not, and are handed over much faster as that."""
    return ", ".join(f"sum({part.name}){'' if part.name.endswith('_pico_usd') else '::BIGINT'}" for part in parts)


def _grouped(cursor: Cursor, columns: str, where: Where, by: By, moment: str) -> dict[Any, Row]:
    """What the columns are, by key."""
    if not by.column:
        (row,) = cursor.execute(f"SELECT {columns} FROM {where.sql}", where.values).fetchall()  # noqa: S608  our own texts
        return {ALL: row}
    key = by.key(moment if by.column == "slot_at" else by.column)
    found = cursor.execute(f"SELECT {columns}, {key} AS key_ FROM {where.sql} GROUP BY key_", where.values)  # noqa: S608
    return {row[-1]: row[:-1] for row in found.fetchall()}


def begun(org_id: UUID, scope: Scope, by: str = "") -> Where:
    """What follows FROM for sums of sessions that began in the range: a column per part, to be added up.

    `by` is the column they are grouped by, `slot_at` the quarter of an hour they began in; people are ids as text.
    """
    name, coarse = _coarse(scope, by)
    if not coarse:
        return _told([_of_sessions(org_id, scope, by)])
    if name:
        return _days("agg_begun_day", SESSION_PARTS, _of_sessions, org_id, scope, name)
    since, first, last, until = _cut(scope, QUARTER)
    where = Where("org_id = ? AND slot_at >= ? AND slot_at < ?", [org_id, first, last])
    whole = Where(f"SELECT slot_at, {_names(SESSION_PARTS)} FROM agg_begun WHERE {where.sql}", where.values)  # noqa: S608
    return _told([whole, *(_of_sessions(org_id, part, "slot_at") for part in _edges(scope, since, first, last, until))])


def _of_sessions(org_id: UUID, scope: Scope, by: str) -> Where:
    """The same parts from the sessions themselves."""
    where = base.sessions(org_id, scope)
    if by != "slot_at":
        return _summed("fact_session", SESSION_PARTS, where, by)
    # A range may begin within a quarter, and what began in the rest of it belongs to the range.
    slot = "greatest(time_bucket(INTERVAL 15 MINUTES, started_at), CAST(? AS TIMESTAMP))"
    first = None if scope.since is None else utc(scope.since)
    return _summed("fact_session", SESSION_PARTS, Where(where.sql, [first, *where.values]), by, slot)


def used(org_id: UUID, scope: Scope, by: str = "") -> Where:
    """What follows FROM for sums of usage: a column per part, to be added up, whichever table they are from.

    `by` is the column they are grouped by; people are ids as text.
    """
    name, coarse = _coarse(scope, by)
    if not name:
        where = base.usage(org_id, scope)
        return _told([Where(f"SELECT slot_at, {_names(USAGE_PARTS)} FROM agg_slot WHERE {where.sql}", where.values)])  # noqa: S608
    if not coarse:
        return _told([_of_usage(org_id, scope, by)])
    return _days("agg_day", USAGE_PARTS, _of_usage, org_id, scope, name)


def _of_usage(org_id: UUID, scope: Scope, by: str) -> Where:
    return _summed("agg_usage", USAGE_PARTS, base.usage(org_id, scope), by)


def _summed(table: str, parts: Sequence[Part], where: Where, by: str, slot: str = "slot_at") -> Where:
    key = slot if by == "slot_at" else f"CAST({by} AS VARCHAR)"
    columns = ", ".join(f"{part.sql} AS {part.name}" for part in parts)
    if by:
        return Where(f"SELECT {key} AS {by}, {columns} FROM {table} WHERE {where.sql} GROUP BY {by}", where.values)  # noqa: S608
    return Where(f"SELECT {columns} FROM {table} WHERE {where.sql}", where.values)  # noqa: S608


def _days(
    table: str,
    parts: Sequence[Part],
    finer: Callable[[UUID, Scope, str], Where],
    org_id: UUID,
    scope: Scope,
    name: str,
) -> Where:
    """Whole days (UTC) from a table of days, and the rest of the range, before and after them, from the rows they are sums of."""
    since, first, last, until = _cut(scope, DAY)
    where = Where(f"org_id = ? AND day >= ? AND day < ? AND dimension = '{name}'", [org_id, first, last])
    if (wanted := getattr(scope, name)) is not None:
        where = where.plus("value = ?", str(wanted))
    whole = Where(f"SELECT value AS {name}, {_names(parts)} FROM {table} WHERE {where.sql}", where.values)  # noqa: S608
    return _told([whole, *(finer(org_id, part, name) for part in _edges(scope, since, first, last, until))])


def _edges(scope: Scope, since: datetime, first: datetime, last: datetime, until: datetime) -> list[Scope]:
    """What of a range lies before and after its whole units."""
    return [
        msgspec.structs.replace(scope, since=start, until=end)
        for start, end in ((since, min(first, until)), (max(last, min(first, until)), until))
        if start < end
    ]


def _names(parts: Sequence[Part]) -> str:
    return ", ".join(part.name for part in parts)


def _coarse(scope: Scope, by: str) -> tuple[str, bool]:
    """The dimension that is filtered or grouped by, if any; and whether a coarse table holds that."""
    asked = {name for name in _FILTERS if getattr(scope, name) is not None}
    if by not in {"", "slot_at"}:
        asked.add(by)
    ends = scope.since is not None and scope.until is not None
    if not asked:
        return "", ends
    name = next(iter(asked))
    return name, ends and by != "slot_at" and len(asked) == 1 and name in DIMENSIONS


def _cut(scope: Scope, unit: timedelta) -> tuple[datetime, datetime, datetime, datetime]:
    """The range, UTC, and between its ends those of the whole units in it: none where the inner ones do not follow each other."""
    if scope.since is None or scope.until is None:
        raise ValueError("both ends are given")
    since, until = utc(scope.since), utc(scope.until)
    zero = utc(_EPOCH)
    first = zero + -((zero - since) // unit) * unit
    last = zero + (until - zero) // unit * unit
    return since, first, max(first, last), until


def _told(selected: Sequence[Where]) -> Where:
    return Where(
        f"({' UNION ALL '.join(where.sql for where in selected)})",
        [value for where in selected for value in where.values],
    )
