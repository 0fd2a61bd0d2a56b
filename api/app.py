"""The application: `uvicorn --factory api.app:create_app`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast
from uuid import UUID

import structlog
from litestar import Litestar, Request, Router, get
from litestar.datastructures import State
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Reference, SecurityScheme

import api
import projections
from api import permissions, streams
from api.auth import QUERY_KEY, Authenticator, guard
from api.bus import Bus
from api.cors import cors_of
from api.documents import StructSchemas
from api.edge import Application
from api.errors import HANDLERS
from api.limits import RateLimiter
from api.metrics import Metrics
from api.page import PlainPage
from api.people import People
from api.requests import RequestLog
from api.services import Services
from api.streams import Hub
from api.used import KeyUse
from commands.signin.devices import Pace
from commands.tokens import AccessTokens, SigningKeys, Tools
from commands.users.passwords import Hashing
from domain.discover import collect
from eventstore import settings as settings_module
from eventstore.database import API_ROLE, connect_pool
from eventstore.mapper import Mapper
from eventstore.port import Recorded
from eventstore.postgres import PostgresStore
from eventstore.proof import Signer, log_name
from eventstore.sealing import PostgresKeyRing, load_or_create_master_key, person_secret
from eventstore.settings import Settings, public_url
from projections.base import Projection
from projections.directory import find_key
from projections.members import find_membership, organizations_of
from projections.users import standing

POOL_CONNECTIONS_MAX = 10
VERSION = "0.1.0"

_log = structlog.get_logger("api")


@get("/schema/openapi.json", include_in_schema=False, sync_to_thread=False)
def openapi_document(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The same document as /docs/openapi.json, under its second documented path."""
    return dict(request.app.openapi_schema.to_schema())


def create_app(settings: Settings | None = None) -> Application:
    """The API.  Settings come from the environment unless given.

    Raises:
        PermissionTableError: a route has no entry in api/permissions.py.
        ValueError: a setting has a value that cannot be, or there is no database URL.
    """
    used = settings or settings_module.load()
    if used.database_url is None:
        raise ValueError("CREWKIT_DATABASE_URL: expected the URL of a Postgres database")
    app = Application(
        route_handlers=[*collect(api, Router), openapi_document],
        lifespan=[_open],
        guards=[guard],
        exception_handlers=HANDLERS,
        openapi_config=_openapi(),
        request_max_body_size=None,  # api/bodies.py holds the limit, also for compressed bodies
        plugins=[StructSchemas()],
        cors_config=cors_of(used.cors_origins),
        logging_config=None,
        state=State({}),
    )
    permissions.check(app.routes)
    return furnish(app, used)


def furnish(app: Application, settings: Settings) -> Application:
    """Give it the settings of its next start, and counters and a log of its own.  Which origins may ask is settled by `create_app`."""
    app.settings = settings
    app.edge_metrics = Metrics(str(os.getpid()) if settings.api_workers > 1 else None)
    app.request_log = RequestLog()
    return app


def _openapi() -> OpenAPIConfig:
    schemes: dict[str, SecurityScheme | Reference] = {
        "apiKey": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
        "apiKeyInQuery": SecurityScheme(type="apiKey", name=QUERY_KEY, security_scheme_in="query"),
        "bearer": SecurityScheme(type="http", scheme="bearer"),
    }
    return OpenAPIConfig(
        title="crewkit",
        version=VERSION,
        description="What AI coding agents do in a team: sessions, costs, history. Send an API key with every request.",
        path="/docs",
        render_plugins=[PlainPage(path="/page"), JsonRenderPlugin()],
        components=Components(security_schemes=schemes),
        security=[{"apiKey": []}, {"bearer": []}, {"apiKeyInQuery": []}],
        use_handler_docstrings=True,
    )


@contextlib.asynccontextmanager
async def _open(found: Litestar) -> AsyncGenerator[None]:
    """Open what requests need, in order, and close it in reverse."""
    app = cast("Application", found)
    settings, metrics = app.settings, app.edge_metrics
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(app.request_log.flush)
        url = settings.database_url or ""
        pool = await connect_pool(url, API_ROLE, max_size=POOL_CONNECTIONS_MAX)
        stack.push_async_callback(pool.close)
        master = load_or_create_master_key(_key_file(settings))
        keyring = PostgresKeyRing(pool, master)
        hub = Hub()

        def on_state(up: bool) -> None:
            metrics.nats_connected.set(int(up))
            hub.connected(up)

        auth = Authenticator(lambda key_id: find_key(pool, key_id))

        def on_revoked(ended: UUID) -> None:
            auth.revoke(ended)
            people.end(ended)

        bus = Bus(settings.nats_url, hub.on_notice, on_state, on_revoked, keyring.forget)
        stack.push_async_callback(bus.close)
        store = PostgresStore(url, Mapper(keyring), pool=pool, on_commit=bus.poke, on_batch=metrics.on_batch)
        await store.start()
        stack.push_async_callback(store.close)
        metrics.append_waiting.set_function(lambda: store.queued)
        secret = person_secret(master)
        tokens = AccessTokens(SigningKeys(store, keyring), public_url(settings))
        people = People(
            tokens, partial(standing, pool), partial(find_membership, pool), partial(organizations_of, pool)
        )
        bus.start()
        stack.push_async_callback(KeyUse(auth, store).start().close)
        app.state.services = Services(
            settings=settings,
            pool=pool,
            store=store,
            keyring=keyring,
            bus=bus,
            hub=hub,
            auth=auth,
            limiter=RateLimiter(settings.rate_limit_per_s),
            metrics=metrics,
            notice=notice_of(streams.PROJECTION),
            person_secret=secret,
            people=people,
            sign_in_limiter=RateLimiter(settings.sign_ins_per_min / 60, burst_s=60),
            tools=Tools(store, keyring, secret, tokens),
            signer=Signer(master, await log_name(pool)),
            hashing=Hashing(),
            pace=Pace(),
        )
        stack.enter_context(_streams_end_on_signals(hub))
        stack.callback(hub.close)
        _log.info("api.ready", nats=bus.configured, rate_limit_per_s=settings.rate_limit_per_s)
        yield


def notice_of(name: str) -> Callable[[Recorded], dict[str, Any] | None]:
    """What the projection of that name announces about an event; nothing where there is no such projection."""
    for projection in collect(projections, Projection):
        if projection.name == name:
            return projection.notice
    return lambda _: None


def _key_file(settings: Settings) -> Path:
    """`CREWKIT_KEY_FILE`, else the key of the data folder."""
    if settings.key_file is not None:
        return Path(settings.key_file).expanduser()
    folder = Path(settings.data_dir) if settings.data_dir else settings_module.default_data_dir()
    return folder / "keys" / "master.key"


@contextlib.contextmanager
def _streams_end_on_signals(hub: Hub) -> Generator[None]:
    """Servers wait for open connections before they stop; live streams must not make them wait for ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(hub.close)
        previous = before[signal.Signals(number)]
        if callable(previous):
            previous(number, frame)

    replaced = [name for name, handler in before.items() if callable(handler)]
    for name in replaced:
        signal.signal(name, stop)
    try:
        yield
    finally:
        for name in replaced:
            signal.signal(name, before[name])
