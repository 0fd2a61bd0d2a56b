"""How questions and answers travel: one request, one reply, JSON."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

SUBJECT = "crewkit.analytics.ask"
QUEUE = "analytics"
ANSWER_BYTES_MAX = 900_000  # NATS refuses messages above 1 MB by default


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A question by name.  `after`: answer once this position is in; `wait_s` for it, `deadline_s` for everything."""

    question: str
    org_id: UUID
    params: msgspec.Raw = msgspec.Raw(b"{}")
    after: int = 0
    wait_s: float = 0.0
    deadline_s: float = 5.0


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`answer`, or `error` with what went wrong: `busy`, `behind`, `deadline`, `memory`, `too_large`, `invalid`, `unknown`,
    `failed` or `starting`.

    `position` says up to which event the rows go, `as_of` when that was written.
    """

    position: int = 0
    as_of: datetime | None = None
    answer: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    message: str = ""
    field: str | None = None
