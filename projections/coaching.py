"""Since when each member has had which working role, and each role coaching mode: whether work was coached when it began."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.organizations.events import (
    MemberAdded,
    MemberRemoved,
    MemberRoleChanged,
    OrganizationCreated,
    RoleCreated,
    RoleDeleted,
    RoleUpdated,
)
from domain.organizations.state import built_in_roles
from eventstore.database import Connection
from eventstore.port import Recorded
from projections.base import Key, Projection, Rows, Table


class MemberSpanRow(msgspec.Struct):
    """From `since` on a member has this working role; None: they are no member any more."""

    org_id: UUID
    user_id: UUID
    since: datetime
    org_role: str | None


class RoleSpanRow(msgspec.Struct):
    """From `since` on the role of this key coaches, or does not."""

    org_id: UUID
    role_key: str
    since: datetime
    coaching: bool


OWNERS_ROLE = "admin"  # of who founds an organization
MEMBER_SPANS = Table("member_span", MemberSpanRow, ("org_id", "user_id", "since"))
ROLE_SPANS = Table("role_span", RoleSpanRow, ("org_id", "role_key", "since"))
DDL = """
CREATE TABLE crewkit.member_span__g{g} (
    org_id uuid NOT NULL,
    user_id uuid NOT NULL,
    since timestamptz NOT NULL,
    org_role text,
    PRIMARY KEY (org_id, user_id, since)
);
CREATE TABLE crewkit.role_span__g{g} (
    org_id uuid NOT NULL,
    role_key text NOT NULL,
    since timestamptz NOT NULL,
    coaching boolean NOT NULL,
    PRIMARY KEY (org_id, role_key, since)
);
"""


def _span(recorded: Recorded) -> MemberSpanRow | RoleSpanRow | None:
    """The row an event brings."""
    org_id = recorded.org_id
    match recorded.event:
        case OrganizationCreated(owner_id=user_id, created_at=at):
            return MemberSpanRow(org_id, user_id, at, OWNERS_ROLE)
        case (
            MemberAdded(user_id=user_id, org_role=role, added_at=at)
            | MemberRoleChanged(user_id=user_id, org_role=role, changed_at=at)
        ):
            return MemberSpanRow(org_id, user_id, at, role)
        case MemberRemoved(user_id=user_id, removed_at=at):
            return MemberSpanRow(org_id, user_id, at, None)
        case (
            RoleCreated(key=key, coaching_mode_enabled=coaching, created_at=at)
            | RoleUpdated(key=key, coaching_mode_enabled=coaching, updated_at=at)
        ):
            return RoleSpanRow(org_id, key, at, coaching)
        case RoleDeleted(key=key, deleted_at=at):
            return RoleSpanRow(org_id, key, at, coaching=False)
        case _:
            return None


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """Nothing: each event brings a row of its own and reads none."""
    row = _span(recorded)
    if isinstance(row, MemberSpanRow):
        return ((MEMBER_SPANS, MEMBER_SPANS.key_of(row)),)
    return () if row is None else ((ROLE_SPANS, ROLE_SPANS.key_of(row)),)


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing.  Of two in the same instant the later one holds."""
    row = _span(recorded)
    if isinstance(row, MemberSpanRow):
        rows.put(MEMBER_SPANS, row)
    elif row is not None:
        rows.put(ROLE_SPANS, row)


PROJECTION = Projection(
    "coaching",
    1,
    tables=(MEMBER_SPANS, ROLE_SPANS),
    ddl=DDL,
    touches=touches,
    fold=fold,
    reads=(OrganizationCreated, MemberAdded, MemberRoleChanged, MemberRemoved, RoleCreated, RoleUpdated, RoleDeleted),
)


class Coaching:
    """Who was coached when, in one organization."""

    def __init__(
        self, members: Iterable[tuple[UUID, datetime, str | None]], roles: Iterable[tuple[str, datetime, bool]]
    ) -> None:
        """Spans in order of time."""
        self._members: dict[UUID, tuple[list[datetime], list[str | None]]] = {}
        self._roles: dict[str, tuple[list[datetime], list[bool]]] = {}
        for user_id, since, role in members:
            times, names = self._members.setdefault(user_id, ([], []))
            times.append(since)
            names.append(role)
        for key, since, coaching in roles:
            starts, modes = self._roles.setdefault(key, ([], []))
            starts.append(since)
            modes.append(coaching)

    def of(self, person_id: UUID | None, at: datetime | None) -> bool | None:
        """Whether the person's role had coaching mode at that moment; None: they were no member, or it is not known."""
        if person_id is None or at is None or (member := self._members.get(person_id)) is None:
            return None
        place = bisect_right(member[0], at)
        role = member[1][place - 1] if place else None
        if role is None:
            return None
        if (spans := self._roles.get(role)) is not None and (place := bisect_right(spans[0], at)):
            return spans[1][place - 1]
        return _BUILT_IN.get(role, False)


_BUILT_IN = {role.key: role.coaching_mode_enabled for role in built_in_roles(UUID(int=0)).values()}


async def coaching_of(connection: Connection, org_id: UUID) -> Coaching:
    """The spans of an organization; empty while the read model has never run."""
    if await connection.fetchval("SELECT to_regclass('crewkit.member_span')") is None:
        return Coaching([], [])
    members = await connection.fetch(
        "SELECT user_id, since, org_role FROM crewkit.member_span WHERE org_id = $1 ORDER BY since", org_id
    )
    roles = await connection.fetch(
        "SELECT role_key, since, coaching FROM crewkit.role_span WHERE org_id = $1 ORDER BY since", org_id
    )
    return Coaching([tuple(row) for row in members], [tuple(row) for row in roles])
