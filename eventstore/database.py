"""Connections to Postgres: pools with a role, tenants, and JSON that stays bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

API_ROLE = "crewkit_api"
WORKER_ROLE = "crewkit_worker"

CONNECT_WAIT_S = 10.0
STATEMENT_MS_MAX = 30_000  # a query that takes longer is a mistake or an attack
LOCK_MS_MAX = 5_000
IDLE_IN_TRANSACTION_MS_MAX = 15_000  # a forgotten transaction holds back vacuum, and may hold locks
KEEPALIVE_IDLE_S = 15
KEEPALIVE_PROBES_MAX = 3

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


def server_settings(role: str | None = None, **overrides: str) -> dict[str, str]:
    """Settings every connection starts with: time limits (milliseconds), keepalives, role."""
    settings = {
        "application_name": "crewkit",
        "statement_timeout": str(STATEMENT_MS_MAX),
        "lock_timeout": str(LOCK_MS_MAX),
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS_MAX),
        "tcp_keepalives_idle": str(KEEPALIVE_IDLE_S),
        "tcp_keepalives_interval": str(KEEPALIVE_IDLE_S // KEEPALIVE_PROBES_MAX),
        "tcp_keepalives_count": str(KEEPALIVE_PROBES_MAX),
        # Compiling a query pays off after tens of milliseconds; ours end before that.
        "jit": "off",
        # The log grows faster than statistics follow: a plan kept from when it was small would sort all of it for each page.
        "plan_cache_mode": "force_custom_plan",
    }
    if role is not None:
        settings["role"] = role
    return settings | overrides


def _json_in(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _jsonb_in(value: str | bytes) -> bytes:
    return b"\x01" + _json_in(value)


def _jsonb_out(value: bytes) -> bytes:
    return value[1:]


async def prepare_connection(connection: Any) -> None:
    """`json` and `jsonb` are read as bytes and written as bytes or str: msgspec does the rest, without a detour."""
    await connection.set_type_codec("json", schema="pg_catalog", encoder=_json_in, decoder=bytes, format="binary")
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_jsonb_in, decoder=_jsonb_out, format="binary"
    )


async def connect_pool(
    url: str, role: str | None = None, *, min_size: int = 1, max_size: int = 10, **overrides: str
) -> Pool:
    """Open a pool whose connections act as `role`.  `overrides` are server settings, for example `statement_timeout="0"`."""
    return await asyncpg.create_pool(
        url,
        min_size=min_size,
        max_size=max_size,
        timeout=CONNECT_WAIT_S,
        init=prepare_connection,
        server_settings=server_settings(role, **overrides),
    )


@asynccontextmanager
async def tenant(pool: Pool, org_id: UUID) -> AsyncGenerator[Connection, None]:
    """A connection inside a transaction that sees only `org_id` (row-level security of role `crewkit_api`)."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('crewkit.org_id', $1, true)", str(org_id))
        yield connection
