"""Agents we have never met: Claude's field names for hooks, OpenTelemetry's names for generative AI, plain usage objects."""

from __future__ import annotations

from typing import Any

from domain.sessions.coerce import count, part, parts, pico_usd, text
from domain.sessions.events import ChannelFact, TelemetryRecorded
from domain.sessions.observations import ModelCalled, PromptSubmitted, Seen, SourceSeen, Tokens, ToolCalled
from domain.sessions.reading import claude_hooks, claude_items
from domain.sessions.reading.common import anthropic_tokens, at_of, derived_of, inclusive_tokens, unknown


def hook(fact: ChannelFact) -> list[Seen]:
    """Claude's names, which other agents copied."""
    return claude_hooks.hook(fact)


def telemetry(fact: ChannelFact) -> list[Seen]:
    """Spans (or log events) of a model call that carry `gen_ai.usage.*`; a tool call's span; else unknown."""
    attrs, at = fact.attrs, at_of(fact)
    signal = fact.signal if isinstance(fact, TelemetryRecorded) else "log"
    if signal == "metric":
        return []
    if "gen_ai.usage.input_tokens" in attrs or "gen_ai.usage.output_tokens" in attrs:
        return _called(attrs, fact)
    if own := text(attrs.get("gen_ai.tool.call.id")):
        failed = attrs.get("error.type") is not None or attrs.get("span_status") == 2
        return [
            ToolCalled(
                at=at,
                tool_use_id=own,
                channel="telemetry",
                name=text(attrs.get("gen_ai.tool.name")),
                status="failed" if failed else "succeeded",
                duration_ms=count(attrs.get("duration_ms")),
            )
        ]
    return unknown(fact)


def _called(attrs: dict[str, Any], fact: ChannelFact) -> list[Seen]:
    at = at_of(fact)
    model = text(attrs.get("gen_ai.response.model")) or text(attrs.get("gen_ai.request.model"))
    own = text(attrs.get("gen_ai.response.id")) or text(attrs.get("span_id"))
    if text(attrs.get("gen_ai.operation.name")) in {"invoke_agent", "create_agent"} or own is None:
        return []  # sums of the calls below it
    called = ModelCalled(
        at=at,
        channel="telemetry",
        model=model,
        tokens=inclusive_tokens(
            attrs.get("gen_ai.usage.input_tokens"),
            attrs.get("gen_ai.usage.output_tokens"),
            attrs.get("gen_ai.usage.cache_read.input_tokens"),
            attrs.get("gen_ai.usage.cache_creation.input_tokens"),
            None,
        ),
        request_id=own,
        duration_ms=count(attrs.get("duration_ms")),
    )
    return [called, SourceSeen(at=at, model=model)]


def item(fact: ChannelFact) -> list[Seen]:
    """A message with a role and perhaps usage; or a line in Claude's shape."""
    attrs, at = fact.attrs, at_of(fact)
    if "message" in attrs or "parentUuid" in attrs:
        return claude_items.item(fact)
    own = text(attrs.get("id")) or text(attrs.get("uuid"))
    usage = part(attrs.get("usage"))
    role = text(attrs.get("role")) or text(attrs.get("type"))
    if usage and own:
        model = text(attrs.get("model"))
        called = ModelCalled(
            at=at,
            channel="transcript",
            model=model,
            tokens=_usage(usage),
            message_id=own,
            reported_pico_usd=pico_usd(attrs.get("costUSD")),
        )
        return [called, SourceSeen(at=at, model=model)]
    if role == "user":
        if any(block.get("tool_use_id") for block in parts(attrs.get("content"))):
            return []
        return [PromptSubmitted(at=at, prompt_id=own, chars=count(derived_of(fact).get("prompt_chars")))]
    return [] if role in {"assistant", "system", "tool"} else unknown(fact)


def _usage(usage: dict[str, Any]) -> Tokens:
    """The two common shapes: Anthropic's (cache beside input) and OpenAI's (cache inside input)."""
    if "cached_input_tokens" in usage or "prompt_tokens" in usage:
        return inclusive_tokens(
            usage.get("input_tokens", usage.get("prompt_tokens")),
            usage.get("output_tokens", usage.get("completion_tokens")),
            usage.get("cached_input_tokens"),
            usage.get("cache_write_input_tokens"),
            usage.get("reasoning_output_tokens"),
        )
    return anthropic_tokens(usage)
