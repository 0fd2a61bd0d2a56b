"""Fold model calls and tool calls: one row per call, whatever number of lines and channels tell of it.

Rules for model calls, with their source in reference/agent-telemetry.md
- One call per API response.  Key: request id, else message id (Codex: response id) (section 4).
- A transcript has one line per content block with the same message id and usage: one row, the largest usage (2.2 a).
- A sidechain replay repeats a parent's message id with another request id: the parent keeps it (2.2 b); the alias row of the
  message id decides, and the replay's own row does not count.
- OTLP api_request and transcript lines of one request are one call with two sources.  Tokens, model and time are the
  telemetry's where it tells them, because a transcript line may be written before the response is complete.
- Fork and resume copy lines (2.2 c): the call belongs to the session with telemetry of it, else to the one whose line is not
  marked as copied, else to the first that claimed it.  Others do not count it.
- A record that names no model (Codex) has its turn's, else the conversation's at that time.
- Priced again whenever something that the price depends on changes; no known price is None, never 0 (section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from domain.pricing import Priced
from domain.sessions.observations import ModelCalled, PermissionDecided, ToolCalled
from projections.sessions.merge import bounded, credible, ident, larger, short, smaller
from projections.sessions.tables import (
    MODEL_CALL,
    MODEL_CALL_ALIAS,
    TOOL_CALL,
    ModelCallAliasRow,
    ModelCallRow,
    ToolCallRow,
)
from projections.sessions.turns import model_of
from projections.sessions.work import HOOK, TELEMETRY, Work, count_tool, tool_counts

Pricing: TypeAlias = Callable[[ModelCallRow], Priced]

OUT_OF_RANGE = "out_of_range"  # why a call of more than ten thousand dollars has no price
HIDDEN_SKILLS = {"custom_skill", "third-party"}  # what telemetry says in place of a name
OWNER_TELEMETRY, OWNER_LINE, OWNER_COPY = 3, 2, 1
STATUS_RANK = {None: 0, "requested": 1, "succeeded": 2, "failed": 3, "denied": 4}
REJECTED = {"reject", "rejected", "deny", "denied", "abort", "aborted"}


def call_key(seen: ModelCalled, fallback: str) -> str:
    """The natural key of a response; `fallback` (the fact's id) where a reader found none."""
    return ident(seen.request_id or seen.message_id or fallback)


def fold_model_call(work: Work, seen: ModelCalled, pricing: Pricing) -> None:
    """Merge what one fact knows about one response."""
    rows, org = work.rows, work.org
    at = work.at(seen.at)
    key = call_key(seen, f"@{work.recorded.event_id}")
    telemetry = seen.channel == TELEMETRY
    rank = OWNER_TELEMETRY if telemetry else OWNER_COPY if seen.copied_from else OWNER_LINE
    row = rows.get(MODEL_CALL, (org, key))
    if row is None:
        row = ModelCallRow(org, key, work.lid, rank, at, stand_in=seen.stand_in)
    elif rank > row.owner_rank:
        row.copied |= row.llm_session_id != work.lid
        row.llm_session_id, row.owner_rank = work.lid, rank
    elif row.llm_session_id != work.lid:
        row.copied = True
    row.copied |= seen.copied_from is not None
    before = _priced_by(row)
    _take_usage(row, seen, at, telemetry=telemetry)
    _take_details(row, seen, telemetry=telemetry)
    if row.model is None:
        row.model = model_of(work, seen.prompt_id)
    if row.priced_pico_usd is None or before != _priced_by(row):
        _take_price(row, pricing(row))
    rows.put(MODEL_CALL, row)
    if seen.message_id is not None:
        _claim_message(work, seen, ident(seen.message_id), key, at)
    llm = work.llm
    llm.last_model_at = larger(llm.last_model_at, at)
    if llm.last_error_at is not None:
        work.changed = True
    if seen.copied_from is not None:
        llm.forked_from = smaller(llm.forked_from, short(seen.copied_from))


def _take_price(row: ModelCallRow, priced: Priced) -> None:
    """What it costs by our prices; tokens that nobody can have used have none."""
    row.priced_pico_usd, row.price_version, row.unpriced_reason = (
        credible(priced.pico_usd),
        priced.version,
        priced.reason,
    )
    if row.priced_pico_usd is None and priced.pico_usd is not None:
        row.unpriced_reason = OUT_OF_RANGE


def _priced_by(row: ModelCallRow) -> tuple[object, ...]:
    return (
        row.model,
        row.at,
        row.input_tokens,
        row.output_tokens,
        row.cache_read_tokens,
        row.cache_write_5m_tokens,
        row.cache_write_1h_tokens,
        row.reasoning_tokens,
        row.web_searches,
        row.speed,
        row.service_tier,
    )


def _take_usage(row: ModelCallRow, seen: ModelCalled, at: datetime, *, telemetry: bool) -> None:
    """Tokens, model and time: the telemetry's as soon as there is any, else the largest any line tells."""
    tokens = seen.tokens
    if telemetry and not row.telemetry:
        row.telemetry = True
        row.at, row.model = at, short(seen.model) or row.model
        row.input_tokens = bounded(tokens.input) or 0
        row.output_tokens = bounded(tokens.output) or 0
        row.cache_read_tokens = bounded(tokens.cache_read) or 0
        row.cache_write_5m_tokens = bounded(tokens.cache_write_5m) or 0
        row.cache_write_1h_tokens = bounded(tokens.cache_write_1h) or 0
    elif telemetry or not row.telemetry:
        row.at = min(row.at, at)
        row.model = smaller(row.model, short(seen.model))
        row.input_tokens = max(row.input_tokens, bounded(tokens.input) or 0)
        row.output_tokens = max(row.output_tokens, bounded(tokens.output) or 0)
        row.cache_read_tokens = max(row.cache_read_tokens, bounded(tokens.cache_read) or 0)
        row.cache_write_5m_tokens = max(row.cache_write_5m_tokens, bounded(tokens.cache_write_5m) or 0)
        row.cache_write_1h_tokens = max(row.cache_write_1h_tokens, bounded(tokens.cache_write_1h) or 0)
    row.reasoning_tokens = max(row.reasoning_tokens, bounded(tokens.reasoning) or 0)
    row.web_searches = max(row.web_searches, bounded(seen.web_searches) or 0)
    if telemetry:
        row.reported_pico_usd = larger(row.reported_pico_usd, credible(seen.reported_pico_usd))
    else:
        row.transcript = True


def _take_details(row: ModelCallRow, seen: ModelCalled, *, telemetry: bool) -> None:
    """The rest: whoever knows it.  A replayed line says `sidechain`, so for the agent it is the weakest witness."""
    agent_id = ident(seen.agent_id) if seen.agent_id else None
    source = seen.query_source
    if telemetry:
        says_main = agent_id is not None or source is None or not source.startswith(("agent", "subagent"))
        agent_rank = 3 if says_main else 0
    else:
        agent_rank = 1 if seen.sidechain or agent_id is not None else 2
    if agent_rank > row.agent_rank:
        row.agent_id, row.agent_rank = agent_id, agent_rank
    elif agent_rank == row.agent_rank:
        row.agent_id = smaller(row.agent_id, agent_id)
    row.sidechain |= seen.sidechain
    row.stand_in &= seen.stand_in
    row.prompt_id = smaller(row.prompt_id, ident(seen.prompt_id) if seen.prompt_id else None)
    row.request_id = smaller(row.request_id, ident(seen.request_id) if seen.request_id else None)
    row.message_id = smaller(row.message_id, ident(seen.message_id) if seen.message_id else None)
    row.duration_ms = larger(row.duration_ms, bounded(seen.duration_ms))
    row.ttft_ms = larger(row.ttft_ms, bounded(seen.ttft_ms))
    row.query_source = larger(row.query_source, short(source))
    row.speed = larger(row.speed, short(seen.speed))
    row.effort = larger(row.effort, short(seen.effort))
    row.service_tier = larger(row.service_tier, short(seen.service_tier))
    row.skill = _clearer(row.skill, short(seen.skill))


def _clearer(old: str | None, new: str | None) -> str | None:
    """Of two names of a skill the one that is a name: telemetry may hide those of a team's own."""
    if old is None or new is None:
        return new if old is None else old
    return max(old, new, key=lambda name: (name not in HIDDEN_SKILLS, name))


def _claim_message(work: Work, seen: ModelCalled, message_id: str, key: str, at: datetime) -> None:
    """Let the best witness say which call a message id is: parent before sidechain, with request id before without."""
    rank = 2 * (not seen.sidechain) + (seen.request_id is not None)
    alias = work.rows.get(MODEL_CALL_ALIAS, (work.org, message_id))
    if alias is None:
        alias = ModelCallAliasRow(work.org, message_id, key, rank, at)
    elif key == alias.call_key:
        if rank <= alias.rank and at >= alias.at:
            return
        alias.rank, alias.at = max(rank, alias.rank), min(at, alias.at)
    elif (-rank, at, key) < (-alias.rank, alias.at, alias.call_key):
        alias.call_key, alias.rank, alias.at = key, rank, at
    else:
        return
    work.rows.put(MODEL_CALL_ALIAS, alias)


def fold_tool_call(work: Work, seen: ToolCalled) -> None:
    """Merge what one fact knows about one tool call.

    Status moves up only: requested, succeeded, failed, denied.  A hook may say that a call succeeded whose exit code only
    the transcript knows, and a denied call looks failed to the transcript.
    """
    rows = work.rows
    at = work.now if seen.at is work.fact.occurred_at else work.at(seen.at)
    key = (work.org, work.lid, ident(seen.tool_use_id))
    row = rows.get(TOOL_CALL, key)
    was = tool_counts(row)
    if row is None:
        row = ToolCallRow(*key, at, stand_in=seen.stand_in)
    elif at < row.at:
        row.at = at
    name, status = seen.name, seen.status
    if name is not None and name != row.name:
        row.name = larger(row.name, short(name))
    if status is not None and STATUS_RANK.get(status, 0) > STATUS_RANK[row.status]:
        row.status = status
    agent_rank = 3 if work.channel == HOOK else 2 if seen.agent_id is None else 1
    if agent_rank > row.agent_rank:
        row.agent_id, row.agent_rank = ident(seen.agent_id) if seen.agent_id else None, agent_rank
    _take_tool_details(row, seen)
    if seen.duration_ms is not None:
        row.duration_ms = larger(row.duration_ms, bounded(seen.duration_ms))
    if seen.lines_added or seen.lines_removed:
        row.lines_added = max(row.lines_added, bounded(seen.lines_added) or 0)
        row.lines_removed = max(row.lines_removed, bounded(seen.lines_removed) or 0)
    rows.put(TOOL_CALL, row)
    count_tool(work.llm, was, row)


def _take_tool_details(row: ToolCallRow, seen: ToolCalled) -> None:
    if seen.prompt_id is not None and seen.prompt_id != row.prompt_id:
        row.prompt_id = smaller(row.prompt_id, ident(seen.prompt_id))
    if seen.request_id is not None and seen.request_id != row.request_id:
        row.request_id = smaller(row.request_id, ident(seen.request_id))
    if seen.mcp_server is not None:
        row.mcp_server = larger(row.mcp_server, short(seen.mcp_server))


def fold_decision(work: Work, seen: PermissionDecided) -> None:
    """Note on a tool call who allowed or refused it; a refusal makes it denied."""
    if seen.tool_use_id is None:
        return
    tool_use_id = ident(seen.tool_use_id)
    row = work.rows.get(TOOL_CALL, (work.org, work.lid, tool_use_id))
    was = tool_counts(row)
    if row is None:
        row = ToolCallRow(work.org, work.lid, tool_use_id, work.at(seen.at), stand_in=seen.stand_in)
    row.at = min(row.at, work.at(seen.at))
    row.name = larger(row.name, short(seen.tool_name))
    if seen.decision.lower() in REJECTED:
        row.status, row.decision = "denied", "reject"
    elif row.decision is None:
        row.decision = short(seen.decision)
    row.decision_source = larger(row.decision_source, short(seen.source))
    work.rows.put(TOOL_CALL, row)
    count_tool(work.llm, was, row)
