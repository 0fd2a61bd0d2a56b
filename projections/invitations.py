"""Invitations: what became of each, found by the token that a mail told, or listed for the organization."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from domain.invitations.decide import ACCEPTED, CANCELLED, DECLINED, EXPIRED, PENDING, invitation_stream
from domain.invitations.events import (
    InvitationAccepted,
    InvitationCancelled,
    InvitationCreated,
    InvitationDeclined,
    InvitationExpired,
    InvitationResent,
)
from domain.kernel import Event, tag_of
from domain.organizations.events import MemberAdded
from eventstore.database import Connection, Pool, tenant
from eventstore.port import EventStore, Recorded
from eventstore.sealing import KeyRing, SealBrokenError, unboxed
from projections.base import Key, Projection, Rows, Table
from projections.paging import Paging, page_of
from projections.past import rows_at

DUE_MAX = 200  # invitations looked after in one run


class InvitationRow(msgspec.Struct, kw_only=True):
    """One invitation.  `email_box` is ciphertext from `invitation.created.v1`; `joined_at`: the member is there."""

    org_id: UUID
    invitation_id: str
    token_sha256: str
    permission: str
    org_role: str
    email_box: str | None
    status: str
    invited_by: UUID | None
    resends: int = 0
    created_at: datetime
    sent_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    user_id: UUID | None = None
    joined_at: datetime | None = None


class InvitationFound(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation with its address opened (None once the person was erased), and who invites."""

    row: InvitationRow
    email: str | None
    slug: str
    organization: str


INVITATIONS = Table("invitation", InvitationRow, ("org_id", "invitation_id"))

# Who holds a token does not know the tenant yet: a row is also visible to who names the hash of its token.
DDL = """
CREATE TABLE crewkit.invitation__g{g} (
    org_id uuid NOT NULL,
    invitation_id text NOT NULL,
    token_sha256 text NOT NULL,
    permission text NOT NULL,
    org_role text NOT NULL,
    email_box text,
    status text NOT NULL,
    invited_by uuid,
    resends integer NOT NULL,
    created_at timestamptz NOT NULL,
    sent_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    user_id uuid,
    joined_at timestamptz,
    PRIMARY KEY (org_id, invitation_id)
);
CREATE INDEX invitation__g{g}_token ON crewkit.invitation__g{g} (token_sha256);
CREATE INDEX invitation__g{g}_pending ON crewkit.invitation__g{g} (expires_at) WHERE status = 'pending';
CREATE INDEX invitation__g{g}_joining ON crewkit.invitation__g{g} (ended_at)
    WHERE status = 'accepted' AND joined_at IS NULL;
CREATE POLICY bearer ON crewkit.invitation__g{g} FOR SELECT TO crewkit_api
    USING (token_sha256 = nullif(current_setting('crewkit.token_sha256', true), ''));
"""


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The one row an event is about."""
    known = getattr(recorded.event, "invitation_id", None)
    return () if known is None else ((INVITATIONS, (recorded.org_id, known)),)


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    event = recorded.event
    if isinstance(event, InvitationCreated):
        _created(rows, recorded.org_id, event)
        return
    row = rows.get(INVITATIONS, (recorded.org_id, getattr(event, "invitation_id", None)))
    if row is None:
        return
    match event:
        case InvitationResent():
            if event.resent_at > row.sent_at:
                row.resends += 1
            row.token_sha256, row.sent_at, row.expires_at = event.token_sha256, event.resent_at, event.expires_at
        case InvitationAccepted(accepted_at=at, user_id=user_id):
            row.status, row.ended_at, row.user_id = ACCEPTED, at, user_id
        case InvitationDeclined(declined_at=at):
            row.status, row.ended_at = DECLINED, at
        case InvitationCancelled(cancelled_at=at):
            row.status, row.ended_at = CANCELLED, at
        case InvitationExpired(expired_at=at):
            row.status, row.ended_at = EXPIRED, at
        case MemberAdded(added_at=at):
            row.joined_at = at
        case _:
            return
    rows.put(INVITATIONS, row)


def _created(rows: Rows, org_id: UUID, event: InvitationCreated) -> None:
    if rows.get(INVITATIONS, (org_id, event.invitation_id)) is None:
        rows.put(
            INVITATIONS,
            InvitationRow(
                org_id=org_id,
                invitation_id=event.invitation_id,
                token_sha256=event.invitation_id,
                permission=event.permission,
                org_role=event.org_role,
                email_box=event.email.box,
                status=PENDING,
                invited_by=event.invited_by,
                created_at=event.created_at,
                sent_at=event.created_at,
                expires_at=event.expires_at,
            ),
        )


_READS: tuple[type[Event], ...] = (
    InvitationCreated,
    InvitationResent,
    InvitationAccepted,
    InvitationDeclined,
    InvitationCancelled,
    InvitationExpired,
    MemberAdded,
)
PROJECTION = Projection("invitations", 1, tables=(INVITATIONS,), ddl=DDL, touches=touches, fold=fold, reads=_READS)

SORTS = {"created_at": "i.created_at", "expires_at": "i.expires_at", "sent_at": "i.sent_at"}
TIE = "i.invitation_id"
_BOXES = tag_of(InvitationCreated)
_COLUMNS = ", ".join(f"i.{name}" for name in INVITATIONS.columns)
_LIST = f"""
SELECT {_COLUMNS} FROM crewkit.invitation i
 WHERE i.org_id = $1
   AND ($2::text IS NULL OR CASE WHEN i.status = 'pending' AND i.expires_at <= $3 THEN 'expired' ELSE i.status END = $2)
