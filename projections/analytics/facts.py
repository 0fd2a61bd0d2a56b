"""Rows of sessions, conversations and subagents, made by the code that makes the session's page: the numbers are the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.contracts.decide import vendor_of
from eventstore.database import Connection
from projections.coaching import Coaching
from projections.prices import price_book
from projections.sessions.assemble import Parts, detail, llm_detail
from projections.sessions.queries import parts_of
from projections.sessions.tables import SessionRow
from schemas.sessions import Cost, Happenings, Lines, LlmSessionDetail, SessionDetail, SubagentDetail, TokenTotals

_SESSION_COLUMNS = ", ".join(SessionRow.__struct_fields__)
SESSIONS = f"SELECT {_SESSION_COLUMNS} FROM crewkit.session WHERE org_id = $1 AND session_id = ANY ($2::text[])"  # noqa: S608
SESSION_PAGE = (
    "SELECT session_id FROM crewkit.session WHERE org_id = $1 AND session_id > $2 ORDER BY session_id LIMIT $3"
)
OWNERS = "SELECT DISTINCT session_id FROM crewkit.llm_session WHERE org_id = $1 AND llm_session_id = ANY ($2::text[])"
ERASED = "SELECT subject FROM crewkit.subject_key WHERE org_id = $1 AND wrapped IS NULL"


class Rows(msgspec.Struct):
    """What some sessions consist of, ready for the tables of their names; `llm_session_ids` are all their conversations."""

    sessions: list[dict[str, Any]] = []
    llm_sessions: list[dict[str, Any]] = []
    subagents: list[dict[str, Any]] = []
    llm_session_ids: list[str] = []


async def rows_of(
    connection: Connection, org_id: UUID, session_ids: Sequence[str], erased: frozenset[UUID], coaching: Coaching
) -> Rows:
    """The rows of some sessions; sessions that nobody sees have none.

    `erased` are people whose ids must not be kept.
    """
    found = Rows()
    records = await connection.fetch(SESSIONS, org_id, list(session_ids))
    sessions = [SessionRow(*record) for record in records]
    parts = await parts_of(connection, org_id, [one.session_id for one in sessions], with_tools=True)
    for session in sessions:
        for llm in parts.llms.get(session.session_id, ()):
            found.llm_session_ids.append(llm.llm_session_id)
        if session.visible:
            _add(found, org_id, session, parts, erased, coaching)
    return found


def _add(
    found: Rows, org_id: UUID, session: SessionRow, parts: Parts, erased: frozenset[UUID], coaching: Coaching
) -> None:
    told = detail(session, parts)
    coached = coaching.of(told.session.person_id, told.session.started_at)
    found.sessions.append({**_session(org_id, told, erased), "coached": coached})
    for llm in parts.llms.get(session.session_id, ()):
        one = llm_detail(llm, session, parts)
        row = _llm(org_id, one, erased)
        row["tools_stand_in"] = llm.tool_calls == 0 and llm.stand_in_tool_calls > 0
        found.llm_sessions.append(row)
        found.subagents += [_subagent(org_id, one, sub) for sub in one.subagents]


def _at(value: datetime | None) -> str | None:
    """UTC without a zone, as DuckDB's TIMESTAMP reads it."""
    return None if value is None else value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")


def _person(value: UUID | None, erased: frozenset[UUID]) -> str | None:
    return None if value is None or value in erased else str(value)


def _tokens(told: TokenTotals) -> dict[str, int]:
    return {
        "input_tokens": told.input,
        "output_tokens": told.output,
        "cache_read_tokens": told.cache_read,
        "cache_write_5m_tokens": told.cache_write_5m,
        "cache_write_1h_tokens": told.cache_write_1h,
        "reasoning_tokens": told.reasoning,
    }


def _cost(told: Cost) -> dict[str, Any]:
    return {
        "cost_usd_micros": told.cost_usd_micros,
        "cost_source": told.source,
        "cost_complete": told.complete,
        "cost_verdict": told.reconciliation.verdict,
        "telemetry_usd_micros": told.sources.telemetry_usd_micros,
        "transcript_usd_micros": told.sources.transcript_usd_micros,
        "priced_usd_micros": told.sources.priced_usd_micros,
        "unpriced_calls": told.sources.unpriced_calls,
        "price_versions": ",".join(told.sources.price_versions) or None,
    }


