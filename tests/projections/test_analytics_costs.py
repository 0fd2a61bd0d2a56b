"""What money is told of rows made by hand: contract costs, cache economics, sessions without a cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import duckdb
import pytest

from projections.analytics import schema
from projections.analytics.kpis import BY_NAME
from projections.analytics.questions import base, costs, lists
from projections.analytics.questions.base import Scope

ORG = UUID(int=1)
AT = datetime(2026, 7, 9, 12, tzinfo=UTC)
USAGE = {"org_id": ORG, "slot_at": base.utc(AT), "kind": "call", "model": "claude-x"}
PRICES = {"input_pico_usd": 10, "cache_read_pico_usd": 1, "cache_write_5m_pico_usd": 13, "cache_write_1h_pico_usd": 21}


@pytest.fixture
def file() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for statement in schema.statements():
            connection.execute(statement)
        yield connection


def put(file: duckdb.DuckDBPyConnection, table: str, **row: Any) -> None:
    marks = ", ".join("?" * len(row))
    file.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def use(file: duckdb.DuckDBPyConnection, **row: Any) -> None:
    put(file, "agg_usage", **{**USAGE, **row})


def agree(file: duckdb.DuckDBPyConnection, pattern: str, basis_points: int) -> None:
    first = date(2026, 1, 1)
    put(file, "dim_discount", org_id=ORG, pattern=pattern, basis_points=basis_points, valid_from=first, discount_id=ORG)


def contract(file: duckdb.DuckDBPyConnection) -> tuple[int, int, int]:
    told = costs.contract(file, ORG, base.usage(ORG, Scope()))
    return (
        told["contract_cost_usd_micros"],
        told["discount_usd_micros"],
        told["contract_cost_without_model_usd_micros"],
    )


@pytest.mark.parametrize(
    ("pico", "micros"),
    [
        (1_000_000, 0),  # half a micro-USD: to even
        (1_000_001, 1),  # half a pico-USD more than that
        (3_000_000, 2),
        (2_999_999, 1),
        (-1_000_001, -1),
    ],
)
def test_a_contract_cost_is_rounded_once(file: duckdb.DuckDBPyConnection, pico: int, micros: int) -> None:
    use(file, cost_pico_usd=pico)
    agree(file, "*", 5_000)
    assert contract(file)[0] == micros


@pytest.mark.parametrize(
    ("discounts", "expected"),
    [
        ([], (30, 0, 20)),
        ([("anthropic/*", 2_000)], (28, 2, 20)),
        ([("*", 1_000), ("anthropic/*", 2_000)], (26, 4, 18)),
        ([("*/*", 10_000)], (0, 30, 0)),
    ],
)
def test_cost_without_a_model_has_only_discounts_for_every_model_and_is_told_apart(
    file: duckdb.DuckDBPyConnection, discounts: list[tuple[str, int]], expected: tuple[int, int, int]
) -> None:
    use(file, cost_pico_usd=10_000_000)
    use(file, cost_pico_usd=20_000_000, model=None, kind="rest")
    for pattern, points in discounts:
        agree(file, pattern, points)
    assert contract(file) == expected


def cache(file: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    return costs.cache(file, base.usage(ORG, Scope()))


def money(told: dict[str, Any]) -> tuple[int | None, ...]:
    return tuple(told[f"{name}_usd_micros"] for name in ("saved", "cold", "switch"))


NO_TOKENS = {
    "cache_read_tokens": 0,
    "cold_write_5m_tokens": 0,
    "cold_write_1h_tokens": 0,
    "switch_write_5m_tokens": 0,
    "switch_write_1h_tokens": 0,
}


def test_the_cache_saved_nothing_where_there_was_nothing(file: duckdb.DuckDBPyConnection) -> None:
    assert money(cache(file)) == (0, 0, 0)
    use(file, model="nobody-knows-1", **NO_TOKENS)
    assert money(cache(file)) == (0, 0, 0)


def test_what_the_cache_saved_and_lost_without_a_price_is_unknown(file: duckdb.DuckDBPyConnection) -> None:
    some = dict.fromkeys(NO_TOKENS, 10**6)
    use(file, model="nobody-knows-1", **some)
    put(file, "dim_model", model="nobody-knows-1")
    put(file, "dim_model", model="claude-x", **PRICES)
    assert money(cache(file)) == (None, None, None)
    use(file, **NO_TOKENS)  # a price for none of the tokens does not tell what the others are worth
    assert money(cache(file)) == (None, None, None)
    use(file, **some)
    assert money(cache(file)) == (9, 12 + 20, 12 + 20)


def test_tokens_kept_for_an_hour_at_an_unknown_price_do_not_hide_those_kept_for_minutes(
    file: duckdb.DuckDBPyConnection,
) -> None:
    put(file, "dim_model", model="claude-x", **{**PRICES, "cache_write_1h_pico_usd": None})
    use(file, **{**NO_TOKENS, "cold_write_5m_tokens": 10**6, "switch_write_1h_tokens": 10**6})
    assert money(cache(file)) == (0, 12, None)


def test_tokens_times_prices_may_be_more_than_a_column_holds(file: duckdb.DuckDBPyConnection) -> None:
    put(file, "dim_model", model="claude-x", **{name: price * 10**6 for name, price in PRICES.items()})
    use(file, **dict.fromkeys(NO_TOKENS, 9 * 10**18))
    assert money(cache(file)) == (81 * 10**18, 288 * 10**18, 288 * 10**18)


def test_sessions_without_cost_are_the_same_everywhere(file: duckdb.DuckDBPyConnection) -> None:
    for n, (calls, cost) in enumerate([(0, None), (1, None), (2, None), (0, 5), (3, 7)]):
        row = {"org_id": ORG, "session_id": str(n), "started_at": base.utc(AT), "model_calls": calls}
        put(file, "fact_session", **row, cost_usd_micros=cost)
    histogram = costs.histogram(file, ORG, costs.HistogramParams())
    ledger = lists.ledger(file, ORG, lists.LedgerParams())
    (kpi,) = base.one(file, f"SELECT {BY_NAME['sessions_without_cost'].sql} FROM fact_session", []).values()
    assert (histogram["without_cost"], ledger["without_cost"], kpi) == (2, 2, 2)
    assert sum(bucket["sessions"] for bucket in histogram["buckets"]) == 2
