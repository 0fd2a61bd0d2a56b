"""Prices: exact where known, null where not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.pricing import BEGINNING, ModelPrice, PriceBook, Priced, PriceTable, Rates, Tier, micro_usd, price
from domain.sessions.observations import Tokens
from projections.prices import price_book

NOW = datetime(2026, 11, 20, tzinfo=UTC)
MILLION = 10**6  # tokens; times pico-dollars per token = pico-dollars per million tokens
USD = 10**12


def usd(model: str, tokens: Tokens, **more: str) -> Priced:
    return price(price_book(), model, tokens, NOW, **more)


@pytest.mark.parametrize(
    ("model", "rates"),
    [
        # $ per million tokens: input, output, 5-minute write, 1-hour write, read (reference/agent-telemetry.md, section 3)
        ("claude-opus-5-5", (4, 20, 5, 8, 0.20)),
        ("claude-sonnet-5-5", (2, 10, 2.5, 4, 0.10)),
        ("claude-sonnet-5", (2, 10, 2.5, 4, 0.20)),
        ("claude-haiku-5-5", (0.10, 0.50, 0.125, 0.20, 0.01)),
        ("claude-fable-5-1", (10, 50, 12.5, 20, 0.25)),
        ("claude-opus-5", (5, 25, 6.25, 10, 0.50)),
    ],
)
def test_the_published_prices(model: str, rates: tuple[float, ...]) -> None:
    kinds = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
    for kind, rate in zip(kinds, rates, strict=True):
        assert usd(model, Tokens(**{kind: 1_000})).pico_usd == round(rate * USD) // 1_000


def test_a_request_above_a_tier_costs_the_tiers_price_as_a_whole() -> None:
    at_limit, above = Tokens(input=1_000, cache_read=99_000), Tokens(input=1_001, cache_read=99_000)

    assert usd("claude-haiku-5-5", at_limit).pico_usd == 1_000 * 100_000 + 99_000 * 10_000
    assert usd("claude-haiku-5-5", above).pico_usd == 1_001 * 500_000 + 99_000 * 50_000
    assert usd("claude-haiku-5-5", Tokens(output=200_000)).pico_usd == 200_000 * 500_000  # output opens no tier


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("Claude-Opus-5-5", "claude-opus-5-5"),
        ("claude-opus-5-5[1m]", "claude-opus-5-5"),
        ("anthropic/claude-opus-5-5", "claude-opus-5-5"),
        ("claude-opus-5-5-20261101", "claude-opus-5-5"),
        ("anthropic/claude-opus-5-5-20261101[1m]", "claude-opus-5-5"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
    ],
)
def test_names_are_normalised_to_what_the_table_has(said: str, meant: str) -> None:
    assert usd(said, Tokens(input=1)).model == meant


def test_bedrock_ids_find_a_price() -> None:
    for name in ("us.anthropic.claude-opus-5-5", "anthropic.claude-opus-5-5-v1:0", "anthropic.claude-opus-5-5"):
        assert usd(name, Tokens(input=1)).pico_usd is not None


@pytest.mark.parametrize("model", ["claude-unheard-of-9", "opus", "", None, "fake", "claude", "gpt"])
def test_an_unknown_model_has_no_price_rather_than_none_at_all(model: str | None) -> None:
    found = price(price_book(), model, Tokens(input=1), NOW)

    assert found.pico_usd is None
    assert found.reason in {"unknown_model", "no_model"}
    assert found.version == price_book().version  # which table did not know it


def test_a_token_kind_without_a_price_makes_the_whole_unknown() -> None:
    book = PriceBook([PriceTable("v", BEGINNING, "test", {"m": ModelPrice({"standard": Rates(input=4, output=20)})})])

    assert price(book, "m", Tokens(input=2, output=3), NOW) == Priced(68, "v", None, "m")
    assert price(book, "m", Tokens(input=2, cache_read=1), NOW) == Priced(None, "v", "no_price:cache_read", "m")
    assert price(book, "m", Tokens(), NOW, web_searches=1).reason == "no_price:web_search"


def test_variants_cost_what_the_table_says_or_nothing_is_known() -> None:
    tokens = Tokens(input=MILLION // 10)
    assert usd("gpt-5.5", tokens, service_tier="priority").pico_usd == 12_500_000 * tokens.input
    assert usd("gpt-5.5", tokens, service_tier="flex").pico_usd == 2_500_000 * tokens.input
    assert usd("claude-opus-5-5", tokens, service_tier="batch").pico_usd == 2_000_000 * tokens.input
    assert usd("claude-opus-5-5", tokens, service_tier="standard", speed="normal").pico_usd == 4_000_000 * tokens.input
    assert usd("claude-opus-5-5", tokens, speed="fast").pico_usd == 8_000_000 * tokens.input
    assert usd("claude-opus-5-5", tokens, service_tier="priority").reason == "unknown_tier:priority"
    assert usd("claude-sonnet-5-5", tokens, speed="fast").reason == "unknown_tier:fast"
    assert usd("claude-opus-5-5", tokens, service_tier="mystery").pico_usd is None


def test_a_newer_table_prices_only_what_happened_since() -> None:
    def table(version: str, since: datetime, rate: int) -> PriceTable:
        return PriceTable(version, since, "test", {"m": ModelPrice({"standard": Rates(input=rate, output=1)})})

    since = datetime(2026, 6, 1, tzinfo=UTC)
    book = PriceBook([table("new", since, 2), table("old", BEGINNING, 1)])

    assert price(book, "m", Tokens(input=1), datetime(2026, 5, 31, tzinfo=UTC)) == Priced(1, "old", None, "m")
    assert price(book, "m", Tokens(input=1), since) == Priced(2, "new", None, "m")
    assert book.version == "new"
    assert price(book, None, Tokens(), datetime(2026, 5, 31, tzinfo=UTC)) == Priced(None, "old", "no_model")
    later = PriceBook([table("new", since, 2)])
    assert price(later, "x", Tokens(), datetime(2026, 5, 31, tzinfo=UTC)) == Priced(None, None, "unknown_model")


def test_reasoning_is_a_part_of_output_with_its_own_price_where_there_is_one() -> None:
    rates = Rates(input=1, output=2, reasoning=5)
    book = PriceBook([PriceTable("v", BEGINNING, "t", {"m": ModelPrice({"standard": rates})})])

    assert price(book, "m", Tokens(output=10, reasoning=4), NOW).pico_usd == 6 * 2 + 4 * 5
    assert usd("claude-opus-5-5", Tokens(output=10, reasoning=4)).pico_usd == 10 * 20_000_000


def test_a_tier_without_a_price_of_a_kind_does_not_borrow_it() -> None:
    row = ModelPrice({"standard": Rates(1, 1, 1)}, (Tier(100, {"standard": Rates(2, 2)}),))
    book = PriceBook([PriceTable("v", BEGINNING, "t", {"m": row})])

    assert price(book, "m", Tokens(input=50, cache_read=50), NOW).pico_usd == 100
    assert price(book, "m", Tokens(input=50, cache_read=51), NOW).reason == "no_price:cache_read"


def test_free_rows_are_not_prices() -> None:
    free = [name for name in price_book()._rows if usd(name, Tokens(input=1000, output=1000)).pico_usd == 0]
    assert free == []


@pytest.mark.parametrize(
    ("pico", "micro"), [(None, None), (0, 0), (499_999, 0), (500_000, 0), (500_001, 1), (1_500_000, 2), (2_500_000, 2)]
)
def test_micro_dollars_round_half_to_even(pico: int | None, micro: int | None) -> None:
    assert micro_usd(pico) == micro


@given(
    st.sampled_from(["claude-opus-5-5", "claude-sonnet-5-5"]), st.lists(st.integers(0, 10**6), min_size=5, max_size=5)
)
def test_prices_add_up(model: str, used: list[int]) -> None:
    one = Tokens(*used)
    two = Tokens(*(2 * count for count in used))
    first, second = usd(model, one).pico_usd, usd(model, two).pico_usd

    assert first is not None
    assert second == 2 * first
