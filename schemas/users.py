"""The caller's own account: requests and answers."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class ProfileChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to change; what is not given stays.  `locale` is a language tag, `timezone` an IANA name."""

    name: str | None = None
    locale: str | None = None
    timezone: str | None = None


class FirstProfile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a new user tells about themselves."""

    name: str
    locale: str | None = None
    timezone: str | None = None


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """An account.  `status`: active, disabled or deleted."""

    user_id: UUID
    email: str | None
    name: str | None
    locale: str | None
    timezone: str | None
    status: str
    email_verified: bool
    profile_completed: bool
    has_password: bool
    platform_role: str
    registered_at: datetime
    last_login_at: datetime | None
    links: dict[str, str] = msgspec.field(name="_links")


class MembershipView(msgspec.Struct, frozen=True, kw_only=True):
    """An organization of the caller, and what they are in it."""

    organization_id: UUID
    slug: str
    name: str
    permission: str
    org_role: str
    links: dict[str, str] = msgspec.field(name="_links")


class MembershipPage(msgspec.Struct, frozen=True, kw_only=True):
    """By slug."""

    items: list[MembershipView]
    page: int
    page_size: int
    total: int
    links: dict[str, str] = msgspec.field(name="_links")


class LoginView(msgspec.Struct, frozen=True, kw_only=True):
    """`outcome`: succeeded or failed.  `current`: the login that asks."""

    at: datetime
    method: str
    outcome: str
    reason: str | None
    ip: str | None
    user_agent: str | None
    current: bool


class LoginPage(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first.  `next_cursor` null: there are no more."""

    items: list[LoginView]
    next_cursor: str | None
    links: dict[str, str] = msgspec.field(name="_links")
