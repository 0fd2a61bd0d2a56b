"""Tables and columns of the analytics file, each with its type, unit and meaning, and the views over them.

Times are UTC without a zone.  Tokens are counts, durations milliseconds.  Money is pico-US dollars (10⁻¹² USD, exact) where
calls are summed and micro-US dollars (10⁻⁶ USD, rounded once per conversation) where a whole is told.  NULL is unknown,
never 0.  No table holds a name or a text that somebody wrote; a person is an id, NULL once the person is erased.
"""

from __future__ import annotations

from collections.abc import Iterable

from projections.analytics.kpis import MICRO_USD
from projections.analytics.schema.base import HASHES, Column, Table, View
from projections.analytics.schema.tables import AGG_USAGE, BY_NAME, DIMENSIONS, TABLES
from projections.analytics.schema.views import CALL_COST, VIEWS

__all__ = [
    "AGG_USAGE",
    "BY_NAME",
    "CALL_COST",
    "DIMENSIONS",
    "HASHES",
    "TABLES",
    "VIEWS",
    "Column",
    "Table",
    "View",
    "statements",
]

SCHEMA_VERSION = 5  # rises when a column, a view or the meaning of either changes: every worker then builds a new file


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def statements(tables: Iterable[Table] = TABLES, views: Iterable[View] = VIEWS) -> list[str]:
    """Everything an empty file needs: tables and views, each with comments on itself and on every column."""
    found = [MICRO_USD]
    for table in tables:
        found += [table.ddl(), f"COMMENT ON TABLE {table.name} IS {_quoted(table.comment)}"]
        found += [
            f"COMMENT ON COLUMN {table.name}.{column.name} IS {_quoted(column.comment)}" for column in table.columns
        ]
    for view in views:
        found += [f"CREATE VIEW {view.name} AS {view.sql}", f"COMMENT ON VIEW {view.name} IS {_quoted(view.comment)}"]
        found += [f"COMMENT ON COLUMN {view.name}.{name} IS {_quoted(comment)}" for name, comment in view.columns]
    return found
