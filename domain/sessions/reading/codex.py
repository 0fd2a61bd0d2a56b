"""Codex: hooks shaped like Claude's, rollout files, and OTLP log events.

Usage is counted from the rollout's `token_usage_record` (one per `response_id`); `token_count` repeats running totals and
counts nothing.  Telemetry tells the same usage (`codex.sse_event` of kind `response.completed`) without any id a rollout
line carries, so there it is a stand-in: it counts only in sessions whose rollout never arrives.  The same holds for
prompts and runs told by telemetry.  `cached` is inside `input`, `reasoning` inside `output`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from domain.sessions.coerce import count, flag, part, tally, text
from domain.sessions.events import ChannelFact, TelemetryRecorded
from domain.sessions.observations import (
    Compacted,
    ModelCalled,
    ModelFailed,
    PermissionDecided,
    PromptSubmitted,
    RunStarted,
    Seen,
    SourceSeen,
    ToolCalled,
    TurnEnded,
)
from domain.sessions.reading import claude_hooks
from domain.sessions.reading.common import at_of, derived_of, inclusive_tokens, own_name, unknown

# The hooks call every shell tool `Bash`; the other channels use Codex' own names.
_SHELL = frozenset({"exec_command", "shell", "shell_command", "local_shell", "local_shell_call", "unified_exec"})


def hook(fact: ChannelFact) -> list[Seen]:
    """What one hook call says; Codex adds `Interrupt`, and the model to every call."""
    at, prompt = at_of(fact), text(fact.attrs.get("turn_id"))
    if fact.kind == "Interrupt":
        return [TurnEnded(at=at, prompt_id=prompt, error="interrupted")]
    return claude_hooks.hook(fact)


def tool_name(value: Any) -> str | None:
    """A tool's name as the hooks say it."""
    name = text(value)
    return "Bash" if name in _SHELL else name


def _turn(payload: dict[str, Any]) -> str | None:
    passed = part(payload.get("internal_chat_message_metadata_passthrough"))
    return text(payload.get("turn_id")) or text(passed.get("turn_id"))


# -- rollout -----------------------------------------------------------------------------------------------------------


def item(fact: ChannelFact) -> list[Seen]:
    """What one line of a rollout says."""
    kind, _, inner = fact.kind.partition(".")
    payload, at = part(fact.attrs.get("payload")), at_of(fact)
    if kind == "event_msg":
        read = _EVENTS.get(inner)
        return read(fact, payload, at) if read else unknown(fact)
    if kind == "response_item":
        return _response_item(fact, payload, at, inner)
    read = _LINES.get(kind)
    return read(fact, payload, at) if read else unknown(fact)


def _nothing(_: ChannelFact, __: dict[str, Any], ___: datetime) -> list[Seen]:
    return []


def _session_meta(_: ChannelFact, payload: dict[str, Any], at: datetime) -> list[Seen]:
    return [
        SourceSeen(
            at=at,
            agent_version=text(payload.get("cli_version")),
            entrypoint=text(payload.get("originator")),
            branch=text(part(payload.get("git")).get("branch")),
        )
    ]


def _turn_context(_: ChannelFact, payload: dict[str, Any], at: datetime) -> list[Seen]:
    return [SourceSeen(at=at, prompt_id=_turn(payload), model=text(payload.get("model")))]


def _settings(_: ChannelFact, payload: dict[str, Any], at: datetime) -> list[Seen]:
    return [SourceSeen(at=at, model=text(part(payload.get("thread_settings")).get("model")))]


def _usage(fact: ChannelFact, payload: dict[str, Any], at: datetime) -> list[Seen]:
    usage, response = part(payload.get("usage")), text(payload.get("response_id"))
    if response is None:
        return unknown(fact)
    return [
        ModelCalled(
            at=at,
            prompt_id=_turn(payload),
            channel="transcript",
            # The record does not name its model; the turn's context, some lines above, does.
            model=text(payload.get("model")) or text(derived_of(fact).get("model")),
            tokens=inclusive_tokens(
                usage.get("input_tokens"),
                usage.get("output_tokens"),
                usage.get("cached_input_tokens"),
                usage.get("cache_write_input_tokens"),
                usage.get("reasoning_output_tokens"),
            ),
            message_id=response,
        )
    ]


