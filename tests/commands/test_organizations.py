"""Organizations and API keys: founding, issuing, revoking."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from commands.bus import transact
from commands.organizations import (
    bootstrap,
    bootstrap_id,
    bootstrap_owner_id,
    issue_key,
    key_hash,
    key_id_of,
    new_key,
    revoke_key,
)
from domain.kernel import NotFoundError
from domain.organizations import decide
from domain.organizations.decide import RESERVED_SLUGS, InvalidFieldError, check_slug
from domain.organizations.events import ApiKeyIssued, ApiKeyRevoked, OrganizationCreated
from eventstore.memory import MemoryStore
from eventstore.port import Claim, Meta, NameTakenError

AT = datetime(2026, 11, 20, tzinfo=UTC)


async def test_bootstrapping_founds_once_and_tells_the_key_once() -> None:
    store = MemoryStore()
    org_id, key = await bootstrap(store)
    assert org_id == bootstrap_id("default")
    assert key is not None
    created, issued = [recorded.event for recorded in await store.read_all(0, org_id=org_id)]
    assert isinstance(created, OrganizationCreated)
    assert isinstance(issued, ApiKeyIssued)
    assert issued.scopes == ["audit", "ingest", "read"]
    assert issued.secret_sha256 == key_hash(key)
    assert issued.person_id == created.owner_id == bootstrap_owner_id(org_id)
    assert await bootstrap(store) == (org_id, None)
    assert await store.head() == 2


async def test_a_bootstrap_that_died_half_way_is_finished_by_the_next() -> None:
    store = MemoryStore()
    org_id, key = await bootstrap(store)
    half = MemoryStore()
    created = (await store.read_all(0, org_id=org_id))[0].event
    assert isinstance(created, OrganizationCreated)
    await transact(
        half,
        org_id,
        decide.organization_stream(org_id),
        decide.evolve_organization,
        decide.NO_ORGANIZATION,
        lambda _: [created],
        meta=Meta(),
    )
    again, told = await bootstrap(half)
    assert again == org_id
    assert told is not None
    assert told != key


async def test_a_slug_belongs_to_one_organization() -> None:
    store, other = MemoryStore(), uuid4()
    await transact(
        store,
        other,
        decide.organization_stream(other),
        decide.evolve_organization,
        decide.NO_ORGANIZATION,
        lambda state: decide.create(state, organization_id=other, slug="acme", name="A", owner_id=uuid4(), at=AT),
        meta=Meta(),
        claims=[Claim("organization.slug", "acme")],
    )
    with pytest.raises(NameTakenError):
        await bootstrap(store, slug="acme", name="Acme")


async def test_the_key_is_nowhere_in_the_store_and_works_until_revoked() -> None:
    store, org, person = MemoryStore(), uuid4(), uuid4()
    key = await issue_key(store, org, person, "ci", ["ingest"])
    key_id = key_id_of(key)
    assert key_id is not None
    assert all(key.encode() not in recorded.data for recorded in await store.read_all(0, org_id=org))
    assert await revoke_key(store, org, key_id) == 2
    assert await revoke_key(store, org, key_id) is None
    with pytest.raises(NotFoundError):
        await revoke_key(store, uuid4(), key_id)


def test_key_texts_are_recognised_strictly() -> None:
    key_id = uuid4()
    assert key_id_of(new_key(key_id)) == key_id
    for odd in ("", "ck_", new_key(key_id) + "\n", new_key(key_id).upper(), new_key(key_id)[:-1]):
        assert key_id_of(odd) is None


@pytest.mark.parametrize(
    "slug", ["", "-a", "a-", "A", "a b", "ü", "a" * 64, "7f0c3b9e-9a4d-4a55-8a52-3f1c2a7be001", *sorted(RESERVED_SLUGS)]
)
def test_slugs_that_could_not_stand_in_a_path_are_refused(slug: str) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        check_slug(slug)
    assert refused.value.details["field"] == "slug"


def test_what_cannot_be_issued_names_its_field() -> None:
    good = {"key_id": uuid4(), "label": "x", "secret_sha256": "0", "person_id": uuid4(), "at": AT}
    for field, wish in (
        ("scopes", {**good, "scopes": []}),
        ("scopes", {**good, "scopes": ["read", "root"]}),
        ("label", {**good, "scopes": ["read"], "label": ""}),
        ("expires_at", {**good, "scopes": ["read"], "expires_at": AT - timedelta(seconds=1)}),
    ):
        with pytest.raises(InvalidFieldError) as refused:
            decide.issue(decide.NO_KEY, **wish)
        assert refused.value.details["field"] == field


def test_a_revoked_key_stays_revoked() -> None:
    key_id = uuid4()
    dead = decide.evolve_key(decide.LiveKey(key_id), ApiKeyRevoked(key_id=key_id, revoked_at=AT))
    assert decide.revoke(dead, at=AT) == []
