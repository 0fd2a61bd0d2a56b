"""What the session endpoints answer.  Times are UTC, durations milliseconds, tokens counts, money millionths of a dollar.

A money field that is null is unknown, which is never the same as 0.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class TokenTotals(msgspec.Struct, frozen=True):
    """Tokens of merged model calls.  `input` excludes cache reads and writes; `reasoning` is a part of `output`."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0


class CostSources(msgspec.Struct, frozen=True, kw_only=True):
    """The same money, told by each source that is present.

    `telemetry`: the sum of what the agent reported per call.  `transcript`: the agent's own newest cumulative total, with
    auxiliary calls and subagents.  `priced`: our prices times tokens of the merged calls; a lower bound while
    `priced_complete` is false.  `metric`: the sum of the cost metric, a fourth check.
    """

    telemetry_usd_micros: int | None = None
    transcript_usd_micros: int | None = None
    priced_usd_micros: int | None = None
    metric_usd_micros: int | None = None
    priced_complete: bool = True
    unpriced_calls: int = 0
    unpriced_models: list[str] = []
    price_versions: list[str] = []


class Difference(msgspec.Struct, frozen=True):
    """`left` minus `right`, in millionths of a dollar."""

    left: str
    right: str
    usd_micros: int


class Cause(msgspec.Struct, frozen=True):
    """Why sources differ, as far as it is known.  `code` is stable, `text` is for people."""

    code: str
    text: str


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the sources tell the same cost.

    `verdict`: `agrees` (all sources that are present are equal to the micro-dollar), `partial` (only one is present), `none`
    (no source), `differs`.  `metric_agrees` is null while there is no cost metric.
    """

    verdict: str
    sources: list[str] = []
    differences: list[Difference] = []
    causes: list[Cause] = []
    metric_agrees: bool | None = None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost to show, which source it is from and why.  `complete` is false when it is only a lower bound."""

    cost_usd_micros: int | None = None
    source: str | None = None
    reason: str = "no source tells a cost"
    complete: bool = False
    sources: CostSources = CostSources()
    reconciliation: Reconciliation = Reconciliation(verdict="none")


class Lines(msgspec.Struct, frozen=True):
    """Lines of code changed and who says so: `cost-state`, `metric`, `tools`, or null."""

    added: int = 0
    removed: int = 0
    source: str | None = None


class ToolTotals(msgspec.Struct, frozen=True):
    """Calls of one tool.  `failed` ran and failed; `denied` was not allowed to run; `unfinished` has no result yet."""

    name: str
    calls: int
    failed: int = 0
    denied: int = 0
    unfinished: int = 0
    duration_ms: int = 0
    mcp_server: str | None = None


class ModelTotals(msgspec.Struct, frozen=True):
    """Merged calls of one model; `model` null: the agent did not name it."""

    model: str | None
    calls: int
    tokens: TokenTotals
    telemetry_usd_micros: int | None = None
    priced_usd_micros: int | None = None
    unpriced_calls: int = 0


class SubagentDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One subagent with its own totals.

    `status`: `running`, `completed`, `stopped`, `failed`, or `unfinished`: still running when its session was over.
    """

    agent_id: str
    agent_type: str | None
    status: str
    background: bool | None
    parent_tool_use_id: str | None
    model: str | None
    started_at: datetime | None
    ended_at: datetime | None
    duration_ms: int | None
    model_calls: int
    tool_calls: int
    tool_failures: int
    tokens: TokenTotals
    cost_usd_micros: int | None


class Happenings(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a conversation.  A turn is a prompt that got its end; a run is one process of the agent."""

    prompts: int = 0
    turns: int = 0
    failed_turns: int = 0
    tool_calls: int = 0
    tool_failures: int = 0
    tool_denials: int = 0
    model_calls: int = 0
    model_failures: int = 0
    permission_requests: int = 0
    compactions: int = 0
    model_switches: int = 0
    subagents: int = 0
    runs: int = 0
    commits: int = 0
    pull_requests: int = 0
    active_ms: int = 0


class ConsolidatedItems(msgspec.Struct, frozen=True, kw_only=True):
    """What of a conversation's items stands in the object store; `failures` of the generation under way, 0 for none."""

    generations: int = 0
    objects: int = 0
    items: int = 0
    bytes: int = 0
    completed_at: datetime | None = None
    failures: int = 0


class ProcessUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent's process used, as ProcessMetrics hooks measured it; 100 percent is one processor, null: not told."""

    measurements: int
    cpu_peak_percent: float | None = None
    cpu_mean_percent: float | None = None
    memory_peak_bytes: int | None = None
    memory_mean_bytes: int | None = None


class LlmSessionDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One agent conversation.  `facts` counts stored records by channel, `unknown_kinds` those we cannot read yet.

    `stream_status` is of its items: `inactive`, `streaming`, `consolidating`, `completed`.
    """

    id: str
    session_id: str
    agent: str
    agent_version: str | None
    entrypoint: str | None
    permission_mode: str | None
    model: str | None
    models: list[str]
    team: str | None
    forked_from: str | None
    status: str
    status_rule: str
    outcome: str | None
    outcome_rule: str | None
    person_id: UUID | None
    repo: str | None
    branch: str | None
    commit: str | None
    project: str | None
    started_at: datetime | None
    ended_at: datetime | None
    last_activity_at: datetime | None
    counts: Happenings
    tokens: TokenTotals
    cost: Cost
    lines: Lines
    tools: list[ToolTotals]
    by_model: list[ModelTotals]
    subagents: list[SubagentDetail]
    facts: dict[str, int]
    unknown_kinds: dict[str, int]
    clock_skew_ms: int
    process: ProcessUse | None = None
    stream_status: str = "inactive"
    consolidated: ConsolidatedItems = ConsolidatedItems()


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the session list.  `title` is the first prompt, where content was sent and its author not erased."""

    id: str
    kind: str
    agent: str | None
    status: str
    status_rule: str
    outcome: str | None
    outcome_rule: str | None
    title: str | None
    person_id: UUID | None
    repo: str | None
    branch: str | None
    commit: str | None
    project: str | None
    models: list[str]
    started_at: datetime | None
    last_activity_at: datetime | None
    duration_ms: int
    counts: Happenings
    tokens: TokenTotals
    cost_usd_micros: int | None
    cost_source: str | None
    cost_complete: bool
    cost_verdict: str
    lines: Lines
    llm_sessions: int


class Worktree(msgspec.Struct, frozen=True, kw_only=True):
    """The git worktree a session works in.  `state`: `open`, `merged`, `pull_request`, `discarded` or `kept`.

    `path` is null once its person is erased.
    """

    path: str | None
    branch: str
    state: str
    created_at: datetime
    resolved_at: datetime | None = None


class FeedbackEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What one person said; `comment` is null once the person is erased."""

    id: UUID
    person_id: UUID
    rating: int | None
    comment: str | None
    submitted_at: datetime


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """What people said about a session; `mean_rating` is null while nobody rated it."""

    count: int = 0
    mean_rating: float | None = None
    newest: list[FeedbackEntry] = []


class SessionDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A session and the conversations in it; `cost` adds up theirs."""

    session: SessionSummary
    cost: Cost
    llm_sessions: list[LlmSessionDetail]
    worktree: Worktree | None = None
    feedback: Feedback = Feedback()


class SessionPage(msgspec.Struct, frozen=True):
    """`next_cursor` null: there are no more."""

    items: list[SessionSummary]
    next_cursor: str | None = None


class TreeNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the session tree.  `kind`: session, llm_session or subagent_session."""

    kind: str
    id: str
    label: str | None
    status: str
    model_calls: int
    tool_calls: int
    tokens: TokenTotals
    cost_usd_micros: int | None
    children: list[TreeNode] = []


class SessionLive(msgspec.Struct, frozen=True, kw_only=True):
    """What a running session is doing.  `position` is the newest event the read model has folded into it."""

    id: str
    status: str
    turn_state: str
    last_activity_at: datetime | None
    counts: Happenings
    tokens: TokenTotals
    cost_usd_micros: int | None
    running_tools: list[str]
    running_subagents: int
    position: int


class OrganizationLive(msgspec.Struct, frozen=True, kw_only=True):
    """An organization now.  `today_*` count model calls since 00:00 UTC; `today_unpriced_calls` are not in the cost."""

    active_sessions: int
    active_people: int
    today_sessions: int
    today_model_calls: int
    today_tokens: TokenTotals
    today_cost_usd_micros: int | None
    today_unpriced_calls: int


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One stored record.  `content` is null with `erased` true after its author was erased; `cut_bytes` > 0: it was cut."""

    position: int
    version: int
    event_id: UUID
    channel: str
    agent: str
    kind: str
    occurred_at: datetime
    recorded_at: datetime
    subagent_id: str | None
    attrs: dict[str, Any]
    content: dict[str, Any] | None
    erased: bool = False
    cut_bytes: int = 0
    sha256: str | None = None


class ItemPage(msgspec.Struct, frozen=True):
    """`next_cursor` is always set: give it back later to get what came since.  `more` says whether there is more now."""

    items: list[Item]
    next_cursor: str
    more: bool
