"""Transcript lines of Claude Code: the main file, subagents' files, resumed and forked copies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from domain.sessions.bookkeeping import BOOKKEEPING
from domain.sessions.coerce import count, part, parts, pico_usd, tally, text
from domain.sessions.events import ChannelFact
from domain.sessions.observations import (
    Compacted,
    ModelCalled,
    ModelFailed,
    PermissionDecided,
    PromptSubmitted,
    Seen,
    SourceSeen,
    SubagentEnded,
    SubagentStarted,
    TitleGiven,
    ToolCalled,
    TotalsStated,
    TurnEnded,
)
from domain.sessions.reading.common import agent_result, anthropic_tokens, at_of, derived_of, error_text, unknown

_SYNTHETIC = "<synthetic>"  # the model name of lines the agent wrote itself
SUBAGENT_KIND = "subagent"  # what a client knows about a subagent from its .meta.json
_MAX_TURNS = "max_turns_reached"  # the attachment that stands where `--max-turns` stopped the agent
_FINAL = frozenset({"end_turn", "stop_sequence", "refusal"})  # reasons after which the agent has nothing left to do
_NO_BRANCH = "HEAD"  # what stands in `gitBranch` outside of a repository, and where no branch is checked out


def item(fact: ChannelFact) -> list[Seen]:
    """What one line says."""
    read = _READERS.get(fact.kind.partition(".")[0])
    return read(fact, fact.attrs, at_of(fact)) if read else unknown(fact)


def agent_of(fact: ChannelFact) -> str | None:
    """The subagent a line belongs to: the line's own word, else the file it stood in."""
    return text(fact.attrs.get("agentId")) or text(derived_of(fact).get("agent_id"))


def copied_from(fact: ChannelFact) -> str | None:
    """The session this line was copied from, by a fork or by an older version's resume.

    A fork (2.1.329) marks its parent's answers with `requestSessionId`; the parent's tool results are unmarked there, so
    that they belong to such an answer is noted when lines are taken (`derived.copied_from`).
    """
    attrs = fact.attrs
    if origin := text(part(attrs.get("forkedFrom")).get("sessionId")) or text(derived_of(fact).get("copied_from")):
        return origin
    for name in ("sessionId", "requestSessionId"):
        if (own := text(attrs.get(name))) and own != fact.llm_session_id:
            return own
    return None


def _nothing(_: ChannelFact, __: dict[str, Any], ___: datetime) -> list[Seen]:
    return []


def _source(attrs: dict[str, Any], at: datetime, model: str | None) -> SourceSeen:
    branch = text(attrs.get("gitBranch"))
    return SourceSeen(
        at=at,
        agent_version=text(attrs.get("version")),
        entrypoint=text(attrs.get("entrypoint")),
        model=model,
        branch=None if branch == _NO_BRANCH else branch,
        permission_mode=text(attrs.get("permissionMode")),
    )


