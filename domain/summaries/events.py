"""Facts about what a model wrote about a session."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.kernel import Event, Sealed


class SessionSummarized(Event, frozen=True, kw_only=True, tag="session.summarized.v1"):
    """A model wrote about a session as it stood at `facts_position` of the log and at its activity of `activity_at`.

    `text` is JSON (summary, coaching tips, recommendations, assessed measures), sealed for the person who worked.  Tokens
    are counts, cost is by our price table (null: no price is known).  `prompt_version` names the question that was asked.
    """

    session_id: str
    person_id: UUID
    facts_position: int
    activity_at: datetime
    model: str
    prompt_version: str
    text: Sealed
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd_micros: int | None
    price_version: str | None
    summarized_at: datetime
