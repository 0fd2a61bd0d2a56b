"""What the analytics endpoints answer.  docs/reference/kpis.md says what every number means.

Times are UTC unless a label says otherwise, money is micro-USD, durations are milliseconds, rates are shares of 1.  Null is
unknown, which is never the same as 0.
"""

from __future__ import annotations

from datetime import datetime

import msgspec


class Kpis(msgspec.Struct, frozen=True, kw_only=True):
    """Every KPI.  `total_cost_usd_micros` is a lower bound while `uncosted_calls` is not 0."""

    total_sessions: int
    active_sessions: int
    finished_sessions: int
    completed_sessions: int
    failed_sessions: int
    abandoned_sessions: int
    success_rate: float | None
    failure_rate: float | None
    people: int
    average_duration_ms: int | None
    average_cost_usd_micros: int | None
    sessions_cost_usd_micros: int
    sessions_without_cost: int
    lines_added: int
    lines_removed: int
    commits: int
    pull_requests: int
    prompts: int
    turns: int
    failed_turns: int
    tool_calls: int
    tool_failures: int
    tool_denials: int
    tool_failure_rate: float | None
    subagents: int
    compactions: int
    total_cost_usd_micros: int
    rest_usd_micros: int
    model_calls: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    cache_hit_rate: float | None
    uncosted_calls: int
    unpriced_calls: int
    reported_usd_micros: int
    priced_usd_micros: int
    drift_usd_micros: int


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer is about: the range, and up to which event of the log, written when, it knows."""

    since: datetime | None
    until: datetime | None
    position: int
    as_of: datetime | None
    links: dict[str, str] = msgspec.field(name="_links")


class Summary(Asked, frozen=True, kw_only=True):
    """The KPIs of a range."""

    kpis: Kpis
