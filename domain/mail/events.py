"""Facts about mail."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.kernel import Event, Sealed


class EmailSent(Event, frozen=True, kw_only=True, tag="email.sent.v1"):
    """A mail of `kind` about the event `about` was handed over.  `via`: `smtp` (the server took it) or `file` (local mode).

    `email_id` is derived from `about` and `kind`, and is the left half of the Message-ID.
    """

    email_id: UUID
    kind: str
    about: UUID
    to: Sealed
    via: str
    sent_at: datetime


class EmailFailed(Event, frozen=True, kw_only=True, tag="email.failed.v1"):
    """A mail was given up.  `reason` is a code or a fixed phrase, never the server's words: they may hold the address."""

    email_id: UUID
    kind: str
    about: UUID
    reason: str
    failed_at: datetime
