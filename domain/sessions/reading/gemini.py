"""Gemini CLI: hooks (Before…/After…), OTLP log events, and chat files.

Its hooks carry no ids.  Tool calls are counted when they end (`AfterTool`), named by the moment of capture.  Usage comes
from the chat file, one message per id with the last version counting; telemetry shares no id with it and stands in.
`cached` is inside `input`, `thoughts` beside `output`.
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
    PromptSubmitted,
    RunStarted,
    Seen,
    SourceSeen,
    Tokens,
    ToolCalled,
    TurnEnded,
)
from domain.sessions.reading import claude_hooks
from domain.sessions.reading.common import at_of, derived_of, own_name, unknown

_QUIET = frozenset({"BeforeModel", "AfterModel", "BeforeToolSelection", "BeforeTool", "PreCompress", "Notification"})


def hook(fact: ChannelFact) -> list[Seen]:
    """What one hook call says.  `PreCompress` fires before every model call and so says nothing."""
    attrs, at, kind = fact.attrs, at_of(fact), fact.kind
    derived = derived_of(fact)
    if kind == "BeforeAgent":
        return [PromptSubmitted(at=at, prompt_id=own_name(fact, at), chars=count(derived.get("prompt_chars")))]
    if kind == "AfterAgent":
        return [TurnEnded(at=at)]
    if kind == "AfterTool":
        code = derived.get("exit_code")
        status = "failed" if code is not None and code != 0 else "succeeded"
        name = text(attrs.get("tool_name"))
        own = text(attrs.get("tool_use_id")) or own_name(fact, at, name)
        return [ToolCalled(at=at, tool_use_id=own, channel="hook", name=name, status=status)]
    return [] if kind in _QUIET else claude_hooks.hook(fact)


def _tokens(prompt: Any, output: Any, cached: Any, thoughts: Any, tool: Any) -> Tokens:
    read, thought = tally(cached), tally(thoughts)
    return Tokens(
        input=max(0, tally(prompt) - read) + tally(tool),
        output=tally(output) + thought,
        cache_read=read,
        reasoning=thought,
    )


def item(fact: ChannelFact) -> list[Seen]:
    """What one line of a chat file says: a header, a patch, or a message (rewritten with the same id as it grows)."""
    attrs, at = fact.attrs, at_of(fact)
    own, kind = text(attrs.get("id")), text(attrs.get("type"))
    if kind == "user" and own:
        return [PromptSubmitted(at=at, prompt_id=own, stand_in=True)]
    if kind == "gemini" and own:
        told = part(attrs.get("tokens"))
        model = text(attrs.get("model"))
        if not told:
            return [SourceSeen(at=at, model=model)] if model else []
        tokens = _tokens(*(told.get(key) for key in ("input", "output", "cached", "thoughts", "tool")))
        called = ModelCalled(at=at, channel="transcript", model=model, tokens=tokens, message_id=own)
        return [called, SourceSeen(at=at, model=model)]
    return [] if kind in {"info", "error", "warning"} or "kind" in attrs or "sessionId" in attrs else unknown(fact)


def telemetry(fact: ChannelFact) -> list[Seen]:
    """What one OTLP record says; metrics and spans repeat the log events."""
    if isinstance(fact, TelemetryRecorded) and fact.signal != "log":
        return []
    read = _LOGS.get(fact.kind.removeprefix("gemini_cli."))
    if read is not None:
        return read(fact, fact.attrs, at_of(fact), text(fact.attrs.get("prompt_id")))
    return [] if fact.kind.startswith("gemini_cli.") else unknown(fact)


def _api_error(fact: ChannelFact, attrs: dict[str, Any], at: datetime, prompt: str | None) -> list[Seen]:
    error = text(attrs.get("status_code")) or text(attrs.get("error_type")) or "unknown"
    name, model = own_name(fact, at), text(attrs.get("model"))
    return [ModelFailed(at=at, prompt_id=prompt, error=error, model=model, request_id=name)]


def _user_prompt(_: ChannelFact, attrs: dict[str, Any], at: datetime, prompt: str | None) -> list[Seen]:
    return [PromptSubmitted(at=at, prompt_id=prompt, chars=count(attrs.get("prompt_length")), stand_in=True)]


def _compression(_: ChannelFact, attrs: dict[str, Any], at: datetime, prompt: str | None) -> list[Seen]:
    before, after = count(attrs.get("tokens_before")), count(attrs.get("tokens_after"))
    return [Compacted(at=at, prompt_id=prompt, trigger=None, phase="telemetry", pre_tokens=before, post_tokens=after)]


def _config(_: ChannelFact, attrs: dict[str, Any], at: datetime, __: str | None) -> list[Seen]:
    model, version = text(attrs.get("model")), text(part(attrs.get("resource")).get("service.version"))
    return [
        RunStarted(at=at, source="startup", model=model, stand_in=True),
        SourceSeen(at=at, model=model, agent_version=version),
    ]


def _api_response(fact: ChannelFact, attrs: dict[str, Any], at: datetime, prompt: str | None) -> list[Seen]:
    model = text(attrs.get("model"))
    tokens = _tokens(
        attrs.get("input_token_count"),
        attrs.get("output_token_count"),
        attrs.get("cached_content_token_count"),
        attrs.get("thoughts_token_count"),
        attrs.get("tool_token_count"),
    )
    called = ModelCalled(
        at=at,
        prompt_id=prompt,
        stand_in=True,
        channel="telemetry",
        model=model,
        tokens=tokens,
        request_id=own_name(fact, at),
        duration_ms=count(attrs.get("duration_ms")),
        query_source=text(attrs.get("role")),
    )
    version = text(part(attrs.get("resource")).get("service.version"))
    return [called, SourceSeen(at=at, model=model, agent_version=version)]


def _tool_call(fact: ChannelFact, attrs: dict[str, Any], at: datetime, prompt: str | None) -> list[Seen]:
    success = flag(attrs.get("success"))
    decision = text(attrs.get("decision"))
    status = None if success is None else "succeeded" if success else "failed"
    name = text(attrs.get("function_name"))
    return [
        ToolCalled(
            at=at,
            prompt_id=prompt,
            stand_in=True,
            tool_use_id=own_name(fact, at, name),
            channel="telemetry",
            name=name,
            status="denied" if decision == "reject" else status,
            duration_ms=count(attrs.get("duration_ms")),
        )
    ]


_LOGS: dict[str, Callable[[ChannelFact, dict[str, Any], datetime, str | None], list[Seen]]] = {
    "api_response": _api_response,
    "api_error": _api_error,
    "user_prompt": _user_prompt,
    "tool_call": _tool_call,
    "chat_compression": _compression,
    "config": _config,
}
