"""What a channel fact says, in one vocabulary for every agent and channel.

`domain.sessions.reading.observe(fact)` turns a stored fact into these; the sessions projection folds them.  They are never
stored: a better reading of old facts is a rebuild, not a migration.  Times are UTC, tokens are counts, money is in pico-US
dollars (10⁻¹² USD: every published price per token is a whole number of them, so sums are exact).
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import msgspec


class Tokens(msgspec.Struct, frozen=True, omit_defaults=True):
    """Token counts of one response, each kind counted once: `input` excludes what was read from or written to the cache.

    `reasoning` is a part of `output`, kept for information.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """`agent_id` is set when it happened inside a subagent; `prompt_id` names the turn (Codex: its turn id).

    `stand_in` marks what a channel tells without any id that another channel shares (Codex' and Gemini's telemetry): a
    stand-in counts only in sessions where no other channel tells observations of the same class.
    """

    at: datetime
    agent_id: str | None = None
    prompt_id: str | None = None
    stand_in: bool = False


class SourceSeen(Observation, frozen=True, kw_only=True):
    """What a fact tells about the session's surroundings; None means: it does not say."""

    agent_version: str | None = None
    entrypoint: str | None = None
    model: str | None = None
    branch: str | None = None
    permission_mode: str | None = None
    vendor_user: str | None = None
    team: str | None = None


class RunStarted(Observation, frozen=True, kw_only=True):
    """A process began to work on the session.  `source`: startup, resume, clear, compact, fork."""

    source: str
    model: str | None = None


class RunEnded(Observation, frozen=True, kw_only=True):
    """A process left the session.  `reason` as the agent names it."""

    reason: str


class PromptSubmitted(Observation, frozen=True, kw_only=True):
    """A turn began.  Its text, where kept, is `prompt` in the fact's sealed content; `chars` is its length where known."""

    chars: int | None = None
    source: str | None = None
    command: str | None = None


class TurnEnded(Observation, frozen=True, kw_only=True):
    """The agent stopped.  `error` is the kind of failure (rate_limit, …) where the turn failed."""

    error: str | None = None
    background_tasks: int = 0


class ModelCalled(Observation, frozen=True, kw_only=True):
    """One response of a model API.  At least one of `request_id`, `message_id` is set.

    `channel` is `telemetry` or `transcript`.  `reported_pico_usd` is what the agent itself says it cost.  `sidechain` marks
    transcript lines replayed from, or belonging to, a subagent; `copied_from` a session this line was copied from (fork).
    `skill` is the skill that was at work, as the agent names it.
    """

    channel: str
    model: str | None
    tokens: Tokens
    request_id: str | None = None
    message_id: str | None = None
    reported_pico_usd: int | None = None
    duration_ms: int | None = None
    ttft_ms: int | None = None
    query_source: str | None = None
    speed: str | None = None
    effort: str | None = None
    service_tier: str | None = None
    sidechain: bool = False
    copied_from: str | None = None
    web_searches: int = 0
    skill: str | None = None


class ModelFailed(Observation, frozen=True, kw_only=True):
    """A model API call failed for good.  `error` is the vendor's kind or status code."""

    error: str
    model: str | None = None
    request_id: str | None = None


class ToolCalled(Observation, frozen=True, kw_only=True):
    """What one fact knows about one tool call.  `status`: requested, succeeded, failed, denied, or None (does not say)."""

    tool_use_id: str
    channel: str
    name: str | None = None
    status: str | None = None
    duration_ms: int | None = None
    mcp_server: str | None = None
    request_id: str | None = None
    lines_added: int = 0
    lines_removed: int = 0


class PermissionRequested(Observation, frozen=True, kw_only=True):
    """The agent asked a person to allow a tool."""

    tool_name: str | None


class PermissionDecided(Observation, frozen=True, kw_only=True):
    """`decision`: accept or reject (as the vendor says); `source`: config, user_permanent, hook, …."""

    tool_use_id: str | None
    decision: str
    source: str | None = None
    tool_name: str | None = None


class SubagentStarted(Observation, frozen=True, kw_only=True):
    """A subagent began; `agent_id` of the observation is the subagent's."""

    agent_type: str | None = None
    parent_tool_use_id: str | None = None
    description_known: bool = False
    background: bool | None = None


class SubagentEnded(Observation, frozen=True, kw_only=True):
    """A subagent stopped.  An orphan (no start, `agent_type` empty: an internal fork such as compaction) is no subagent."""

    agent_type: str | None = None
    status: str = "completed"
    total_tokens: int | None = None
    tool_uses: int | None = None
    duration_ms: int | None = None
    model: str | None = None


class Compacted(Observation, frozen=True, kw_only=True):
    """The context was compacted.  Each phase tells each compaction once, so a session had as many as its fullest phase."""

    trigger: str | None
    phase: str  # pre, post, boundary or telemetry
    pre_tokens: int | None = None
    post_tokens: int | None = None


class ModelSwitched(Observation, frozen=True, kw_only=True):
    """The person or the agent changed the model during the session."""

    from_model: str | None
    to_model: str | None
    source: str | None = None


class LinesChanged(Observation, frozen=True, kw_only=True):
    """Lines of code changed, as a delta told by a metric."""

    added: int = 0
    removed: int = 0


class Counted(Observation, frozen=True, kw_only=True):
    """A delta of a metric we keep: `commits`, `pull_requests`, `active_ms`, `metric_cost_pico_usd`."""

    what: str
    amount: int


class ProcessMeasured(Observation, frozen=True, kw_only=True):
    """How much the agent's process used at one moment: thousandths of a processor, bytes of memory; None: not told."""

    cpu_millicores: int | None = None
    memory_bytes: int | None = None


class TotalsStated(Observation, frozen=True, kw_only=True):
    """The agent's own cumulative totals (Claude's `cost-state`); the newest one of a session counts."""

    cost_pico_usd: int
    lines_added: int | None = None
    lines_removed: int | None = None
    api_ms: int | None = None
    tool_ms: int | None = None
    unknown_model_cost: bool = False


class TitleGiven(Observation, frozen=True, kw_only=True):
    """The session has a title or summary in its sealed content."""


class DirectoryChanged(Observation, frozen=True, kw_only=True):
    """The agent now works in another directory."""


class Unknown(Observation, frozen=True, kw_only=True):
    """A record of a kind this version does not know.  It is kept, counted and shown as unknown."""

    kind: str


Seen: TypeAlias = (
    SourceSeen
    | RunStarted
    | RunEnded
    | PromptSubmitted
    | TurnEnded
    | ModelCalled
    | ModelFailed
    | ToolCalled
    | PermissionRequested
    | PermissionDecided
    | SubagentStarted
    | SubagentEnded
    | Compacted
    | ModelSwitched
    | LinesChanged
    | Counted
    | ProcessMeasured
    | TotalsStated
    | TitleGiven
    | DirectoryChanged
    | Unknown
)
