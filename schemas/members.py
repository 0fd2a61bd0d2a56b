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
