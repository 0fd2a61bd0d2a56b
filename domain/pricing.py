"""What a response cost: token counts times an effective-dated price table, in pico-US dollars (10⁻¹² USD), exact.

Nothing is guessed.  A model that is not in the table, a token kind without a price, a service tier without one: the answer
is None with a reason, never 0, and cache prices are never derived from the input price.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from domain.sessions.observations import Tokens

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_NAMES_CACHED_MAX = 4_096


class Rates(msgspec.Struct, frozen=True, omit_defaults=True):
    """Pico-US dollars per token; None: not known.  `reasoning` None: as other output."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None


class Tier(msgspec.Struct, frozen=True):
    """Rates of a whole request whose prompt (input and cache, read and written) is longer than `above` tokens."""

    above: int
    rates: dict[str, Rates]


class ModelPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """Prices of one model from one moment on.

    `rates` by variant: `standard`, `batches`, `priority`, `flex`, `ultrafast`.  `tiers` ascending.  `fast_percent` is what
    the fast mode costs in percent of the standard one.  `search` is the price of one web search in pico-dollars.
    """

    rates: dict[str, Rates]
    tiers: tuple[Tier, ...] = ()
    fast_percent: int | None = None
    search: int | None = None


class PriceTable(msgspec.Struct, frozen=True):
    """One published state of the prices: `version` names it, `effective_from` says since when it holds."""

    version: str
    effective_from: datetime
    source: str
    models: dict[str, ModelPrice]


class Priced(msgspec.Struct, frozen=True):
    """`pico_usd` None: not known, and `reason` says why (`unknown_model`, `no_model`, `no_price:<kind>`, `unknown_tier:…`).

    `version` names the price table that was asked, also where it knows no price (None: there was none at that time); `model` the
    name it was found under.
    """

    pico_usd: int | None
    version: str | None = None
    reason: str | None = None
    model: str | None = None


class PriceBook:
    """All price tables, newest last.  A model is priced by the newest table in force at the moment of the call."""

    __slots__ = ("_rows", "_tables", "find", "version")

    def __init__(self, tables: Iterable[PriceTable]) -> None:
        self._rows: dict[str, tuple[list[datetime], list[tuple[str, ModelPrice]]]] = {}
        self.version = ""
        self._tables: list[tuple[datetime, str]] = []
        for table in sorted(tables, key=lambda table: table.effective_from):
            self.version = table.version
            self._tables.append((table.effective_from, table.version))
            for name, row in table.models.items():
                dates, rows = self._rows.setdefault(name.lower(), ([], []))
                dates.append(table.effective_from)
                rows.append((table.version, row))
        self.find = lru_cache(_NAMES_CACHED_MAX)(self._find)

    def __contains__(self, model: str) -> bool:
        return self.find(model) is not None

    def __len__(self) -> int:
        return len(self._rows)

    def version_at(self, at: datetime) -> str | None:
        """The newest table in force at a moment; None before the first."""
        return next((version for since, version in reversed(self._tables) if since <= at), None)

    def row(self, name: str, at: datetime) -> tuple[str, ModelPrice] | None:
        """The version and the row that hold for a name of the table at a moment."""
        dates, rows = self._rows[name]
        index = bisect_right(dates, at)
        return rows[index - 1] if index else None

    def _find(self, model: str) -> str | None:
        """The name in the table that an agent's name for a model stands for; None when there is none.

        Tried from the most to the least literal: as it is, without a context mark (`[1m]`), without the provider's prefix
        (`anthropic/`, `us.anthropic.`), without Bedrock's and Vertex' version suffixes, without a date.
        """
        return next((name for name in _spellings(model.strip().lower()) if name in self._rows), None)


_CONTEXT_MARK = re.compile(r"\[[0-9a-z]+\]$")
_PREFIX = re.compile(
    r"^(?:(?:anthropic|openai|google|gemini|vertex_ai|bedrock|azure|azure_ai|openrouter|models|xai|deepseek)/)+"
)
_REGION = re.compile(r"^(?:(?:us|eu|apac|au|jp|us-gov|global)\.)?(?:anthropic|amazon|meta|mistral|deepseek|openai)\.")
_VERSION = re.compile(r"(?:-v\d+(?::\d+)?|:\d+)$")
_DATE = re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d|default|latest)$")


