"""KPIs out of the coarsest tables that hold what is asked: any table gives the same numbers, and coarse ones have few rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from projections.analytics.kpis import PEOPLE, SESSION_KPIS, SESSION_PARTS, USAGE_KPIS, maker, parts
from projections.analytics.periods import Period
from projections.analytics.questions import base
from projections.analytics.questions.base import Cursor, Scope, Where, utc
from projections.analytics.schema import DIMENSIONS, SUMMED

QUARTER, DAY = timedelta(minutes=15), timedelta(days=1)
_FILTERS = ("person_id", "agent", "project", "repo", "branch", "model")
_MICROSECOND = timedelta(microseconds=1)
_sessions_made, _usage_made = maker(SESSION_KPIS), maker(USAGE_KPIS)
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


class _Run(msgspec.Struct):
    """Periods that follow each other and are equally long: start and length in microseconds, and the number of the first."""

    start: int
    length: int
    first: int
    count: int = 1


def period_number(periods: Sequence[Period], moment: str) -> str:
    """SQL for which of the periods a moment of the range lies in.  They follow each other, most of them equally long.

    One alone has its number without arithmetic: DuckDB estimates what that could be for every row there is, and the hours of a
    day that is cut off would keep it from grouping by the fast way for few groups (8,640 rows: 11 ms instead of 6).
    """
    runs: list[_Run] = []
    for number, period in enumerate(periods):
        length = (period.end - period.start) // _MICROSECOND
        if runs and runs[-1].length == length:
            runs[-1].count += 1
        else:
            runs.append(_Run(_microseconds(period.start), length, number))
    return _number(runs, f"epoch_us({moment})")


def _number(runs: Sequence[_Run], at: str) -> str:
    if len(runs) > 1:
        half = len(runs) // 2
        return (
            f"CASE WHEN {at} < {runs[half].start} THEN {_number(runs[:half], at)} ELSE {_number(runs[half:], at)} END"
        )
    (run,) = runs
    return str(run.first) if run.count == 1 else f"{run.first} + ({at} - {run.start}) // {run.length}"


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def session_kpis(cursor: Cursor, org_id: UUID, scope: Scope, by: By = NOTHING) -> dict[Any, dict[str, Any]]:
    """KPIs of the sessions that began in the range, by key; people are ids as text."""
    columns = ", ".join(f"sum({part.name})::BIGINT AS {part.name}" for part in SESSION_PARTS)
    where = begun(org_id, scope, by.column)
    if by.column == "person_id":
        found = _grouped(cursor, columns, where, by, "slot_at")
        people = {key: {PEOPLE.name: int(key is not None)} for key in found}
    else:
        found, people = base.beside(
            cursor,
            lambda cursor: _grouped(cursor, columns, where, by, "slot_at"),
            lambda cursor: _people(cursor, org_id, scope, by),
        )
    # Rows may be written between the two reads: a group that people were not counted of yet has none until it is asked again.
    return {key: _sessions_made({PEOPLE.name: 0, **row, **people.get(key, {})}) for key, row in found.items()}


def _people(cursor: Cursor, org_id: UUID, scope: Scope, by: By) -> dict[Any, dict[str, Any]]:
    """How many people worked: apart, because who worked in two parts of a range is one person in the whole."""
    where = base.sessions(org_id, scope)
    told = Where(f"fact_session WHERE {where.sql}", where.values)
    return _grouped(cursor, f"{PEOPLE.sql} AS {PEOPLE.name}", told, by, "started_at")


def usage_kpis(cursor: Cursor, org_id: UUID, scope: Scope, by: By = NOTHING) -> dict[Any, dict[str, Any]]:
    """KPIs of what was used in the range, by key; people are ids as text."""
    # Sums of pico-USD outgrow BIGINT; the others do not, and are handed over much faster as that.
    columns = ", ".join(
        f"{part.sql}{'' if part.name.endswith('_pico_usd') else '::BIGINT'} AS {part.name}"
        for part in parts(USAGE_KPIS)
    )
    found = _grouped(cursor, columns, used(org_id, scope, by.column), by, "slot_at")
    return {key: _usage_made(row) for key, row in found.items()}


def _grouped(cursor: Cursor, columns: str, where: Where, by: By, moment: str) -> dict[Any, dict[str, Any]]:
    if not by.column:
        return {ALL: base.one(cursor, f"SELECT {columns} FROM {where.sql}", where.values)}  # noqa: S608  our own texts
    key = by.key(moment if by.column == "slot_at" else by.column)
    found = base.rows(cursor, f"SELECT {key} AS key_, {columns} FROM {where.sql} GROUP BY key_", where.values)  # noqa: S608
    return {str(key) if isinstance(key := row.pop("key_"), UUID) else key: row for row in found}


def begun(org_id: UUID, scope: Scope, by: str = "") -> Where:
    """What follows FROM for sums of sessions that began in the range: a column per part, to be added up.

    `by` is the column they are grouped by, `slot_at` the quarter of an hour they began in.
    """
    name, coarse = _coarse(scope, by)
    if not coarse:
        return _told([_of_sessions(org_id, scope, by)])
    columns = ", ".join(part.name for part in SESSION_PARTS)
    since, first, last, until = _cut(scope, DAY if name else QUARTER)
    wanted = getattr(scope, name) if name else None
    if name:
        where = Where(f"org_id = ? AND day >= ? AND day < ? AND dimension = '{name}'", [org_id, first, last])
        if wanted is not None:
            where = where.plus("value = ?", str(wanted))
        whole = f"SELECT value AS {name}, {columns} FROM agg_begun_day WHERE {where.sql}"  # noqa: S608
    else:
        where = Where("org_id = ? AND slot_at >= ? AND slot_at < ?", [org_id, first, last])
        whole = f"SELECT slot_at, {columns} FROM agg_begun WHERE {where.sql}"  # noqa: S608
    edges = [
        _of_sessions(org_id, msgspec.structs.replace(scope, since=start, until=end), by or name or "slot_at")
        for start, end in ((since, min(first, until)), (max(last, min(first, until)), until))
        if start < end
    ]
    return _told([Where(whole, where.values), *edges])


def _of_sessions(org_id: UUID, scope: Scope, by: str) -> Where:
    """The same parts from the sessions themselves."""
    where = base.sessions(org_id, scope)
    shown, values = f"CAST({by} AS VARCHAR) AS {by}, ", []
    if by == "slot_at":
        # A range may begin within a quarter, and what began in the rest of it belongs to the range.
        shown = "greatest(time_bucket(INTERVAL 15 MINUTES, started_at), CAST(? AS TIMESTAMP)) AS slot_at, "
        values = [None if scope.since is None else utc(scope.since)]
    columns = ", ".join(f"{part.sql} AS {part.name}" for part in SESSION_PARTS)
    return Where(
        f"SELECT {shown if by else ''}{columns} FROM fact_session WHERE {where.sql}{f' GROUP BY {by}' if by else ''}",  # noqa: S608
        [*values, *where.values],
    )


def used(org_id: UUID, scope: Scope, by: str = "") -> Where:
    """What follows FROM for sums of usage: the columns of `agg_usage` that are summed, whichever table they are from.

    `by` is the column they are grouped by; people are ids as text where days are summed.
    """
    name, coarse = _coarse(scope, by)
    if not name or not coarse:
        where = base.usage(org_id, scope)
        return Where(f"{'agg_usage' if name else 'agg_slot'} WHERE {where.sql}", where.values)
    since, first, last, until = _cut(scope, DAY)
    sums = ", ".join(column.name for column in SUMMED)
    wanted = getattr(scope, name)
    some = "" if wanted is None else " AND {0} = ?"
    # Whole days (UTC) from the table of days, and the rest of the range, before and after them, quarter by quarter.
    days = Where(
        f"SELECT value AS {name}, kind, {sums} FROM agg_day WHERE org_id = ? AND day >= ? AND day < ?"  # noqa: S608
        f" AND dimension = '{name}'{some.format('value')}",
        [org_id, first, last, *([] if wanted is None else [str(wanted)])],
    )
    edges = [
        Where(
            f"SELECT CAST({name} AS VARCHAR) AS {name}, kind, {sums} FROM agg_usage"  # noqa: S608
            f" WHERE org_id = ? AND slot_at >= ? AND slot_at < ?{some.format(name)}",
            [org_id, start, end, *([] if wanted is None else [wanted])],
        )
        for start, end in ((since, min(first, until)), (max(last, min(first, until)), until))
        if start < end
    ]
    return _told([days, *edges])


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
