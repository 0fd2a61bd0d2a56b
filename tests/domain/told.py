"""Make facts of records the way ingestion does, and total what they say, for tests of reading."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from commands.bus import Principal
from commands.sessions.facts import People
from commands.sessions.hooks import hook_fact
from commands.sessions.items import _Lines
from commands.sessions.telemetry import session_of, telemetry_fact
from domain.sessions.events import ChannelFact
from domain.sessions.observations import (
    Compacted,
    ModelCalled,
    PermissionRequested,
    PromptSubmitted,
    RunStarted,
    Seen,
    SubagentEnded,
    SubagentStarted,
    ToolCalled,
    TurnEnded,
)
from domain.sessions.reading import observe
from schemas.ingest import HookEnvelope, ItemBatch
from schemas.otlp import OtlpRecord

NOW = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)
SESSION = "5e551011-0000-4000-8000-000000000001"
PRINCIPAL = Principal(
    actor="key:1", org_id=UUID(int=1), person_id=UUID(int=2), scopes=frozenset({"ingest"}), request_id="r"
)


def people() -> People:
    return People(PRINCIPAL, b"secret")


def hook(kind: str, agent: str = "claude", **fields: Any) -> ChannelFact:
    """A hook fact of `SESSION`."""
    payload = {"session_id": SESSION, "hook_event_name": kind, **fields}
    return hook_fact(HookEnvelope(payload=payload, agent=agent, at=NOW), people(), NOW, None)[0]


def item(line: dict[str, Any], agent: str = "claude", subagent_id: str | None = None) -> ChannelFact:
    """A transcript fact of `SESSION`."""
    return items([line], agent, subagent_id)[0]


def items(
    lines: list[dict[str, Any]],
    agent: str = "claude",
    subagent_id: str | None = None,
    session: str = SESSION,
    received_at: datetime = NOW,
) -> list[ChannelFact]:
    """Transcript facts, in order."""
    maker = _Lines(session, ItemBatch(items=[], agent=agent, subagent_id=subagent_id), people(), received_at)
    return [maker.fact(line) for line in lines]


def log(name: str, agent_service: str = "claude-code", **attributes: Any) -> ChannelFact:
    """A log record's fact of `SESSION`; dots in names are written as double underscores."""
    told = {key.replace("__", "."): value for key, value in attributes.items()}
    record = OtlpRecord(
        signal="log",
        name=name,
        attributes={"session.id": SESSION, **told},
        resource={"service.name": agent_service},
        time_unix_nano=int(NOW.timestamp()) * 10**9,
    )
    return telemetry(record)


def telemetry(record: OtlpRecord) -> ChannelFact:
    """An OTLP record's fact."""
    found = session_of(record)
    assert found is not None
    return telemetry_fact(record, found, people(), NOW)


def seen(*facts: ChannelFact) -> list[Seen]:
    """All that facts say, in order."""
    return [one for fact in facts for one in observe(fact)]


def totals(facts: Iterable[ChannelFact]) -> dict[str, Any]:
    """An independent, small fold: what must not depend on channel, order, repetition or content level."""
    found = seen(*facts)
    tools: dict[str, set[str | None]] = {}
    lines = {"added": dict[str, int](), "removed": dict[str, int]()}
    calls: dict[str, ModelCalled] = {}
    phases: dict[str, int] = {}
    for one in found:
        if isinstance(one, ToolCalled):
            tools.setdefault(one.tool_use_id, set()).add(one.status)
            for side, amount in (("added", one.lines_added), ("removed", one.lines_removed)):
                lines[side][one.tool_use_id] = max(lines[side].get(one.tool_use_id, 0), amount)
        elif isinstance(one, ModelCalled) and not one.stand_in:
            calls[str(one.request_id or one.message_id)] = one
        elif isinstance(one, Compacted):
            phases[one.phase] = phases.get(one.phase, 0) + 1
    started = {one.agent_id for one in found if isinstance(one, SubagentStarted)}
    ended = {one.agent_id for one in found if isinstance(one, SubagentEnded) and one.agent_type}
    return {
        "runs": sum(isinstance(one, RunStarted) and not one.stand_in for one in found),
        "prompts": len({one.prompt_id for one in found if isinstance(one, PromptSubmitted) and not one.stand_in}),
        "prompt_chars": max((one.chars or 0 for one in found if isinstance(one, PromptSubmitted)), default=0),
        "turns": len({one.prompt_id for one in found if isinstance(one, TurnEnded)}),
        "tools": len(tools),
        "failed": sum("failed" in states for states in tools.values()),
        "denied": sum("denied" in states for states in tools.values()),
        "permission_requests": sum(isinstance(one, PermissionRequested) for one in found),
        "subagents": len(started | ended),
        "compactions": max(phases.values(), default=0),
        "lines": (sum(lines["added"].values()), sum(lines["removed"].values())),
        "calls": len(calls),
        "input": sum(call.tokens.input for call in calls.values()),
        "output": sum(call.tokens.output for call in calls.values()),
        "cache_read": sum(call.tokens.cache_read for call in calls.values()),
        "cache_write": sum(call.tokens.cache_write_5m + call.tokens.cache_write_1h for call in calls.values()),
        "cost": sum(call.reported_pico_usd or 0 for call in calls.values()),
        "models": sorted({str(call.model) for call in calls.values()}),
    }
