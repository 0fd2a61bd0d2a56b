"""Found organizations, issue and revoke API keys."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4, uuid5

import msgspec

from commands.bus import transact
from domain.kernel import DomainError, fact_id
from domain.organizations import decide
from domain.organizations.events import ApiKeyIssued, ApiKeyUsed
from eventstore.port import Append, Claim, EventStore, Meta, NewEvent

SLUG_CLAIM = "organization.slug"
BOOTSTRAP_SCOPES = ("ingest", "read", "audit")

# Names of the installation's own organizations: bootstrapping twice must mean the same one.
_BOOTSTRAP = UUID("6c1c2a52-0c8f-5d0e-9a55-1d7f2b8f3c11")
_KEY = re.compile(r"ck_([0-9a-f]{32})_[A-Za-z0-9_-]{43}")


class KeyIssued(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is told this once; only its hash is kept.  `position` can be given back as `Crewkit-After`."""

    key_id: UUID
    key: str
    scopes: list[str]
    issued_at: datetime
    position: int


class KeyKnown(msgspec.Struct, frozen=True, kw_only=True):
    """What a repeat of a wish is told: the key that the first one made, never its text."""

    key_id: UUID
    scopes: list[str]
    issued_at: datetime
    position: int


class KeyDiffersError(DomainError):
    """The same idempotency key came with another wish."""

    code = "conflict"


def new_key(key_id: UUID) -> str:
    """Key text `ck_<id>_<secret>` with 256 random bits in the secret."""
    return f"ck_{key_id.hex}_{secrets.token_urlsafe(32)}"


def key_id_of(key: str) -> UUID | None:
    """The id inside a well-formed key text, else None."""
    found = _KEY.fullmatch(key)
    return UUID(found[1]) if found else None


def key_hash(key: str) -> str:
    """What is stored of a key: SHA-256 of its whole text, hex.  Enough, because the secret has 256 random bits."""
    return hashlib.sha256(key.encode()).hexdigest()


def bootstrap_id(slug: str) -> UUID:
    """The id of the organization that `bootstrap` founds for `slug`."""
    return uuid5(_BOOTSTRAP, slug)


def bootstrap_owner_id(org_id: UUID) -> UUID:
    """The person id of a bootstrapped organization's owner."""
    return uuid5(org_id, "owner")


async def bootstrap(store: EventStore, *, slug: str = "default", name: str = "Default") -> tuple[UUID, str | None]:
    """Found the installation's organization with its owner and a first key; safe to repeat, also after a crash half-way.

    Returns the organization's id and the key, or None where the key was issued (and told) before.

    Raises:
        NameTakenError: another organization holds the slug.
        InvalidFieldError: slug or name cannot be accepted.
    """
    org_id = bootstrap_id(slug)
    owner_id = bootstrap_owner_id(org_id)
    at = datetime.now(UTC)
    meta = Meta(actor="system:bootstrap")
    await transact(
        store,
        org_id,
        decide.organization_stream(org_id),
        decide.evolve_organization,
        decide.NO_ORGANIZATION,
        lambda state: decide.create(state, organization_id=org_id, slug=slug, name=name, owner_id=owner_id, at=at),
        meta=meta,
        claims=[Claim(SLUG_CLAIM, slug)],
    )
    issued = await _issue(
        store,
        org_id,
        uuid5(org_id, "bootstrap key"),
        owner_id,
        "bootstrap",
        BOOTSTRAP_SCOPES,
        meta=meta,
        expires_at=None,
    )
    return org_id, issued.key if issued else None


async def issue_key(
    store: EventStore,
    org_id: UUID,
    person_id: UUID,
    label: str,
    scopes: Sequence[str],
    *,
    expires_at: datetime | None = None,
    meta: Meta | None = None,
) -> str:
    """Make a key that acts for `person_id` and return its text, which is told this once.

    Raises:
        InvalidFieldError: label, scopes or expiry cannot be accepted.
    """
    return (await issue(store, org_id, person_id, label, scopes, expires_at=expires_at, meta=meta)).key


