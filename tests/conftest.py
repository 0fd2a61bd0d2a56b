"""Real Postgres and NATS for tests, started once per test session (per worker with xdist), gone at its end."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eventstore.mapper import Mapper
from eventstore.migrate import migrate
from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from tests.databases import copy_of, create, database, run_aside
from workers.local.files import write_private
from workers.local.nats import Nats
from workers.local.postgres import Postgres
from workers.projector.host import Workshop, workshop

if TYPE_CHECKING:
    from api.edge import Application
    from tests.api.house import Plan

_TEMPLATE, _HOUSE = "crewkit_template", "crewkit_house"
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 * 2**30


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`: half as many again as there are processors, because tests wait for servers and clocks much of the time."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)


@pytest.fixture(scope="session")
def service_folder() -> Iterator[Path]:
    """A short-lived folder that servers running under another account may enter (pytest's own is closed to them).

    In memory where there is room: each test has a database of its own, and ext4 takes a fifth of all the time for their files.
    """
    roomy = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    folder = Path(tempfile.mkdtemp(prefix="crewkit-test-", dir=_MEMORY if roomy else None))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(service_folder: Path) -> Iterator[str]:
    """URL of the administration database of a throw-away server (fsync off)."""
    server = Postgres(service_folder / "postgres", "test-password", durable=False)
    server.prepare()
    server.start(service_folder / "postgres.log")
    yield server.url("postgres")
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """Name of a migrated database without connections, to copy from."""
    create(postgres_server, _TEMPLATE)
    run_aside(migrate(database(postgres_server, _TEMPLATE)))
    return _TEMPLATE


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """URL of a fresh, migrated database for one test."""
    with copy_of(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture(scope="session")
def plan(postgres_server: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """What the houses of API tests are copies of, made once: bootstrapping and the tables of read models take a second."""
    from tests.api.house import planned  # noqa: PLC0415  the whole API, which takes a second

    create(postgres_server, _HOUSE, postgres_template)
    master = tmp_path_factory.mktemp("house") / "master.key"
    _make_key(master)
    made: list[Plan] = []

    async def make() -> None:
        made.append(await planned(_HOUSE, database(postgres_server, _HOUSE), master))

    run_aside(make())
    return made[0]


@pytest.fixture(scope="session")
def built() -> Application:
    """The API without a start: making it takes half a second, most of it in Litestar's reading of signatures."""
    from api.app import create_app  # noqa: PLC0415  takes a second

    return create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))


@pytest.fixture(scope="session")
def nats_url(service_folder: Path) -> Iterator[str]:
    """URL of a real NATS server with JetStream, shared by the session: use stream and subject names of your own."""
    server = Nats(service_folder / "nats", "test-password")
    server.prepare()
    server.start(service_folder / "nats.log")
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of a server that speaks S3, for the session."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  takes a second

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket; the environment names its server and somebody's credentials."""
    import boto3  # noqa: PLC0415  takes a second

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    client = boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1")
    name = f"crewkit-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def master_key_file(tmp_path: Path) -> Path:
    """A key file as `crewkit up` makes it: 32 random bytes as URL-safe base64 text, mode 0600."""
    path = tmp_path / "master.key"
    _make_key(path)
    return path


def _make_key(path: Path) -> None:
    write_private(path, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Workshop]:
    """What projectors work with, on the database of the test's own `settings`."""
    async with workshop(settings, 2) as opened:
        yield opened


@pytest.fixture
async def store(shop: Workshop, postgres_url: str) -> AsyncIterator[PostgresStore]:
    """A store that appends as a worker does, with the same keys."""
    opened = PostgresStore(postgres_url, Mapper(shop.ring), role="crewkit_worker", pool=shop.pool)
    await opened.start()
    yield opened
    await opened.close()
