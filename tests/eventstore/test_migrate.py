"""Migrations: twice, at the same time, and by a user who may not."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest

from eventstore.database import WORKER_ROLE
from eventstore.migrate import MIGRATIONS, MigrationError, migrate, pending
from tests.eventstore.doubles import opened, wish

ALL = sorted(path.stem for path in MIGRATIONS.glob("*.sql"))


@pytest.fixture
async def empty_url(postgres_server: str) -> str:
    connection = await asyncpg.connect(postgres_server)
    await connection.execute("DROP DATABASE IF EXISTS migrate_test WITH (FORCE)")
    await connection.execute("CREATE DATABASE migrate_test")
    await connection.close()
    return postgres_server.rpartition("/")[0] + "/migrate_test"


async def test_the_second_time_nothing_is_left_to_do(empty_url: str) -> None:
    assert await pending(empty_url) == ALL
    assert await migrate(empty_url) == ALL
    assert await migrate(empty_url) == []
    assert await pending(empty_url) == []


async def test_six_processes_may_start_at_once(empty_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_url) for _ in range(6)))
    assert sorted(len(names) for names in applied) == [0] * 5 + [len(ALL)]


@pytest.mark.parametrize("version", range(ALL.index("0003_rights") + 1, len(ALL)))
async def test_every_older_version_is_brought_up_with_its_events(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    for name in ALL[:version]:
        shutil.copy(MIGRATIONS / f"{name}.sql", tmp_path)
    with monkeypatch.context() as older:
        older.setattr("eventstore.migrate.MIGRATIONS", tmp_path)
        assert await migrate(empty_url) == ALL[:version]
    async with opened(empty_url, role=WORKER_ROLE) as store:
        await store.append(wish("old", count=3))
        applied = await asyncio.gather(migrate(empty_url), migrate(empty_url))  # while a store is open
        assert sorted(applied, key=len) == [[], ALL[version:]]
        await store.append(wish("new"))
        assert [event.position for event in await store.read_all(0)] == [1, 2, 3, 4]


async def test_a_user_without_rights_is_told_what_is_missing(empty_url: str) -> None:
    await migrate(empty_url)  # the roles exist
    connection = await asyncpg.connect(empty_url)
    await connection.execute("DROP ROLE IF EXISTS poor_user")
    await connection.execute("CREATE ROLE poor_user LOGIN PASSWORD 'poor'")
    await connection.close()
    with pytest.raises(MigrationError, match="GRANT crewkit_api"):
        await migrate(_as_user(empty_url, "poor_user", "poor"))


async def test_a_plain_owner_with_createrole_is_enough(postgres_server: str) -> None:
    connection = await asyncpg.connect(postgres_server)
    await connection.execute("DROP DATABASE IF EXISTS owner_test WITH (FORCE)")
    await connection.execute("DROP ROLE IF EXISTS plain_owner")
    await connection.execute("CREATE ROLE plain_owner LOGIN CREATEROLE PASSWORD 'plain'")
    for role in ("crewkit_api", "crewkit_worker"):
        if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role):
            await connection.execute(f"GRANT {role} TO plain_owner")
    await connection.execute("CREATE DATABASE owner_test OWNER plain_owner")
    await connection.close()
    url = _as_user(postgres_server.rpartition("/")[0] + "/owner_test", "plain_owner", "plain")
    assert await migrate(url) == ALL
    member = await asyncpg.connect(url, server_settings={"role": "crewkit_api"})
    assert await member.fetchval("SELECT crewkit.head()") == 0
    await member.close()


def _as_user(url: str, user: str, password: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{user}:{password}@{rest.rpartition('@')[2]}"
