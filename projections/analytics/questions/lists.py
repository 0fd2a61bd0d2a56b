"""Tables of single things: conversations, and the ledger of what each session cost."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from projections.analytics.kpis import BY_NAME
from projections.analytics.questions import base
from projections.analytics.questions.base import Cursor, Question, Scope, Where

PAGE_MAX = 200
LINES_MAX = 1_000  # of the ledger in one answer

_CONVERSATION = (
    "llm_session_id, session_id, agent, model, status, outcome, person_id, repo, branch, project, started_at, last_activity_at,"
    " prompts, turns, failed_turns, tool_calls, tool_failures, model_calls, compactions, subagents, input_tokens,"
    " output_tokens, cache_read_tokens, cache_write_5m_tokens + cache_write_1h_tokens AS cache_write_tokens,"
    " cost_usd_micros, cost_source, cost_complete"
)
_SORTS = {
    "started_at": "started_at",
    "cost": "cost_usd_micros",
    "turns": "turns",
    "model_calls": "model_calls",
    "tool_calls": "tool_calls",
}
ConversationSort = Literal["started_at", "cost", "turns", "model_calls", "tool_calls"]


class ConversationsParams(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the conversations that began in the range."""

    scope: Scope = Scope()
    page: int = 1
    page_size: int = 50
    sort_by: ConversationSort = "started_at"
    descending: bool = True


def conversations(cursor: Cursor, org_id: UUID, params: ConversationsParams) -> dict[str, Any]:
    """Numbers of all conversations that fit, and one page of them."""
    where = base.sessions(org_id, params.scope, "llm_session_id")
    totals = base.one(
        cursor,
        "SELECT count(*) AS total, avg(turns) AS average_turns, avg(model_calls) AS average_model_calls,"  # noqa: S608
        " avg(tool_calls) AS average_tool_calls, round(avg(cost_usd_micros))::BIGINT AS average_cost_usd_micros,"
        " quantile_disc(cost_usd_micros, 0.5) AS median_cost_usd_micros,"
        " count(*) FILTER (WHERE compactions > 0) AS compacted, count(*) FILTER (WHERE subagents > 0) AS with_subagents"
        f" FROM fact_llm_session WHERE {where.sql}",
        where.values,
    )
    order, way = _SORTS[params.sort_by], "DESC" if params.descending else "ASC"
    size = max(1, min(params.page_size, PAGE_MAX))
    items = base.rows(
        cursor,
        f"SELECT {_CONVERSATION} FROM fact_llm_session WHERE {where.sql}"  # noqa: S608
        f" ORDER BY {order} {way} NULLS LAST, llm_session_id {way} LIMIT {size} OFFSET {size * (max(1, params.page) - 1)}",
        where.values,
    )
    return {**totals, "items": items}


_LINE = (
    "s.session_id, s.started_at, s.last_activity_at, s.agent, s.person_id, s.project, s.repo, s.branch, s.commit_hash,"
    " s.status, s.outcome, s.llm_sessions, s.model_calls, s.input_tokens, s.output_tokens, s.cache_read_tokens,"
    " s.cache_write_5m_tokens, s.cache_write_1h_tokens, s.reasoning_tokens, s.cost_usd_micros, s.cost_source,"
    " s.cost_complete, s.telemetry_usd_micros, s.transcript_usd_micros, s.priced_usd_micros, s.unpriced_calls,"
    " s.price_versions, s.pull_requests"
)


class LedgerParams(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of sessions that began in the range, newest first; `before` and `before_id` are those of the last line seen.

    Lines after that one stay what they are while sessions begin; `offset` counts from the newest, and moves with them.
    """

    scope: Scope = Scope()
    status: str | None = None
    outcome: str | None = None
    conversation: str | None = None
    before: datetime | None = None
    before_id: str | None = None
    offset: int = 0
    limit: int = 50
    count: bool = True


def ledger(cursor: Cursor, org_id: UUID, params: LedgerParams) -> dict[str, Any]:
    """What each session used and cost; with `count` also how many there are and what they cost together."""
    where = _ledger_where(org_id, params)
    answer: dict[str, Any] = {}
    if params.count:
        answer = base.one(
            cursor,
            "SELECT count(*) AS total, coalesce(sum(cost_usd_micros), 0)::BIGINT AS cost_usd_micros,"  # noqa: S608
            f" {BY_NAME['sessions_without_cost'].sql} AS without_cost"
            f" FROM fact_session s WHERE {where.sql}",
            where.values,
        )
    if params.before is not None:
        where = where.plus("(s.started_at, s.session_id) < (?, ?)", base.utc(params.before), params.before_id or "")
    limit = max(1, min(params.limit, LINES_MAX))
    answer["lines"] = base.rows(
        cursor,
        f"SELECT {_LINE} FROM fact_session s WHERE {where.sql}"  # noqa: S608
        f" ORDER BY s.started_at DESC, s.session_id DESC LIMIT {limit} OFFSET {max(0, params.offset)}",
        where.values,
    )
    return answer


def _ledger_where(org_id: UUID, params: LedgerParams) -> Where:
    where = base.sessions(org_id, params.scope)
    for name in ("status", "outcome"):
        if (wanted := getattr(params, name)) is not None:
            where = where.plus(f"{name} = ?", wanted)
    if params.conversation is not None:
        found = "(session_id = ? OR session_id IN (SELECT session_id FROM fact_llm_session WHERE org_id = ? AND llm_session_id = ?))"
        where = where.plus(found, params.conversation, org_id, params.conversation)
    return where.plus("started_at IS NOT NULL")


CONVERSATIONS = Question("conversations", ConversationsParams, conversations)
LEDGER = Question("ledger", LedgerParams, ledger)
