"""The end of organizations: 90 days after they were deleted nothing of them can be read, and nothing else is touched."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from commands.exports import FILE_NAMES, key_of, request_file
from commands.members import add_member
from commands.organizations import bootstrap, bootstrap_owner_id
from commands.sessions.consolidation import object_folder
from domain.exports.events import Wishes
from domain.organizations.events import MemberAdded, OrganizationDeleted
from domain.organizations.state import organization_stream
from eventstore.database import WORKER_ROLE, connect_pool
from eventstore.mapper import Mapper
from eventstore.objects import LocalObjects, Objects, ObjectsUnavailableError, open_objects
from eventstore.port import Append, NewEvent
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing, load_or_create_master_key
from eventstore.settings import Settings
from projections import tenants
from projections.directory import find_key
from tests.api.house import House
from tests.projections.test_members import operator
from tests.workers.tally import running
from workers.scheduler import Job, Tools, run_scheduler
from workers.tenancy import purge_organizations

pytestmark = pytest.mark.integration
BOB = UUID(int=5)


@pytest.fixture
async def house(postgres_url: str, tmp_path: Path) -> AsyncIterator[House]:
    worker = await connect_pool(postgres_url, WORKER_ROLE, max_size=2)
    key_file = tmp_path / "master.key"
    ring = PostgresKeyRing(worker, load_or_create_master_key(key_file))
    store = PostgresStore(postgres_url, Mapper(ring), role=WORKER_ROLE, pool=worker)
    await store.start()
    settings = Settings(database_url=postgres_url, data_dir=str(tmp_path), key_file=str(key_file))
    yield House(settings, store, worker, ring)
    await store.close()
    await worker.close()


async def founded(house: House, slug: str) -> UUID:
    org_id, _ = await bootstrap(house.store, slug=slug, name=slug.title())
    await add_member(house.store, operator(org_id), BOB, email=f"bob@{slug}.example")
    return org_id


async def delete(house: House, org_id: UUID, days_ago: int) -> None:
    at = datetime.now(UTC) - timedelta(days=days_ago)
    event = NewEvent(OrganizationDeleted(deleted_at=at))
    await house.store.append(Append(org_id=org_id, stream=organization_stream(org_id), events=[event], expected=2))


async def addresses(house: House, org_id: UUID) -> list[str | None]:
    """What the log still tells about the members, opened with keys as the database has them now."""
    ring = PostgresKeyRing(house.store.pool, load_or_create_master_key(Path(house.settings.key_file or "")))
    boxes = [
        (one.type, one.event.email)
        for one in await house.store.read_all(0, 1_000, org_id=org_id)
        if isinstance(one.event, MemberAdded) and one.event.email is not None
    ]
    return await ring.open_many(org_id, boxes)


async def test_only_what_was_deleted_long_enough_ago_ends_and_then_entirely(house: House) -> None:
    old, young, alive = [await founded(house, slug) for slug in ("old", "young", "alive")]
    objects = open_objects(house.settings)
    kept = {org_id: await stored_export(house, objects, org_id) for org_id in (old, young)}
    items = {org_id: await stored_items(objects, org_id) for org_id in (old, young)}
    await delete(house, old, 91)
    await delete(house, young, 89)
    await house.project()
    pool = house.store.pool
    key_id = await pool.fetchval("SELECT key_id FROM crewkit.api_key WHERE org_id = $1", old)
    await run_once(house)
    await house.project()
    log = await house.store.read_all(0, 1_000)
    assert [(one.org_id, one.meta.actor) for one in log if one.type == "organization.purged.v1"] == [
        (old, "system:scheduler")
    ]
    assert await addresses(house, old) == [None]
    assert await addresses(house, young) == ["bob@young.example"]
    assert await addresses(house, alive) == ["bob@alive.example"]
    for table in ("member", "org_role", "api_key"):
        left = {row[0] for row in await pool.fetch(f"SELECT org_id FROM crewkit.{table}")}
        assert left == {young, alive}
    assert await find_key(pool, key_id) is None
    assert await objects.size(kept[old]) is None, "what was exported is no refuge"
    assert await objects.size(kept[young]) == 4
    assert await objects.size(items[old]) is None, "nor are consolidated items, also where no row knows of them"
    assert await objects.size(items[young]) == 5
    claims = {row[0] for row in await pool.fetch("SELECT key FROM crewkit.claim WHERE scope = 'organization.slug'")}
    assert claims == {"young", "alive"}, "its slug is free"
    assert await purge_organizations(pool, house.store, objects) == 0, "nothing is left to do"
    assert bootstrap_owner_id(old) not in {row[0] for row in await pool.fetch("SELECT user_id FROM crewkit.member")}


async def stored_export(house: House, objects: Objects, org_id: UUID) -> str:
    """The key of a file that somebody asked for and a worker stored."""
    wishes = Wishes(format="duckdb", partition="none", tables=[])
    export_id, _ = await request_file(house.store, operator(org_id), wishes)
    key = key_of(org_id, export_id, FILE_NAMES["duckdb"])
    await objects.put(key, io.BytesIO(b"rows"))
    return key


async def stored_items(objects: Objects, org_id: UUID) -> str:
    """The key of an object with items of a conversation."""
    key = f"{object_folder(org_id, 'conversation')}/000001-main-{'0' * 64}.jsonl.gz"
    await objects.put(key, io.BytesIO(b"items"))
    return key


class Unreachable(LocalObjects):
    """An object store that is away."""

    async def keys(self, prefix: str) -> list[str]:
        raise ObjectsUnavailableError(prefix)


async def test_an_object_store_that_is_away_keeps_no_key_alive(house: House, tmp_path: Path) -> None:
    old = await founded(house, "old")
    objects = open_objects(house.settings)
    items = await stored_items(objects, old)
    await delete(house, old, 91)
    await house.project()
    assert await purge_organizations(house.store.pool, house.store, Unreachable(tmp_path)) > 0
    assert await addresses(house, old) == [None]
    await house.project()
    assert await objects.size(items) == 5
    assert await purge_organizations(house.store.pool, house.store, objects) > 0
    assert await objects.size(items) is None, "the next run finds it"


async def test_what_is_left_of_one_that_ended_long_ago_goes_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given many that ended since, when an object of the first one turns up, then some run finds it."""
    monkeypatch.setattr(tenants, "PURGES_MAX", 1)
    objects = open_objects(house.settings)
    ended = [await founded(house, slug) for slug in ("first", "second", "third")]
    for days_ago, org_id in zip((93, 92, 91), ended, strict=True):
        await delete(house, org_id, days_ago)
    for _ in ended:
        await house.project()
        assert await purge_organizations(house.store.pool, house.store, objects) > 0
    await house.project()
    items = await stored_items(objects, ended[0])
    for _ in range(200):  # each run draws one of three: a miss of all is less likely than 1 in 10^35
        await purge_organizations(house.store.pool, house.store, objects)
        if await objects.size(items) is None:
            return
    raise AssertionError("nobody looked at the first one any more")


async def run_once(house: House) -> None:
    """One run of the job by the scheduler itself."""
    done = asyncio.Event()

    async def run(tools: Tools) -> int:
        count = await purge_organizations(tools.pool, tools.store, tools.objects)
        done.set()
        return count

    async with running(run_scheduler(house.settings, jobs=[Job("purge", 60.0, run)])), asyncio.timeout(20):
        await done.wait()
