"""OpenTelemetry of Claude Code: log events carry the money; metrics only deltas; spans repeat both and count nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from domain.sessions.coerce import count, flag, part, pico_usd, tally, text
from domain.sessions.events import ChannelFact, TelemetryRecorded
from domain.sessions.observations import (
    Compacted,
    Counted,
    LinesChanged,
    ModelCalled,
    ModelFailed,
    PermissionDecided,
    PromptSubmitted,
    Seen,
    SourceSeen,
    SubagentEnded,
    Tokens,
    ToolCalled,
)
from domain.sessions.reading.common import at_of, error_text, own_name, unknown

Read = Callable[[ChannelFact, dict[str, Any], datetime, str | None, str | None], list[Seen]]
_PREFIX = "claude_code."
_BUILTIN = "builtin"  # `command_source` of the agent's own slash commands
_MAIN = ("main", "sdk", "repl_main_thread")  # how `query_source` of the conversation's own calls begins


def telemetry(fact: ChannelFact) -> list[Seen]:
    """What one OTLP record says."""
    signal = fact.signal if isinstance(fact, TelemetryRecorded) else "log"
    attrs = fact.attrs
    if signal == "metric":
        return _metric(fact, attrs)
    if signal == "span":
        return [] if fact.kind.startswith(_PREFIX) else unknown(fact)
    read = _LOGS.get(fact.kind.removeprefix(_PREFIX))
    if read is None:
        return unknown(fact)
    return read(fact, attrs, at_of(fact), text(attrs.get("agent_id")), text(attrs.get("prompt.id")))


def _nothing(_: ChannelFact, __: dict[str, Any], ___: datetime, ____: str | None, _____: str | None) -> list[Seen]:
    return []


def source(attrs: dict[str, Any], at: datetime, model: str | None = None) -> SourceSeen:
    """What every record tells about its surroundings."""
    resource = part(attrs.get("resource"))
    return SourceSeen(
        at=at,
        agent_version=text(attrs.get("app.version")) or text(resource.get("service.version")),
        entrypoint=text(attrs.get("app.entrypoint")),
        model=model,
        branch=text(attrs.get("branch")) or text(resource.get("branch")),
        permission_mode=text(attrs.get("permission_mode")),
        team=text(attrs.get("team.id")) or text(resource.get("team.id")),
    )


def _api_request(
    fact: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    written = tally(attrs.get("cache_creation_tokens"))
    hour = tally(attrs.get("cache_creation_1h_tokens"))
    minutes = max(tally(attrs.get("cache_creation_5m_tokens")), written - hour, 0)
    model = text(attrs.get("model"))
    cost = pico_usd(attrs.get("cost_usd"))
    if cost is None and (micros := count(attrs.get("cost_usd_micros"))) is not None:
        cost = micros * 1_000_000
    request = text(attrs.get("request_id"))
    called = ModelCalled(
        at=at,
        agent_id=agent,
        prompt_id=prompt,
        # Without a request id (older versions, other providers) no transcript line can be told to be the same call.
        stand_in=request is None,
        channel="telemetry",
        model=model,
        tokens=Tokens(
            input=tally(attrs.get("input_tokens")),
            output=tally(attrs.get("output_tokens")),
            cache_read=tally(attrs.get("cache_read_tokens")),
            cache_write_5m=minutes,
            cache_write_1h=hour,
        ),
        request_id=request or own_name(fact, at, text(attrs.get("event.sequence")) or ""),
        reported_pico_usd=cost,
        duration_ms=count(attrs.get("duration_ms")),
        ttft_ms=count(attrs.get("ttft_ms")),
        query_source=text(attrs.get("query_source")),
        speed=text(attrs.get("speed")),
        effort=text(attrs.get("effort")),
        service_tier=text(attrs.get("service_tier")),
        skill=text(attrs.get("skill.name")),
    )
    # An auxiliary call (titles, compaction) often uses another model than the session's.
    main = agent is None and (called.query_source or "main").startswith(_MAIN)
    return [called, source(attrs, at, model if main else None)]


def _api_failed(
    fact: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    error = text(attrs.get("status_code")) or text(attrs.get("error_type")) or text(attrs.get("error.type"))
    model = text(attrs.get("model"))
    main = agent is None and (text(attrs.get("query_source")) or "main").startswith(_MAIN)
    return [
        ModelFailed(
            at=at,
            agent_id=agent,
            prompt_id=prompt,
            error=error_text(error),
            model=model,
            request_id=text(attrs.get("request_id")) or own_name(fact, at, text(attrs.get("event.sequence")) or ""),
        ),
        source(attrs, at, model if main else None),
    ]


def _refusal(
    fact: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    return _api_failed(fact, {**attrs, "status_code": "refusal"}, at, agent, prompt)


def _user_prompt(
    _: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    if attrs.get("command_source") == _BUILTIN:  # such as /compact; one that asks the model is told by other channels
        return [source(attrs, at)]
    submitted = PromptSubmitted(
        at=at,
        agent_id=agent,
        prompt_id=prompt,
        chars=count(attrs.get("prompt_length")),
        command=text(attrs.get("command_name")),
    )
    return [submitted, source(attrs, at)]


def _tool_decision(
    _: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    tool_use_id = text(attrs.get("tool_use_id"))
    decision = text(attrs.get("decision")) or "unknown"
    name = text(attrs.get("tool_name"))
    seen: list[Seen] = [
        PermissionDecided(
            at=at,
            agent_id=agent,
            prompt_id=prompt,
            tool_use_id=tool_use_id,
            decision=decision,
            source=text(attrs.get("source")),
            tool_name=name,
        )
    ]
    if tool_use_id:
        seen.append(
            ToolCalled(
                at=at,
                agent_id=agent,
                prompt_id=prompt,
                tool_use_id=tool_use_id,
                channel="telemetry",
                name=name,
                status="denied" if decision == "reject" else None,
                request_id=text(attrs.get("request_id")),
            )
        )
    return seen


def _tool_result(
    _: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    tool_use_id = text(attrs.get("tool_use_id"))
    if tool_use_id is None:
        return []
    success = flag(attrs.get("success"))
    return [
        ToolCalled(
            at=at,
            agent_id=agent,
            prompt_id=prompt,
            tool_use_id=tool_use_id,
            channel="telemetry",
            name=text(attrs.get("tool_name")),
            status=None if success is None else "succeeded" if success else "failed",
            duration_ms=count(attrs.get("duration_ms")),
            mcp_server=text(attrs.get("mcp_server.name")),
            request_id=text(attrs.get("request_id")),
        )
    ]


def _mode(_: ChannelFact, attrs: dict[str, Any], at: datetime, __: str | None, ___: str | None) -> list[Seen]:
    return [SourceSeen(at=at, permission_mode=text(attrs.get("to_mode")) or text(attrs.get("permission_mode")))]


def _compaction(
    _: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    return [
        Compacted(
            at=at,
            agent_id=agent,
            prompt_id=prompt,
            trigger=text(attrs.get("trigger")),
            phase="telemetry",
            pre_tokens=count(attrs.get("pre_tokens")),
            post_tokens=count(attrs.get("post_tokens")),
        )
    ]


def _subagent(_: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None) -> list[Seen]:
    if agent is None:
        return []
    return [
        SubagentEnded(
            at=at,
            agent_id=agent,
            prompt_id=prompt,
            agent_type=text(attrs.get("agent_type")),
            total_tokens=count(attrs.get("total_tokens")),
            tool_uses=count(attrs.get("total_tool_uses")),
            duration_ms=count(attrs.get("duration_ms")),
            model=text(attrs.get("final_model")) or text(attrs.get("model")),
        )
    ]


_LOGS: dict[str, Read] = {
    "api_request": _api_request,
    "api_error": _api_failed,
    "api_refusal": _refusal,
    "user_prompt": _user_prompt,
    "tool_decision": _tool_decision,
    "tool_result": _tool_result,
    "permission_mode_changed": _mode,
    "compaction": _compaction,
    "subagent_completed": _subagent,
    **dict.fromkeys(
        [
            "assistant_response",
            "api_retries_exhausted",
            "api_request_body",
            "api_response_body",
            "auth",
            "mcp_server_connection",
            "internal_error",
            "plugin_installed",
            "plugin_loaded",
            "skill_activated",
            "at_mention",
            "hook_registered",
            "hook_execution_start",
            "hook_execution_complete",
            "hook_plugin_metrics",
            "feedback_survey",
            "retention_sweep",
            "managed_settings_resolved",
        ],
        _nothing,
    ),
}

_KNOWN_METRICS = frozenset(
    {"token.usage", "code_edit_tool.decision"}  # told better by hooks and log events
)


def _metric(fact: ChannelFact, attrs: dict[str, Any]) -> list[Seen]:
    """Deltas only: a cumulative point cannot be added up without its predecessor, so it says nothing here."""
    name = fact.kind.removeprefix(_PREFIX)
    at, agent, value = at_of(fact), text(attrs.get("agent_id")), attrs.get("value")
    delta = text(attrs.get("temporality")) in {"delta", None}
    if name == "lines_of_code.count":
        lines, kind = count(value), text(attrs.get("type"))
        if not delta or not lines or kind not in {"added", "removed"}:
            return []
        added = kind == "added"
        return [LinesChanged(at=at, agent_id=agent, added=lines if added else 0, removed=0 if added else lines)]
    if name in _COUNTED:
        what, convert = _COUNTED[name]
        amount = convert(value) if delta else None
        return [Counted(at=at, agent_id=agent, what=what, amount=amount)] if amount else []
    return [] if name in _KNOWN_METRICS else unknown(fact)


def _milliseconds(value: Any) -> int | None:
    return count(value * 1000) if type(value) in {int, float} else None


_COUNTED: dict[str, tuple[str, Callable[[Any], int | None]]] = {
    "cost.usage": ("metric_cost_pico_usd", pico_usd),
    "session.count": ("runs", count),  # one per process, resumed or not
    "commit.count": ("commits", count),
    "pull_request.count": ("pull_requests", count),
    "active_time.total": ("active_ms", _milliseconds),
}