"""  # noqa: S608
_BY_TOKEN = f"SELECT {_COLUMNS} FROM crewkit.invitation i WHERE i.token_sha256 = $1"  # noqa: S608
_ORGANIZATION = "SELECT slug, name FROM crewkit.tenant WHERE org_id = $1 AND deleted_at IS NULL AND purged_at IS NULL"
_EXPIRED = """
SELECT org_id, invitation_id FROM crewkit.invitation
 WHERE status = 'pending' AND expires_at <= $1 ORDER BY expires_at LIMIT $2
"""
_JOINING = """
SELECT i.org_id, i.invitation_id, i.user_id FROM crewkit.invitation i
 WHERE i.status = 'accepted' AND i.joined_at IS NULL AND i.ended_at <= $1
   AND NOT EXISTS (SELECT FROM crewkit.member m
                    WHERE m.org_id = i.org_id AND m.user_id = i.user_id AND m.removed_at IS NULL)
   AND EXISTS (SELECT FROM crewkit.tenant t WHERE t.org_id = i.org_id AND t.deleted_at IS NULL)
 ORDER BY i.ended_at DESC LIMIT $2
"""


def status_of(row: InvitationRow, now: datetime) -> str:
    """What it is now: the time may be over before that is noted."""
    return EXPIRED if row.status == PENDING and row.expires_at <= now else row.status


async def find_by_token(pool: Pool, ring: KeyRing, token_sha256: str) -> InvitationFound | None:
    """The invitation of a token, whichever organization it belongs to; None where there is none, or that one is gone."""
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute("SELECT set_config('crewkit.token_sha256', $1, true)", token_sha256)
        found = await connection.fetchrow(_BY_TOKEN, token_sha256)
        if found is None:
            return None
        await connection.execute("SELECT set_config('crewkit.org_id', $1, true)", str(found["org_id"]))
        organization = await connection.fetchrow(_ORGANIZATION, found["org_id"])
    if organization is None:
        return None
    return (await _opened(ring, [InvitationRow(**found)], organization))[0]


async def invitations(
    pool: Pool, ring: KeyRing, org_id: UUID, paging: Paging, *, status: str | None, now: datetime
) -> tuple[list[InvitationFound], int]:
    """A page of the organization's invitations, and how many match."""
    async with tenant(pool, org_id) as connection:
        found, total = await page_of(connection, _LIST, (org_id, status, now), paging)
        organization = await connection.fetchrow(_ORGANIZATION, org_id)
    if organization is None:
        return [], 0
    return await _opened(ring, [InvitationRow(**row) for row in found], organization), total


async def invitation_at(
    store: EventStore, ring: KeyRing, pool: Pool, org_id: UUID, invitation_id: str, until: int | None
) -> InvitationFound | None:
    """One invitation as its stream says, up to a position or now."""
    rows = await rows_at(store, org_id, invitation_stream(invitation_id), PROJECTION, until=until)
    async with tenant(pool, org_id) as connection:
        organization = await connection.fetchrow(_ORGANIZATION, org_id)
    row = rows.get(INVITATIONS, (org_id, invitation_id))
    return (await _opened(ring, [row], organization))[0] if row and organization else None


async def due_to_expire(connection: Connection, now: datetime) -> list[tuple[UUID, str]]:
    """Pending invitations whose time is over, for a role that sees all."""
    return [(row["org_id"], row["invitation_id"]) for row in await connection.fetch(_EXPIRED, now, DUE_MAX)]


async def broken_off(connection: Connection, accepted_before: datetime) -> list[tuple[UUID, str, UUID]]:
    """Accepted invitations whose user did not become a member, for a role that sees all."""
    found = await connection.fetch(_JOINING, accepted_before, DUE_MAX)
    return [(row["org_id"], row["invitation_id"], row["user_id"]) for row in found]


async def _opened(ring: KeyRing, rows: list[InvitationRow], organization: asyncpg.Record) -> list[InvitationFound]:
    if not rows:
        return []
    org_id = rows[0].org_id
    await ring.load(org_id, {unboxed(row.email_box).subject for row in rows if row.email_box})

    def text(box: str | None) -> str | None:
        try:
            return None if box is None else ring.open(org_id, _BOXES, unboxed(box))
        except SealBrokenError:
            return None

    return [
        InvitationFound(
            row=row, email=text(row.email_box), slug=organization["slug"], organization=organization["name"]
        )
        for row in rows
    ]
