"""Members and invitations as requests and answers."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class MemberPatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to change.  `role` is the older field: a permission's name means `permission`, any other `org_role`."""

    permission: str | None = None
    org_role: str | None = None
    role: str | None = None


class MemberView(msgspec.Struct, frozen=True, kw_only=True):
    """A member.  `role` repeats `permission`; e-mail and name are as of joining, null where unknown or erased."""

    user_id: UUID
    email: str | None
    name: str | None
    permission: str
    role: str
    org_role: str
    added_at: datetime
    changed_at: datetime
    links: dict[str, str] = msgspec.field(name="_links")


class MemberPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of members.  `total` counts all pages."""

    items: list[MemberView]
    page: int
    page_size: int
    total: int
    links: dict[str, str] = msgspec.field(name="_links")


class NewInvitation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Whom to invite as what.  `role` is the older field: a permission's name means `permission`, any other `org_role`."""

    email: str
    permission: str | None = None
    org_role: str | None = None
    role: str | None = None


class InvitationView(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation as members see it; its token is told to the mail only.

    `status`: `pending`, `accepted`, `declined`, `cancelled` or `expired`; `email` null once the person was erased.
    """

    invitation_id: str
    email: str | None
    permission: str
    role: str
    org_role: str
    status: str
    invited_by: UUID | None
    resends: int
    created_at: datetime
    sent_at: datetime
    expires_at: datetime
    links: dict[str, str] = msgspec.field(name="_links")


class InvitationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of invitations.  `total` counts all pages."""

    items: list[InvitationView]
    page: int
    page_size: int
    total: int
    links: dict[str, str] = msgspec.field(name="_links")


class OpenInvitation(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation as the holder of its token sees it."""

    organization: str
    slug: str
    email: str | None
    permission: str
    role: str
    org_role: str
    status: str
    expires_at: datetime
    links: dict[str, str] = msgspec.field(name="_links")


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """The membership that accepting made."""

    organization_id: UUID
    org_id: UUID
    organization: str
    slug: str
    user_id: UUID
    permission: str
    role: str
    org_role: str
    links: dict[str, str] = msgspec.field(name="_links")