def _compacted(_: ChannelFact, payload: dict[str, Any], at: datetime) -> list[Seen]:
    return [Compacted(at=at, prompt_id=_turn(payload), trigger=None, phase="boundary")]


def _response_item(fact: ChannelFact, payload: dict[str, Any], at: datetime, kind: str) -> list[Seen]:
    call_id = text(payload.get("call_id"))
    if call_id is None or not kind.endswith(("_call", "_call_output")):
        return [] if kind else unknown(fact)
    status: str | None = "requested"
    if kind.endswith("_output"):
        code = derived_of(fact).get("exit_code")
        status = None if code is None else "succeeded" if code == 0 else "failed"
    name = text(payload.get("name")) or ("local_shell_call" if kind == "local_shell_call" else None)
    return [
        ToolCalled(
            at=at,
            prompt_id=_turn(payload),
            tool_use_id=call_id,
            channel="transcript",
            name=tool_name(name),
            status=status,
        )
    ]


def _item_completed(fact: ChannelFact, payload: dict[str, Any], at: datetime) -> list[Seen]:
    done, prompt = part(payload.get("item")), _turn(payload)
    kind, own = text(done.get("type")), text(done.get("id"))
    if kind == "UserMessage":
        chars = count(derived_of(fact).get("prompt_chars"))
        return [PromptSubmitted(at=at, prompt_id=prompt, chars=chars)]
    if own is None or kind not in {"CommandExecution", "FileChange", "McpToolCall", "DynamicToolCall"}:
        return []
    took = part(done.get("duration"))
    duration_ms = tally(took.get("secs")) * 1000 + tally(took.get("nanos")) // 1_000_000 if took else None
    code, status = count(done.get("exit_code")), text(done.get("status"))
    failed = status in {"failed", "declined"} or (code is not None and code != 0)
    outcome = "denied" if status == "declined" else "failed" if failed else "succeeded"
    return [
        ToolCalled(
            at=at,
            prompt_id=prompt,
            tool_use_id=own,
            channel="transcript",
            name="Bash" if kind == "CommandExecution" else text(done.get("tool")),
            status=None if status in {None, "in_progress"} else outcome,
            duration_ms=duration_ms,
            mcp_server=text(done.get("server")),
        )
    ]


def _user_message(fact: ChannelFact, payload: dict[str, Any], at: datetime) -> list[Seen]:
    """Older rollouts: a prompt without a turn id."""
    prompt = _turn(payload) or own_name(fact, at, text(fact.attrs.get("ordinal")) or "")
    return [PromptSubmitted(at=at, prompt_id=prompt, chars=count(derived_of(fact).get("prompt_chars")))]


def _task_complete(_: ChannelFact, payload: dict[str, Any], at: datetime) -> list[Seen]:
    return [TurnEnded(at=at, prompt_id=_turn(payload))]


def _aborted(_: ChannelFact, payload: dict[str, Any], at: datetime) -> list[Seen]:
    return [TurnEnded(at=at, prompt_id=_turn(payload), error=text(payload.get("reason")) or "interrupted")]


def _error(fact: ChannelFact, payload: dict[str, Any], at: datetime) -> list[Seen]:
    name = own_name(fact, at, text(fact.attrs.get("ordinal")) or "")
    return [ModelFailed(at=at, prompt_id=_turn(payload), error="error", request_id=name, stand_in=True)]


_LINES: dict[str, Callable[[ChannelFact, dict[str, Any], datetime], list[Seen]]] = {
    "session_meta": _session_meta,
    "turn_context": _turn_context,
    "token_usage_record": _usage,
    "compacted": _compacted,
    "world_state": _nothing,
}
_EVENTS: dict[str, Callable[[ChannelFact, dict[str, Any], datetime], list[Seen]]] = {
    "item_completed": _item_completed,
    "user_message": _user_message,
    "task_complete": _task_complete,
    "turn_aborted": _aborted,
    "thread_settings_applied": _settings,
    "error": _error,
    **dict.fromkeys(
        [
            "token_count",
            "task_started",
            "agent_message",
            "agent_reasoning",
            "agent_reasoning_raw_content",
            "item_started",
            "context_compacted",
            "exec_command_begin",
            "exec_command_end",
            "exec_command_output_delta",
            "patch_apply_begin",
            "patch_apply_end",
            "mcp_tool_call_begin",
            "mcp_tool_call_end",
            "web_search_begin",
            "web_search_end",
            "stream_error",
            "warning",
            "background_event",
            "turn_diff",
            "plan_update",
            "entered_review_mode",
            "exited_review_mode",
            "thread_rolled_back",
            "thread_name_updated",
        ],
        _nothing,
    ),
}


