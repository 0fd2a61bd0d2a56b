"""Facts about organizations, their owners and API keys."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.kernel import Event, Sealed


class OrganizationCreated(Event, frozen=True, kw_only=True, tag="organization.created.v1"):
    """A tenant came to be.  `slug` is unique across the installation."""

    organization_id: UUID
    slug: str
    name: str
    owner_id: UUID
    created_at: datetime


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


class PersonObserved(Event, frozen=True, kw_only=True, tag="person.observed.v1"):
    """We learnt who works behind a person id.  The id is a keyed hash of the e-mail, so the id itself tells nothing."""

    person_id: UUID
    email: Sealed | None = None
    name: Sealed | None = None


class SubjectShredded(Event, frozen=True, kw_only=True, tag="subject.shredded.v1"):
    """A person's key was destroyed: everything sealed for `person_id` is unreadable, here and in every copy."""

    person_id: UUID
    shredded_at: datetime
