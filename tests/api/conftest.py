"""The application over a real, migrated Postgres, with read models folded by the real projector engine on demand."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from pathlib import Path

import httpx
import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from api.app import furnish
from api.edge import Application
from eventstore.settings import Settings
from tests.api.house import House, Live, Plan, opened, serving
from tests.databases import copy_of

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody: reading the system's authorities takes 80 ms


@pytest.fixture
def master_key_file(plan: Plan) -> Path:
    """The key of the house."""
    return plan.master


@pytest.fixture
def postgres_url(postgres_server: str, plan: Plan) -> Iterator[str]:
    """URL of a fresh database for one test, with all read models."""
    with copy_of(postgres_server, plan.template) as url:
        yield url


@pytest.fixture
def settings(postgres_url: str, master_key_file: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url, key_file=str(master_key_file), data_dir=str(tmp_path), read_after_wait_s=0.2
    )


@pytest.fixture
async def house(settings: Settings, plan: Plan) -> AsyncIterator[House]:
    async with opened(settings) as house:
        house.ours, house.theirs = deepcopy((plan.ours, plan.theirs))
        yield house


@pytest.fixture
def app(settings: Settings, house: House, built: Application) -> Application:
    return furnish(built, settings)


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
    async with httpx.AsyncClient(base_url=live.url, timeout=20, verify=_NO_TLS) as client:
        yield client


@pytest.fixture(scope="session")
def recordings() -> Path:
    return Path(__file__).parents[1] / "recordings"
