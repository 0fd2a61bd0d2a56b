"""Working roles of an organization: create, change, delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from commands.bus import Once, Principal, transact
from commands.members import actor_of
from domain.kernel import Event
from domain.organizations import roles as decide
from domain.organizations.roles import RoleFields
from domain.organizations.state import (
    NO_ORGANIZATION,
    OrganizationState,
    evolve_organization,
    organization_stream,
)
from eventstore.ids import uuid7
from eventstore.port import EventStore, Outcome


async def create_role(
    store: EventStore, principal: Principal, key: str, fields: RoleFields, *, once: Once | None = None
) -> tuple[UUID, Outcome]:
    """Add a working role; its id and what was appended.

    Raises:
        DomainError: see `domain.organizations.roles.create_role`.
    """
    role_id = once.new_id() if once else uuid7()
    outcome = await _transact(
        store,
        principal,
        lambda state: decide.create_role(
            state, actor=actor_of(principal), role_id=role_id, key=key, fields=fields, at=datetime.now(UTC)
        ),
        once,
    )
    if outcome is None:
        raise AssertionError("creating a role is decided without an event")
    return role_id, outcome


async def update_role(store: EventStore, principal: Principal, role: str, fields: RoleFields) -> Outcome | None:
    """Change a working role, named by key or id; None where it is so already.

    Raises:
        DomainError: see `domain.organizations.roles.update_role`.
    """
    return await _transact(
        store,
        principal,
        lambda state: decide.update_role(
            state, actor=actor_of(principal), role=role, fields=fields, at=datetime.now(UTC)
        ),
    )


async def delete_role(store: EventStore, principal: Principal, role: str) -> Outcome | None:
    """Remove a working role that nobody has.

    Raises:
        DomainError: see `domain.organizations.roles.delete_role`.
    """
    return await _transact(
        store,
        principal,
        lambda state: decide.delete_role(state, actor=actor_of(principal), role=role, at=datetime.now(UTC)),
    )


async def _transact(
    store: EventStore,
    principal: Principal,
    decided: Callable[[OrganizationState], Sequence[Event]],
    once: Once | None = None,
) -> Outcome | None:
    return await transact(
        store,
        principal.org_id,
        organization_stream(principal.org_id),
        evolve_organization,
        NO_ORGANIZATION,
        decided,
        meta=principal.meta(),
        once=once,
    )
