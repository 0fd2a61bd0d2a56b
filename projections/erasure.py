"""Erasures and their certificates, as lists; what is not certified yet is found by the scheduler here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.erasure.events import ErasureCertified, ErasureRequested
from eventstore.database import Connection, Pool, tenant
from eventstore.port import Recorded
from projections.base import Key, Projection, Rows, Table

LISTED_MAX = 200


class ErasureRow(msgspec.Struct, kw_only=True):
    """One erasure.  `note` is the signed certificate, None until it is done."""

    org_id: UUID
    erasure_id: UUID
    subjects: int
    reason: str
    requested_by: str
    requested_at: datetime
    certified_at: datetime | None = None
    note: str | None = None
    public_key: str | None = None


ERASURES = Table("erasure", ErasureRow, ("org_id", "erasure_id"))
DDL = """
CREATE TABLE crewkit.erasure__g{g} (
    org_id uuid NOT NULL,
    erasure_id uuid NOT NULL,
    subjects integer NOT NULL,
    reason text NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    certified_at timestamptz,
    note text,
    public_key text,
    PRIMARY KEY (org_id, erasure_id)
);
CREATE INDEX erasure__g{g}_open ON crewkit.erasure__g{g} (requested_at) WHERE certified_at IS NULL;
"""


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The one row an event is about."""
    match recorded.event:
        case ErasureRequested(erasure_id=erasure_id) | ErasureCertified(erasure_id=erasure_id):
            return ((ERASURES, (recorded.org_id, erasure_id)),)
        case _:
            return ()


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    match recorded.event:
        case ErasureRequested() as event:
            if rows.get(ERASURES, (recorded.org_id, event.erasure_id)) is None:
                rows.put(
                    ERASURES,
                    ErasureRow(
                        org_id=recorded.org_id,
                        erasure_id=event.erasure_id,
                        subjects=len(event.subjects),
                        reason=event.reason,
                        requested_by=event.requested_by,
                        requested_at=event.requested_at,
                    ),
                )
        case ErasureCertified() as event:
            row = rows.get(ERASURES, (recorded.org_id, event.erasure_id))
            if row is not None:
                row.certified_at, row.note, row.public_key = event.certified_at, event.note, event.public_key
                rows.put(ERASURES, row)
        case _:
            pass


PROJECTION = Projection(
    "erasure", 1, tables=(ERASURES,), ddl=DDL, touches=touches, fold=fold, reads=(ErasureRequested, ErasureCertified)
)

_COLUMNS = ", ".join(ERASURES.columns)


async def erasures(pool: Pool, org_id: UUID) -> list[ErasureRow]:
    """The organization's, newest first, at most `LISTED_MAX`."""
    async with tenant(pool, org_id) as connection:
        found = await connection.fetch(
            f"SELECT {_COLUMNS} FROM crewkit.erasure WHERE org_id = $1 ORDER BY requested_at DESC, erasure_id LIMIT $2",  # noqa: S608  constants
            org_id,
            LISTED_MAX,
        )
    return [ErasureRow(**dict(row)) for row in found]


async def unfinished(connection: Connection, limit: int) -> list[tuple[UUID, UUID]]:
    """Organization and id of erasures that were asked for and are not certified, oldest first."""
    if await connection.fetchval("SELECT to_regclass('crewkit.erasure')") is None:
        return []  # no projector has run yet
    found = await connection.fetch(
        "SELECT org_id, erasure_id FROM crewkit.erasure WHERE certified_at IS NULL ORDER BY requested_at LIMIT $1",
        limit,
    )
    return [(row["org_id"], row["erasure_id"]) for row in found]
