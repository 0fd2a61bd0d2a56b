"""What the guard and the pages ask."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import msgspec

from domain.kernel import PLATFORM
from eventstore.database import tenant


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
