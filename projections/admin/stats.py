"""Numbers about the installation, from tables of the platform and from the order of the log alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import asyncpg
import msgspec

from domain.kernel import PLATFORM
from eventstore.database import Connection, tenant
from eventstore.port import EventStore

DAYS_MAX = 92

Counts = dict[str, int]


class UserNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts.  `active_users` signed in within the last 30 days."""

    total: int
    by_status: Counts
    by_platform_role: Counts
    verified: int
    with_password: int
    with_passkey: int
    active_users: int


class OrganizationNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Organizations."""

    total: int
    by_status: Counts
    by_region: Counts


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """What happened on one day (UTC).  `events` counts the whole log."""

    day: date
    events: int
    users_registered: int
    organizations_created: int
    logins: int
    logins_failed: int
    active_users: int


_USERS = """
SELECT count(*) FILTER (WHERE verified AND status <> 'deleted') AS verified,
       count(*) FILTER (WHERE has_password) AS with_password,
       count(*) FILTER (WHERE last_login_at > clock_timestamp() - interval '30 days') AS active_users
  FROM crewkit.user_account
"""
_WITH_PASSKEY = "SELECT count(DISTINCT user_id) FROM crewkit.passkey WHERE removed_at IS NULL"
_PER_DAY = {
    "users_registered": "SELECT (registered_at AT TIME ZONE 'UTC')::date AS day, count(*) AS number FROM crewkit.user_account "
    "WHERE registered_at >= $1 AND registered_at < $2 GROUP BY 1",
    "organizations_created": "SELECT (created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS number "
    "FROM crewkit.platform_organization WHERE created_at >= $1 AND created_at < $2 GROUP BY 1",
    "logins": "SELECT (at AT TIME ZONE 'UTC')::date AS day, count(*) AS number FROM crewkit.login_activity "
    "WHERE at >= $1 AND at < $2 AND outcome = 'succeeded' GROUP BY 1",
    "logins_failed": "SELECT (at AT TIME ZONE 'UTC')::date AS day, count(*) AS number FROM crewkit.login_activity "
    "WHERE at >= $1 AND at < $2 AND outcome = 'failed' GROUP BY 1",
    "active_users": "SELECT (at AT TIME ZONE 'UTC')::date AS day, count(DISTINCT user_id) AS number "
    "FROM crewkit.login_activity WHERE at >= $1 AND at < $2 AND outcome = 'succeeded' GROUP BY 1",
}


async def _grouped(connection: Connection, table: str, column: str) -> Counts:
    rows = await connection.fetch(
        f"SELECT {column} AS name, count(*) AS number FROM crewkit.{table} GROUP BY {column} ORDER BY {column}"  # noqa: S608
    )
    return {row["name"]: row["number"] for row in rows}


async def user_numbers(pool: asyncpg.Pool[asyncpg.Record]) -> UserNumbers:
    """Accounts, counted."""
    async with tenant(pool, PLATFORM) as connection:
        by_status = await _grouped(connection, "user_account", "status")
        by_role = await _grouped(connection, "user_account", "platform_role")
        row = await connection.fetchrow(_USERS)
        with_passkey = await connection.fetchval(_WITH_PASSKEY)
    if row is None:
        raise AssertionError("one row always comes back")
    return UserNumbers(
        total=sum(by_status.values()),
        by_status=by_status,
        by_platform_role=by_role,
        with_passkey=with_passkey,
        **dict(row),
    )


async def organization_numbers(pool: asyncpg.Pool[asyncpg.Record]) -> OrganizationNumbers:
    """Organizations, counted."""
    async with tenant(pool, PLATFORM) as connection:
        by_status = await _grouped(connection, "platform_organization", "status")
        by_region = await _grouped(connection, "platform_organization", "region")
    return OrganizationNumbers(total=sum(by_status.values()), by_status=by_status, by_region=by_region)


async def activity(pool: asyncpg.Pool[asyncpg.Record], store: EventStore, *, last: date, days: int) -> list[Day]:
    """The `days` days up to `last`, oldest first."""
    wanted = [last - timedelta(days=back) for back in reversed(range(min(days, DAYS_MAX)))]
    start, end = _midnight(wanted[0]), _midnight(last + timedelta(days=1))
    found: dict[str, dict[date, int]] = {}
    async with tenant(pool, PLATFORM) as connection:
        for name, sql in _PER_DAY.items():
            found[name] = {row["day"]: row["number"] for row in await connection.fetch(sql, start, end)}
    events = await _events_per_day(store, wanted)
    return [
        Day(day=day, events=told, **{name: counts.get(day, 0) for name, counts in found.items()})
        for day, told in zip(wanted, events, strict=True)
    ]


async def _events_per_day(store: EventStore, days: Sequence[date]) -> list[int]:
    """Positions have no gaps: where the log stood at two midnights tells how many events lie between."""
    edges = [await store.position_at(_midnight(day) - timedelta(microseconds=1)) for day in days]
    edges.append(await store.position_at(_midnight(days[-1] + timedelta(days=1)) - timedelta(microseconds=1)))
    return [after - before for before, after in itertools.pairwise(edges)]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
