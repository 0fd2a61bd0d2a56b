"""What the fold of one fact carries along, and the counters that move by what a row changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from domain.sessions.events import ChannelFact
from eventstore.port import Recorded
from projections.base import Rows
from projections.sessions.merge import CLOCK_AHEAD_MAX
from projections.sessions.tables import LlmSessionRow, PromptRow, TallyRow, ToolCallRow

TOOL_COUNTS = ("tool_calls", "tool_failures", "tool_denials")
STAND_IN_TOOL_COUNTS = ("stand_in_tool_calls", "stand_in_tool_failures", "stand_in_tool_denials")
HOOK, TELEMETRY, TRANSCRIPT = "hook", "telemetry", "transcript"


class Work:
    """One channel fact under the fold.  `changed` asks to decide the conversation's status again, `moved`
    to carry its surroundings into the session.
    """

    __slots__ = ("changed", "channel", "clock_max", "fact", "lid", "llm", "moved", "now", "org", "recorded", "rows")

    def __init__(self, rows: Rows, recorded: Recorded, fact: ChannelFact, llm: LlmSessionRow, channel: str) -> None:
        self.rows = rows
        self.recorded = recorded
        self.fact = fact
        self.llm = llm
        self.lid = llm.llm_session_id
        self.org: UUID = recorded.org_id
        self.channel = channel
        self.clock_max = recorded.recorded_at + CLOCK_AHEAD_MAX
        self.changed = False
        self.moved = False
        told = fact.occurred_at
        self.now = told if told <= self.clock_max else self.at(told)  # by the client's clock, put right

    def at(self, told: datetime) -> datetime:
        """The client's time, or the server's where the client's clock runs more than `CLOCK_AHEAD_MAX` ahead."""
        if told <= self.clock_max:
            return told
        ahead_ms = int((told - self.recorded.recorded_at).total_seconds() * 1000)
        self.llm.clock_skew_ms = max(self.llm.clock_skew_ms, ahead_ms)
        return self.recorded.recorded_at


def tool_counts(row: ToolCallRow | None) -> tuple[int, int, int, int, int]:
    """What a tool call adds to its conversation: calls, failures, denials, lines added and removed."""
    if row is None:
        return 0, 0, 0, 0, 0
    return 1, row.status == "failed", row.status == "denied", row.lines_added, row.lines_removed


def count_tool(llm: LlmSessionRow, was: tuple[int, int, int, int, int], row: ToolCallRow) -> None:
    """Move the conversation's counters by the change of one row, so that a second channel never counts again."""
    now = tool_counts(row)
    if was == now:
        return
    names = STAND_IN_TOOL_COUNTS if row.stand_in else TOOL_COUNTS
    for name, before, after in zip(names, was, now, strict=False):
        if before != after:
            _add(llm, name, after - before)
    llm.tool_lines_added += now[3] - was[3]
    llm.tool_lines_removed += now[4] - was[4]


def prompt_counts(row: PromptRow | None) -> tuple[int, int, int]:
    """What a prompt adds to its conversation: prompts, turns, failed turns."""
    if row is None:
        return 0, 0, 0
    return row.submitted_at is not None, row.ended_at is not None, row.error is not None


def count_prompt(llm: LlmSessionRow, was: tuple[int, int, int], row: PromptRow) -> None:
    """Move the conversation's counters by the change of one row."""
    prefix = "stand_in_" if row.stand_in else ""
    for name, before, after in zip(("prompts", "turns", "failed_turns"), was, prompt_counts(row), strict=True):
        if before != after:
            _add(llm, prefix + name, after - before)


def _add(row: Any, name: str, amount: int) -> None:
    setattr(row, name, getattr(row, name) + amount)


def new_tally(org: UUID, lid: str, name: str, channel: str) -> TallyRow:
    """A counter at zero."""
    return TallyRow(org, lid, name, channel)
