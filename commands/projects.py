"""Begin, change, delete, restore and purge projects; note what their repositories are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from commands.bus import Once, Principal, load, transact
from commands.members import actor_of
from domain.kernel import Event, Sealed
from domain.organizations.state import (
    ADMIN,
    MANAGER,
    NO_ORGANIZATION,
    evolve_organization,
    organization_stream,
    require,
)
from domain.organizations.state import living as living_organization
from domain.projects import decide
from domain.projects.decide import NO_PROJECT, Project, ProjectChanges, ProjectState, evolve, project_stream
from eventstore.ids import uuid7
from eventstore.port import Claim, EventStore, NameTakenError, Outcome

SLUG_CLAIM = "project.slug"
REMOTE_CLAIM = "project.git_remote"
_FIELDS = {SLUG_CLAIM: "slug", REMOTE_CLAIM: "git_remotes"}


def slug_claim(org_id: UUID, slug: str) -> Claim:
    """The name a project goes by in its organization."""
    return Claim(SLUG_CLAIM, f"{org_id}:{slug}")


def remote_claim(org_id: UUID, remote: str) -> Claim:
    """A repository belongs to one project of an organization.  Hashed: an address may hold somebody's name."""
    return Claim(REMOTE_CLAIM, f"{org_id}:{hashlib.sha256(remote.encode()).hexdigest()}")


def description_of(principal: Principal, text: str | None) -> Sealed | None:
    """Free text belongs to who wrote it."""
    return None if text is None else Sealed(principal.person_id, text)


async def create_project(
    store: EventStore,
    principal: Principal,
    *,
    slug: str,
    name: str,
    description: str | None = None,
    git_remotes: Sequence[str] = (),
    default_branch: str | None = None,
    stacks: Sequence[str] | None = None,
    once: Once | None = None,
) -> tuple[UUID, Outcome]:
    """Begin a project in the principal's organization; its id and what was appended.

    Raises:
        EscalationError: the caller is less than a manager.
        NameTakenError: slug or repository belong to another project.
        InvalidFieldError: a value cannot be accepted.
    """
    await _permitted(store, principal, MANAGER)
    project_id = once.new_id() if once else uuid7()
    outcome = await _transact(
        store,
        principal,
        project_id,
        lambda state: decide.create(
            state,
            project_id=project_id,
            slug=slug,
            name=name,
            description=description_of(principal, description),
            git_remotes=git_remotes,
            default_branch=default_branch,
            stacks=stacks,
            at=datetime.now(UTC),
        ),
        once,
    )
    if outcome is None:
        raise AssertionError("a fresh project id exists already")
    return project_id, outcome


async def update_project(
    store: EventStore, principal: Principal, project_id: UUID, changes: ProjectChanges
) -> Outcome | None:
    """Change a project; None where all is so already.

    Raises:
        EscalationError: the caller is less than a manager.
        NameTakenError: slug or repository belong to another project.
        DomainError: see `domain.projects.decide.update`.
    """
    await _permitted(store, principal, MANAGER)
    return await _transact(
        store, principal, project_id, lambda state: decide.update(state, changes=changes, at=datetime.now(UTC))
    )


async def record_stacks(
    store: EventStore, principal: Principal, project_id: UUID, stacks: Sequence[str]
) -> Outcome | None:
    """Note what its repository is made of; None where that is known.

    Raises:
        DomainError: see `domain.projects.decide.record_stacks`.
    """
    return await _transact(
        store, principal, project_id, lambda state: decide.record_stacks(state, stacks=stacks, at=datetime.now(UTC))
    )


async def delete_project(
    store: EventStore, principal: Principal, project_id: UUID, confirm: str | None
) -> Outcome | None:
    """Hide a project; its repositories are free for others.  None where it is hidden already.

    Raises:
        EscalationError: the caller is less than an admin.
        DomainError: see `domain.projects.decide.delete`.
    """
    await _permitted(store, principal, ADMIN)
    return await _transact(
        store, principal, project_id, lambda state: decide.delete(state, confirm=confirm, at=datetime.now(UTC))
    )


async def restore_project(store: EventStore, principal: Principal, project_id: UUID) -> Outcome | None:
    """Bring a deleted project back; None where it is not deleted.

    Raises:
        EscalationError: the caller is less than an admin.
        NameTakenError: one of its repositories belongs to another project by now.
        DomainError: see `domain.projects.decide.restore`.
    """
    await _permitted(store, principal, ADMIN)
    return await _transact(store, principal, project_id, lambda state: decide.restore(state, at=datetime.now(UTC)))


async def purge_project(store: EventStore, principal: Principal, project_id: UUID, *, at: datetime) -> Outcome | None:
    """End a project that was deleted long enough ago; its slug is free.

    Raises:
        DomainError: see `domain.projects.decide.purge`.
    """
    return await _transact(store, principal, project_id, lambda state: decide.purge(state, at=at))


async def _permitted(store: EventStore, principal: Principal, permission: str) -> None:
    """Let through who has at least that permission in a living organization."""
    stream = organization_stream(principal.org_id)
    state = (await load(store, principal.org_id, stream, evolve_organization, NO_ORGANIZATION))[0]
    require(living_organization(state), actor_of(principal), permission)


def _held(org_id: UUID, state: ProjectState) -> set[Claim]:
    """The names a project holds: a deleted one keeps its slug, so that it can come back, but not its repositories."""
    if not isinstance(state, Project) or state.purged:
        return set()
    names = {slug_claim(org_id, state.slug)}
    if state.deleted_at is None:
        names |= {remote_claim(org_id, remote) for remote in state.git_remotes}
    return names


async def _transact(
    store: EventStore,
    principal: Principal,
    project_id: UUID,
    decided: Callable[[ProjectState], Sequence[Event]],
    once: Once | None = None,
) -> Outcome | None:
    """As `transact`; the names that the project holds afterwards are claimed, those it held before and not now released."""
    org_id = principal.org_id
    held: list[set[Claim]] = [set(), set()]

    def noting(state: ProjectState) -> Sequence[Event]:
        events = decided(state)
        held[0] = _held(org_id, state)
        for event in events:
            state = evolve(state, event)
        held[1] = _held(org_id, state)
        return events

    try:
        return await transact(
            store,
            org_id,
            project_stream(project_id),
            evolve,
            NO_PROJECT,
            noting,
            meta=principal.meta(),
            names=lambda _: (_sorted(held[1] - held[0]), _sorted(held[0] - held[1])),
            once=once,
        )
    except NameTakenError as taken:
        # The store tells that one of the names is taken, not which.
        scopes = {claim.scope for claim in held[1] - held[0]}
        fields = [field for scope, field in _FIELDS.items() if scope in scopes]
        raise NameTakenError(
            f"{' or '.join(fields)}: belongs to another project of this organization", field=fields[0], fields=fields
        ) from taken


def _sorted(claims: set[Claim]) -> list[Claim]:
    return sorted(claims, key=lambda claim: (claim.scope, claim.key))
