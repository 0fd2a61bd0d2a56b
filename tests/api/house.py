"""The pieces the API tests are made of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import uvicorn
from litestar import Litestar

import projections
from commands.organizations import bootstrap, bootstrap_owner_id, issue_key
from commands.tokens import AccessTokens, SigningKeys, Tools
from domain.discover import collect
from eventstore.database import WORKER_ROLE, connect_pool
from eventstore.mapper import Mapper
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing, load_or_create_master_key
from eventstore.settings import Settings, public_url
from projections.base import Projection
from projections.tables import describe_all
from workers.projector.control import advance, register
from workers.projector.engine import Engine, OpenedTexts

_described: dict[tuple[str, int, int], Any] = {}
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
        self.tools = Tools(store, ring, b"secret", AccessTokens(SigningKeys(store, ring), public_url(settings)))
        self.ours = Place(UUID(int=0), "")
        self.theirs = Place(UUID(int=0), "")
        self._worker = worker
        self._folding = asyncio.Lock()

    async def project(self) -> int:
        """Fold everything that is not folded yet, by every projection; the position reached."""
        async with self._folding:
            return await self._project()

    async def _project(self) -> int:
        reader = PostgresStore(self.settings.database_url or "", Mapper(self.ring), role=WORKER_ROLE, pool=self._worker)
        head = await reader.head()
        for bare in collect(projections, Projection):
            texts = OpenedTexts(self.ring)
            projection = bare.bound(texts)
            standing = await register(self._worker, projection)
            async with self._worker.acquire() as connection, connection.transaction():
                tables = (projection.name, standing.version, standing.generation)
                if tables not in _described:  # every house is a copy of one database, or made as that was
                    _described[tables] = await describe_all(connection, projection, standing.generation)
                engine = Engine(projection, standing.generation, _described[tables], texts)
                position = standing.position
                while page := await reader.read_all(position, 1_000, until=head):
                    await engine.fold(page, connection)
                    await engine.write(connection)
                    engine.committed()
                    assert await advance(connection, projection.name, standing.generation, position, page[-1].position)
                    position = page[-1].position
        return head


class Plan(msgspec.Struct, frozen=True):
    """A database to copy for each test: every read model, two organizations, and their keys, which `master` opens."""

    template: str
    master: Path
    ours: Place
    theirs: Place


async def planned(template: str, url: str, master: Path) -> Plan:
    """Furnish the migrated database at `url`, which `template` names, for copying."""
    async with opened(Settings(database_url=url, key_file=str(master))) as house:
        ours, theirs = await _place(house.store, "default"), await _place(house.store, "other")
        await house.project()
    return Plan(template, master, ours, theirs)


async def _place(store: PostgresStore, slug: str) -> Place:
    org_id, first = await bootstrap(store, slug=slug, name=slug.title())
    place = Place(org_id, slug)
    assert first is not None
    place.keys["first"] = first
    for scope in EVERY_SCOPE:
        place.keys[scope] = await issue_key(store, org_id, place.owner_id, scope, [scope])
    place.keys["all"] = await issue_key(store, org_id, place.owner_id, "all", EVERY_SCOPE)
    return place


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[House]:
    """A house on the database of `settings`."""
    url = settings.database_url or ""
    worker = await connect_pool(url, WORKER_ROLE, max_size=2)
    ring = PostgresKeyRing(worker, load_or_create_master_key(Path(settings.key_file or "")))
    store = PostgresStore(url, Mapper(ring), role=WORKER_ROLE, pool=worker)
    await store.start()
    yield House(settings, store, worker, ring)
    await store.close()
    await worker.close()


class Live:
    """The application behind a real uvicorn on loopback."""

    def __init__(self, url: str, app: Litestar) -> None:
        self.url = url
        self.app = app


@contextlib.asynccontextmanager
async def serving(app: Litestar, port: int = 0, **more: Any) -> AsyncIterator[Live]:
    """Run uvicorn in this loop until the block ends; `more` of its settings."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, lifespan="on", ws="wsproto", **more)
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


def hook(session_id: str, kind: str = "UserPromptSubmit", **fields: Any) -> dict[str, Any]:
    """A hook payload as Claude sends it."""
    return {"session_id": session_id, "hook_event_name": kind, "cwd": "/work", **fields}


def body(value: Any) -> bytes:
    return msgspec.json.encode(value)


def knock(client: Any, path: str, headers: dict[str, str]) -> int:
    """The HTTP status with which a WebSocket is refused, or 101 where it is let in (and left at once)."""
    bare, _, query = path.partition("?")
    scope = {
        "type": "websocket",
        "path": bare,
        "raw_path": bare.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "ws",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.1", 1),
        "server": ("127.0.0.1", 80),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
        "state": {},
    }
    told = [{"type": "websocket.connect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return told.pop(0) if told else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        sent.append(message)

    client.blocking_portal.call(client.app, scope, receive, send)  # the loop that the application lives in
    return 101 if sent[0]["type"] == "websocket.accept" else int(sent[0]["status"])
