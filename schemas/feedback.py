"""Saying how a session went."""

from __future__ import annotations

from uuid import UUID

import msgspec


class SubmitFeedback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`rating` is 1 (useless) to 5 (could not be better), `comment` at most 4,000 characters; at least one of them."""

    rating: int | None = None
    comment: str | None = None


class FeedbackSubmitted(msgspec.Struct, frozen=True, kw_only=True):
    """`position` can be given back as `Crewkit-After`."""

    id: UUID
    session_id: str
    position: int
    links: dict[str, str] = msgspec.field(name="_links")
