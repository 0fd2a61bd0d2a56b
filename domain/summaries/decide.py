"""When a session is written about: once for each time it came to rest with new activity."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import msgspec

from domain.kernel import Event, Stream
from domain.summaries.events import SessionSummarized


class Absent(msgspec.Struct, frozen=True):
    """Nothing was written yet."""


class Summarized(msgspec.Struct, frozen=True):
    """Something was written about the session as it stood then."""

    facts_position: int
    activity_at: datetime


Summary: TypeAlias = Absent | Summarized
INITIAL: Summary = Absent()


def summary_stream(session_id: str) -> Stream:
    """Where what was written about one session lives."""
    return Stream("SessionSummary", session_id)


def evolve(summary: Summary, event: Event) -> Summary:
    """Apply one fact; facts of other kinds change nothing."""
    if isinstance(event, SessionSummarized):
        return Summarized(event.facts_position, event.activity_at)
    return summary


def is_due(summary: Summary, *, facts_position: int, activity_at: datetime) -> bool:
    """Whether there is something new to write about: later facts that tell of later activity.

    Facts that arrive late about what is known (a transcript read again, a metric) are no reason to pay a second time.
    """
    if isinstance(summary, Summarized):
        return facts_position > summary.facts_position and activity_at > summary.activity_at
    return True


def summarize(summary: Summary, written: SessionSummarized) -> list[SessionSummarized]:
    """Keep what was written; nothing where the same or a later state was written about already."""
    due = is_due(summary, facts_position=written.facts_position, activity_at=written.activity_at)
    return [written] if due else []
