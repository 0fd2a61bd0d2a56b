"""Accounts as staff see them.  Their rows are folded by `users` and belong to the platform."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from domain.kernel import PLATFORM, Sealed, tag_of
from domain.users.events import UserRegistered
from eventstore.database import tenant
from eventstore.sealing import KeyRing, unboxed
from projections.paging import Paging, page_of
from projections.users.tables import USERS, UserRow

SORTS = {"registered_at": "registered_at", "last_login_at": "last_login_at", "status": "status"}
TIE = "user_id"
STATUSES = ("active", "disabled", "deleted")

_COLUMNS = ", ".join(USERS.columns)
_LIST = f"""
SELECT {_COLUMNS} FROM crewkit.user_account
 WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR platform_role = $2)
   AND ($3::text IS NULL OR email_key = $3)
"""  # noqa: S608
_ONE = f"SELECT {_COLUMNS} FROM crewkit.user_account WHERE user_id = $1"  # noqa: S608
_REGISTERED = tag_of(UserRegistered)
_NOTHING = Sealed(UUID(int=0))


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account with its texts opened; None where nobody told them, or the person was erased."""

    row: UserRow
    email: str | None
    name: str | None


async def accounts(
    pool: asyncpg.Pool[asyncpg.Record],
    ring: KeyRing,
    paging: Paging,
    *,
    status: str | None,
    platform_role: str | None,
    email_key: str | None,
) -> tuple[list[Account], int]:
    """A page of accounts, and how many there are."""
    async with tenant(pool, PLATFORM) as connection:
        found, total = await page_of(connection, _LIST, (status, platform_role, email_key), paging)
    return await _opened(ring, found), total


async def account(pool: asyncpg.Pool[asyncpg.Record], ring: KeyRing, user_id: UUID) -> Account | None:
    """One account."""
    async with tenant(pool, PLATFORM) as connection:
        row = await connection.fetchrow(_ONE, user_id)
    return (await _opened(ring, [row]))[0] if row else None


async def _opened(ring: KeyRing, found: list[Any]) -> list[Account]:
    rows = [UserRow(**dict(record)) for record in found]
    boxes: list[tuple[str, Sealed]] = []
    for row in rows:
        boxes.append((_REGISTERED, unboxed(row.email_box) if row.email_box else _NOTHING))
        boxes.append((row.name_tag or "", unboxed(row.name_box) if row.name_box else _NOTHING))
    texts = await ring.open_many(PLATFORM, boxes)
    return [Account(row=row, email=texts[2 * number], name=texts[2 * number + 1]) for number, row in enumerate(rows)]
