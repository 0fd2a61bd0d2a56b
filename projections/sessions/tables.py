"""The rows of the sessions read model.  Columns and indexes in Postgres: schema.sql, in the same order.

Every merge is commutative: a value is a minimum, a maximum, a sum over facts, or the newest by the client's clock (ties: the
larger value), so the three channels give the same rows in whatever order they arrive.  Three columns tell about arrival
itself and may differ: `last_position`, `last_recorded_at` and, for a call that two sessions claim with equal right, its owner.
Tokens are counts, money is pico-US dollars (10⁻¹²), times are UTC, durations are milliseconds.  No row holds a name;
`PromptRow.text` is the only free text.
"""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from uuid import UUID

import msgspec

from projections.base import Table


class SessionRow(msgspec.Struct, gc=False, omit_defaults=True):
    """A piece of work: one agent conversation by default, several where `context.work_id` names the work.

    `status` and `outcome` each come with the rule that decided them.  `acted_*` is the span of real activity, `seen_*` of
    all records; `last_activity_at` is the best of both.  `last_work_at` is the newest prompt or start.  `final_*` is what
    the agent conversation that ended last says; `declared_*` what `session.ended` said; `silent_since` the last activity
    that `session.timed_out` named.
    """

    org_id: UUID
    session_id: str
    kind: str = "cli"
    agent: str | None = None
    person_id: UUID | None = None
    status: str = "active"
    status_rule: str = "activity"
    outcome: str | None = None
    outcome_rule: str | None = None
    opened: bool = False
    visible: bool = False
    started_at: datetime | None = None
    first_activity_at: datetime | None = None
    last_activity_at: datetime | None = None
    acted_first_at: datetime | None = None
    acted_last_at: datetime | None = None
    seen_first_at: datetime | None = None
    seen_last_at: datetime | None = None
    last_work_at: datetime | None = None
    last_recorded_at: datetime | None = None
    repo: str | None = None
    branch: str | None = None
    commit_hash: str | None = None
    project: str | None = None
    llm_sessions: int = 0
    active_llm_sessions: int = 0
    turn_state: str = "none"
    turn_at: datetime | None = None
    final_at: datetime | None = None
    final_by: str | None = None
    final_outcome: str | None = None
    final_rule: str | None = None
    declared_at: datetime | None = None
    declared_outcome: str | None = None
    silent_since: datetime | None = None
    silent_limit_s: int | None = None
    last_position: int = 0


class LlmSessionRow(msgspec.Struct, gc=False, omit_defaults=True):
    """One agent conversation.  `last_position` guards idempotency: facts at or below it were applied.

    `session_id` is the crewkit session it belongs to (the first work id named, else its own id).  `runs` counts processes
    (`run_seq`).  `stated_*` are the agent's own newest cumulative totals; `tool_lines_*` lines as tool results tell them.
    `stand_in_*` counts what a channel told without an id that others share: it counts only where nothing else tells of it.
    """

    org_id: UUID
    llm_session_id: str
    session_id: str
    agent: str
    person_id: UUID | None = None
    agent_version: str | None = None
    agent_version_at: datetime | None = None
    entrypoint: str | None = None
    permission_mode: str | None = None
    permission_mode_at: datetime | None = None
    model: str | None = None
    model_at: datetime | None = None
    team: str | None = None
    repo: str | None = None
    repo_at: datetime | None = None
    branch: str | None = None
    branch_at: datetime | None = None
    commit_hash: str | None = None
    commit_hash_at: datetime | None = None
    project: str | None = None
    project_at: datetime | None = None
    forked_from: str | None = None
    status: str = "active"
    status_rule: str = "activity"
    outcome: str | None = None
    outcome_rule: str | None = None
    turn_state: str = "none"
    acted_first_at: datetime | None = None
    acted_last_at: datetime | None = None
    seen_first_at: datetime | None = None
    seen_last_at: datetime | None = None
    started_at: datetime | None = None
    last_work_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str | None = None
    last_prompt_at: datetime | None = None
    last_turn_at: datetime | None = None
    last_turn_error: str | None = None
    last_model_at: datetime | None = None
    last_error_at: datetime | None = None
    last_error: str | None = None
    clock_skew_ms: int = 0
    runs: int = 0
    hook_facts: int = 0
    telemetry_facts: int = 0
    transcript_facts: int = 0
    prompts: int = 0
    turns: int = 0
    failed_turns: int = 0
    tool_calls: int = 0
    tool_failures: int = 0
    tool_denials: int = 0
    stand_in_prompts: int = 0
    stand_in_turns: int = 0
    stand_in_failed_turns: int = 0
    stand_in_tool_calls: int = 0
    stand_in_tool_failures: int = 0
    stand_in_tool_denials: int = 0
    tool_lines_added: int = 0
    tool_lines_removed: int = 0
    subagents: int = 0
    metric_lines_added: int = 0
    metric_lines_removed: int = 0
    metric_lines_told: bool = False
    metric_cost_pico_usd: int | None = None
    stated_at: datetime | None = None
    stated_cost_pico_usd: int | None = None
    stated_lines_added: int | None = None
    stated_lines_removed: int | None = None
    stated_api_ms: int | None = None
    stated_tool_ms: int | None = None
    stated_unknown_model: bool = False
    last_recorded_at: datetime | None = None
    last_position: int = 0


