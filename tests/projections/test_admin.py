"""The register of organizations: folded purely, and a table of the platform's alone."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import pytest

from domain.kernel import PLATFORM, Event, Stream, tag_of
from domain.organizations.events import (
    OrganizationCreated,
    OrganizationDeleted,
    OrganizationPurged,
    OrganizationRestored,
    OrganizationSlugChanged,
    OrganizationUpdated,
)
from domain.projects.events import ProjectCreated, ProjectDeleted, ProjectPurged, ProjectRestored
from eventstore.port import Meta, Recorded
from projections.admin.register import PROJECTION, PROJECTS, REGISTER, RegisterRow
from projections.base import Rows

AT = datetime(2026, 11, 20, tzinfo=UTC)
ORG = uuid4()
STORY: tuple[Event, ...] = (
    OrganizationCreated(organization_id=ORG, slug="acme", name="Acme", owner_id=uuid4(), created_at=AT),
    OrganizationUpdated(name="Acme Ltd", updated_at=AT),
    OrganizationUpdated(region="eu", updated_at=AT),
    OrganizationSlugChanged(slug="acme-ltd", before="acme", changed_at=AT),
    OrganizationDeleted(deleted_at=AT),
    OrganizationRestored(restored_at=AT),
    OrganizationDeleted(deleted_at=AT),
    OrganizationPurged(purged_at=AT),
)
APP = uuid4()
PROJECT: tuple[Event, ...] = (
    ProjectCreated(project_id=APP, slug="app", name="App", git_remotes=[], created_at=AT),
    ProjectDeleted(project_id=APP, deleted_at=AT),
    ProjectRestored(project_id=APP, restored_at=AT),
    ProjectDeleted(project_id=APP, deleted_at=AT),
    ProjectPurged(project_id=APP, purged_at=AT),
)


def recorded(position: int, event: Event) -> Recorded:
    return Recorded(
        position=position,
        org_id=ORG,
        stream_id=uuid4(),
        stream=Stream("Organization", str(ORG)),
        version=position,
        type=tag_of(type(event)),
        event_id=uuid4(),
        recorded_at=AT,
        data=b"{}",
        meta=Meta(),
        event=event,
    )


def folded(*events: Event) -> RegisterRow:
    rows = Rows()
    for position, event in enumerate(events, 1):
        one = recorded(position, event)
        PROJECTION.fold(rows, one)
        assert {table.name for table, _ in PROJECTION.touches(one)} == {REGISTER.name}
    row = rows.get(REGISTER, (ORG,))
    assert row is not None
    return row


@pytest.mark.parametrize("length", range(1, len(STORY) + 1))
def test_applying_an_event_twice_changes_nothing(length: int) -> None:
    assert folded(*STORY[:length]) == folded(*STORY[:length], STORY[length - 1])


def test_the_register_says_what_became_of_an_organization() -> None:
    assert (folded(*STORY[:4]).slug, folded(*STORY[:4]).name, folded(*STORY[:4]).region) == (
        "acme-ltd",
        "Acme Ltd",
        "eu",
    )
    assert [folded(*STORY[:length]).status for length in (1, 5, 6, 8)] == ["active", "deleted", "active", "purged"]
    assert folded(*STORY).name == "", "its name went with it"
    assert folded(*STORY).org_id == PLATFORM


def test_what_was_never_founded_is_not_registered() -> None:
    rows = Rows()
    PROJECTION.fold(rows, recorded(1, STORY[1]))
    assert list(rows.all(REGISTER)) == []


@pytest.mark.parametrize("length", range(1, len(PROJECT) + 1))
def test_a_project_is_found_in_whatever_state_and_never_changes_hands(length: int) -> None:
    rows, other = Rows(), uuid4()
    for position, event in enumerate([*PROJECT[:length], PROJECT[length - 1]], 1):
        one = recorded(position, event)
        PROJECTION.fold(rows, one)
        assert list(PROJECTION.touches(one)) == [(PROJECTS, (APP,))]
        foreign = msgspec.structs.replace(one, org_id=other)
        PROJECTION.fold(rows, foreign)
    (row,) = rows.all(PROJECTS)
    states = ("active", "deleted", "active", "deleted", "purged")
    assert (row.tenant_id, row.org_id, row.status) == (ORG, PLATFORM, states[length - 1])
