"""Add, change and remove members of an organization; hand ownership over."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from commands.bus import Once, Principal, load, transact
from domain.kernel import NotFoundError, Sealed
from domain.organizations import members as decide
from domain.organizations.state import (
    ADMIN,
    NO_ORGANIZATION,
    ORG_ROLE_DEFAULT,
    OWNER,
    PERMISSION_DEFAULT,
    Actor,
    evolve_organization,
    organization_stream,
)
from eventstore.port import EventStore, Outcome


def actor_of(principal: Principal) -> Actor:
    """Who decides, as the domain sees them: a key of scope `admin` is an admin and never an owner."""
    if principal.user_id is not None:
        return Actor(principal.user_id)
    if principal.actor.startswith("system:"):
        return Actor(None, OWNER)
    return Actor(None, ADMIN if "admin" in principal.scopes else principal.permission)


def permission_of(principal: Principal) -> str | None:
    """What the caller may do in their organization, in the words of the list of members."""
    return principal.permission or actor_of(principal).permission


async def add_member(
    store: EventStore,
    principal: Principal,
    user_id: UUID,
    *,
    permission: str = PERMISSION_DEFAULT,
    org_role: str = ORG_ROLE_DEFAULT,
    email: str | None = None,
    name: str | None = None,
    invitation_id: str | None = None,
    actor: Actor | None = None,
) -> Outcome | None:
    """Let a user into the principal's organization; None where they belong to it already.

    Raises:
        DomainError: see `domain.organizations.members.add`.
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        principal.org_id,
        organization_stream(principal.org_id),
        evolve_organization,
        NO_ORGANIZATION,
        lambda state: decide.add(
            state,
            actor=actor or actor_of(principal),
            user_id=user_id,
            permission=permission,
            org_role=org_role,
            email=Sealed(user_id, email) if email else None,
            name=Sealed(user_id, name) if name else None,
            invitation_id=invitation_id,
            at=datetime.now(UTC),
        ),
        meta=principal.meta(),
    )


async def change_member(
    store: EventStore,
    principal: Principal,
    user_id: UUID,
    *,
    permission: str | None = None,
    org_role: str | None = None,
) -> Outcome | None:
    """Change what a member may do or how agents treat them; None where nothing changes.

    Raises:
        DomainError: see `domain.organizations.members.change`.
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        principal.org_id,
        organization_stream(principal.org_id),
        evolve_organization,
        NO_ORGANIZATION,
        lambda state: decide.change(
            state,
            actor=actor_of(principal),
            user_id=user_id,
            permission=permission,
            org_role=org_role,
            at=datetime.now(UTC),
        ),
        meta=principal.meta(),
    )


async def remove_member(store: EventStore, principal: Principal, user_id: UUID) -> Outcome | None:
    """End a membership.

    Raises:
        DomainError: see `domain.organizations.members.remove`.
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        principal.org_id,
        organization_stream(principal.org_id),
        evolve_organization,
        NO_ORGANIZATION,
        lambda state: decide.remove(state, actor=actor_of(principal), user_id=user_id, at=datetime.now(UTC)),
        meta=principal.meta(),
    )


async def leave_all(store: EventStore, places: Sequence[Principal], user_id: UUID) -> None:
    """End a user's memberships in several organizations, or in none: whatever refuses is asked before the first one ends.

    `places` say in whose name it is done in each of them; where the user is no member (any more), nothing happens.  Deleted
    organizations count too: restored, they would otherwise belong to somebody who is gone.

    Raises:
        DomainError: see `domain.organizations.members.leave_for_good`; `details["organization_id"]` names the organization.
        StreamMovedError: one of them kept changing.
    """
    for there in places:
        stream = organization_stream(there.org_id)
        state = (await load(store, there.org_id, stream, evolve_organization, NO_ORGANIZATION))[0]
        with contextlib.suppress(NotFoundError):
            try:
                decide.leave_for_good(state, actor=actor_of(there), user_id=user_id, at=datetime.now(UTC))
            except decide.LastOwnerError as error:
                raise decide.LastOwnerError(str(error), organization_id=str(there.org_id)) from error
    for there in places:
        with contextlib.suppress(NotFoundError):
            await _leave(store, there, user_id)


async def _leave(store: EventStore, there: Principal, user_id: UUID) -> None:
    await transact(
        store,
        there.org_id,
        organization_stream(there.org_id),
        evolve_organization,
        NO_ORGANIZATION,
        lambda state: decide.leave_for_good(state, actor=actor_of(there), user_id=user_id, at=datetime.now(UTC)),
        meta=there.meta(),
    )


async def transfer_ownership(
    store: EventStore, principal: Principal, to_user_id: UUID, *, once: Once | None = None
) -> Outcome | None:
    """Hand the caller's ownership to another member; None where it is the caller.

    Raises:
        DomainError: see `domain.organizations.members.transfer`.
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        principal.org_id,
        organization_stream(principal.org_id),
        evolve_organization,
        NO_ORGANIZATION,
        lambda state: decide.transfer(state, actor=actor_of(principal), to_user_id=to_user_id, at=datetime.now(UTC)),
        meta=principal.meta(),
        once=once,
    )
