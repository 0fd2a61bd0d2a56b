"""What the readers of all agents share."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from domain.sessions.coerce import count, moment, part, tally, text
from domain.sessions.events import ChannelFact
from domain.sessions.observations import Seen, SubagentEnded, SubagentStarted, Tokens, Unknown

DURATION_MS_MAX = 30 * 24 * 3_600_000  # a subagent that claims to have run longer is believed to have run this long


def at_of(fact: ChannelFact) -> datetime:
    """When it happened: the client's clock, or when it was received where that clock is plainly wrong (`derived.at`)."""
    derived = fact.attrs.get("derived")
    if type(derived) is dict and "at" in derived:
        return moment(derived["at"]) or fact.occurred_at
    return fact.occurred_at


def derived_of(fact: ChannelFact) -> dict[str, Any]:
    """Numbers that the splitter computed."""
    return part(fact.attrs.get("derived"))


def subagent_of(fact: ChannelFact) -> str | None:
    """The subagent a record belongs to, as its attributes say."""
    attrs = fact.attrs
    derived = attrs.get("derived")
    for value in (
        attrs.get("agent_id"),
        attrs.get("agentId"),
        derived.get("agent_id") if isinstance(derived, dict) else None,
    ):
        if isinstance(value, str) and value:
            return value
    return None


def own_name(fact: ChannelFact, at: datetime, *more: Any) -> str:
    """A name for what the vendor gave no id: the session and the record's own moment, so it is the record's alone."""
    attrs = fact.attrs
    nanos = attrs.get("time_unix_nano")
    moment_told = nanos if type(nanos) is int and nanos else text(attrs.get("event.timestamp")) or at.isoformat()
    return ":".join(map(str, (fact.llm_session_id, moment_told, *more)))


def unknown(fact: ChannelFact) -> list[Seen]:
    """A kind we do not know."""
    return [Unknown(at=at_of(fact), kind=fact.kind)]


def error_text(value: Any) -> str:
    """The kind of an error, or `unknown`."""
    return text(value) or "unknown"


def anthropic_tokens(usage: dict[str, Any]) -> Tokens:
    """The `usage` of the Messages API.  Cache writes whose lifetime is not told are 5-minute ones, the default."""
    split = part(usage.get("cache_creation"))
    written = tally(usage.get("cache_creation_input_tokens"))
    hour = tally(split.get("ephemeral_1h_input_tokens"))
    minutes = tally(split.get("ephemeral_5m_input_tokens")) if split else written
    if split and minutes + hour < written:
        minutes = written - hour
    return Tokens(
        input=tally(usage.get("input_tokens")),
        output=tally(usage.get("output_tokens")),
        cache_read=tally(usage.get("cache_read_input_tokens")),
        cache_write_5m=minutes,
        cache_write_1h=hour,
        reasoning=tally(part(usage.get("output_tokens_details")).get("thinking_tokens")),
    )


def inclusive_tokens(prompt: Any, output: Any, cached: Any, written: Any, reasoning: Any) -> Tokens:
    """Counts of vendors whose `input` includes what was read from (and written to) the cache, and `output` the reasoning."""
    read, wrote = tally(cached), tally(written)
    return Tokens(
        input=max(0, tally(prompt) - read - wrote),
        output=tally(output),
        cache_read=read,
        cache_write_5m=wrote,
        reasoning=tally(reasoning),
    )


def agent_result(at: datetime, result: dict[str, Any], tool_use_id: str | None, prompt_id: str | None) -> list[Seen]:
    """What Claude's Agent tool answers about the subagent it ran; a background one has only been launched."""
    agent_id = text(result.get("agentId"))
    if agent_id is None:
        return []
    status = text(result.get("status"))
    agent_type = text(result.get("agentType"))
    background = status == "async_launched" or result.get("isAsync") is True
    duration_ms = count(result.get("totalDurationMs"))
    seen: list[Seen] = [
        SubagentStarted(
            at=at - timedelta(milliseconds=min(duration_ms, DURATION_MS_MAX)) if duration_ms and not background else at,
            agent_id=agent_id,
            prompt_id=prompt_id,
            agent_type=agent_type,
            parent_tool_use_id=tool_use_id,
            background=background,
        )
    ]
    if not background:
        seen.append(
            SubagentEnded(
                at=at,
                agent_id=agent_id,
                prompt_id=prompt_id,
                agent_type=agent_type,
                status=status or "completed",
                total_tokens=count(result.get("totalTokens")),
                tool_uses=count(result.get("totalToolUseCount")),
                duration_ms=duration_ms,
                model=text(result.get("resolvedModel")),
            )
        )
    return seen
