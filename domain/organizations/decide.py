"""Rules about organizations and their API keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import msgspec

from domain.kernel import Event, NotFoundError, Sealed, Stream
from domain.organizations.events import (
    ApiKeyIssued,
    ApiKeyRevoked,
    MemberAdded,
    OrganizationCreated,
    OrganizationUpdated,
)
from domain.organizations.state import (
    ADMIN,
    NO_ORGANIZATION,
    OWNER,
    REGION_DEFAULT,
    Absent,
    InvalidFieldError,
    Organization,
    OrganizationState,
    check_text,
    evolve_organization,
    organization_stream,
)

__all__ = ["NO_ORGANIZATION", "evolve_organization", "organization_stream"]  # one name for callers: `decide.…`

SCOPES = frozenset({"ingest", "read", "audit", "admin"})
LABEL_CHARS_MAX = 100
NAME_CHARS_MAX = 200
SLUG_CHARS_MAX = 63

# First path segments that are, or may become, something else than a tenant (vocabulary, section 3.3).
RESERVED_SLUGS = frozenset(
    [
        "admin",
        "auth",
        "briefs",
        "framework_stacks",
        "git",
        "git_integrations",
        "invitations",
        "marketplace",
        "organizations",
        "plans",
        "playbooks",
        "projects",
        "resources",
        "stats",
        "webhooks",
        "api",
        "conversations",
        "crewkit",
        "docs",
        "events",
        "experiments",
        "health",
        "kit",
        "llm_sessions",
        "me",
        "members",
        "new",
        "observability",
        "orgs",
        "playbook_subscriptions",
        "schema",
        "sessions",
        "v1",
        "v2",
        "workflows",
        "ws",
        "www",
    ]
)

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_UUID_SHAPE = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")


class LiveKey(msgspec.Struct, frozen=True):
    """A key that was issued and not revoked (it may have expired)."""

    key_id: UUID


class DeadKey(msgspec.Struct, frozen=True):
    """A key that was revoked."""

    key_id: UUID


KeyState: TypeAlias = Absent | LiveKey | DeadKey
NO_KEY: KeyState = Absent()


def key_stream(key_id: UUID) -> Stream:
    """Where one key's facts live."""
    return Stream("ApiKey", str(key_id))


def evolve_key(state: KeyState, event: Event) -> KeyState:
    """Apply one fact; facts of other kinds change nothing."""
    if isinstance(event, ApiKeyIssued):
        return LiveKey(event.key_id)
    if isinstance(event, ApiKeyRevoked):
        return DeadKey(event.key_id)
    return state


def check_slug(slug: str) -> None:
    """Refuse a slug that could not stand in a path or would hide another route.

    Raises:
        InvalidFieldError: wrong characters or length, shaped like an id, or reserved.
    """
    if len(slug) > SLUG_CHARS_MAX or not _SLUG.fullmatch(slug):
        raise InvalidFieldError(
            f"slug must be 1 to {SLUG_CHARS_MAX} lower-case letters, digits and inner hyphens, got {slug!r}",
            field="slug",
        )
    if _UUID_SHAPE.fullmatch(slug):
        raise InvalidFieldError("slug must not look like an id", field="slug")
    if slug in RESERVED_SLUGS:
        raise InvalidFieldError(f"slug {slug!r} is reserved", field="slug")


def create(
    state: OrganizationState,
    *,
    organization_id: UUID,
    slug: str,
    name: str,
    owner_id: UUID,
    at: datetime,
    region: str = REGION_DEFAULT,
    email: Sealed | None = None,
    owner_name: Sealed | None = None,
) -> list[Event]:
    """Found an organization.  Founding the same one again changes nothing.

    `email` and `owner_name` are the owner's, for the list of members.

    Raises:
        InvalidFieldError: the slug or the name cannot be accepted.
    """
    if isinstance(state, Organization):
        return []
    check_slug(slug)
    check_text(name, "name", NAME_CHARS_MAX)
    events: list[Event] = [
        OrganizationCreated(organization_id=organization_id, slug=slug, name=name, owner_id=owner_id, created_at=at)
    ]
    if region != REGION_DEFAULT:
        events.append(OrganizationUpdated(region=region, updated_at=at))
    if email is not None or owner_name is not None:
        events.append(
            MemberAdded(user_id=owner_id, permission=OWNER, org_role=ADMIN, email=email, name=owner_name, added_at=at)
        )
    return events


def issue(
    state: KeyState,
    *,
    key_id: UUID,
    label: str,
    scopes: Sequence[str],
    secret_sha256: str,
    person_id: UUID,
    at: datetime,
    expires_at: datetime | None = None,
) -> list[Event]:
    """Give a program access.  A key id that exists already changes nothing: its secret was told once.

    Raises:
        InvalidFieldError: no or unknown scopes, a bad label, or an expiry in the past.
    """
    if not isinstance(state, Absent):
        return []
    unknown = sorted(set(scopes) - SCOPES)
    if not scopes or unknown:
        wrong = f"; unknown: {', '.join(unknown)}" if unknown else ""
        raise InvalidFieldError(f"scopes must be some of {', '.join(sorted(SCOPES))}{wrong}", field="scopes")
    check_text(label, "label", LABEL_CHARS_MAX)
    if expires_at is not None and expires_at <= at:
        raise InvalidFieldError("expires_at must lie in the future", field="expires_at")
    return [
        ApiKeyIssued(
            key_id=key_id,
            label=label,
            scopes=sorted(set(scopes)),
            secret_sha256=secret_sha256,
            person_id=person_id,
            issued_at=at,
            expires_at=expires_at,
        )
    ]


def revoke(state: KeyState, *, at: datetime) -> list[Event]:
    """Take a key's access away for ever.  Revoking twice changes nothing.

    Raises:
        NotFoundError: there never was such a key in this organization.
    """
    if isinstance(state, Absent):
        raise NotFoundError("no such API key")
    return [ApiKeyRevoked(key_id=state.key_id, revoked_at=at)] if isinstance(state, LiveKey) else []
