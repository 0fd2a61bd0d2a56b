"""Found, change, delete, restore and purge organizations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from commands.bus import Once, Principal, load, transact
from commands.members import actor_of
from commands.organizations import SLUG_CLAIM
from domain.kernel import Event, Sealed
from domain.organizations import decide, manage
from domain.organizations.events import OrganizationPurged, OrganizationSlugChanged
from domain.organizations.manage import NewOwner, OrganizationChanges
from domain.organizations.state import (
    NO_ORGANIZATION,
    REGION_DEFAULT,
    Absent,
    EscalationError,
    InvalidFieldError,
    OrganizationState,
    evolve_organization,
    organization_stream,
)
from eventstore.ids import uuid7
from eventstore.port import Claim, EventStore, NameTakenError, Outcome


async def create_organization(
    store: EventStore,
    principal: Principal,
    *,
    slug: str,
    name: str,
    region: str = REGION_DEFAULT,
    email: str | None = None,
    owner_name: str | None = None,
    once: Once | None = None,
) -> tuple[UUID, Outcome]:
    """Found an organization that belongs to the calling user; its id and what was appended.

    Raises:
        EscalationError: the caller is a program, not a user.
        NameTakenError: the slug belongs to another organization.
        InvalidFieldError: slug, name or region cannot be accepted.
    """
    owner_id = principal.user_id
    if owner_id is None:
        raise EscalationError("only a signed-in user founds an organization: somebody has to own it")
    manage.check_region(region)
    org_id = once.new_id() if once else uuid7()
    outcome = await _transact(
        store,
        org_id,
        principal,
        lambda state: decide.create(
            state,
            organization_id=org_id,
            slug=slug,
            name=name,
            owner_id=owner_id,
            at=datetime.now(UTC),
            region=region,
            email=Sealed(owner_id, email) if email else None,
            owner_name=Sealed(owner_id, owner_name) if owner_name else None,
        ),
        claims=[Claim(SLUG_CLAIM, slug)],
        once=once,
    )
    if outcome is None:  # a new id met an existing organization
        raise AssertionError("a fresh organization id exists already")
    return org_id, outcome


async def update_organization(store: EventStore, principal: Principal, changes: OrganizationChanges) -> Outcome | None:
    """Change the principal's organization; None where all is so already.

    Raises:
        NameTakenError: the slug belongs to another organization.
        DomainError: see `domain.organizations.manage.update`.
    """
    return await _transact(
        store,
        principal.org_id,
        principal,
        lambda state: manage.update(state, actor=actor_of(principal), changes=changes, at=datetime.now(UTC)),
        names=_slug_names,
    )


async def delete_organization(store: EventStore, principal: Principal, confirm: str | None) -> Outcome | None:
    """Hide the principal's organization; None where it is hidden already.

    Raises:
        DomainError: see `domain.organizations.manage.delete`.
    """
    return await _transact(
        store,
        principal.org_id,
        principal,
        lambda state: manage.delete(state, actor=actor_of(principal), confirm=confirm, at=datetime.now(UTC)),
    )


async def restore_organization(
    store: EventStore, principal: Principal, new_owner: NewOwner | None = None
) -> Outcome | None:
    """Bring the principal's organization back, for a new owner where one is named; None where it is not deleted.

    Raises:
        DomainError: see `domain.organizations.manage.restore`.
    """
    return await _transact(
        store,
        principal.org_id,
        principal,
        lambda state: manage.restore(state, actor=actor_of(principal), at=datetime.now(UTC), new_owner=new_owner),
    )


async def purge_organization(
    store: EventStore, principal: Principal, *, at: datetime, now_rather_than_later: bool = False
) -> Outcome | None:
    """End a deleted organization: its slug is free.  Destroying the keys of its people is the caller's next step.

    Raises:
        DomainError: see `domain.organizations.manage.purge`.
    """
    slugs: list[str] = []

    def decided(state: OrganizationState) -> Sequence[Event]:
        slugs[:] = [] if isinstance(state, Absent) else [state.slug]
        return manage.purge(state, at=at, now_rather_than_later=now_rather_than_later)

    def names(events: Sequence[Event]) -> tuple[list[Claim], list[Claim]]:
        gone = any(isinstance(event, OrganizationPurged) for event in events)
        return [], [Claim(SLUG_CLAIM, slug) for slug in slugs if gone]

    return await _transact(store, principal.org_id, principal, decided, names=names)


def check_slug(slug: str) -> str | None:
    """Why no organization may have this slug, or None."""
    try:
        decide.check_slug(slug)
    except InvalidFieldError as refused:
        return str(refused)
    return None


async def organization_settings(store: EventStore, org_id: UUID) -> Mapping[str, Any]:
    """What an organization has set, straight from its stream; empty where there is no such (living) organization."""
    stream = organization_stream(org_id)
    state, _, _ = await load(store, org_id, stream, evolve_organization, NO_ORGANIZATION)
    return {} if isinstance(state, Absent) or state.deleted_at is not None or state.purged else state.settings


def _slug_names(events: Sequence[Event]) -> tuple[list[Claim], list[Claim]]:
    changed = [event for event in events if isinstance(event, OrganizationSlugChanged)]
    return (
        [Claim(SLUG_CLAIM, event.slug) for event in changed],
        [Claim(SLUG_CLAIM, event.before) for event in changed],
    )


async def _transact(
    store: EventStore,
    org_id: UUID,
    principal: Principal,
    decided: Callable[[OrganizationState], Sequence[Event]],
    *,
    claims: Sequence[Claim] = (),
    names: Callable[[Sequence[Event]], tuple[Sequence[Claim], Sequence[Claim]]] | None = None,
    once: Once | None = None,
) -> Outcome | None:
    try:
        return await transact(
            store,
            org_id,
            organization_stream(org_id),
            evolve_organization,
            NO_ORGANIZATION,
            decided,
            meta=principal.meta(),
            claims=claims,
            names=names,
            once=once,
        )
    except NameTakenError as taken:
        raise NameTakenError("this slug is taken", field="slug") from taken
