"""Memberships: folded purely, found by slug or id, and seen by nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from commands.bus import Principal
from commands.members import add_member, change_member, remove_member
from commands.organizations import bootstrap
from domain.kernel import Event, Sealed, Stream, tag_of
from domain.organizations.events import (
    CoachingEnforcementChanged,
    MemberAdded,
    MemberRemoved,
    MemberRoleChanged,
    OrganizationCreated,
    OrganizationDeleted,
    OrganizationPurged,
    OrganizationRestored,
    OrganizationSlugChanged,
    OrganizationUpdated,
    OwnershipTransferred,
    RoleCreated,
    RoleDeleted,
    RoleUpdated,
    SubjectShredded,
)
from eventstore.database import API_ROLE, WORKER_ROLE, Pool, connect_pool, tenant
from eventstore.mapper import Mapper
from eventstore.port import Meta, Recorded
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing, load_or_create_master_key
from eventstore.settings import Settings
from projections.base import Rows
from projections.members import MEMBERS, ORG_ROLES, PROJECTION, TENANTS, find_membership, organizations_of
from tests.api.house import House

AT = datetime(2026, 11, 20, tzinfo=UTC)
ORG, ANN, BOB, LEAD = uuid4(), uuid4(), uuid4(), uuid4()
STORY: tuple[Event, ...] = (
    OrganizationCreated(organization_id=ORG, slug="acme", name="Acme", owner_id=ANN, created_at=AT),
    MemberAdded(user_id=BOB, permission="developer", org_role="senior", email=Sealed(BOB, box="e"), added_at=AT),
    MemberRoleChanged(
        user_id=BOB,
        permission="admin",
        org_role="junior",
        permission_before="developer",
        org_role_before="senior",
        changed_at=AT,
    ),
    OrganizationUpdated(name="Acme Ltd", settings={"theme": "dark"}, updated_at=AT),
    OrganizationSlugChanged(slug="acme-ltd", before="acme", changed_at=AT),
    CoachingEnforcementChanged(coaching_enforcement="hard", before="soft", changed_at=AT),
    OwnershipTransferred(from_user_id=ANN, to_user_id=BOB, transferred_at=AT),
    RoleCreated(
        role_id=LEAD,
        key="lead",
        level=4,
        custom_name="Lead",
        coaching_mode_enabled=False,
        tools=["Read"],
        created_at=AT,
    ),
    RoleUpdated(role_id=LEAD, key="lead", level=5, custom_name="Lead", coaching_mode_enabled=True, updated_at=AT),
    RoleDeleted(role_id=LEAD, key="lead", deleted_at=AT),
    OrganizationDeleted(deleted_at=AT),
    OrganizationRestored(restored_at=AT),
    SubjectShredded(person_id=BOB, shredded_at=AT),
    MemberRemoved(user_id=ANN, removed_at=AT),
    OrganizationDeleted(deleted_at=AT),
    OrganizationPurged(purged_at=AT),
)


def recorded(position: int, event: Event, org_id: UUID = ORG) -> Recorded:
    return Recorded(
        position=position,
        org_id=org_id,
        stream_id=uuid4(),
        stream=Stream("Organization", str(org_id)),
        version=position,
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


@pytest.mark.parametrize("length", range(1, len(STORY) + 1))
def test_applying_everything_twice_changes_nothing(length: int) -> None:
    for table in (TENANTS, MEMBERS, ORG_ROLES):
        once: list[Any] = list(folded(*STORY[:length]).all(table))
        again = list(folded(*STORY[:length], *STORY[length - 1 : length]).all(table))
        assert once == again


def test_every_row_a_fold_may_change_is_named_first() -> None:
    rows = Rows()
    for position, event in enumerate(STORY, 1):
        one = recorded(position, event)
        rows.clear_dirty()
        PROJECTION.fold(rows, one)
        touched = {(table.name, key) for table, key in PROJECTION.touches(one)}
        assert {(table.name, table.key_of(row)) for table in PROJECTION.tables for row in rows.dirty(table)} <= touched


def test_the_founder_is_an_owner_and_a_member_is_what_was_said_last() -> None:
    rows = folded(*STORY[:7])
    ann, bob, acme = rows.get(MEMBERS, (ORG, ANN)), rows.get(MEMBERS, (ORG, BOB)), rows.get(TENANTS, (ORG,))
    assert ann is not None
    assert bob is not None
    assert acme is not None
    assert (ann.permission, bob.permission, bob.org_role, bob.email_box) == ("admin", "owner", "junior", "e")
    assert (acme.slug, acme.name, acme.coaching_enforcement, acme.settings) == (
        "acme-ltd",
        "Acme Ltd",
        "hard",
        {"theme": "dark"},
    )


def test_an_erased_or_removed_member_leaves_no_personal_data() -> None:
    for end in (SubjectShredded(person_id=BOB, shredded_at=AT), MemberRemoved(user_id=BOB, removed_at=AT)):
        row = folded(*STORY[:2], end).get(MEMBERS, (ORG, BOB))
        assert row is not None
        assert (row.email_box, row.name_box) == (None, None)


@pytest.fixture
async def house(postgres_url: str, master_key_file: Path, tmp_path: Path) -> AsyncIterator[House]:
    worker = await connect_pool(postgres_url, WORKER_ROLE, max_size=2)
    ring = PostgresKeyRing(worker, load_or_create_master_key(master_key_file))
    store = PostgresStore(postgres_url, Mapper(ring), role=WORKER_ROLE, pool=worker)
    await store.start()
    yield House(Settings(database_url=postgres_url, data_dir=str(tmp_path)), store, worker, ring)
    await store.close()
    await worker.close()


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    pool = await connect_pool(postgres_url, API_ROLE, max_size=2)
    yield pool
    await pool.close()


def operator(org_id: UUID) -> Principal:
    return Principal(actor="system:test", org_id=org_id, person_id=UUID(int=0), scopes=frozenset())


async def test_a_membership_is_found_by_slug_and_id_and_only_by_its_user(house: House, pool: Pool) -> None:
    ours, _ = await bootstrap(house.store, slug="ours", name="Ours")
    theirs, _ = await bootstrap(house.store, slug="theirs", name="Theirs")
    await add_member(house.store, operator(ours), BOB, permission="manager", org_role="junior", email="bob@example.com")
    await house.project()
    found = await find_membership(pool, "ours", BOB)
    assert found is not None
    assert (found.org_id, found.slug, found.permission, found.org_role) == (ours, "ours", "manager", "junior")
    assert await find_membership(pool, str(ours).upper(), BOB) == found
    assert await organizations_of(pool, BOB) == [found]
    for name in ("theirs", str(theirs), "nowhere", str(uuid4()), ""):
        assert await find_membership(pool, name, BOB) is None
    assert await find_membership(pool, "ours", uuid4()) is None
    await change_member(house.store, operator(ours), BOB, permission="viewer")
    await house.project()
    found = await find_membership(pool, "ours", BOB)
    assert found is not None
    assert found.permission == "viewer"
    await remove_member(house.store, operator(ours), BOB)
    await house.project()
    assert await find_membership(pool, "ours", BOB) is None
    assert await organizations_of(pool, BOB) == []


async def test_row_security_hides_other_tenants_and_other_users_also_from_a_forgetful_query(
    house: House, pool: Pool
) -> None:
    ours, _ = await bootstrap(house.store, slug="ours", name="Ours")
    theirs, _ = await bootstrap(house.store, slug="theirs", name="Theirs")
    await add_member(house.store, operator(theirs), BOB)
    await house.project()

    async def seen(connection: Any) -> tuple[set[UUID], set[tuple[UUID, UUID]]]:
        tenants = await connection.fetch("SELECT org_id FROM crewkit.tenant")
        members = await connection.fetch("SELECT org_id, user_id FROM crewkit.member")
        return {row["org_id"] for row in tenants}, {(row["org_id"], row["user_id"]) for row in members}

    async with tenant(pool, ours) as connection:
        tenants, members = await seen(connection)
    assert tenants == {ours}
    assert {org_id for org_id, _ in members} == {ours}
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('crewkit.user_id', $1, true)", str(BOB))
        assert await seen(connection) == ({theirs}, {(theirs, BOB)})
    async with pool.acquire() as connection:
        assert await seen(connection) == (set(), set())
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE crewkit.member SET permission = 'owner'")


async def test_a_rebuild_gives_the_same_rows(house: House) -> None:
    ours, _ = await bootstrap(house.store, slug="ours", name="Ours")
    await add_member(house.store, operator(ours), BOB, email="bob@example.com", name="Bob")
    await change_member(house.store, operator(ours), BOB, permission="admin")
    await house.project()
    rows = Rows()
    for one in await house.store.read_all(0, 1_000):
        PROJECTION.fold(rows, one)
    stored = await house.store.pool.fetch("SELECT user_id, permission, email_box FROM crewkit.member")
    assert {tuple(row) for row in stored} == {(row.user_id, row.permission, row.email_box) for row in rows.all(MEMBERS)}
