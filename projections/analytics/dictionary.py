"""The data dictionary, written from the schema: docs/reference/data-dictionary.md, and a copy in every export of files."""

from __future__ import annotations

from collections.abc import Iterable

from projections.analytics.exported import EXPORTED, INFO, INFO_COLUMNS, KPI_VIEWS, MOMENTS, views
from projections.analytics.kpis import KPIS
from projections.analytics.schema import SCHEMA_VERSION

_HEAD = f"""# Data dictionary

What an export holds, table by table and column by column (version {SCHEMA_VERSION} of the schema). This page is written from
the schema of the program; a test fails when it is stale, and writes it anew with `UPDATE_DOCS=1`.

Times are UTC. Tokens are counts, durations milliseconds. Money is pico-US dollars (10⁻¹² USD, exact) where calls are summed, and
micro-US dollars (10⁻⁶ USD) where a whole is told. NULL is unknown, never 0. No table holds a person's name or a text
that somebody wrote; a person is an id, and NULL once they were erased. How to get and use an export: [Export for analysis](../how-to/export-for-analysis.md).

A DuckDB export holds the tables and the views. Parquet and CSV exports hold the tables; the views are the SQL shown in
[docs/examples](../examples/). Folders `day=…` and `month=…` go by the column named under *divided by*; tables without one come whole.
"""


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _rows(lines: Iterable[tuple[str, ...]]) -> Iterable[str]:
    return ("| " + " | ".join(_text(cell) for cell in line) + " |" for line in lines)


def _tables() -> Iterable[str]:
    for source in EXPORTED.values():
        yield f"\n### `{source.table.name}`\n"
        divided = f" Divided by `{MOMENTS[source.table.name]}`." if source.table.name in MOMENTS else ""
        key = ", ".join(f"`{name}`" for name in source.table.key)
        yield f"{source.table.comment}. One row per {key}.{divided}\n"
        yield "| Column | Type | Meaning |\n| --- | --- | --- |"
        yield from _rows((f"`{column.name}`", column.type, column.comment) for column in source.columns)
    yield f"\n### `{INFO}`\n\nWhat the file is: one row, in DuckDB exports.\n"
    yield "| Column | Type | Meaning |\n| --- | --- | --- |"
    yield from _rows((f"`{column.name}`", column.type, column.comment) for column in INFO_COLUMNS)


def _views() -> Iterable[str]:
    for view in (one for one in views(set(EXPORTED)) if one not in KPI_VIEWS):
        yield f"\n### `{view.name}`\n\n{view.comment}.\n"
        yield "| Column | Meaning |\n| --- | --- |"
        yield from _rows((f"`{name}`", comment) for name, comment in view.columns)
    yield "\n### KPI views\n\nEach has every KPI below as a column, with the numbers the API tells.\n"
    yield "| View | Meaning |\n| --- | --- |"
    yield from _rows(
        (f"`{view.name}`", f"{view.comment}; first column: {view.columns[0][0]}") for view in KPI_VIEWS[1:]
    )
    yield from _rows([(f"`{KPI_VIEWS[0].name}`", KPI_VIEWS[0].comment)])
    yield from _rows(
        [
            (
                "`kpi_between(since, until)`",
                "A table macro: every KPI of a range, from `since` to before `until` (UTC), widened to quarters of an hour",
            )
        ]
    )


def page() -> str:
    """The whole page, Markdown."""
    kpis = _rows((f"`{kpi.name}`", kpi.unit, kpi.source, kpi.formula) for kpi in KPIS)
    return "\n".join(
        [
            _HEAD,
            "## Tables",
            *_tables(),
            "\n## Views",
            *_views(),
            "\n## KPIs\n",
            "`sessions`: about sessions that began in the range; `usage`: about model calls made in it.\n",
            "| KPI | Unit | Source | Formula |\n| --- | --- | --- | --- |",
            *kpis,
            "",
        ]
    )
