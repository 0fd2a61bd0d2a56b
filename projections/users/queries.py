"""What the guard and the pages ask."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from domain.kernel import PLATFORM
from domain.users.state import user_stream
from eventstore.database import tenant
from eventstore.port import EventStore
from projections.past import rows_at
from projections.users.fold import PROJECTION
from projections.users.tables import USERS, DeviceRow, LoginRow, PasskeyRow, UserRow

PASSKEYS_LISTED_MAX = 100


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the read model knows about an access token and its user.  `platform_role` None: the user is not known yet."""

    refused: bool
    platform_role: str | None


async def standing(pool: asyncpg.Pool, user_id: UUID, family_id: UUID, jti: UUID) -> Standing:
    """Whether an access token with a valid signature must be refused all the same.

    A family that is not there yet was opened a moment ago: it is younger than anything the read model knows.
    """
    async with tenant(pool, PLATFORM) as connection:
        row = await connection.fetchrow(
            """SELECT u.status, u.platform_role, f.revoked_at IS NOT NULL AS revoked,
                      coalesce(f.opened_at <= u.signed_out_at, false) AS signed_out,
                      EXISTS (SELECT FROM crewkit.denied_token d WHERE d.jti = $3) AS denied
                 FROM (SELECT 1) one
                 LEFT JOIN crewkit.user_account u ON u.user_id = $1
                 LEFT JOIN crewkit.token_family f ON f.family_id = $2 AND f.user_id = $1""",
            user_id,
            family_id,
            jti,
        )
    if row is None:
        raise AssertionError("one row always comes back")
    gone = row["status"] not in {None, "active"}
    return Standing(
        refused=gone or row["revoked"] or row["signed_out"] or row["denied"], platform_role=row["platform_role"]
    )


_USER = """
SELECT user_id, org_id, status, email_key, email_box, name_box, name_tag, verified, completed, has_password, platform_role,
       locale, timezone, registered_at, last_login_at, signed_out_at
  FROM crewkit.user_account WHERE user_id = $1
"""
_PASSKEYS = """
SELECT passkey_id, org_id, user_id, credential_id, transports, name_box, registered_at, last_used_at, removed_at
  FROM crewkit.passkey WHERE user_id = $1 AND removed_at IS NULL ORDER BY registered_at, passkey_id LIMIT $2
"""
_ACTIVITY = """
SELECT event_id, org_id, user_id, at, method, outcome, reason, family_id, ip_box, user_agent_box
  FROM crewkit.login_activity
 WHERE user_id = $1 AND ($2::timestamptz IS NULL OR (at, event_id) < ($2, $3::uuid))
 ORDER BY at DESC, event_id DESC LIMIT $4
"""
_WAITING = """
SELECT device_id, org_id, user_code_key, client, status, started_at, expires_at
  FROM crewkit.device_authorization
 WHERE user_code_key = $1 AND status = 'pending' AND expires_at > clock_timestamp()
 ORDER BY started_at DESC LIMIT 1
"""


async def user(pool: asyncpg.Pool, user_id: UUID) -> UserRow | None:
    """One account; None where the read model has not heard of it."""
    async with tenant(pool, PLATFORM) as connection:
        row = await connection.fetchrow(_USER, user_id)
    return UserRow(**row) if row else None


async def user_now(store: EventStore, user_id: UUID) -> UserRow | None:
    """One account as its own events tell it now, also where the read model has not heard of them."""
    rows = await rows_at(store, PLATFORM, user_stream(user_id), PROJECTION)
    return rows.get(USERS, (user_id,))


async def user_of_email(pool: asyncpg.Pool, email_key: str) -> UUID | None:
    """Whose address it is, by its keyed hash; None: nobody's."""
    async with tenant(pool, PLATFORM) as connection:
        found: UUID | None = await connection.fetchval(
            "SELECT user_id FROM crewkit.user_account WHERE email_key = $1", email_key
        )
    return found


async def passkeys(pool: asyncpg.Pool, user_id: UUID) -> list[PasskeyRow]:
    """The user's passkeys, oldest first."""
    async with tenant(pool, PLATFORM) as connection:
        rows = await connection.fetch(_PASSKEYS, user_id, PASSKEYS_LISTED_MAX)
    return [PasskeyRow(**row) for row in rows]


async def activity(
    pool: asyncpg.Pool, user_id: UUID, *, limit: int, before: tuple[datetime, UUID] | None = None
) -> list[LoginRow]:
    """Logins and refused logins of the user, newest first; `before` is the last one of the page before."""
    at, event_id = before or (None, None)
    async with tenant(pool, PLATFORM) as connection:
        rows = await connection.fetch(_ACTIVITY, user_id, at, event_id, limit)
    return [LoginRow(**row) for row in rows]


async def waiting_device(pool: asyncpg.Pool, user_code_key: str) -> DeviceRow | None:
    """The device that waits with this user code, if it is not too old."""
    async with tenant(pool, PLATFORM) as connection:
        row = await connection.fetchrow(_WAITING, user_code_key)
    return DeviceRow(**row) if row else None


async def due_devices(pool: asyncpg.Pool, limit: int) -> list[str]:
    """Device authorizations whose time is over and that nobody gave up yet, for the scheduler."""
    async with tenant(pool, PLATFORM) as connection:
        rows = await connection.fetch(
            "SELECT device_id FROM crewkit.device_authorization"
            " WHERE status IN ('pending', 'approved') AND expires_at <= clock_timestamp() ORDER BY expires_at LIMIT $1",
            limit,
        )
    return [row["device_id"] for row in rows]


def cursor_of(row: LoginRow) -> str:
    """Where the next page of activity begins."""
    micros = (row.at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return f"{micros}-{row.event_id.hex}"


def parse_cursor(text: str) -> tuple[datetime, UUID]:
    """Read `cursor_of` back.

    Raises:
        ValueError: it is none.
    """
    micros, _, event_id = text.partition("-")
    try:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(micros))
        return at, UUID(hex=event_id)
    except (ValueError, OverflowError) as error:
        raise ValueError("cursor: expected `next_cursor` of the page before") from error
