"""Facts about organizations, their members, working roles and API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from domain.kernel import Event, Sealed


class OrganizationCreated(Event, frozen=True, kw_only=True, tag="organization.created.v1"):
    """A tenant came to be.  `slug` is unique across the installation."""

    organization_id: UUID
    slug: str
    name: str
    owner_id: UUID
    created_at: datetime


class OrganizationUpdated(Event, frozen=True, kw_only=True, tag="organization.updated.v1"):
    """Something about the tenant changed.  None: that field stayed as it was; `settings` are all settings afterwards."""

    name: str | None = None
    settings: dict[str, Any] | None = None
    region: str | None = None
    updated_at: datetime


class OrganizationSlugChanged(Event, frozen=True, kw_only=True, tag="organization.slug_changed.v1"):
    """The tenant goes by another slug; the old one is free for others."""

    slug: str
    before: str
    changed_at: datetime


class CoachingEnforcementChanged(Event, frozen=True, kw_only=True, tag="organization.coaching_enforcement_changed.v1"):
    """How strictly working roles hold: `soft` tells the agent, `hard` also takes tools away."""

    coaching_enforcement: str
    before: str
    changed_at: datetime


class OrganizationDeleted(Event, frozen=True, kw_only=True, tag="organization.deleted.v1"):
    """The tenant is hidden and refuses everything; nothing is lost until it is purged."""

    deleted_at: datetime


class OrganizationRestored(Event, frozen=True, kw_only=True, tag="organization.restored.v1"):
    """A deleted tenant is back as it was."""

    restored_at: datetime


class OrganizationPurged(Event, frozen=True, kw_only=True, tag="organization.purged.v1"):
    """The end of a deleted tenant: every key of its people is destroyed and its slug is free.  Its history stays, unreadable."""

    purged_at: datetime


class MemberAdded(Event, frozen=True, kw_only=True, tag="member.added.v1"):
    """A user belongs to the organization.  `permission` is what one may do, `org_role` how agents treat one.

    `invitation_id` names the invitation that was accepted, if there was one.  E-mail and name are as of joining.
    """

    user_id: UUID
    permission: str
    org_role: str
    email: Sealed | None = None
    name: Sealed | None = None
    invitation_id: str | None = None
    added_at: datetime


class MemberRoleChanged(Event, frozen=True, kw_only=True, tag="member.role_changed.v1"):
    """A member's permission or working role is another; both are told as they are now and as they were."""

    user_id: UUID
    permission: str
    org_role: str
    permission_before: str
    org_role_before: str
    changed_at: datetime


class MemberRemoved(Event, frozen=True, kw_only=True, tag="member.removed.v1"):
    """A user belongs to the organization no longer."""

    user_id: UUID
    removed_at: datetime


class OwnershipTransferred(Event, frozen=True, kw_only=True, tag="ownership.transferred.v1"):
    """One owner handed over: the receiver is an owner now, the giver an admin."""

    from_user_id: UUID
    to_user_id: UUID
    transferred_at: datetime


class RoleCreated(Event, frozen=True, kw_only=True, tag="role.created.v1"):
    """The organization has another working role.  `tools` None: all tools; levels grow with autonomy."""

    role_id: UUID
    key: str
    level: int
    custom_name: str
    coaching_mode_enabled: bool
    tools: list[str] | None = None
    created_at: datetime


class RoleUpdated(Event, frozen=True, kw_only=True, tag="role.updated.v1"):
    """A working role is as told here.  Its key never changes."""

    role_id: UUID
    key: str
    level: int
    custom_name: str
    coaching_mode_enabled: bool
    tools: list[str] | None = None
    updated_at: datetime


class RoleDeleted(Event, frozen=True, kw_only=True, tag="role.deleted.v1"):
    """A working role that no member has is gone."""

    role_id: UUID
    key: str
    deleted_at: datetime


class ApiKeyIssued(Event, frozen=True, kw_only=True, tag="api_key.issued.v1"):
    """A program may act for the organization.  Only the SHA-256 of the secret (hex) is kept, never the key.

    `scopes` are `ingest`, `read`, `audit`, `admin`; `person_id` is whom the key's deeds are attributed to.
    """

    key_id: UUID
    label: str
    scopes: list[str]
    secret_sha256: str
    person_id: UUID
    issued_at: datetime
    expires_at: datetime | None = None


class ApiKeyRevoked(Event, frozen=True, kw_only=True, tag="api_key.revoked.v1"):
    """A key stopped working, at once and for ever."""

    key_id: UUID
    revoked_at: datetime


class ApiKeyUsed(Event, frozen=True, kw_only=True, tag="api_key.used.v1"):
    """The key worked in the hour that began at `used_at`; told at most once an hour."""

    key_id: UUID
    used_at: datetime


class PersonObserved(Event, frozen=True, kw_only=True, tag="person.observed.v1"):
    """We learnt who works behind a person id.  The id is a keyed hash of the e-mail, so the id itself tells nothing."""

    person_id: UUID
    email: Sealed | None = None
    name: Sealed | None = None


class SubjectShredded(Event, frozen=True, kw_only=True, tag="subject.shredded.v1"):
    """A person's key was destroyed: everything sealed for `person_id` is unreadable, here and in every copy."""

    person_id: UUID
    shredded_at: datetime
