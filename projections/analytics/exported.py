"""What an export holds of the analytics file: which tables, whose rows, and the views over them.

The views are made of the KPIs of `projections.analytics.kpis`, so that an export and the API tell the same numbers.
"""

from __future__ import annotations

import re

import msgspec

from projections.analytics.kpis import SESSION_KPIS, USAGE_KPIS, Kpi, computed
from projections.analytics.questions.summary import NOT_BEGUN, NOT_SPENT
from projections.analytics.schema import HASHES, TABLES, VIEWS, Column, Table, View
from projections.analytics.schema.tables import SLOT_MINUTES

INFO = "crewkit_export"
INFO_COLUMNS = (
    Column("export_id", "UUID", "the export"),
    Column("org_id", "UUID", "whose rows these are"),
    Column("position", "BIGINT", "up to which event of the log the rows go"),
    Column("since", "TIMESTAMP", "rows from this moment on, UTC; NULL: from the beginning"),
    Column("schema_version", "INTEGER", "version of tables, columns and views"),
    Column("written_at", "TIMESTAMP", "when it was written, UTC"),
)
# The moment a row belongs to.  `since` and the folders of days and months go by it; tables without one come whole.
MOMENTS = {
    "fact_session": "started_at",
    "fact_llm_session": "started_at",
    "fact_llm_call": "called_at",
    "fact_tool_call": "called_at",
    "fact_subagent": "started_at",
    "fact_prompt": "submitted_at",
    "agg_usage": "slot_at",
}
# Conversations are kept while they went on after `since`, so that every call finds the one it belongs to.
SINCE = {"fact_llm_session": "last_activity_at"}
# Whose rows those are that name no organization.  A table that has neither is in no export.
OWNED = {"dim_model": "SELECT model FROM agg_usage WHERE org_id = ? AND model IS NOT NULL"}


class Source(msgspec.Struct, frozen=True):
    """A table of an export: its columns without those of the file's own, and the condition that makes rows somebody's."""

    table: Table
    columns: tuple[Column, ...]
    whose: str
    moment: str | None

    @property
    def names(self) -> str:
        """Columns, as a list for SELECT."""
        return ", ".join(column.name for column in self.columns)


# Coarser sums of agg_usage and fact_session, which only make questions quick.
DERIVED = {"agg_slot", "agg_day", "agg_begun", "agg_begun_day"}


def _source(table: Table) -> Source | None:
    if table.name in DERIVED:
        return None
    if any(column.name == "org_id" for column in table.columns):
        whose = "org_id = ?"
    elif table.name in OWNED:
        whose = f"{table.key[0]} IN ({OWNED[table.name]})"
    else:
        return None
    columns = tuple(column for column in table.columns if column.name not in HASHES)
    return Source(table, columns, whose, MOMENTS.get(table.name))


EXPORTED: dict[str, Source] = {table.name: found for table in TABLES if (found := _source(table)) is not None}


def _kpi(kpi: Kpi) -> tuple[str, str]:
    return kpi.name, f"{kpi.formula} [{kpi.unit}]"


_EMPTY = {**NOT_BEGUN, **NOT_SPENT}
_EVERY = (*map(_kpi, SESSION_KPIS), *map(_kpi, USAGE_KPIS))
# As the API widens a range: usage is summed by quarters of an hour, and sessions must match it.
_SLOT = f"INTERVAL '{SLOT_MINUTES} minutes'"
_FROM = f"time_bucket({_SLOT}, CAST(since_at AS TIMESTAMP))"
_BEFORE = f"time_bucket({_SLOT}, CAST(until_at AS TIMESTAMP) + {_SLOT} - INTERVAL '1 microsecond')"
_RANGE = f"{{moment}} >= {_FROM} AND {{moment}} < {_BEFORE}"


def _view(name: str, comment: str, key: tuple[str, str], told: str, used: str) -> View:
    """KPIs per value of `key`; where only sessions or only calls have a value, the others' KPIs are as of nothing."""
    column, meaning = key
    every = ", ".join(
        name if _EMPTY[name] is None else f"coalesce({name}, {_EMPTY[name]}) AS {name}" for name, _ in _EVERY
    )
    sides = (
        computed(kpis, f"(SELECT *, {what} AS {column}_ FROM {table})", f"{column}_")  # noqa: S608
        for kpis, table, what in ((SESSION_KPIS, "fact_session", told), (USAGE_KPIS, "agg_usage", used))
    )
    sql = (
        f"SELECT coalesce(s.{column}_, u.{column}_) AS {column}, {every}"  # noqa: S608
        f" FROM ({next(sides)}) s FULL JOIN ({next(sides)}) u ON s.{column}_ IS NOT DISTINCT FROM u.{column}_ ORDER BY 1"
    )
    return View(name, comment, sql, ((column, meaning), *_EVERY))


def _by(name: str, column: str, meaning: str) -> View:
    return _view(f"kpi_by_{name}", f"Every KPI per {name}", (column, meaning), column, column)


KPI_VIEWS = (
    View(
        "kpi_summary",
        "Every KPI of everything in this file: one row",
        f"SELECT * FROM ({computed(SESSION_KPIS, 'fact_session')})"  # noqa: S608
        f" CROSS JOIN ({computed(USAGE_KPIS, 'agg_usage')})",
        _EVERY,
    ),
    _view(
        "kpi_daily",
        "Every KPI per day (UTC) on which something happened",
        ("day", "day, UTC"),
        "CAST(started_at AS DATE)",
        "CAST(slot_at AS DATE)",
    ),
    _by("agent", "agent", "agent"),
    _by("person", "person_id", "person, as an id; NULL: erased or not known"),
    _by("project", "project", "project; NULL: not known"),
    _by("repo", "repo", "repository; NULL: not known"),
)
_TOLD_BETWEEN = f"fact_session WHERE {_RANGE.format(moment='started_at')}"
_USED_BETWEEN = f"agg_usage WHERE {_RANGE.format(moment='slot_at')}"
KPI_BETWEEN = (
    "CREATE MACRO kpi_between(since_at, until_at) AS TABLE"  # noqa: S608
    f" SELECT * FROM ({computed(SESSION_KPIS, _TOLD_BETWEEN)})"
    f" CROSS JOIN ({computed(USAGE_KPIS, _USED_BETWEEN)})"
)


def _needs(view: View) -> set[str]:
    """Tables and views that a view is made of."""
    words = set(re.findall(r"[a-z_]+", view.sql))
    return words & ({table.name for table in TABLES} | {other.name for other in VIEWS})


def views(tables: set[str]) -> list[View]:
    """The views whose tables are all there, in an order in which they can be made."""
    there, found = set(tables), list[View]()
    for view in (*VIEWS, *KPI_VIEWS):
        if _needs(view) <= there:
            found.append(view)
            there.add(view.name)
    return found
