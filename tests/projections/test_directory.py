"""The directory: organizations, keys and people, folded purely and asked by authentication."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from domain.kernel import Event, Sealed, Stream, tag_of
from domain.organizations.events import (
    ApiKeyIssued,
    ApiKeyRevoked,
    OrganizationCreated,
    PersonObserved,
    SubjectShredded,
)
from eventstore.port import Meta, Recorded
from projections.base import Rows
from projections.directory import API_KEYS, ORGANIZATIONS, PEOPLE, PROJECTION

AT = datetime(2026, 11, 20, tzinfo=UTC)
ORG, KEY, PERSON = uuid4(), uuid4(), uuid4()
ISSUED = ApiKeyIssued(
    key_id=KEY, label="ci", scopes=["read", "ingest"], secret_sha256="ab", person_id=PERSON, issued_at=AT
)
REVOKED = ApiKeyRevoked(key_id=KEY, revoked_at=AT)
SEEN = PersonObserved(person_id=PERSON, email=Sealed(PERSON, box="e"), name=Sealed(PERSON, box="n"))


def recorded(position: int, event: Event, org_id: UUID = ORG) -> Recorded:
    return Recorded(
        position=position,
        org_id=org_id,
        stream_id=uuid4(),
        stream=Stream("X", "1"),
        version=1,
        type=tag_of(type(event)),
        event_id=uuid4(),
        recorded_at=AT,
        data=b"{}",
        meta=Meta(),
        event=event,
    )


def folded(*events: Event, times: int = 1) -> Rows:
    rows = Rows()
    for _ in range(times):
        for position, event in enumerate(events, 1):
            PROJECTION.fold(rows, recorded(position, event))
    return rows


def test_applying_everything_twice_changes_nothing() -> None:
    founded = OrganizationCreated(organization_id=ORG, slug="acme", name="Acme", owner_id=PERSON, created_at=AT)
    story = (founded, ISSUED, SEEN, REVOKED, SubjectShredded(person_id=PERSON, shredded_at=AT))
    once, twice = folded(*story), folded(*story, times=2)
    for table in (ORGANIZATIONS, API_KEYS, PEOPLE):
        assert list(once.all(table)) == list(twice.all(table))


def test_a_revoked_key_is_not_revived_by_its_issue_told_again() -> None:
    key: Any = folded(ISSUED, REVOKED, ISSUED).get(API_KEYS, (KEY,))
    assert key.revoked_at == AT
    assert key.scopes == "ingest read"


def test_another_tenant_can_neither_take_over_nor_revoke_a_key() -> None:
    rows = folded(ISSUED)
    PROJECTION.fold(rows, recorded(2, ISSUED, uuid4()))
    PROJECTION.fold(rows, recorded(3, REVOKED, uuid4()))
    key: Any = rows.get(API_KEYS, (KEY,))
    assert (key.org_id, key.revoked_at) == (ORG, None)


def test_an_erased_person_stays_erased_whatever_is_told_later() -> None:
    person: Any = folded(SEEN, SubjectShredded(person_id=PERSON, shredded_at=AT), SEEN).get(PEOPLE, (ORG, PERSON))
    assert (person.email_box, person.name_box, person.shredded_at) == (None, None, AT)


def test_every_row_a_fold_may_change_is_named_first() -> None:
    for event in (ISSUED, REVOKED, SEEN):
        one = recorded(1, event)
        touched = {(table.name, key) for table, key in PROJECTION.touches(one)}
        rows = Rows()
        PROJECTION.fold(rows, one)
        changed = {(table.name, table.key_of(row)) for table in PROJECTION.tables for row in rows.dirty(table)}
        assert changed <= touched
