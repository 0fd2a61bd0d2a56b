"""The coarse tables hold the same sums as the fine one, for every range, filter and grouping."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.analytics import schema
from projections.analytics.kpis import USAGE_KPIS, computed
from projections.analytics.questions import base
from projections.analytics.questions.base import Scope
from workers.analytics.sums import SUM_UP

ORG, OTHER = UUID(int=1), UUID(int=2)
PEOPLE = [None, UUID(int=11), UUID(int=12)]
START = datetime(2026, 3, 1, tzinfo=UTC)
HOURS = 24 * 6


@pytest.fixture(scope="module")
def file() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for statement in schema.statements():
        connection.execute(statement)
    names = [column.name for column in schema.AGG_USAGE.columns]
    for n in range(3_000):
        row: dict[str, Any] = dict.fromkeys(names, 0)
        row |= {
            "org_id": OTHER if n % 7 == 0 else ORG,
            "llm_session_id": str(n // 10),
            "session_id": str(n // 10),
            "slot_at": (START + timedelta(minutes=15 * (n * 7919 % (HOURS * 4)))).replace(tzinfo=None),
            "kind": "rest" if n % 50 == 0 else "call",
            "agent_id": None,
            "agent_type": None,
            "model": ("a", "b", None)[n % 3],
            "person_id": PEOPLE[n // 10 % 3],
            "agent": ("claude", "codex")[n // 20 % 2],
            "project": (None, "x", "y", "z")[n // 30 % 4],
            "repo": None,
            "branch": None,
            "calls": n % 5,
            "cost_pico_usd": None if n % 11 == 0 else n * 999_983,
            "output_tokens": n,
            "price_version": None,
        }
        connection.execute(
            f"INSERT INTO agg_usage VALUES ({', '.join('?' * len(names))})", [row[name] for name in names]
        )
    for statement in SUM_UP:
        connection.execute(statement)
    return connection


def answer(file: duckdb.DuckDBPyConnection, where: base.Where, by: str) -> list[Any]:
    return sorted(file.execute(computed(USAGE_KPIS, where.sql, by), where.values).fetchall(), key=repr)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, HOURS * 4),
    st.integers(1, HOURS * 4),
    st.sampled_from(["", "person_id", "agent", "project", "slot_at"]),
    st.sampled_from(
        [
            {},
            {"person_id": PEOPLE[1]},
            {"agent": "codex"},
            {"project": "x"},
            {"model": "a"},
            {"agent": "codex", "project": "x"},
        ]
    ),
)
def test_any_table_gives_the_same_sums(
    file: duckdb.DuckDBPyConnection, start: int, length: int, by: str, filters: dict[str, Any]
) -> None:
    since = START + timedelta(minutes=15 * start)
    scope = Scope(since=since, until=since + timedelta(minutes=15 * length), **filters)
    fine = base.usage(ORG, scope)
    expected = answer(file, base.Where(f"agg_usage WHERE {fine.sql}", fine.values), by)
    assert answer(file, base.used(ORG, scope, by or None), by) == expected
