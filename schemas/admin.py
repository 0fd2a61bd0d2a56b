"""What staff send and get."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

import msgspec


class Reason(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Why; the same as the header `X-Reason`."""

    reason: str | None = None


class Restore(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`owner_id` is the user who owns the organization from now on; needed only where every owner closed their account."""

    owner_id: UUID | None = None
    reason: str | None = None


class Purge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`confirm` is the slug of the organization to be ended for ever."""

    confirm: str | None = None
    reason: str | None = None


class Erase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`ground` is the fixed phrase that the certificate tells, `reason` the staff's own words (or `X-Reason`); `confirm` repeats
    the id of the user, because an erasure cannot be undone.
    """

    ground: str
    confirm: str | None = None
    reason: str | None = None


class UserPatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to change.  `platform_role` (`org_user`, `crewkit_staff`, `crewkit_owner`) is changed by a `crewkit_owner` only."""

    name: str | None = None
    locale: str | None = None
    timezone: str | None = None
    platform_role: str | None = None
    reason: str | None = None


class MembershipView(msgspec.Struct, frozen=True, kw_only=True):
    """Where somebody belongs, and as what."""

    organization_id: UUID
    slug: str
    permission: str
    org_role: str


class AdminUserView(msgspec.Struct, frozen=True, kw_only=True):
    """An account.  `status`: `active`, `disabled`, `deleted`.  E-mail and name are null once the person is erased."""

    user_id: UUID
    email: str | None
    name: str | None
    status: str
    platform_role: str
    verified: bool
    completed: bool
    has_password: bool
    locale: str | None
    timezone: str | None
    registered_at: datetime
    last_login_at: datetime | None
    memberships: list[MembershipView] | None = None
    links: dict[str, str] = msgspec.field(name="_links")


class AdminUserPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of accounts.  `total` counts all pages."""

    items: list[AdminUserView]
    page: int
    page_size: int
    total: int
    links: dict[str, str] = msgspec.field(name="_links")


class AdminOrganizationView(msgspec.Struct, frozen=True, kw_only=True):
    """An organization.  `status`: `active`, `deleted`, `purged`.  `members` by permission; only one alone tells what is inside."""

    organization_id: UUID
    slug: str
    name: str
    region: str
    status: str
    created_at: datetime
    deleted_at: datetime | None
    purged_at: datetime | None
    members: dict[str, int] | None = None
    api_keys: int | None = None
    coaching_enforcement: str | None = None
    links: dict[str, str] = msgspec.field(name="_links")


class AdminOrganizationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of organizations.  `total` counts all pages."""

    items: list[AdminOrganizationView]
    page: int
    page_size: int
    total: int
    links: dict[str, str] = msgspec.field(name="_links")


class UserStats(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts, counted.  `active_users` signed in within the last 30 days."""

    total: int
    by_status: dict[str, int]
    by_platform_role: dict[str, int]
    verified: int
    with_password: int
    with_passkey: int
    active_users: int
    links: dict[str, str] = msgspec.field(name="_links")


class OrganizationStats(msgspec.Struct, frozen=True, kw_only=True):
    """Organizations, counted."""

    total: int
    by_status: dict[str, int]
    by_region: dict[str, int]
    links: dict[str, str] = msgspec.field(name="_links")


class PlatformStats(msgspec.Struct, frozen=True, kw_only=True):
    """The installation in numbers; `events` is the length of the whole log."""

    users: int
    active_users: int
    organizations: int
    organizations_by_status: dict[str, int]
    events: int
    links: dict[str, str] = msgspec.field(name="_links")


class ActivityDay(msgspec.Struct, frozen=True, kw_only=True):
    """One day (UTC).  `events` counts the whole log."""

    day: date
    events: int
    users_registered: int
    organizations_created: int
    logins: int
    logins_failed: int
    active_users: int


class ActivityStats(msgspec.Struct, frozen=True, kw_only=True):
    """Oldest day first; the last one is today and not over."""

    items: list[ActivityDay]
    links: dict[str, str] = msgspec.field(name="_links")
