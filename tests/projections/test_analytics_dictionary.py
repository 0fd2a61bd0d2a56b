"""The data dictionary is the schema's; what an export leaves out is left out on purpose."""

from __future__ import annotations

import os
from pathlib import Path

from projections.analytics.dictionary import page
from projections.analytics.exported import DERIVED, EXPORTED, KPI_VIEWS, views
from projections.analytics.schema import HASHES, TABLES, VIEWS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "data-dictionary.md"


def test_the_page_is_made_of_the_schema() -> None:
    """UPDATE_DOCS=1 writes it."""
    if os.environ.get("UPDATE_DOCS") == "1":
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_table_is_exported_or_derived_and_every_row_of_it_is_somebodys() -> None:
    assert set(EXPORTED) | DERIVED == {table.name for table in TABLES}
    for name, source in EXPORTED.items():
        assert source.whose.count("?") == 1, name
        assert "org_id = ?" in source.whose, name
        assert not {column.name for column in source.columns} & set(HASHES)


def test_a_view_is_made_when_its_tables_are_there() -> None:
    assert views(set(EXPORTED)) == [*VIEWS, *KPI_VIEWS]
    assert not any(name in view.sql for name in DERIVED for view in (*VIEWS, *KPI_VIEWS))
    assert [view.name for view in views({"fact_tool_call"})] == ["fact_permission_decision"]
    assert views(set()) == []
