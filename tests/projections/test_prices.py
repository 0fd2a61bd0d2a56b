"""The vendored price table, and how it is derived from LiteLLM's file."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.pricing import BEGINNING, Rates, decode_table
from projections import prices
from projections.prices import build, price_book

ROW: dict[str, Any] = {
    "mode": "chat",
    "input_cost_per_token": 4e-06,
    "output_cost_per_token": 2e-05,
    "cache_read_input_token_cost": 2e-07,
    "input_cost_per_token_batches": 2e-06,
    "output_cost_per_token_batches": 1e-05,
    "input_cost_per_token_above_200k_tokens": 8e-06,
    "output_cost_per_token_above_200k_tokens": 3e-05,
    "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 1.6e-05,
    "provider_specific_entry": {"fast": 2, "us": 1.1},
    "search_context_cost_per_query": {"search_context_size_medium": 0.01},
}


def test_a_row_keeps_every_price_it_has_and_makes_up_none() -> None:
    found = build.model_price(ROW)

    assert found is not None
    assert found.rates == {
        "standard": Rates(input=4_000_000, output=20_000_000, cache_read=200_000),
        "batches": Rates(input=2_000_000, output=10_000_000),
    }
    (tier,) = found.tiers
    assert tier.above == 200_000
    assert tier.rates["standard"] == Rates(input=8_000_000, output=30_000_000, cache_write_1h=16_000_000)
    assert (found.fast_percent, found.search) == (200, 10_000_000_000)


@pytest.mark.parametrize(
    ("name", "over", "taken"),
    [
        ("m", {}, True),
        ("anthropic/m", {}, True),
        ("somewhere/m", {}, False),
        ("azure/eu/m", {}, False),
        ("m", {"mode": "embedding"}, False),
        ("m", {"input_cost_per_token": 0, "output_cost_per_token": 0}, False),  # a price of 0 is no price
        ("m", {"input_cost_per_token": None}, False),
    ],
)
def test_which_rows_are_taken(name: str, over: dict[str, Any], taken: bool) -> None:
    table = build.build({name: ROW | over}, "v", BEGINNING)

    assert (name in table.models) == taken


def test_a_price_finer_than_a_pico_dollar_is_not_rounded_into_another() -> None:
    assert build.pico(1e-12) == 1
    assert build.pico(1.5e-12) is None


def test_building_writes_a_table_that_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "litellm-9.9.9-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(build.PRICE_FILE, msgspec.json.encode({"m": ROW}))
    monkeypatch.setattr(build, "__file__", str(tmp_path / "build.py"))

    assert build.main([str(wheel), "--effective-from", "2026-11-21"]) == 0
    table = decode_table((tmp_path / "table-litellm-9.9.9.json").read_bytes())
    assert (table.version, table.effective_from) == ("litellm-9.9.9", datetime(2026, 11, 21, tzinfo=UTC))
    assert table.models == {"m": build.model_price(ROW)}


def test_the_vendored_table_names_its_source_and_licence() -> None:
    folder = Path(prices.__file__).parent
    for path in folder.glob("table-*.json"):
        assert "MIT" in decode_table(path.read_bytes()).source
    assert "Berri AI" in (folder / "NOTICE").read_text()
    assert len(price_book()) > 900
    assert price_book() is price_book()
