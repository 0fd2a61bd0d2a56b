"""The model calls of one conversation, page by page, from the sessions read model: what is written can be read at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from eventstore.database import Connection
from projections.paging import Paging, page_of
from projections.sessions.merge import clean
from projections.sessions.queries import parts_of
from projections.sessions.reconcile import PRICED, TELEMETRY, cost_of
from projections.sessions.totals import COUNTED, whole

# What a caller may sort by, to SQL.
SORTS = {
    "timestamp": "at",
    "model": "model",
    "total_tokens": "total_tokens",
    "response_time_ms": "duration_ms",
    "cost": "cost_pico_usd",
    "id": "call_key",
}


class LlmCallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """None means any.  `text` occurs anywhere in model, id, request id, message id, source or skill; `until` is exclusive."""

    model: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class CallsFound(msgspec.Struct, frozen=True):
    """One page of a conversation's calls, how many there are, and their sums."""

    rows: Sequence[Any]
    total: int
    tokens: int
    cost_pico_usd: int | None
    uncosted: int


_CONVERSATIONS = """
SELECT llm_session_id, session_id FROM crewkit.llm_session WHERE org_id = $1 AND (llm_session_id = $2 OR session_id = $2)
"""
_CALLS = f"""
SELECT call_key, llm_session_id, agent_id, prompt_id, request_id, message_id, model, at, input_tokens, output_tokens,
       cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, reasoning_tokens, duration_ms, ttft_ms,
       query_source, skill, price_version, unpriced_reason, reported_pico_usd, priced_pico_usd,
       input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens + output_tokens AS total_tokens,
       CASE WHEN llm_session_id = ANY ($3::text[]) THEN reported_pico_usd
            WHEN llm_session_id = ANY ($4::text[]) THEN priced_pico_usd
            ELSE coalesce(reported_pico_usd, priced_pico_usd) END AS cost_pico_usd,
       CASE WHEN llm_session_id = ANY ($3::text[]) THEN 'telemetry'
            WHEN llm_session_id = ANY ($4::text[]) OR reported_pico_usd IS NULL THEN 'priced'
            ELSE 'telemetry' END AS cost_source
  FROM ({COUNTED} AND c.llm_session_id = ANY ($2::text[])) AS told WHERE counts
"""  # noqa: S608  both texts are ours
_SUMS = (
    "SELECT coalesce(sum(total_tokens), 0)::bigint AS tokens, sum(cost_pico_usd) AS cost,"
    " count(*) FILTER (WHERE cost_pico_usd IS NULL) AS uncosted FROM ({calls}) AS found"
)


def _stored(value: str | None) -> str | None:
    """A text as it would have been stored."""
    return None if value is None else clean(value)


async def calls_of(
    connection: Connection, org_id: UUID, conversation_id: str, filters: LlmCallFilter, paging: Paging
) -> CallsFound | None:
    """The calls that count of a conversation, or of all conversations of a session; None where there is none of that id.

    A call costs what the source says that its conversation's cost is from: the sums are those of the session's page.
    """
    found = await connection.fetch(_CONVERSATIONS, org_id, conversation_id)
    if not found:
        return None
    parts = await parts_of(connection, org_id, sorted({record["session_id"] for record in found}), with_tools=False)
    sources = {
        llm.llm_session_id: cost_of(llm, parts.totals.get(llm.llm_session_id, [])).source
        for llms in parts.llms.values()
        for llm in llms
    }
    ids = [record["llm_session_id"] for record in found]
    chosen = [[ident for ident in ids if sources.get(ident) == source] for source in (TELEMETRY, PRICED)]
    values: list[Any] = [org_id, ids, *chosen]
    conditions = ""
    for value, condition in (
        (_stored(filters.model), "model = ${n}"),
        (filters.since, "at >= ${n}"),
        (filters.until, "at < ${n}"),
        (
            _stored(filters.text),
            "strpos(lower(concat_ws(' ', model, call_key, request_id, message_id, query_source, skill)), lower(${n})) > 0",
        ),
    ):
        if value is not None:
            values.append(value)
            conditions += " AND " + condition.format(n=len(values))
    sql = f"{_CALLS}{conditions}"
    rows, total = await page_of(connection, sql, values, paging)
    sums = await connection.fetchrow(_SUMS.format(calls=sql), *values)
    assert sums is not None  # noqa: S101  an aggregate always answers one row
    return CallsFound(rows, total, sums["tokens"], whole(sums["cost"]), sums["uncosted"])
