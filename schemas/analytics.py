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

    since: datetime | None = None
    until: datetime | None = None
    position: int = 0
    as_of: datetime | None = None
    links: dict[str, str] = msgspec.field(name="_links", default_factory=dict[str, str])


class Summary(Asked, frozen=True, kw_only=True):
    """The KPIs of a range."""

    kpis: Kpis


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The KPIs of model calls, without those of sessions."""

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


class Point(Kpis, frozen=True, kw_only=True):
    """One period.  `label` is the local time it begins, with its offset; `start` and `end` are UTC."""

    label: str
    start: datetime
    end: datetime


class Series(Asked, frozen=True, kw_only=True):
    """Every period of the range, oldest first, those in which nothing happened included."""

    period: str
    time_zone: str
    points: list[Point]


class SuccessPoint(msgspec.Struct, frozen=True, kw_only=True):
    """How the sessions that began in one period ended."""

    label: str
    start: datetime
    end: datetime
    total_sessions: int
    finished_sessions: int
    completed_sessions: int
    failed_sessions: int
    abandoned_sessions: int
    success_rate: float | None
    failure_rate: float | None


class SuccessTrend(Asked, frozen=True, kw_only=True):
    """`change` is the success rate of the later half of the periods minus that of the earlier half."""

    period: str
    time_zone: str
    success_rate: float | None
    change: float | None
    points: list[SuccessPoint]


class Group(Kpis, frozen=True, kw_only=True):
    """The KPIs of one agent, person or project; `key` null: not known."""

    key: str | None


class Grouped(Asked, frozen=True, kw_only=True):
    """The most expensive first; `total` counts all groups, of which at most 500 are told."""

    by: str
    total: int
    groups: list[Group]


class ModelCost(Usage, frozen=True, kw_only=True):
    """One model; null: calls that name none, and cost that no known call accounts for (`rest_usd_micros`)."""

    model: str | None


class AgentCost(Usage, frozen=True, kw_only=True):
    """One agent."""

    agent: str | None


class SubagentKindCost(Usage, frozen=True, kw_only=True):
    """One kind of subagent."""

    agent_type: str | None


class SkillCost(Usage, frozen=True, kw_only=True):
    """One skill: the model calls made while it was at work, as the agent attributes them."""

    skill: str


class RepoCost(Usage, frozen=True, kw_only=True):
    """One repository."""

    repo: str | None


class BranchCost(Usage, frozen=True, kw_only=True):
    """One branch."""

    repo: str | None
    branch: str | None


class PullRequestCost(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions that opened pull requests: their whole cost, shared among those."""

    sessions: int
    pull_requests: int
    cost_usd_micros: int
    cost_per_pull_request_usd_micros: int | None


class CacheEconomics(msgspec.Struct, frozen=True, kw_only=True):
    """`saved`: reads from the cache at today's list prices against sending the same tokens.

    `cold`: calls of the main thread that came after a pause of more than 5 minutes and read less than half of what had been
    cached; `switch`: calls that changed the model.  Their cost is what they wrote to the cache instead of reading it.

    Money is null where there were tokens and none of them has a price, a lower bound where only some have one.
    """

    hit_rate: float | None
    saved_usd_micros: int | None
    cold_calls: int
    cold_usd_micros: int | None
    switch_calls: int
    switch_usd_micros: int | None


