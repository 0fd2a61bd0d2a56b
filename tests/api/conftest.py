"""The application over a real, migrated Postgres, with read models folded by the real projector engine on demand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

import projections
from api.app import create_app
from commands.organizations import bootstrap, bootstrap_owner_id, issue_key
from domain.discover import collect
from eventstore.database import WORKER_ROLE, connect_pool
from eventstore.mapper import Mapper
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing, load_or_create_master_key
from eventstore.settings import Settings
from projections.base import Projection
from projections.tables import describe_all
from workers.projector.control import advance, register
from workers.projector.engine import Engine, OpenedTexts

EVERY_SCOPE = ("ingest", "read", "audit", "admin")


class Place:
    """One organization and its keys."""

    def __init__(self, org_id: UUID, slug: str) -> None:
        self.org_id = org_id
        self.slug = slug
        self.owner_id = bootstrap_owner_id(org_id)
        self.keys: dict[str, str] = {}

    @property
    def base(self) -> str:
        return f"/api/v1/{self.slug}"

    def headers(self, key: str = "all") -> dict[str, str]:
        return {"X-API-Key": self.keys[key]}


class House:
    """A database with two organizations, a store to append with, and projections that run when told to."""

    def __init__(self, settings: Settings, store: PostgresStore, worker: Any, ring: Any) -> None:
        self.settings = settings
        self.store = store
        self.ring = ring
        self.ours = Place(UUID(int=0), "")
        self.theirs = Place(UUID(int=0), "")
        self._worker = worker

    async def project(self) -> int:
        """Fold everything that is not folded yet, by every projection; the position reached."""
        reader = PostgresStore(
            self.settings.database_url or "", Mapper(self.ring), role=WORKER_ROLE, pool=self._worker
        )
        head = await reader.head()
        for bare in collect(projections, Projection):
            texts = OpenedTexts(self.ring)
            projection = bare.bound(texts)
            standing = await register(self._worker, projection)
            async with self._worker.acquire() as connection, connection.transaction():
                stored = await describe_all(connection, projection, standing.generation)
                engine = Engine(projection, stored, texts)
                position = standing.position
                while page := await reader.read_all(position, 1_000, until=head):
                    await engine.fold(page, connection)
                    await engine.write(connection)
                    engine.committed()
                    assert await advance(connection, projection.name, standing.generation, position, page[-1].position)
                    position = page[-1].position
        return head


async def _place(store: PostgresStore, slug: str) -> Place:
    org_id, first = await bootstrap(store, slug=slug, name=slug.title())
    place = Place(org_id, slug)
    assert first is not None
    place.keys["first"] = first
    for scope in EVERY_SCOPE:
        place.keys[scope] = await issue_key(store, org_id, place.owner_id, scope, [scope])
    place.keys["all"] = await issue_key(store, org_id, place.owner_id, "all", EVERY_SCOPE)
    return place


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


class Live:
    """The application behind a real uvicorn on loopback."""

    def __init__(self, url: str, app: Litestar) -> None:
        self.url = url
        self.app = app


@contextlib.asynccontextmanager
async def serving(app: Litestar) -> AsyncIterator[Live]:
    """Run uvicorn in this loop until the block ends."""
    import uvicorn

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on", ws="none")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]  the test's signals are not the server's
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), task.exception()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Live(f"http://127.0.0.1:{port}", app)
    finally:
        app.state.services.hub.close()
        server.should_exit = True
        await task


@pytest.fixture
async def live(app: Litestar) -> AsyncIterator[Live]:
    async with serving(app) as live:
        yield live


@pytest.fixture
async def http(live: Live) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=live.url, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def recordings() -> Iterator[Path]:
    return Path(__file__).parents[1] / "recordings"


def hook(session_id: str, kind: str = "UserPromptSubmit", **fields: Any) -> dict[str, Any]:
    """A hook payload as Claude sends it."""
    return {"session_id": session_id, "hook_event_name": kind, "cwd": "/work", **fields}


def body(value: Any) -> bytes:
    return msgspec.json.encode(value)
