"""Which model calls count, summed: once in SQL for readers, once over rows in memory for independent folds and tests.

A call counts when telemetry tells of it or its message id stands for it (no sidechain replay), unless it is a stand-in in a
conversation where something else tells of model calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import asyncpg
import msgspec

from projections.base import Rows
from projections.sessions.calls import OWNER_COPY
from projections.sessions.tables import MODEL_CALL, MODEL_CALL_ALIAS, ModelCallRow
from schemas.sessions import TokenTotals


class CallTotals(msgspec.Struct):
    """Sums of one conversation, agent (None: the main thread) and model.  Money in pico-USD.

    `reported` is None when no call has a reported cost; `unreported` calls have none, `unpriced` no price of ours;
    `telemetry_only` and `transcript_only` calls were told by one channel; `copied` lines also stand in other sessions, `borrowed`
    ones are known from copies only: their own session is not.
    """

    llm_session_id: str
    agent_id: str | None
    model: str | None
    calls: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    reported: int | None = None
    priced: int | None = None
    unreported: int = 0
    unpriced: int = 0
    telemetry_only: int = 0
    transcript_only: int = 0
    copied: int = 0
    borrowed: int = 0
    price_version: str | None = None


def sums_of(record: asyncpg.Record) -> CallTotals:
    """One row that `TOTALS` answers.  Sums of money are of the database's wide type: whole numbers again, whatever their size."""
    sums = CallTotals(*record.values())
    sums.reported, sums.priced = whole(sums.reported), whole(sums.priced)
    return sums


def whole(number: Any) -> int | None:
    """A sum without decimals as the database tells it."""
    return None if number is None else int(number)


COUNTED = """
SELECT c.*,
       (c.telemetry OR c.message_id IS NULL OR NOT EXISTS (
           SELECT FROM crewkit.model_call_alias a
            WHERE a.org_id = c.org_id AND a.message_id = c.message_id AND a.call_key <> c.call_key))
       AND NOT (c.stand_in AND EXISTS (
           SELECT FROM crewkit.model_call o
            WHERE o.org_id = c.org_id AND o.llm_session_id = c.llm_session_id AND NOT o.stand_in)) AS counts
  FROM crewkit.model_call c
 WHERE c.org_id = $1
"""

TOTALS = f"""
SELECT llm_session_id, agent_id, model,
       count(*) AS calls,
       sum(input_tokens)::bigint AS input,
       sum(output_tokens)::bigint AS output,
       sum(cache_read_tokens)::bigint AS cache_read,
       sum(cache_write_5m_tokens)::bigint AS cache_write_5m,
       sum(cache_write_1h_tokens)::bigint AS cache_write_1h,
       sum(reasoning_tokens)::bigint AS reasoning,
       sum(reported_pico_usd) AS reported,
       sum(priced_pico_usd) AS priced,
       count(*) FILTER (WHERE reported_pico_usd IS NULL) AS unreported,
       count(*) FILTER (WHERE priced_pico_usd IS NULL) AS unpriced,
       count(*) FILTER (WHERE NOT transcript) AS telemetry_only,
       count(*) FILTER (WHERE NOT telemetry) AS transcript_only,
       count(*) FILTER (WHERE copied) AS copied,
       count(*) FILTER (WHERE owner_rank = {OWNER_COPY}) AS borrowed,
       max(price_version) AS price_version
  FROM ({COUNTED} AND c.llm_session_id = ANY ($2)) AS told
 WHERE counts
 GROUP BY llm_session_id, agent_id, model
 ORDER BY llm_session_id, agent_id NULLS FIRST, model NULLS LAST
"""  # noqa: S608  both texts are ours

# Changes of model between calls of the main thread; auxiliary calls (titles, compaction) use models of their own.
SWITCHES = f"""
SELECT llm_session_id, count(*) AS n
  FROM (SELECT llm_session_id, model,
               lag(model) OVER (PARTITION BY llm_session_id ORDER BY at, call_key) AS before
          FROM ({COUNTED} AND c.llm_session_id = ANY ($2)) AS told
         WHERE counts AND agent_id IS NULL AND model IS NOT NULL
           AND (query_source IS NULL OR query_source ~ '^(main|sdk|repl_main_thread)')) AS main
 WHERE model <> before
 GROUP BY llm_session_id
"""  # noqa: S608  as above


def several_models(totals: Iterable[CallTotals]) -> bool:
    """Whether the main thread used more than one model, so that it is worth to look for switches."""
    return len({sums.model for sums in totals if sums.agent_id is None and sums.model is not None}) > 1


def counted(calls: Iterable[ModelCallRow], rows: Rows) -> list[ModelCallRow]:
    """The calls that count, of those given (all calls of each conversation)."""
    given = list(calls)
    told = {call.llm_session_id for call in given if not call.stand_in}
    found: list[ModelCallRow] = []
    for call in given:
        alias = rows.get(MODEL_CALL_ALIAS, (call.org_id, call.message_id)) if call.message_id else None
        best = call.telemetry or alias is None or alias.call_key == call.call_key
        if best and not (call.stand_in and call.llm_session_id in told):
            found.append(call)
    return found


def totals_of(rows: Rows, llm_session_id: str) -> list[CallTotals]:
    """What `TOTALS` answers for one conversation, from rows in memory."""
    found: dict[tuple[str | None, str | None], CallTotals] = {}
    for call in counted((c for c in rows.all(MODEL_CALL) if c.llm_session_id == llm_session_id), rows):
        sums = found.setdefault((call.agent_id, call.model), CallTotals(llm_session_id, call.agent_id, call.model))
        sums.calls += 1
        sums.input += call.input_tokens
        sums.output += call.output_tokens
        sums.cache_read += call.cache_read_tokens
        sums.cache_write_5m += call.cache_write_5m_tokens
        sums.cache_write_1h += call.cache_write_1h_tokens
        sums.reasoning += call.reasoning_tokens
        sums.reported = plus(sums.reported, call.reported_pico_usd)
        sums.priced = plus(sums.priced, call.priced_pico_usd)
        sums.unreported += call.reported_pico_usd is None
        sums.unpriced += call.priced_pico_usd is None
        sums.telemetry_only += not call.transcript
        sums.transcript_only += not call.telemetry
        sums.copied += call.copied
        sums.borrowed += call.owner_rank == OWNER_COPY
        sums.price_version = max(sums.price_version or "", call.price_version or "") or None
    return sorted(
        found.values(), key=lambda t: (t.agent_id is not None, t.agent_id or "", t.model is None, t.model or "")
    )


def plus(left: int | None, right: int | None) -> int | None:
    """A sum of known parts; None only when nothing is known."""
    if left is None or right is None:
        return right if left is None else left
    return left + right


def tokens_of(totals: Iterable[CallTotals]) -> TokenTotals:
    """All tokens of some sums."""
    sums = [0, 0, 0, 0, 0, 0]
    for t in totals:
        for n, value in enumerate((t.input, t.output, t.cache_read, t.cache_write_5m, t.cache_write_1h, t.reasoning)):
            sums[n] += value
    return TokenTotals(*sums)


def micros(pico_usd: int | None) -> int | None:
    """Millionths of a dollar, rounded half to even."""
    if pico_usd is None:
        return None
    whole, rest = divmod(pico_usd, 1_000_000)
    if rest > 500_000 or (rest == 500_000 and whole % 2):
        return whole + 1
    return whole
