"""Answers about model calls."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class LlmCall(msgspec.Struct, frozen=True, kw_only=True):
    """One answered request to a model.

    `prompt_tokens` are all tokens sent: fresh, read from the cache and written to it.  `cost` is US dollars by the
    source that the conversation's cost is from (`cost_source`); null: not known.  Fields that agents do not tell (`max_tokens`, hashes,
    budgets, the request itself) are null.  `status` is `success`: what failed never became a call; the session counts it.
    """

    id: str
    conversation_id: str
    model: str | None
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    max_tokens: int | None = None
    total_tokens_requested: int | None = None
    response_time_ms: int | None
    ttft_ms: int | None
    status: str = "success"
    error_code: str | None = None
    truncated_sections: list[str] | None = None
    prompt_hash: str | None = None
    response_hash: str | None = None
    budget_snapshot: dict[str, Any] | None = None
    cost: float | None
    cost_usd_micros: int | None
    cost_source: str | None
    price_version: str | None
    unpriced_reason: str | None
    timestamp: datetime
    subagent_id: str | None
    prompt_id: str | None
    request_id: str | None
    query_source: str | None
    skill: str | None
    request_data: dict[str, Any] | None = None
    response_data: dict[str, Any] | None = None


class LlmCalls(msgspec.Struct, frozen=True, kw_only=True):
    """A page.  Totals are of all calls that fit; `total_cost` is US dollars, a lower bound while `uncosted_calls` is not 0."""

    conversation_id: str
    total_tokens_used: int
    total_cost: float | None
    total_cost_usd_micros: int | None
    uncosted_calls: int
    page: int
    page_size: int
    total: int
    calls: list[LlmCall]
    links: dict[str, str] = msgspec.field(name="_links")