async def issue(
    store: EventStore,
    org_id: UUID,
    person_id: UUID,
    label: str,
    scopes: Sequence[str],
    *,
    expires_at: datetime | None = None,
    meta: Meta | None = None,
) -> KeyIssued:
    """As `issue_key`, with everything an answer shows.

    Raises:
        InvalidFieldError: label, scopes or expiry cannot be accepted.
    """
    used = meta or Meta(actor="system:operator")
    issued = await _issue(store, org_id, uuid4(), person_id, label, scopes, meta=used, expires_at=expires_at)
    if issued is None:  # a random id met an existing one
        raise AssertionError("a fresh key id exists already")
    return issued


async def issue_once(
    store: EventStore,
    org_id: UUID,
    person_id: UUID,
    label: str,
    scopes: Sequence[str],
    *,
    idempotency_key: str,
    expires_at: datetime | None = None,
    meta: Meta | None = None,
) -> KeyIssued | KeyKnown:
    """As `issue`, at most once per organization and `idempotency_key`.

    Raises:
        InvalidFieldError: label, scopes or expiry cannot be accepted.
        KeyDiffersError: the first wish of that key asked for something else.
    """
    key_id = uuid5(org_id, f"api key {hashlib.sha256(idempotency_key.encode()).hexdigest()}")
    used = meta or Meta(actor="system:operator")
    issued = await _issue(store, org_id, key_id, person_id, label, scopes, meta=used, expires_at=expires_at)
    if issued is not None:
        return issued
    first = (await store.read_stream(org_id, decide.key_stream(key_id), after=0, limit=1))[0]
    told = first.event
    if not isinstance(told, ApiKeyIssued):
        raise TypeError("the stream of a key begins with its issue")
    if (told.label, told.scopes, told.person_id, told.expires_at) != (
        label,
        sorted(set(scopes)),
        person_id,
        expires_at,
    ):
        raise KeyDiffersError("this Idempotency-Key was used for another API key", field="Idempotency-Key")
    return KeyKnown(key_id=key_id, scopes=told.scopes, issued_at=told.issued_at, position=first.position)


async def revoke_key(store: EventStore, org_id: UUID, key_id: UUID, *, meta: Meta | None = None) -> int | None:
    """Stop a key for ever; the position of the fact, or None where it was revoked already.

    Raises:
        NotFoundError: the organization has no such key.
    """
    at = datetime.now(UTC)
    outcome = await transact(
        store,
        org_id,
        decide.key_stream(key_id),
        decide.evolve_key,
        decide.NO_KEY,
        lambda state: decide.revoke(state, at=at),
        meta=meta or Meta(actor="system:operator"),
    )
    return outcome.position if outcome else None


async def note_key_used(store: EventStore, org_id: UUID, key_id: UUID, at: datetime) -> None:
    """Tell that a key worked; within one hour the first telling counts."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    stream = decide.key_stream(key_id)
    fact = NewEvent(ApiKeyUsed(key_id=key_id, used_at=hour), fact_id(stream.uuid(org_id), f"used|{hour.isoformat()}"))
    await store.append(
        Append(org_id=org_id, stream=stream, events=[fact], facts=True, meta=Meta(actor="system:key-use"))
    )


async def _issue(
    store: EventStore,
    org_id: UUID,
    key_id: UUID,
    person_id: UUID,
    label: str,
    scopes: Sequence[str],
    *,
    meta: Meta,
    expires_at: datetime | None,
) -> KeyIssued | None:
    key = new_key(key_id)
    at = datetime.now(UTC)
    outcome = await transact(
        store,
        org_id,
        decide.key_stream(key_id),
        decide.evolve_key,
        decide.NO_KEY,
        lambda state: decide.issue(
            state,
            key_id=key_id,
            label=label,
            scopes=scopes,
            secret_sha256=key_hash(key),
            person_id=person_id,
            at=at,
            expires_at=expires_at,
        ),
        meta=meta,
    )
    if outcome is None:
        return None
    return KeyIssued(key_id=key_id, key=key, scopes=sorted(set(scopes)), issued_at=at, position=outcome.position)