def _spellings(model: str) -> Iterable[str]:
    name = model
    yield name
    for pattern in (_CONTEXT_MARK, _PREFIX, _REGION, _VERSION, _DATE):
        shorter = pattern.sub("", name)
        if shorter != name:
            name = shorter
            yield name


_VARIANTS: Mapping[str, str] = {
    "standard": "standard",
    "default": "standard",
    "auto": "standard",
    "normal": "standard",
    "on_demand": "standard",
    "batch": "batches",
    "batches": "batches",
    "priority": "priority",
    "flex": "flex",
    "ultrafast": "ultrafast",
}


def price(
    book: PriceBook,
    model: str | None,
    tokens: Tokens,
    at: datetime,
    *,
    speed: str | None = None,
    service_tier: str | None = None,
    web_searches: int = 0,
) -> Priced:
    """The list price of one response at a moment.

    `speed` and `service_tier` are the vendor's own words; None is the standard.
    """
    if not model:
        return Priced(None, book.version_at(at), "no_model")
    name = book.find(model)
    found = book.row(name, at) if name is not None else None
    if name is None or found is None:
        return Priced(None, book.version_at(at), "unknown_model")
    version, row = found
    variant = _VARIANTS.get((service_tier or "standard").lower())
    fast = speed == "fast"
    if speed is not None and not fast and _VARIANTS.get(speed.lower()) != "standard":
        variant = _VARIANTS.get(speed.lower())
    percent = row.fast_percent if fast else 100
    if variant is None or percent is None:
        return Priced(None, version, f"unknown_tier:{speed if fast else service_tier or speed}", name)
    rates = _rates(row, variant, tokens)
    if rates is None:
        return Priced(None, version, f"unknown_tier:{variant}", name)
    total, missing = _sum(rates, tokens)
    if web_searches and row.search is None:
        missing = "web_search"
    if missing is not None:
        return Priced(None, version, f"no_price:{missing}", name)
    return Priced(total * percent // 100 + web_searches * (row.search or 0), version, None, name)


def _rates(row: ModelPrice, variant: str, tokens: Tokens) -> Rates | None:
    chosen = row.rates.get(variant)
    if row.tiers:
        prompt = tokens.input + tokens.cache_read + tokens.cache_write_5m + tokens.cache_write_1h
        for tier in row.tiers:
            if prompt > tier.above:
                chosen = tier.rates.get(variant)
    return chosen


def _sum(rates: Rates, tokens: Tokens) -> tuple[int, str | None]:
    """Pico-dollars, and the first token kind that was used but has no price."""
    total = 0
    reasoning = tokens.reasoning if rates.reasoning is not None else 0
    for kind, used, rate in (
        ("input", tokens.input, rates.input),
        ("output", max(0, tokens.output - reasoning), rates.output),
        ("reasoning", min(reasoning, tokens.output), rates.reasoning),
        ("cache_read", tokens.cache_read, rates.cache_read),
        ("cache_write_5m", tokens.cache_write_5m, rates.cache_write_5m),
        ("cache_write_1h", tokens.cache_write_1h, rates.cache_write_1h),
    ):
        if used:
            if rate is None:
                return 0, kind
            total += used * rate
    return total, None


def micro_usd(pico_usd: int | None) -> int | None:
    """Pico- to micro-dollars, half to even, for answers to people and programs."""
    if pico_usd is None:
        return None
    whole, rest = divmod(pico_usd, 1_000_000)
    return whole + (rest > 500_000 or (rest == 500_000 and whole % 2 == 1))


def decode_table(data: bytes | dict[str, Any]) -> PriceTable:
    """Read a price table out of its JSON.

    Raises:
        msgspec.ValidationError: it is not one.
    """
    if isinstance(data, dict):
        return msgspec.convert(data, PriceTable)
    return msgspec.json.decode(data, type=PriceTable)
