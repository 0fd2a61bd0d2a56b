"""Who was coached when, from the history of members and working roles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from domain.kernel import Event, Stream, fact_id, tag_of
from domain.organizations.events import (
    MemberAdded,
    MemberRemoved,
    MemberRoleChanged,
    OrganizationCreated,
    RoleCreated,
    RoleDeleted,
    RoleUpdated,
)
from eventstore.port import Meta, Recorded
from projections.base import Rows
from projections.coaching import MEMBER_SPANS, PROJECTION, ROLE_SPANS, Coaching

ORG, OWNER, ANNA = UUID(int=1), UUID(int=2), UUID(int=3)
START = datetime(2026, 1, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    return START + timedelta(days=number)


def changed(role: str, before: str, at: datetime) -> MemberRoleChanged:
    return MemberRoleChanged(
        user_id=ANNA,
        permission="developer",
        org_role=role,
        permission_before="developer",
        org_role_before=before,
        changed_at=at,
    )


EVENTS: list[Event] = [
    OrganizationCreated(organization_id=ORG, slug="o", name="O", owner_id=OWNER, created_at=START),
    MemberAdded(user_id=ANNA, permission="developer", org_role="junior", added_at=day(1)),
    changed("senior", "junior", day(10)),
    RoleCreated(
        role_id=UUID(int=9), key="lead", level=2, custom_name="Lead", coaching_mode_enabled=True, created_at=day(15)
    ),
    changed("lead", "senior", day(20)),
    RoleUpdated(
        role_id=UUID(int=9), key="lead", level=2, custom_name="Lead", coaching_mode_enabled=False, updated_at=day(30)
    ),
    changed("junior", "lead", day(40)),
    RoleDeleted(role_id=UUID(int=9), key="lead", deleted_at=day(41)),
    MemberRemoved(user_id=ANNA, removed_at=day(50)),
]


def folded(*, twice: bool = False) -> Rows:
    rows = Rows()
    stream = Stream("Organization", str(ORG))
    for position, event in enumerate(EVENTS, 1):
        recorded = Recorded(
            position=position,
            org_id=ORG,
            stream_id=stream.uuid(ORG),
            stream=stream,
            version=position,
            type=tag_of(type(event)),
            event_id=fact_id(stream.uuid(ORG), str(position)),
            recorded_at=START,
            data=b"{}",
            meta=Meta(),
            event=event,
        )
        for _ in range(1 + twice):
            PROJECTION.fold(rows, recorded)
    return rows


def coaching(rows: Rows) -> Coaching:
    members = sorted((row.since, row.user_id, row.org_role) for row in rows.all(MEMBER_SPANS))
    roles = sorted((row.since, row.role_key, row.coaching) for row in rows.all(ROLE_SPANS))
    return Coaching(
        [(user, since, role) for since, user, role in members], [(key, since, on) for since, key, on in roles]
    )


@pytest.mark.parametrize(
    ("person", "at", "expected"),
    [
        (ANNA, day(0), None),
        (ANNA, day(1), True),
        (ANNA, day(9), True),
        (ANNA, day(10), False),
        (ANNA, day(25), True),
        (ANNA, day(30), False),
        (ANNA, day(45), True),
        (ANNA, day(50), None),
        (OWNER, day(25), False),
        (UUID(int=77), day(25), None),
        (None, day(25), None),
        (ANNA, None, None),
    ],
)
def test_the_role_of_the_moment_decides(person: UUID | None, at: datetime | None, expected: bool | None) -> None:
    assert coaching(folded()).of(person, at) is expected
    assert coaching(folded(twice=True)).of(person, at) is expected