class Unpriced(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of a model without a price of ours, and how many of these have no cost at all."""

    model: str | None
    calls: int
    uncosted_calls: int


class Breakdown(Asked, frozen=True, kw_only=True):
    """The cost of a range.  Each table has at most 100 rows, the most expensive first.

    `contract_cost_without_model_usd_micros` is the part of `contract_cost_usd_micros` that names no model: only discounts for
    every model (`*`) reach it, so it is an upper bound where other discounts are agreed.
    """

    total: Usage
    contract_cost_usd_micros: int
    contract_cost_without_model_usd_micros: int
    discount_usd_micros: int
    by_model: list[ModelCost]
    by_agent: list[AgentCost]
    by_subagent: list[SubagentKindCost]
    by_skill: list[SkillCost]
    by_repo: list[RepoCost]
    by_branch: list[BranchCost]
    pull_requests: PullRequestCost
    cache: CacheEconomics
    unpriced: list[Unpriced]
    price_versions: list[str]


class ToolCost(msgspec.Struct, frozen=True, kw_only=True):
    """One tool.  `cost_usd_micros` is a share of the model calls that asked for it."""

    tool: str
    mcp_server: str | None
    calls: int
    failed: int
    denied: int
    duration_ms: int
    cost_usd_micros: int
    uncosted_calls: int


class ServerCost(msgspec.Struct, frozen=True, kw_only=True):
    """One MCP server: the sum of its tools."""

    mcp_server: str
    calls: int
    failed: int
    denied: int
    duration_ms: int
    cost_usd_micros: int
    uncosted_calls: int


class ToolCosts(Asked, frozen=True, kw_only=True):
    """Tools and MCP servers, the most expensive first."""

    tools: list[ToolCost]
    mcp_servers: list[ServerCost]


class SubagentCost(Usage, frozen=True, kw_only=True):
    """One kind of subagent; `runs` counts subagents."""

    subagent: str
    runs: int


class SubagentCosts(Asked, frozen=True, kw_only=True):
    """Kinds of subagents, the most expensive first, and the main threads for comparison."""

    subagents: list[SubagentCost]
    main: Usage


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions that cost more than `above` and at most `up_to` micro-USD; null: no such bound."""

    above_usd_micros: int | None
    up_to_usd_micros: int | None
    sessions: int
    cost_usd_micros: int


class Histogram(Asked, frozen=True, kw_only=True):
    """Sessions by what they cost; percentiles are costs of actual sessions.

    `without_cost`: with model calls and no known cost.  Sessions without model calls that cost nothing known are not told of.
    """

    buckets: list[Bucket]
    without_cost: int
    p50_usd_micros: int | None
    p90_usd_micros: int | None
    p99_usd_micros: int | None
    max_usd_micros: int | None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """One agent conversation."""

    llm_session_id: str
    session_id: str
    agent: str | None
    model: str | None
    status: str
    outcome: str | None
    person_id: str | None
    repo: str | None
    branch: str | None
    project: str | None
    started_at: datetime | None
    last_activity_at: datetime | None
    prompts: int
    turns: int
    failed_turns: int
    tool_calls: int
    tool_failures: int
    model_calls: int
    compactions: int
    subagents: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd_micros: int | None
    cost_source: str | None
    cost_complete: bool


class Conversations(Asked, frozen=True, kw_only=True):
    """Numbers of all conversations that began in the range, and one page of them."""

    total: int
    average_turns: float | None
    average_model_calls: float | None
    average_tool_calls: float | None
    average_cost_usd_micros: int | None
    median_cost_usd_micros: int | None
    compacted: int
    with_subagents: int
    items: list[Conversation]
    page: int = 1
    page_size: int = 0


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one session used and cost, by which source, and what the others say."""

    session_id: str
    started_at: datetime
    last_activity_at: datetime | None
    agent: str | None
    person_id: str | None
    project: str | None
    repo: str | None
    branch: str | None
    commit_hash: str | None
    status: str
    outcome: str | None
    llm_sessions: int
    model_calls: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    cost_usd_micros: int | None
    cost_source: str | None
    cost_complete: bool
    telemetry_usd_micros: int | None
    transcript_usd_micros: int | None
    priced_usd_micros: int | None
    unpriced_calls: int
    price_versions: str | None
    pull_requests: int


class Ledger(Asked, frozen=True, kw_only=True):
    """A page of the ledger, newest first; `total`, `cost_usd_micros` and `without_cost` are of all lines that fit."""

    lines: list[LedgerLine]
    total: int = 0
    cost_usd_micros: int = 0
    without_cost: int = 0
    page: int = 1
    page_size: int = 0
    next_cursor: str | None = None


class Coached(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions with coaching, without, or of people whose role is not known."""

    total_sessions: int
    finished_sessions: int
    completed_sessions: int
    success_rate: float | None
    average_duration_ms: int | None
    average_cost_usd_micros: int | None
    tool_failure_rate: float | None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One person with coached sessions: success before and after the middle of the range."""

    person_id: str
    coached_sessions: int
    uncoached_sessions: int
    earlier_success_rate: float | None
    later_success_rate: float | None
    change: float | None


class Coaching(Asked, frozen=True, kw_only=True):
    """`success_rate_difference`: with coaching minus without; `time_to_completion_ms` are means of completed sessions."""

    coached: Coached
    uncoached: Coached
    unknown: Coached
    success_rate_difference: float | None
    coached_time_to_completion_ms: int | None
    uncoached_time_to_completion_ms: int | None
    people: list[Progress]


class Weekly(Asked, frozen=True, kw_only=True):
    """One week, Monday to Sunday of the caller's time zone, beside the one before.

    `change` holds, per KPI, this week minus the week before; null where one of them is unknown.
    """

    time_zone: str
    kpis: Kpis
    before: Kpis
    change: dict[str, float | None]
    days: list[Point]
    by_project: list[Group]
    by_agent: list[Group]
