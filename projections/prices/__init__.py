"""The vendored price tables: `table-*.json`, derived from LiteLLM's price file (MIT, see NOTICE) by `build.py`.

A newer table is a new file with its own `effective_from`: calls made before it keep their price.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from domain.pricing import PriceBook, decode_table

_HERE = Path(__file__).resolve().parent


@cache
def price_book() -> PriceBook:
    """All vendored price tables, read once per process (about 20 ms)."""
    return PriceBook(decode_table(path.read_bytes()) for path in sorted(_HERE.glob("table-*.json")))