# -- telemetry ---------------------------------------------------------------------------------------------------------


def telemetry(fact: ChannelFact) -> list[Seen]:
    """What one OTLP record says; metrics and spans repeat the log events or tell internals."""
    if isinstance(fact, TelemetryRecorded) and fact.signal != "log":
        return []
    read = _LOGS.get(fact.kind.removeprefix("codex."))
    return read(fact, fact.attrs, at_of(fact)) if read else unknown(fact)


def _source(attrs: dict[str, Any], at: datetime) -> SourceSeen:
    return SourceSeen(
        at=at,
        agent_version=text(attrs.get("app.version")),
        entrypoint=text(attrs.get("originator")),
        model=text(attrs.get("model")),
        team=text(attrs.get("team.id")) or text(part(attrs.get("resource")).get("team.id")),
    )


def _starts(_: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    model = text(attrs.get("model"))
    return [RunStarted(at=at, source="startup", model=model, stand_in=True), _source(attrs, at)]


def _user_prompt(fact: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    name = own_name(fact, at)
    return [PromptSubmitted(at=at, prompt_id=name, chars=count(attrs.get("prompt_length")), stand_in=True)]


def _sse_event(fact: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    if attrs.get("event.kind") != "response.completed" or "input_token_count" not in attrs:
        return []
    tokens = inclusive_tokens(
        attrs.get("input_token_count"),
        attrs.get("output_token_count"),
        attrs.get("cached_token_count"),
        attrs.get("cache_write_token_count"),
        attrs.get("reasoning_token_count"),
    )
    name = own_name(fact, at, tokens.input, tokens.output)
    called = ModelCalled(
        at=at,
        channel="telemetry",
        stand_in=True,
        model=text(attrs.get("model")),
        tokens=tokens,
        request_id=name,
        ttft_ms=count(attrs.get("ttft_ms")),
        effort=text(attrs.get("model_reasoning_effort")),
    )
    return [called, _source(attrs, at)]


def _decision(_: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    own, name, told = text(attrs.get("call_id")), tool_name(attrs.get("tool_name")), text(attrs.get("decision"))
    accepted = told in {"approved", "approved_for_session", "approved_with_amendment", "accept"}
    source = text(attrs.get("source"))
    seen: list[Seen] = [
        PermissionDecided(
            at=at,
            tool_use_id=own,
            decision="accept" if accepted else "reject",
            source=source.lower() if source else None,
            tool_name=name,
        )
    ]
    if own:
        status = None if accepted else "denied"
        seen.append(ToolCalled(at=at, tool_use_id=own, channel="telemetry", name=name, status=status))
    return seen


def _tool_result(_: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    own = text(attrs.get("call_id"))
    if own is None:
        return []
    success, code = flag(attrs.get("success")), part(attrs.get("derived")).get("exit_code")
    if code is not None:
        success = code == 0  # Codex says `success` of every command that could be run
    return [
        ToolCalled(
            at=at,
            tool_use_id=own,
            channel="telemetry",
            name=tool_name(attrs.get("tool_name")),
            status=None if success is None else "succeeded" if success else "failed",
            duration_ms=count(attrs.get("duration_ms")),
        )
    ]


_LOGS: dict[str, Callable[[ChannelFact, dict[str, Any], datetime], list[Seen]]] = {
    "conversation_starts": _starts,
    "user_prompt": _user_prompt,
    "sse_event": _sse_event,
    "tool_decision": _decision,
    "tool_result": _tool_result,
    **dict.fromkeys(
        [
            "api_request",
            "websocket_event",
            "websocket_request",
            "websocket_connect",
            "startup_phase",
            "turn_ttft",
            "sandbox_outcome",
        ],
        _nothing,
    ),
}
