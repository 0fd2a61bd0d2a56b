"""Who there is: organizations, API keys and people, with the queries that authentication and administration ask."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from domain.kernel import Sealed
from domain.organizations.events import (
    ApiKeyIssued,
    ApiKeyRevoked,
    ApiKeyUsed,
    OrganizationCreated,
    OrganizationDeleted,
    OrganizationPurged,
    OrganizationRestored,
    OrganizationSlugChanged,
    OrganizationUpdated,
    PersonObserved,
    SubjectShredded,
)
from eventstore.database import tenant
from eventstore.port import Recorded
from projections.base import Key, Projection, Rows, Table
from projections.paging import Paging, page_of

KEY_SORTS = {"issued_at": "issued_at", "label": "label", "last_used_at": "last_used_at", "expires_at": "expires_at"}
KEY_TIE = "key_id"


class OrganizationRow(msgspec.Struct):
    """One tenant.  `owner_id` is who founded it; `deleted_at`: none of its keys works."""

    org_id: UUID
    slug: str
    name: str
    owner_id: UUID
    created_at: datetime
    deleted_at: datetime | None = None


class ApiKeyRow(msgspec.Struct):
    """One key.  `scopes` are separated by spaces; `secret_sha256` is hex."""

    key_id: UUID
    org_id: UUID
    label: str
    scopes: str
    secret_sha256: str
    person_id: UUID
    issued_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


class PersonRow(msgspec.Struct):
    """One person.  `email_box` and `name_box` are ciphertext, gone once the person is erased."""

    org_id: UUID
    person_id: UUID
    email_box: str | None = None
    name_box: str | None = None
    observed_at: datetime | None = None
    shredded_at: datetime | None = None


class KeyFound(msgspec.Struct, frozen=True, kw_only=True):
    """What authentication needs to know about a key, and the slug its organization goes by."""

    key_id: UUID
    org_id: UUID
    slug: str
    scopes: frozenset[str]
    secret_sha256: str
    person_id: UUID
    expires_at: datetime | None
    revoked_at: datetime | None


ORGANIZATIONS = Table("organization", OrganizationRow, ("org_id",))
API_KEYS = Table("api_key", ApiKeyRow, ("key_id",))
PEOPLE = Table("person", PersonRow, ("org_id", "person_id"))

# Authentication does not know the tenant yet: a key row is also visible to who names its id (128 random bits).
DDL = """
CREATE TABLE crewkit.organization__g{g} (
    org_id uuid PRIMARY KEY,
    slug text NOT NULL,
    name text NOT NULL,
    owner_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE TABLE crewkit.api_key__g{g} (
    key_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    label text NOT NULL,
    scopes text NOT NULL,
    secret_sha256 text NOT NULL,
    person_id uuid NOT NULL,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_key__g{g}_org ON crewkit.api_key__g{g} (org_id, issued_at DESC);
CREATE POLICY authentication ON crewkit.api_key__g{g} FOR SELECT TO crewkit_api
    USING (key_id = nullif(current_setting('crewkit.key_id', true), '')::uuid);
CREATE TABLE crewkit.person__g{g} (
    org_id uuid NOT NULL,
    person_id uuid NOT NULL,
    email_box text,
    name_box text,
    observed_at timestamptz,
    shredded_at timestamptz,
    PRIMARY KEY (org_id, person_id)
);
"""


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The one row an event is about."""
    match recorded.event:
        case OrganizationCreated(organization_id=organization_id):
            return ((ORGANIZATIONS, (organization_id,)),)
        case (
            OrganizationUpdated()
            | OrganizationSlugChanged()
            | OrganizationDeleted()
            | OrganizationRestored()
            | OrganizationPurged()
        ):
            return ((ORGANIZATIONS, (recorded.org_id,)),)
        case ApiKeyIssued(key_id=key_id) | ApiKeyRevoked(key_id=key_id) | ApiKeyUsed(key_id=key_id):
            return ((API_KEYS, (key_id,)),)
        case PersonObserved(person_id=person_id) | SubjectShredded(person_id=person_id):
            return ((PEOPLE, (recorded.org_id, person_id)),)
        case _:
            return ()


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    match recorded.event:
        case OrganizationCreated() as event:
            _fold_created(rows, event)
        case (
            OrganizationUpdated()
            | OrganizationSlugChanged()
            | OrganizationDeleted()
            | OrganizationRestored()
            | OrganizationPurged()
        ):
            _fold_organization(rows, recorded)
        case ApiKeyIssued() as event:
            _fold_issued(rows, recorded.org_id, event)
        case ApiKeyRevoked() | ApiKeyUsed() as event:
            _fold_key(rows, recorded.org_id, event)
        case PersonObserved() as event:
            _fold_observed(rows, recorded, event)
        case SubjectShredded() as event:
            place = (recorded.org_id, event.person_id)
            person = rows.get(PEOPLE, place) or PersonRow(org_id=recorded.org_id, person_id=event.person_id)
            person.email_box = person.name_box = None
            person.shredded_at = event.shredded_at
            rows.put(PEOPLE, person)
        case _:
            pass


def _fold_created(rows: Rows, event: OrganizationCreated) -> None:
    if rows.get(ORGANIZATIONS, (event.organization_id,)) is None:
        rows.put(
            ORGANIZATIONS,
            OrganizationRow(
                org_id=event.organization_id,
                slug=event.slug,
                name=event.name,
                owner_id=event.owner_id,
                created_at=event.created_at,
            ),
        )


def _fold_organization(rows: Rows, recorded: Recorded) -> None:
    if (row := rows.get(ORGANIZATIONS, (recorded.org_id,))) is None:
        return
    match recorded.event:
        case OrganizationUpdated(name=name):
            row.name = row.name if name is None else name
        case OrganizationSlugChanged(slug=slug):
            row.slug = slug
        case OrganizationDeleted(deleted_at=at) | OrganizationPurged(purged_at=at):
            row.deleted_at = at
        case _:
            row.deleted_at = None
    rows.put(ORGANIZATIONS, row)


def _fold_issued(rows: Rows, org_id: UUID, event: ApiKeyIssued) -> None:
    known = rows.get(API_KEYS, (event.key_id,))
    if known is not None and known.org_id != org_id:
        return  # another tenant's key of the same id can never take this one over
    rows.put(
        API_KEYS,
        ApiKeyRow(
            key_id=event.key_id,
            org_id=org_id,
            label=event.label,
            scopes=" ".join(sorted(event.scopes)),
            secret_sha256=event.secret_sha256,
            person_id=event.person_id,
            issued_at=event.issued_at,
            expires_at=event.expires_at,
            revoked_at=known.revoked_at if known else None,
            last_used_at=known.last_used_at if known else None,
        ),
    )


def _fold_key(rows: Rows, org_id: UUID, event: ApiKeyRevoked | ApiKeyUsed) -> None:
    if (key := rows.get(API_KEYS, (event.key_id,))) is None or key.org_id != org_id:
        return
    if isinstance(event, ApiKeyRevoked):
        key.revoked_at = event.revoked_at
    else:
        key.last_used_at = max(event.used_at, key.last_used_at or event.used_at)
    rows.put(API_KEYS, key)


def _fold_observed(rows: Rows, recorded: Recorded, event: PersonObserved) -> None:
    place = (recorded.org_id, event.person_id)
    person = rows.get(PEOPLE, place) or PersonRow(org_id=recorded.org_id, person_id=event.person_id)
    if person.shredded_at is not None:
        return
    person.email_box = _box(event.email) or person.email_box
    person.name_box = _box(event.name) or person.name_box
    person.observed_at = recorded.recorded_at
    rows.put(PEOPLE, person)


def _box(sealed: Sealed | None) -> str | None:
    return sealed.box if sealed else None


PROJECTION = Projection(
    "directory",
    3,
    tables=(ORGANIZATIONS, API_KEYS, PEOPLE),
    ddl=DDL,
    touches=touches,
    fold=fold,
    reads=(
        OrganizationCreated,
        OrganizationUpdated,
        OrganizationSlugChanged,
        OrganizationDeleted,
        OrganizationRestored,
        OrganizationPurged,
        ApiKeyIssued,
        ApiKeyRevoked,
        ApiKeyUsed,
        PersonObserved,
        SubjectShredded,
    ),
)

_FIND_KEY = """
SELECT key_id, org_id, scopes, secret_sha256, person_id, expires_at, revoked_at FROM crewkit.api_key WHERE key_id = $1
"""
_LIST_KEYS = """
SELECT key_id, org_id, label, scopes, secret_sha256, person_id, issued_at, expires_at, revoked_at, last_used_at
  FROM crewkit.api_key WHERE org_id = $1
"""


_LIST_PEOPLE = """
SELECT org_id, person_id, email_box, name_box, observed_at, shredded_at
  FROM crewkit.person WHERE org_id = $1 AND ($2::uuid IS NULL OR person_id > $2) ORDER BY person_id LIMIT $3
"""


async def list_people(pool: asyncpg.Pool, org_id: UUID, *, after: UUID | None, limit: int) -> list[PersonRow]:
    """People the organization has met, by id; their texts are still closed."""
    async with tenant(pool, org_id) as connection:
        found = await connection.fetch(_LIST_PEOPLE, org_id, after, limit)
    return [PersonRow(**dict(row)) for row in found]


async def find_key(pool: asyncpg.Pool, key_id: UUID) -> KeyFound | None:
    """The key of that id, whichever organization it belongs to; None where there is none (yet), or that one is deleted.

    Raises:
        asyncpg.PostgresError, OSError: the database cannot answer.
    """
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute("SELECT set_config('crewkit.key_id', $1, true)", str(key_id))
        row = await connection.fetchrow(_FIND_KEY, key_id)
        if row is None:
            return None
        await connection.execute("SELECT set_config('crewkit.org_id', $1, true)", str(row["org_id"]))
        found = await connection.fetchrow(
            "SELECT slug, deleted_at FROM crewkit.organization WHERE org_id = $1", row["org_id"]
        )
    if found is not None and found["deleted_at"] is not None:
        return None
    return KeyFound(
        key_id=row["key_id"],
        org_id=row["org_id"],
        slug=found["slug"] if found else str(row["org_id"]),
        scopes=frozenset(row["scopes"].split()),
        secret_sha256=row["secret_sha256"],
        person_id=row["person_id"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )


async def list_keys(pool: asyncpg.Pool, org_id: UUID, paging: Paging) -> tuple[list[ApiKeyRow], int]:
    """A page of the organization's keys, and how many there are."""
    async with tenant(pool, org_id) as connection:
        found, total = await page_of(connection, _LIST_KEYS, (org_id,), paging)
    return [msgspec.convert(dict(row), ApiKeyRow) for row in found], total


async def organization(pool: asyncpg.Pool, org_id: UUID) -> OrganizationRow | None:
    """The organization itself."""
    async with tenant(pool, org_id) as connection:
        row = await connection.fetchrow(
            "SELECT org_id, slug, name, owner_id, created_at, deleted_at FROM crewkit.organization WHERE org_id = $1",
            org_id,
        )
    return msgspec.convert(dict(row), OrganizationRow) if row else None
