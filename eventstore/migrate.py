"""Bring a database to the newest schema.  Safe to run from any number of processes at once."""

from __future__ import annotations

import logging
from pathlib import Path

import asyncpg
from pogo_core.util.migrate import apply
from pogo_core.util.sql import ensure_pogo_sync, get_applied_migrations

from eventstore.database import API_ROLE, WORKER_ROLE

MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMA = "crewkit"
MIGRATE_LOCK = 7166181838  # advisory lock of whoever migrates; the append lock is the number before it
MIGRATE_WAIT_S = 120.0

_LOG = logging.getLogger(__name__)


class MigrationError(Exception):
    """The schema could not be brought up to date; the message says what the database user lacks."""


async def migrate(url: str) -> list[str]:
    """Create roles and apply pending migrations, each in its transaction; the ids of those applied now, oldest first.

    Raises:
        MigrationError: the user of `url` may not create the roles or the schema.
    """
    connection = await asyncpg.connect(url, timeout=MIGRATE_WAIT_S)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", MIGRATE_LOCK, timeout=MIGRATE_WAIT_S)
        for role in (API_ROLE, WORKER_ROLE):
            await _ensure_role(connection, role)
        await ensure_pogo_sync(connection)
        before = await get_applied_migrations(connection, schema_name=SCHEMA)
        try:
            await apply(connection, MIGRATIONS, schema_name=SCHEMA, logger=_LOG)
        except Exception as error:
            cause = error.__cause__ or error
            raise MigrationError(f"{error}: {cause}") from error
        return sorted(await get_applied_migrations(connection, schema_name=SCHEMA) - before)
    except asyncpg.InsufficientPrivilegeError as error:
        raise MigrationError(
            f"the database user lacks a right ({error}); it must own the database or may create schemas in it"
        ) from error
    finally:
        await connection.close()


async def pending(url: str) -> list[str]:
    """Ids of migrations that this program has and the database lacks, oldest first."""
    connection = await asyncpg.connect(url, timeout=MIGRATE_WAIT_S)
    try:
        known = await connection.fetchval("SELECT to_regclass('public._pogo_migration') IS NOT NULL")
        done = await get_applied_migrations(connection, schema_name=SCHEMA) if known else set[str]()
    finally:
        await connection.close()
    return sorted({path.stem for path in MIGRATIONS.glob("*.sql")} - done)


async def _ensure_role(connection: asyncpg.Connection[asyncpg.Record], role: str) -> None:
    """Roles belong to the whole server: another database's migration may create the same one at this very moment."""
    try:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role):
            try:
                await connection.execute(f"CREATE ROLE {role} NOLOGIN")
            except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
                _LOG.debug("another process created the role first")
        if not await connection.fetchval("SELECT pg_has_role(current_user, $1, 'MEMBER')", role):
            await connection.execute(f"GRANT {role} TO CURRENT_USER")
    except asyncpg.InsufficientPrivilegeError as error:
        raise MigrationError(
            f"role {role!r} is missing or not granted, and the database user may not change that: give the user CREATEROLE, "
            f"or run as an administrator: CREATE ROLE {role} NOLOGIN; GRANT {role} TO <the user>"
        ) from error
