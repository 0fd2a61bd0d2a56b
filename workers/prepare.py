"""What has to be true before the processes start: a database, its schema, an organization, and a key that works."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import msgspec

from commands.organizations import (
    BOOTSTRAP_SCOPES,
    bootstrap,
    bootstrap_owner_id,
    issue_key,
    key_hash,
    key_id_of,
)
from domain.organizations.decide import key_stream
from domain.organizations.events import ApiKeyIssued, ApiKeyRevoked
from eventstore.database import API_ROLE, connect_pool
from eventstore.mapper import Mapper
from eventstore.migrate import migrate
from eventstore.port import EventStore
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing, load_or_create_master_key
from eventstore.settings import Settings
from workers.local.instance import Instance, read_instance, write_instance
from workers.local.places import Places

ORGANIZATION = "default"
ORGANIZATION_NAME = "Default"
CONNECT_WAIT_S = 30.0
KEY_EVENTS_MAX = 100  # facts of one key: issued, perhaps revoked
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")


async def prepare(settings: Settings, data_dir: Path) -> list[str]:
    """Create database and schema, found the organization, and leave organization and a working key in DIR/crewkit.json.

    Returns the ids of the migrations applied now.  Safe to repeat: a key that works is kept.

    Raises:
        MigrationError: the database user lacks a right.
        OSError, asyncpg.PostgresError: the database cannot be reached or refuses us.
    """
    url = settings.database_url or ""
    await ensure_database(url)
    applied = await migrate(url)
    key_file = Path(settings.key_file) if settings.key_file else Places(data_dir).master_key
    master = load_or_create_master_key(key_file)
    pool = await connect_pool(url, API_ROLE, max_size=2)
    try:
        store = PostgresStore(url, Mapper(PostgresKeyRing(pool, master)), pool=pool)
        await store.start()
        try:
            before = read_instance(data_dir)
            key = await _working_key(store, before)
        finally:
            await store.close()
    finally:
        await pool.close()
    fresh = before or Instance(url="", api_key="", organization="")
    write_instance(data_dir, msgspec.structs.replace(fresh, organization=ORGANIZATION, api_key=key, pids={}))
    return applied


async def ensure_database(url: str) -> None:
    """Create the database that `url` names when the server has none of that name.

    Raises:
        asyncpg.InvalidCatalogNameError: it is missing and its name needs quoting, so that it is not ours to create.
    """
    name = urlsplit(url).path.lstrip("/")
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_WAIT_S)
    except asyncpg.InvalidCatalogNameError:
        if not _NAME.fullmatch(name):
            raise
    else:
        await connection.close()
        return
    connection = await asyncpg.connect(urlsplit(url)._replace(path="/postgres").geturl(), timeout=CONNECT_WAIT_S)
    try:
        with contextlib.suppress(asyncpg.DuplicateDatabaseError):  # another process was faster
            await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()


async def _working_key(store: EventStore, before: Instance | None) -> str:
    """The key of crewkit.json while it works, else the bootstrap's first, else a new one for the owner."""
    org_id, first = await bootstrap(store, slug=ORGANIZATION, name=ORGANIZATION_NAME)
    if first is not None:
        return first
    if before is not None and await _is_live(store, org_id, before.api_key):
        return before.api_key
    return await issue_key(store, org_id, bootstrap_owner_id(org_id), "crewkit up", BOOTSTRAP_SCOPES)


async def _is_live(store: EventStore, org_id: UUID, key: str) -> bool:
    """Whether this very key was issued to the organization, and neither revoked nor expired."""
    key_id = key_id_of(key)
    if key_id is None:
        return False
    live = False
    for recorded in await store.read_stream(org_id, key_stream(key_id), limit=KEY_EVENTS_MAX):
        match recorded.event:
            case ApiKeyIssued(secret_sha256=kept, expires_at=expires_at):
                live = kept == key_hash(key) and (expires_at is None or expires_at > datetime.now(UTC))
            case ApiKeyRevoked():
                return False
            case _:
                continue
    return live