def _lines(told: Lines) -> dict[str, Any]:
    return {"lines_added": told.added, "lines_removed": told.removed, "lines_source": told.source}


def _counts(told: Happenings) -> dict[str, int]:
    return dict(msgspec.structs.asdict(told))


def _session(org_id: UUID, told: SessionDetail, erased: frozenset[UUID]) -> dict[str, Any]:
    top = told.session
    return {
        "org_id": str(org_id),
        "session_id": top.id,
        "kind": top.kind,
        "agent": top.agent,
        "status": top.status,
        "status_rule": top.status_rule,
        "outcome": top.outcome,
        "outcome_rule": top.outcome_rule,
        "person_id": _person(top.person_id, erased),
        "repo": top.repo,
        "branch": top.branch,
        "commit_hash": top.commit,
        "project": top.project,
        "started_at": _at(top.started_at),
        "last_activity_at": _at(top.last_activity_at),
        "duration_ms": top.duration_ms,
        "llm_sessions": top.llm_sessions,
        **_counts(top.counts),
        **_tokens(top.tokens),
        **_cost(told.cost),
        **_lines(top.lines),
    }


def _llm(org_id: UUID, told: LlmSessionDetail, erased: frozenset[UUID]) -> dict[str, Any]:
    return {
        "org_id": str(org_id),
        "llm_session_id": told.id,
        "session_id": told.session_id,
        "agent": told.agent,
        "agent_version": told.agent_version,
        "entrypoint": told.entrypoint,
        "permission_mode": told.permission_mode,
        "model": told.model,
        "team": told.team,
        "forked_from": told.forked_from,
        "status": told.status,
        "status_rule": told.status_rule,
        "outcome": told.outcome,
        "outcome_rule": told.outcome_rule,
        "person_id": _person(told.person_id, erased),
        "repo": told.repo,
        "branch": told.branch,
        "commit_hash": told.commit,
        "project": told.project,
        "started_at": _at(told.started_at),
        "ended_at": _at(told.ended_at),
        "last_activity_at": _at(told.last_activity_at),
        "clock_skew_ms": told.clock_skew_ms,
        **_counts(told.counts),
        **_tokens(told.tokens),
        **_cost(told.cost),
        "metric_usd_micros": told.cost.sources.metric_usd_micros,
        **_lines(told.lines),
    }


def _subagent(org_id: UUID, llm: LlmSessionDetail, told: SubagentDetail) -> dict[str, Any]:
    return {
        "org_id": str(org_id),
        "llm_session_id": llm.id,
        "agent_id": told.agent_id,
        "session_id": llm.session_id,
        "agent_type": told.agent_type,
        "status": told.status,
        "background": told.background,
        "parent_tool_use_id": told.parent_tool_use_id,
        "model": told.model,
        "started_at": _at(told.started_at),
        "ended_at": _at(told.ended_at),
        "duration_ms": told.duration_ms,
        "model_calls": told.model_calls,
        "tool_calls": told.tool_calls,
        "tool_failures": told.tool_failures,
        **_tokens(told.tokens),
        "cost_usd_micros": told.cost_usd_micros,
    }


def models(names: Iterable[str], at: datetime) -> list[dict[str, Any]]:
    """Rows of `dim_model`: what the price table of `at` says about each name."""
    book = price_book()
    rows: list[dict[str, Any]] = []
    for name in names:
        row: dict[str, Any] = {"model": name, "vendor": vendor_of(name)}
        found = book.find(name)
        held = book.row(found, at) if found is not None else None
        if found is not None and held is not None:
            version, price = held
            row |= {"price_name": found, "price_version": version}
            if (rates := price.rates.get("standard")) is not None:
                row |= {
                    "input_pico_usd": rates.input,
                    "output_pico_usd": rates.output,
                    "cache_read_pico_usd": rates.cache_read,
                    "cache_write_5m_pico_usd": rates.cache_write_5m,
                    "cache_write_1h_pico_usd": rates.cache_write_1h,
                }
        rows.append(row)
    return rows
