"""Read facts: `observe` says in one vocabulary what a stored record of any agent and channel means.

Pure and total: odd values become None or `Unknown`, nothing raises.  What it never does is add up: one thing told by
several facts (a tool call by its hooks, its telemetry and its transcript lines) is several observations with the same id,
and the projection merges them.

- `PromptSubmitted` and `TurnEnded` are one per `prompt_id`, `ToolCalled` one per `tool_use_id`, `ModelCalled` one per
  `request_id` or `message_id` (Claude: both are known from the transcript, only the first from telemetry).
- `Compacted`: the compactions of a session are the largest count of any phase, since each phase tells each of them once.
- `SubagentEnded` without `agent_type` and without a start is an internal fork, not a subagent.
- `stand_in` observations have no id that another channel shares (see `Observation`).
"""

from __future__ import annotations

from collections.abc import Callable

from domain.sessions.events import ChannelFact, HookRecorded, TelemetryRecorded, TranscriptRecorded
from domain.sessions.observations import Seen
from domain.sessions.reading import claude_hooks, claude_items, claude_telemetry, codex, gemini, generic

Reader = Callable[[ChannelFact], list[Seen]]

_HOOKS: dict[str, Reader] = {"claude": claude_hooks.hook, "codex": codex.hook, "gemini": gemini.hook}
_TELEMETRY: dict[str, Reader] = {
    "claude": claude_telemetry.telemetry,
    "codex": codex.telemetry,
    "gemini": gemini.telemetry,
}
_TRANSCRIPTS: dict[str, Reader] = {"claude": claude_items.item, "codex": codex.item, "gemini": gemini.item}


def observe(fact: ChannelFact) -> list[Seen]:
    """What a fact says; an empty list when it is known and says nothing that counts."""
    if isinstance(fact, HookRecorded):
        return _HOOKS.get(fact.agent, generic.hook)(fact)
    if isinstance(fact, TelemetryRecorded):
        return _TELEMETRY.get(fact.agent, generic.telemetry)(fact)
    if isinstance(fact, TranscriptRecorded):
        return _TRANSCRIPTS.get(fact.agent, generic.item)(fact)
    return []


__all__ = ["observe"]