class SubagentRow(msgspec.Struct, gc=False, omit_defaults=True):
    """A subagent of a conversation.  `real` is False for an orphaned stop: an internal fork, not a subagent.

    `told_*` are totals the agent itself reported; own totals are summed from its calls.
    """

    org_id: UUID
    llm_session_id: str
    agent_id: str
    agent_type: str | None = None
    parent_tool_use_id: str | None = None
    background: bool | None = None
    real: bool = False
    status: str = "running"
    model: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    told_total_tokens: int | None = None
    told_tool_uses: int | None = None
    told_duration_ms: int | None = None


class ModelCallRow(msgspec.Struct, gc=False, omit_defaults=True):
    """One response of a model API, whatever number of lines and channels told of it.

    `call_key` is the request id, else the message id.  `llm_session_id` owns it (see `fold_calls`).  `agent_rank` and
    `owner_rank` say how good the evidence for agent and owner is.  `priced_pico_usd` None: no price is known, see `unpriced_reason`
    (those of `domain.pricing.Priced`, and `out_of_range`).
    """

    org_id: UUID
    call_key: str
    llm_session_id: str
    owner_rank: int
    at: datetime
    agent_id: str | None = None
    agent_rank: int = 0
    prompt_id: str | None = None
    request_id: str | None = None
    message_id: str | None = None
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    web_searches: int = 0
    reported_pico_usd: int | None = None
    priced_pico_usd: int | None = None
    price_version: str | None = None
    unpriced_reason: str | None = None
    telemetry: bool = False
    transcript: bool = False
    sidechain: bool = False
    copied: bool = False
    stand_in: bool = False
    duration_ms: int | None = None
    ttft_ms: int | None = None
    query_source: str | None = None
    speed: str | None = None
    effort: str | None = None
    service_tier: str | None = None
    skill: str | None = None


class ModelCallAliasRow(msgspec.Struct, gc=False, omit_defaults=True):
    """Which call a message id stands for: a sidechain replay with another request id must not count again."""

    org_id: UUID
    message_id: str
    call_key: str
    rank: int
    at: datetime


class ToolCallRow(msgspec.Struct, gc=False, omit_defaults=True):
    """One tool call.  `status`: requested, succeeded, failed or denied; None while no fact says."""

    org_id: UUID
    llm_session_id: str
    tool_use_id: str
    at: datetime
    name: str | None = None
    status: str | None = None
    agent_id: str | None = None
    agent_rank: int = 0
    prompt_id: str | None = None
    request_id: str | None = None
    mcp_server: str | None = None
    duration_ms: int | None = None
    lines_added: int = 0
    lines_removed: int = 0
    decision: str | None = None
    decision_source: str | None = None
    stand_in: bool = False


class PromptRow(msgspec.Struct, gc=False, omit_defaults=True):
    """One prompt and the turn it began; `model` where the agent names the turn's model apart from its calls (Codex).  `text` is plain, for titles and search, and only where content was sent.

    Erasing a person deletes the texts of `person_id`.
    """

    org_id: UUID
    llm_session_id: str
    prompt_id: str
    person_id: UUID
    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    error: str | None = None
    chars: int | None = None
    source: str | None = None
    command: str | None = None
    model: str | None = None
    model_at: datetime | None = None
    text: str | None = None
    text_rank: int = 0
    stand_in: bool = False


class TallyRow(msgspec.Struct, gc=False, omit_defaults=True):
    """How often one channel (or phase) told of something that has no id of its own.

    Channels tell of the same happenings, so a reader takes the largest `n` over `channel`, never the sum.
    """

    org_id: UUID
    llm_session_id: str
    name: str
    channel: str
    n: int = 0


SESSION = Table("session", SessionRow, ("org_id", "session_id"))
LLM_SESSION = Table("llm_session", LlmSessionRow, ("org_id", "llm_session_id"))
SUBAGENT = Table("subagent_session", SubagentRow, ("org_id", "llm_session_id", "agent_id"), parent=LLM_SESSION)
MODEL_CALL = Table("model_call", ModelCallRow, ("org_id", "call_key"))
MODEL_CALL_ALIAS = Table("model_call_alias", ModelCallAliasRow, ("org_id", "message_id"))
TOOL_CALL = Table("tool_call", ToolCallRow, ("org_id", "llm_session_id", "tool_use_id"), parent=LLM_SESSION)
PROMPT = Table("prompt", PromptRow, ("org_id", "llm_session_id", "prompt_id"), parent=LLM_SESSION)
TALLY = Table("tally", TallyRow, ("org_id", "llm_session_id", "name", "channel"), parent=LLM_SESSION)

TABLES = (SESSION, LLM_SESSION, SUBAGENT, MODEL_CALL, MODEL_CALL_ALIAS, TOOL_CALL, PROMPT, TALLY)
for _table in TABLES:
    _table.key_of = attrgetter(*_table.key)  # the hot path of every fold
