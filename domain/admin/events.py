"""Facts about the staff's work.  Each is told twice: to the organization concerned, and to the platform."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.kernel import Event, Sealed


class AdminAccessed(Event, frozen=True, kw_only=True, tag="admin.accessed.v1"):
    """Somebody of the staff was about to read: told before anything is shown.

    `what` names the reading (`organization.show`, `audit_logs.list`, …), `target` the one thing it is about, as `Kind:id`.
    `reason` is their own words, sealed for the reader.
    """

    user_id: UUID
    what: str
    organization_id: UUID | None = None
    target: str | None = None
    reason: Sealed | None = None
    accessed_at: datetime


class AdminActed(Event, frozen=True, kw_only=True, tag="admin.acted.v1"):
    """Somebody of the staff was about to change something: told before the change, whose own event follows if it was granted.

    `action` names the deed (`user.disable`, `organization.purge`, …); the rest as in `AdminAccessed`.
    """

    user_id: UUID
    action: str
    organization_id: UUID | None = None
    target: str | None = None
    reason: Sealed
    acted_at: datetime
