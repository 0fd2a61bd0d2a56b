"""Destroying keys so that it can be certified: what was destroyed, and when, survives any crash."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec

from eventstore.database import Pool, tenant

_DESTROY = """
INSERT INTO crewkit.subject_key AS k (org_id, subject, wrapped, destroyed_at) VALUES ($1, $2, NULL, clock_timestamp())
ON CONFLICT (org_id, subject) DO UPDATE
   SET fingerprint = coalesce(k.fingerprint, sha256(k.wrapped)), wrapped = NULL,
       destroyed_at = coalesce(k.destroyed_at, excluded.destroyed_at)
RETURNING k.fingerprint, k.destroyed_at
"""
ORGANIZATIONS_AT_ONCE = 10_000
_KNOWN = "SELECT EXISTS (SELECT FROM crewkit.subject_key WHERE org_id = $1 AND subject = $2)"


class Destroyed(msgspec.Struct, frozen=True):
    """A key that is gone.  `fingerprint` is the SHA-256 of its wrapped form, None where there never was one."""

    fingerprint: bytes | None
    at: datetime


async def destroy_key(pool: Pool, org_id: UUID, subject: UUID) -> Destroyed:
    """Destroy a subject's key for ever, also one that was never made.  Doing it again answers what the first time did."""
    async with tenant(pool, org_id) as connection:
        row = await connection.fetchrow(_DESTROY, org_id, subject)
    if row is None:
        raise LookupError("a key that was written is not there")
    return Destroyed(row["fingerprint"], row["destroyed_at"])


async def is_known(pool: Pool, org_id: UUID, subject: UUID) -> bool:
    """Whether anything was ever sealed for the subject (or it was erased)."""
    async with tenant(pool, org_id) as connection:
        return bool(await connection.fetchval(_KNOWN, org_id, subject))


async def organizations_that_know(pool: Pool, person_in: Callable[[UUID], UUID]) -> list[UUID]:
    """Every organization in which something was sealed for the person, whose id there `person_in` tells."""
    found: list[UUID] = []
    async with pool.acquire() as connection:
        everywhere = [row[0] for row in await connection.fetch("SELECT crewkit.sealing_organizations()")]
        for start in range(0, len(everywhere), ORGANIZATIONS_AT_ONCE):
            orgs = everywhere[start : start + ORGANIZATIONS_AT_ONCE]
            rows = await connection.fetch(
                "SELECT org_id FROM crewkit.known_subjects($1, $2)", orgs, [person_in(org) for org in orgs]
            )
            found += [row["org_id"] for row in rows]
    return found
