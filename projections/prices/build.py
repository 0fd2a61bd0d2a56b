"""Derive a price table from LiteLLM's price file.  Run by hand when prices change; its output is committed.

    pip download --no-deps litellm==<version> --dest <folder>
    python -m projections.prices.build <folder>/litellm-*.whl [--effective-from 2026-11-20]

The first table holds since 1970 (so that imported history is priced); later ones since the day they are built for.
LiteLLM and its price file are MIT licensed (see NOTICE).  What is taken: text models with a token price, under the names
agents use; what is left out: free and preview rows (a price of 0 is no price), images, audio, video.
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from domain.pricing import ModelPrice, PriceTable, Rates, Tier

PRICE_FILE = "litellm/model_prices_and_context_window_backup.json"
MODES = frozenset({"chat", "responses", "completion"})
PREFIXES = frozenset(
    [
        "anthropic",
        "azure",
        "azure_ai",
        "bedrock",
        "deepseek",
        "gemini",
        "mistral",
        "moonshot",
        "openai",
        "vertex_ai",
        "xai",
        "zai",
        "dashscope",
    ]
)
VARIANTS = {"standard": "", "batches": "_batches", "priority": "_priority", "flex": "_flex", "ultrafast": "_ultrafast"}
FIELDS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write_5m": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "reasoning": "output_cost_per_reasoning_token",
}
_TIER = re.compile(r"^input_cost_per_token_above_(\d+)k_tokens$")
PICO = 10**12


def pico(value: Any) -> int | None:
    """Dollars per token to whole pico-dollars; None for no price, or one finer than we can count."""
    if not isinstance(value, int | float):
        return None
    exact = Decimal(repr(value)) * PICO
    return int(exact) if exact == exact.to_integral_value() else None


def rates(row: dict[str, Any], suffix: str) -> Rates | None:
    """The rates of one variant or tier; None when it has no price for input and output."""
    found = {kind: pico(row.get(f"{field}{suffix}")) for kind, field in FIELDS.items()}
    if found["input"] is None or found["output"] is None:
        return None
    return Rates(**found)


def model_price(row: dict[str, Any]) -> ModelPrice | None:
    """One model's row; None when it has no price."""
    standard = rates(row, "")
    if standard is None or not (standard.input or standard.output):
        return None
    variants = {name: found for name, suffix in VARIANTS.items() if (found := rates(row, suffix))}
    tiers: list[Tier] = []
    for above in sorted(int(match[1]) for name in row if (match := _TIER.match(name))):
        mark = f"_above_{above}k_tokens"
        inner = {name: found for name, suffix in VARIANTS.items() if (found := rates(row, f"{mark}{suffix}"))}
        tiers.append(Tier(above * 1000, inner))
    extra: dict[str, Any] = row.get("provider_specific_entry") or {}
    fast = extra.get("fast")
    searches: dict[str, Any] = row.get("search_context_cost_per_query") or {}
    return ModelPrice(
        rates=variants,
        tiers=tuple(tiers),
        fast_percent=round(fast * 100) if isinstance(fast, int | float) else None,
        search=pico(searches.get("search_context_size_medium")),
    )


def build(prices: dict[str, dict[str, Any]], version: str, effective_from: datetime) -> PriceTable:
    """The whole table, models by name."""
    models: dict[str, ModelPrice] = {}
    for name in sorted(prices):
        row = prices[name]
        prefix = name.partition("/")[0] if "/" in name else None
        wanted = row.get("mode") in MODES and (prefix is None or (prefix in PREFIXES and name.count("/") == 1))
        if wanted and (found := model_price(row)) is not None:
            models[name] = found
    source = "LiteLLM model_prices_and_context_window_backup.json, MIT licence, Copyright (c) 2023 Berri AI"
    return PriceTable(version, effective_from, source, models)


def main(argv: Sequence[str]) -> int:
    """Read the wheel, write `table-<version>.json` beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--effective-from", type=datetime.fromisoformat, default=datetime(1970, 1, 1, tzinfo=UTC))
    chosen = parser.parse_args(argv)
    version = "litellm-" + chosen.wheel.name.split("-")[1]
    with zipfile.ZipFile(chosen.wheel) as wheel:
        prices = msgspec.json.decode(wheel.read(PRICE_FILE))
    table = build(prices, version, chosen.effective_from.replace(tzinfo=UTC))
    target = Path(__file__).with_name(f"table-{version}.json")
    lines = [
        f"{msgspec.json.encode(name).decode()}: {msgspec.json.encode(row).decode()}"
        for name, row in table.models.items()
    ]
    head = msgspec.json.encode(
        {"version": version, "effective_from": table.effective_from, "source": table.source}
    ).decode()
    target.write_text(head[:-1] + ', "models": {\n' + ",\n".join(lines) + "\n}}\n")
    sys.stdout.write(f"{target}: {len(table.models)} models\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
