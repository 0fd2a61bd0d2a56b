"""Hooks of Claude Code, and of agents that copied their shape."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from domain.sessions.coerce import count, part, parts, tally, text
from domain.sessions.events import ChannelFact
from domain.sessions.observations import (
    Compacted,
    DirectoryChanged,
    ModelSwitched,
    PermissionDecided,
    PermissionRequested,
    ProcessMeasured,
    PromptSubmitted,
    RunEnded,
    RunStarted,
    Seen,
    SourceSeen,
    SubagentEnded,
    SubagentStarted,
    TitleGiven,
    ToolCalled,
    TurnEnded,
)
from domain.sessions.reading.common import agent_result, at_of, derived_of, error_text, unknown

Read = Callable[[ChannelFact, dict[str, Any], datetime, str | None, str | None], list[Seen]]


def hook(fact: ChannelFact) -> list[Seen]:
    """What one hook call says."""
    read = _READERS.get(fact.kind)
    if read is None:
        return unknown(fact)
    attrs = fact.attrs
    agent_id = attrs.get("agent_id")
    prompt_id = attrs.get("prompt_id") or attrs.get("turn_id")
    seen = read(
        fact,
        attrs,
        at_of(fact),
        agent_id if type(agent_id) is str and agent_id else None,
        prompt_id if type(prompt_id) is str and prompt_id else None,
    )
    derived = attrs.get("derived")
    if type(derived) is dict and derived.get("titled") is True:
        seen.append(TitleGiven(at=at_of(fact)))
    return seen


def _nothing(_: ChannelFact, __: dict[str, Any], ___: datetime, ____: str | None, _____: str | None) -> list[Seen]:
    return []


def _session_start(
    _: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    model = text(attrs.get("model"))
    mode = text(attrs.get("permission_mode"))
    seen: list[Seen] = [
        RunStarted(at=at, agent_id=agent, prompt_id=prompt, source=text(attrs.get("source")) or "startup", model=model)
    ]
    if model or mode:
        seen.append(SourceSeen(at=at, model=model, permission_mode=mode))
    return seen


def _session_end(
    _: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    return [RunEnded(at=at, agent_id=agent, prompt_id=prompt, reason=text(attrs.get("reason")) or "other")]


def _prompt(
    fact: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    seen: list[Seen] = [
        PromptSubmitted(
            at=at,
            agent_id=agent,
            prompt_id=prompt,
            chars=count(derived_of(fact).get("prompt_chars")),
            source=text(attrs.get("source")),
            command=text(attrs.get("command_name")),
        )
    ]
    model, mode = text(attrs.get("model")), text(attrs.get("permission_mode"))
    if model or mode:
        seen.append(SourceSeen(at=at, model=model, permission_mode=mode))
    return seen


def _tool(
    fact: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None, status: str | None
) -> list[Seen]:
    tool_use_id = text(attrs.get("tool_use_id"))
    if tool_use_id is None:
        return []
    derived = derived_of(fact)
    return [
        ToolCalled(
            at=at,
            agent_id=agent,
            prompt_id=prompt,
            tool_use_id=tool_use_id,
            channel="hook",
            name=text(attrs.get("tool_name")),
            status=status,
            duration_ms=count(attrs.get("duration_ms")),
            mcp_server=text(part(attrs.get("mcp_server")).get("name")),
            lines_added=tally(derived.get("lines_added")),
            lines_removed=tally(derived.get("lines_removed")),
        )
    ]


def _pre_tool(
    fact: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    return _tool(fact, attrs, at, agent, prompt, "requested")


def _post_tool(
    fact: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    # Codex reports failures as PostToolUse too, so there its hook does not say how the call ended.
    seen = _tool(fact, attrs, at, agent, prompt, None if fact.agent == "codex" else "succeeded")
    response = attrs.get("tool_response")
    if type(response) is dict:
        seen += agent_result(at, response, text(attrs.get("tool_use_id")), prompt)
    return seen


def _tool_failed(
    fact: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    return _tool(fact, attrs, at, agent, prompt, "failed")


def _tool_denied(
    fact: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    decided = PermissionDecided(
        at=at,
        agent_id=agent,
        prompt_id=prompt,
        tool_use_id=text(attrs.get("tool_use_id")),
        decision="reject",
        source="auto_mode",
        tool_name=text(attrs.get("tool_name")),
    )
    return [*_tool(fact, attrs, at, agent, prompt, "denied"), decided]


def _tool_batch(
    fact: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    failed = derived_of(fact).get("failed")
    indexes: list[Any] = failed if type(failed) is list else []
    return [
        ToolCalled(
            at=at,
            agent_id=agent,
            prompt_id=prompt,
            tool_use_id=own,
            channel="hook",
            name=text(call.get("tool_name")),
            status="failed" if index in indexes else None,
        )
        for index, call in enumerate(parts(attrs.get("tool_calls")))
        if (own := text(call.get("tool_use_id"))) is not None
    ]


def _permission(
    _: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    return [PermissionRequested(at=at, agent_id=agent, prompt_id=prompt, tool_name=text(attrs.get("tool_name")))]


def _subagent_start(
    _: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    if agent is None:
        return []
    return [SubagentStarted(at=at, agent_id=agent, prompt_id=prompt, agent_type=text(attrs.get("agent_type")))]


def _subagent_stop(
    _: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    if agent is None:
        return []
    return [SubagentEnded(at=at, agent_id=agent, prompt_id=prompt, agent_type=text(attrs.get("agent_type")))]


def _stop(_: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None) -> list[Seen]:
    tasks = len(parts(attrs.get("background_tasks")))
    return [TurnEnded(at=at, agent_id=agent, prompt_id=prompt, background_tasks=tasks)]


def _stop_failure(
    _: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    return [TurnEnded(at=at, agent_id=agent, prompt_id=prompt, error=error_text(attrs.get("error")))]


def _compact(
    fact: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    phase = "pre" if fact.kind == "PreCompact" else "post"
    return [Compacted(at=at, agent_id=agent, prompt_id=prompt, trigger=text(attrs.get("trigger")), phase=phase)]


def _model_switch(
    _: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None
) -> list[Seen]:
    to_model = text(attrs.get("to_model"))
    return [
        ModelSwitched(
            at=at,
            agent_id=agent,
            prompt_id=prompt,
            from_model=text(attrs.get("from_model")),
            to_model=to_model,
            source=text(attrs.get("source")),
        ),
        SourceSeen(at=at, model=to_model),
    ]


def _directory(_: ChannelFact, __: dict[str, Any], at: datetime, agent: str | None, prompt: str | None) -> list[Seen]:
    return [DirectoryChanged(at=at, agent_id=agent, prompt_id=prompt)]


def _process(_: ChannelFact, attrs: dict[str, Any], at: datetime, agent: str | None, prompt: str | None) -> list[Seen]:
    """`cpu_percent` is 100 for one processor; values that cannot be are not told."""
    percent, memory = attrs.get("cpu_percent"), count(attrs.get("memory_bytes"))
    cpu = count(percent * 10) if type(percent) is int or type(percent) is float else None
    if cpu is None and memory is None:
        return []
    return [ProcessMeasured(at=at, agent_id=agent, prompt_id=prompt, cpu_millicores=cpu, memory_bytes=memory)]


_READERS: dict[str, Read] = {
    "SessionStart": _session_start,
    "SessionEnd": _session_end,
    "UserPromptSubmit": _prompt,
    "UserPromptExpansion": _prompt,
    "PreToolUse": _pre_tool,
    "PostToolUse": _post_tool,
    "PostToolUseFailure": _tool_failed,
    "PermissionDenied": _tool_denied,
    "PostToolBatch": _tool_batch,
    "PermissionRequest": _permission,
    "SubagentStart": _subagent_start,
    "SubagentStop": _subagent_stop,
    "Stop": _stop,
    "StopFailure": _stop_failure,
    "PreCompact": _compact,
    "PostCompact": _compact,
    "PostModelSwitch": _model_switch,
    "CwdChanged": _directory,
    "ProcessMetrics": _process,
    # Known, stored and shown, but they count nothing: a switch may still be refused before, and the rest is context.
    **dict.fromkeys(
        [
            "PreModelSwitch",
            "Setup",
            "InstructionsLoaded",
            "Notification",
            "MessageDisplay",
            "TaskCreated",
            "TaskCompleted",
            "TeammateIdle",
            "ConfigChange",
            "DirectoryAdded",
            "FileChanged",
            "WorktreeCreate",
            "WorktreeRemove",
            "Elicitation",
            "ElicitationResult",
        ],
        _nothing,
    ),
}
