"""The coarse tables give the same KPIs as the fine ones, for every range, filter and grouping."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.analytics import periods, schema
from projections.analytics.kpis import SESSION_KPIS, USAGE_KPIS, Kpi, computed
from projections.analytics.questions import base, sums
from projections.analytics.questions.base import Scope, Where
from projections.analytics.questions.sums import By
from workers.analytics.sums import SUM_UP

ORG, OTHER = UUID(int=1), UUID(int=2)
PEOPLE = [None, UUID(int=11), UUID(int=12)]
START = datetime(2026, 3, 1, tzinfo=UTC)
HOURS = 24 * 6


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for statement in schema.statements():
        connection.execute(statement)
    names = [column.name for column in schema.AGG_USAGE.columns]
    usage: list[dict[str, Any]] = []
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
        usage.append(row)
    sessions: list[dict[str, Any]] = []
    names = [column.name for column in schema.BY_NAME["fact_session"].columns]
    for n in range(800):
        began = START + timedelta(minutes=n * 7919 % (HOURS * 60), seconds=n % 60)
        row = dict.fromkeys(names, n % 4)
        row |= {
            "org_id": OTHER if n % 7 == 0 else ORG,
            "session_id": str(n),
            "started_at": None if n % 90 == 0 else began.replace(tzinfo=None),
            "last_activity_at": None,
            "status": "active" if n % 9 == 0 else "ended",
            "outcome": ("completed", "failed", "abandoned", None)[n % 4],
            "person_id": PEOPLE[n // 10 % 3],
            "agent": ("claude", "codex")[n // 20 % 2],
            "project": (None, "x", "y", "z")[n // 30 % 4],
            "repo": ("r", "s")[n % 2],
            "coached": None,
            "cost_complete": None,
            "cost_usd_micros": None if n % 11 == 0 else n,
            "duration_ms": None if n % 13 == 0 else n * 37,
        }
        sessions.append(row)
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    for name, rows in (("agg_usage", usage), ("fact_session", sessions)):
        path.write_bytes(msgspec.json.encode(rows))
        types = {column.name: column.type for column in schema.BY_NAME[name].columns}
        connection.execute(f"INSERT INTO {name} FROM read_json('{path}', columns = {types})")
    for statement in SUM_UP:
        connection.execute(statement)
    return connection


def plainly(
    file: duckdb.DuckDBPyConnection, kpis: tuple[Kpi, ...], table: str, where: Where, by: str = ""
) -> dict[Any, dict[str, Any]]:
    """The KPIs as they are defined, over the finest table, by key."""
    found = base.rows(file, computed(kpis, f"{table} WHERE {where.sql}", by), where.values)
    keys = [row.pop(by) if by else sums.ALL for row in found]
    return {str(key) if isinstance(key, UUID) else key: row for key, row in zip(keys, found, strict=True)}


FILTERS = st.sampled_from(
    [
        {},
        {"person_id": PEOPLE[1]},
        {"agent": "codex"},
        {"project": "x"},
        {"repo": "r"},
        {"model": "a"},
        {"agent": "codex", "project": "x"},
    ]
)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, HOURS * 4),
    st.integers(1, HOURS * 4),
    st.sampled_from(["", "person_id", "agent", "project", "repo"]),
    FILTERS,
)
def test_usage_is_the_same_from_any_table(
    file: duckdb.DuckDBPyConnection, start: int, length: int, by: str, filters: dict[str, Any]
) -> None:
    since = START + timedelta(minutes=15 * start)
    scope = Scope(since=since, until=since + timedelta(minutes=15 * length), **filters)
    expected = plainly(file, USAGE_KPIS, "agg_usage", base.usage(ORG, scope), by)
    assert sums.usage_kpis(file, ORG, scope, By(by)) == expected


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, HOURS * 3600),
    st.integers(1, HOURS * 3600),
    st.sampled_from(["", "person_id", "agent", "project", "repo"]),
    FILTERS,
)
def test_sessions_are_the_same_from_any_table_even_where_a_range_cuts_through_a_quarter(
    file: duckdb.DuckDBPyConnection, start_s: int, length_s: int, by: str, filters: dict[str, Any]
) -> None:
    since = START + timedelta(seconds=start_s)
    scope = Scope(since=since, until=since + timedelta(seconds=length_s), **filters)
    expected = plainly(file, SESSION_KPIS, "fact_session", base.sessions(ORG, scope), by)
    assert sums.session_kpis(file, ORG, scope, By(by)) == expected


@pytest.mark.parametrize("by", ["", "person_id", "agent"])
@pytest.mark.parametrize("scope", [Scope(), Scope(since=START + timedelta(hours=30)), Scope(until=START)])
def test_a_range_may_have_no_end(file: duckdb.DuckDBPyConnection, scope: Scope, by: str) -> None:
    assert sums.session_kpis(file, ORG, scope, By(by)) == plainly(
        file, SESSION_KPIS, "fact_session", base.sessions(ORG, scope), by
    )
    assert sums.usage_kpis(file, ORG, scope, By(by)) == plainly(
        file, USAGE_KPIS, "agg_usage", base.usage(ORG, scope), by
    )


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, HOURS * 4),
    st.integers(1, HOURS * 4),
    st.sampled_from(["hourly", "daily", "weekly", "monthly"]),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"]),
    FILTERS,
)
def test_every_period_tells_what_its_own_range_tells(
    file: duckdb.DuckDBPyConnection,
    start: int,
    length: int,
    period: periods.Length,
    zone: str,
    filters: dict[str, Any],
) -> None:
    since = START + timedelta(minutes=15 * start)
    scope = Scope(since=since, until=since + timedelta(minutes=15 * length), **filters)
    assert scope.until is not None
    found = periods.cut(since, scope.until, period, periods.zone(zone))
    told = sums.session_kpis(file, ORG, scope, By.periods(found))
    spent = sums.usage_kpis(file, ORG, scope, By.periods(found))
    for number, one in enumerate(found[:12]):
        part = Scope(since=one.start, until=one.end, **filters)
        (began,) = plainly(file, SESSION_KPIS, "fact_session", base.sessions(ORG, part)).values()
        (used,) = plainly(file, USAGE_KPIS, "agg_usage", base.usage(ORG, part)).values()
        assert told.get(number, {**began, "total_sessions": 0}) == began
        assert spent.get(number, used if used["model_calls"] == 0 else None) == used


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(
        [
            ("UTC", datetime(2026, 2, 1, tzinfo=UTC)),
            ("Europe/Berlin", datetime(2026, 3, 1, tzinfo=UTC)),
            ("Europe/Berlin", datetime(2026, 10, 1, tzinfo=UTC)),
            ("Australia/Lord_Howe", datetime(2026, 3, 20, tzinfo=UTC)),  # clocks change by half an hour
            ("Pacific/Apia", datetime(2011, 12, 20, tzinfo=UTC)),  # the 30th was left out
            ("Africa/Casablanca", datetime(2026, 2, 1, tzinfo=UTC)),
        ]
    ),
    st.integers(0, 4 * 24 * 20),
    st.integers(1, 4 * 24 * 40),
    st.sampled_from(["hourly", "daily", "weekly", "monthly"]),
)
def test_periods_are_numbered_whatever_clocks_do(
    place: tuple[str, datetime], start: int, length: int, period: periods.Length
) -> None:
    zone, first = place
    since = first + timedelta(minutes=15 * start)
    check_numbers(periods.cut(since, since + timedelta(minutes=15 * length), period, periods.zone(zone)))


@pytest.mark.parametrize("length", ["daily", "weekly", "monthly"])
def test_periods_of_years_are_numbered(length: periods.Length) -> None:
    since, until = datetime(2024, 12, 31, 7, 15, tzinfo=UTC), datetime(2028, 2, 2, 3, 30, tzinfo=UTC)
    check_numbers(periods.cut(since, until, length, periods.zone("Europe/Berlin")))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([1, 2, 3, 4, 8, 9, 95, 96, 97]), min_size=1, max_size=8))
def test_periods_of_any_lengths_are_numbered(quarters: list[int]) -> None:
    ends = [START + timedelta(minutes=15 * sum(quarters[:n])) for n in range(len(quarters) + 1)]
    found = [periods.Period("", start, end) for start, end in pairwise(ends)]
    check_numbers(found)


def check_numbers(found: list[periods.Period]) -> None:
    """Each period's first and last moment, and those of every hour of it, have its number."""
    moments: list[tuple[datetime, int]] = []
    for number, one in enumerate(found):
        inside = [
            one.start + timedelta(hours=n) for n in range(min(60, -(-(one.end - one.start) // timedelta(hours=1))))
        ]
        moments += [
            (moment, number) for moment in (*inside, one.end - timedelta(microseconds=1)) if one.start < one.end
        ]
    rows = duckdb.execute(
        f"SELECT {sums.period_number(found, 'moment')} FROM (SELECT unnest(?::TIMESTAMP[]) AS moment)",
        [[base.utc(moment) for moment, _ in moments]],
    ).fetchall()
    assert [row[0] for row in rows] == [number for _, number in moments]


def test_money_beyond_a_column_of_days_is_told_exactly(file: duckdb.DuckDBPyConnection) -> None:
    """9 million USD fit in a row in pico-USD, and no more; sums of rows are wider."""
    org = UUID(int=3)
    with_cost = file.cursor()
    with_cost.execute("BEGIN")
    for day in (1, 2):
        with_cost.execute(
            "INSERT INTO agg_slot BY NAME SELECT CAST(? AS UUID) AS org_id, CAST(? AS TIMESTAMP) AS slot_at,"
            " 9000000000000000001 AS total_cost_pico_usd, 1 AS calls",
            [org, base.utc(START + timedelta(days=day))],
        )
    told = sums.usage_kpis(with_cost, org, Scope(since=START, until=START + timedelta(days=3)))
    with_cost.execute("ROLLBACK")
    assert told[sums.ALL]["total_cost_usd_micros"] == 18_000_000_000_000
