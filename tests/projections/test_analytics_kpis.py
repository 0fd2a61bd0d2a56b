"""KPIs are defined once: the page in the reference, the schema of the answers and the SQL say the same."""

from __future__ import annotations

import os
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import duckdb
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.analytics import kpis, schema
from projections.analytics.kpis import KPIS, USAGE_KPIS
from projections.analytics.questions import found_questions
from schemas.analytics import Kpis, Usage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "kpis.md"


def page() -> str:
    rows = "\n".join(
        f"| `{kpi.name}` | {kpi.unit} | {kpi.formula} | `{kpi.whole_sql}` |".replace("||", "\\|\\|") for kpi in KPIS
    )
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- generated: begin -->")
    _, _, after = rest.partition("<!-- generated: end -->")
    head = "| KPI | Unit | Formula | SQL |\n|---|---|---|---|"
    return f"{before}<!-- generated: begin -->\n{head}\n{rows}\n<!-- generated: end -->{after}"


def test_the_reference_page_is_made_of_the_definitions() -> None:
    """UPDATE_DOCS=1 writes it."""
    if os.environ.get("UPDATE_DOCS") == "1":
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


def test_answers_have_exactly_the_kpis_that_are_defined() -> None:
    assert set(Kpis.__struct_fields__) == {kpi.name for kpi in KPIS}
    assert set(Usage.__struct_fields__) == {kpi.name for kpi in USAGE_KPIS}
    assert len(kpis.BY_NAME) == len(KPIS)


@pytest.fixture(scope="module")
def empty() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for statement in schema.statements():
        connection.execute(statement)
    return connection


def test_every_table_view_and_column_says_what_it_means(empty: duckdb.DuckDBPyConnection) -> None:
    columns = empty.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL"
    ).fetchall()
    tables = empty.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal AND comment IS NULL").fetchall()
    views = empty.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL").fetchall()
    assert (columns, tables, views) == ([], [], [])
    for view in schema.VIEWS:
        found = [column[0] for column in empty.execute(f"SELECT * FROM {view.name} LIMIT 0").description]
        assert found == [name for name, _ in view.columns]


def test_nothing_in_the_schema_is_made_for_a_name_or_a_text_somebody_wrote() -> None:
    held = {column.name for table in schema.TABLES for column in table.columns}
    assert held.isdisjoint({"email", "text", "prompt", "content", "title", "user_name"})


@given(st.integers(-(10**20), 10**20))
def test_money_is_rounded_half_to_even_in_whole_numbers(empty: duckdb.DuckDBPyConnection, pico: int) -> None:
    found = empty.execute("SELECT micro_usd(CAST(? AS HUGEINT))", [pico]).fetchone()
    assert found == (int((Decimal(pico) / 1_000_000).quantize(Decimal(1), ROUND_HALF_EVEN)),)


def test_questions_have_names_and_parameters_of_their_own() -> None:
    found = found_questions()
    assert {"summary", "timeseries", "grouped", "cost-breakdown", "ledger"} <= set(found)
    for question in found.values():
        assert issubclass(question.params, msgspec.Struct)