def _assistant(fact: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    message = part(attrs.get("message"))
    model = text(message.get("model"))
    agent, prompt = agent_of(fact), text(attrs.get("promptId"))
    request = text(attrs.get("requestId"))
    if attrs.get("isApiErrorMessage") is True:
        error = error_text(derived_of(fact).get("error_kind"))
        own = text(attrs.get("uuid"))
        failed = ModelFailed(
            at=at, agent_id=agent, prompt_id=prompt, stand_in=True, error=error, request_id=request or own
        )
        return [failed] if copied_from(fact) else [failed, *_ended(at, agent, own, attrs, error)]
    sidechain = attrs.get("isSidechain") is True or agent is not None
    origin = copied_from(fact)
    seen: list[Seen] = []
    usage = message.get("usage")
    own = text(message.get("id"))
    if type(usage) is dict and model != _SYNTHETIC and (own or request):
        seen.append(
            ModelCalled(
                at=at,
                agent_id=agent,
                prompt_id=prompt,
                channel="transcript",
                model=model,
                tokens=anthropic_tokens(usage),
                request_id=request,
                message_id=own,
                reported_pico_usd=pico_usd(attrs.get("costUSD")),
                speed=text(usage.get("speed")),
                effort=text(attrs.get("effort")),
                service_tier=text(usage.get("service_tier")),
                sidechain=sidechain,
                copied_from=origin,
                web_searches=tally(part(usage.get("server_tool_use")).get("web_search_requests")),
                skill=text(attrs.get("attributionSkill")),
            )
        )
        seen.append(_source(attrs, at, None if sidechain else model))
    if origin is None:
        seen += _tool_uses(message, at, agent, prompt, request)
        if text(message.get("stop_reason")) in _FINAL:
            seen += _ended(at, agent, own, attrs, None)
    return seen


def _ended(at: datetime, agent: str | None, own: str | None, attrs: dict[str, Any], error: str | None) -> list[Seen]:
    """A final answer ends the turn, or the subagent.  Lines of one answer share its id, so they tell of one end.

    A stand-in: where hooks tell of the stop, theirs is the one that counts.
    """
    if agent is not None:
        agent_type = text(attrs.get("attributionAgent"))
        status = "completed" if error is None else "failed"
        return [SubagentEnded(at=at, agent_id=agent, agent_type=agent_type, status=status)]
    if own is None or attrs.get("isSidechain") is True:
        return []
    return [TurnEnded(at=at, prompt_id=f"turn:{own}", error=error, stand_in=True)]


def _attachment(fact: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    if part(attrs.get("attachment")).get("type") != _MAX_TURNS or copied_from(fact) is not None:
        return []
    return _ended(at, agent_of(fact), text(attrs.get("uuid")), attrs, _MAX_TURNS)


def _tool_uses(
    message: dict[str, Any], at: datetime, agent: str | None, prompt: str | None, request: str | None
) -> list[Seen]:
    return [
        ToolCalled(
            at=at,
            agent_id=agent,
            prompt_id=prompt,
            tool_use_id=own,
            channel="transcript",
            name=text(block.get("name")),
            status="requested",
            request_id=request,
        )
        for block in parts(message.get("content"))
        if block.get("type") == "tool_use" and (own := text(block.get("id"))) is not None
    ]


def _user(fact: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    if copied_from(fact) is not None:
        return []
    agent, prompt = agent_of(fact), text(attrs.get("promptId"))
    results = [
        block for block in parts(part(attrs.get("message")).get("content")) if block.get("type") == "tool_result"
    ]
    if results:
        seen: list[Seen] = []
        for block in results:
            seen += _tool_result(fact, attrs, at, block, agent, prompt)
        return seen
    derived = derived_of(fact)
    if agent is not None or attrs.get("isSidechain") is True:
        first = agent is not None and attrs.get("parentUuid") is None and "parentUuid" in attrs
        return [SubagentStarted(at=at, agent_id=agent, prompt_id=prompt)] if first else []
    aside = ("isMeta", "isCompactSummary", "isVisibleInTranscriptOnly")
    if derived.get("local") is True or any(attrs.get(key) is True for key in aside):
        return []
    return [
        PromptSubmitted(
            at=at,
            prompt_id=prompt or text(attrs.get("uuid")),
            chars=count(derived.get("prompt_chars")),
            source=text(attrs.get("promptSource")),
        ),
        _source(attrs, at, None),
    ]


def _tool_result(
    fact: ChannelFact,
    attrs: dict[str, Any],
    at: datetime,
    block: dict[str, Any],
    agent: str | None,
    prompt: str | None,
) -> list[Seen]:
    tool_use_id = text(block.get("tool_use_id"))
    if tool_use_id is None:
        return []
    derived, decision = derived_of(fact), part(attrs.get("permissionDecision"))
    decided = text(decision.get("decision"))
    denied = decided == "reject"
    seen: list[Seen] = [
        ToolCalled(
            at=at,
            agent_id=agent,
            prompt_id=prompt,
            tool_use_id=tool_use_id,
            channel="transcript",
            status="denied" if denied else "failed" if block.get("is_error") is True else "succeeded",
            lines_added=tally(derived.get("lines_added")),
            lines_removed=tally(derived.get("lines_removed")),
        )
    ]
    if decided:
        seen.append(
            PermissionDecided(
                at=at,
                agent_id=agent,
                prompt_id=prompt,
                tool_use_id=tool_use_id,
                decision=decided,
                source=text(decision.get("source")),
            )
        )
    return seen + agent_result(at, part(attrs.get("toolUseResult")), tool_use_id, prompt)


def _system(fact: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    if attrs.get("subtype") == "compact_boundary" and copied_from(fact) is None:
        told = part(attrs.get("compactMetadata"))
        return [
            Compacted(
                at=at,
                agent_id=agent_of(fact),
                trigger=text(told.get("trigger")),
                phase="boundary",
                pre_tokens=count(told.get("preTokens")),
                post_tokens=count(told.get("postTokens")),
            )
        ]
    return []


def _cost_state(fact: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    cost = pico_usd(attrs.get("totalCostUSD"))
    own = text(attrs.get("sessionId"))
    if cost is None or (own and own != fact.llm_session_id):
        return []
    return [
        TotalsStated(
            at=at,
            cost_pico_usd=cost,
            lines_added=count(attrs.get("totalLinesAdded")),
            lines_removed=count(attrs.get("totalLinesRemoved")),
            api_ms=count(attrs.get("totalAPIDuration")),
            tool_ms=count(attrs.get("totalToolDuration")),
            unknown_model_cost=attrs.get("hasUnknownModelCost") is True,
        ),
    ]


def _titled(_: ChannelFact, __: dict[str, Any], at: datetime) -> list[Seen]:
    return [TitleGiven(at=at)]


def _subagent(fact: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    agent = agent_of(fact)
    if agent is None:
        return []
    agent_type = text(attrs.get("agentType"))
    seen: list[Seen] = [
        SubagentStarted(
            at=at, agent_id=agent, agent_type=agent_type, parent_tool_use_id=text(attrs.get("toolUseId")),
            background={"foreground": False, "background": True}.get(text(attrs.get("requestShape")) or ""),
        )
    ]  # fmt: skip
    if attrs.get("finished") is True:
        seen.append(SubagentEnded(at=at, agent_id=agent, agent_type=agent_type, model=text(attrs.get("model"))))
    return seen


def _result(_: ChannelFact, attrs: dict[str, Any], at: datetime) -> list[Seen]:
    """The last line of `--output-format stream-json`: the same cumulative total as `cost-state`."""
    cost = pico_usd(attrs.get("total_cost_usd"))
    ended = TurnEnded(at=at, error="error") if attrs.get("is_error") is True else None
    seen: list[Seen] = [] if cost is None else [TotalsStated(at=at, cost_pico_usd=cost)]
    return [*seen, ended] if ended else seen


_READERS: dict[str, Callable[[ChannelFact, dict[str, Any], datetime], list[Seen]]] = {
    "assistant": _assistant,
    "user": _user,
    "system": _system,
    "cost-state": _cost_state,
    "attachment": _attachment,
    "summary": _titled,
    "ai-title": _titled,
    "custom-title": _titled,
    "result": _result,
    SUBAGENT_KIND: _subagent,
    **dict.fromkeys(BOOKKEEPING | {"pr-link"}, _nothing),
}
