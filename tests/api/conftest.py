"""The application over a real, migrated Postgres, with read models folded by the real projector engine on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

import projections
from api.app import create_app
from commands.organizations import bootstrap, issue_key
from domain.discover import collect
from eventstore.database import WORKER_ROLE, connect_pool
from eventstore.mapper import Mapper
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing, load_or_create_master_key
from eventstore.settings import Settings
from projections.base import Projection
from tests.api.house import EVERY_SCOPE, House, Live, Place, serving
from tests.databases import copy_of, create, database, run_aside
from workers.projector.control import register


async def _place(store: PostgresStore, slug: str) -> Place:
    org_id, first = await bootstrap(store, slug=slug, name=slug.title())
    place = Place(org_id, slug)
    assert first is not None
    place.keys["first"] = first
    for scope in EVERY_SCOPE:
        place.keys[scope] = await issue_key(store, org_id, place.owner_id, scope, [scope])
    place.keys["all"] = await issue_key(store, org_id, place.owner_id, "all", EVERY_SCOPE)
    return place


_TEMPLATE = "crewkit_read_models"


async def _make_read_models(url: str) -> None:
    async with await connect_pool(url, WORKER_ROLE, max_size=1) as pool:
        for projection in collect(projections, Projection):
            await register(pool, projection)


@pytest.fixture(scope="session")
def read_models_template(postgres_server: str, postgres_template: str) -> str:
    """Name of a migrated database in which every projection has its empty tables: making them takes a second."""
    create(postgres_server, _TEMPLATE, postgres_template)
    run_aside(_make_read_models(database(postgres_server, _TEMPLATE)))
    return _TEMPLATE


@pytest.fixture
def postgres_url(postgres_server: str, read_models_template: str) -> Iterator[str]:
    """URL of a fresh database for one test, with all read models empty."""
    with copy_of(postgres_server, read_models_template) as url:
        yield url


@pytest.fixture
def settings(postgres_url: str, master_key_file: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url, key_file=str(master_key_file), data_dir=str(tmp_path), read_after_wait_s=0.2
    )


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    url = settings.database_url or ""
    worker = await connect_pool(url, WORKER_ROLE, max_size=2)
    ring = PostgresKeyRing(worker, load_or_create_master_key(Path(settings.key_file or "")))
    store = PostgresStore(url, Mapper(ring), role=WORKER_ROLE, pool=worker)
    await store.start()
    house = House(settings, store, worker, ring)
    house.ours = await _place(store, "default")
    house.theirs = await _place(store, "other")
    await house.project()
    yield house
    await store.close()
    await worker.close()


@pytest.fixture
def app(settings: Settings, house: House) -> Litestar:
    return create_app(settings)


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[AsyncTestClient[Litestar]]:
    async with AsyncTestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
async def live(app: Litestar) -> AsyncIterator[Live]:
    async with serving(app) as live:
        yield live


@pytest.fixture
async def http(live: Live) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=live.url, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def recordings() -> Path:
    return Path(__file__).parents[1] / "recordings"
