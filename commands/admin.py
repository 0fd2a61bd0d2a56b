"""What staff do, and the note of it that comes first: nothing is shown or changed that was not told before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from commands import tenants
from commands.bus import Principal, load, transact
from domain.admin.decide import admin_stream, checked_reason
from domain.admin.events import AdminAccessed, AdminActed
from domain.erasure.decide import NotConfirmedError, check_reason
from domain.kernel import PLATFORM, Event, NotFoundError, Sealed
from domain.organizations.manage import NewOwner, check_confirmed
from domain.organizations.state import InvalidFieldError
from domain.users import administer
from domain.users.administer import Staff, UserChanges
from domain.users.decide import clean_name
from domain.users.state import NOBODY, User, UserState, evolve, user_stream
from eventstore.port import Append, EventStore, NewEvent, Outcome
from eventstore.sealing import KeyRing


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to happen.  `organization_id`: whose data it is; None: the platform's own.  `needed`: not without a reason."""

    what: str
    reason: str | None
    organization_id: UUID | None = None
    target: str | None = None
    needed: bool = False


def staff_of(principal: Principal) -> Staff:
    """Who administers.

    Raises:
        AssertionError: the guard let somebody in who is no user.
    """
    if principal.user_id is None:
        raise AssertionError("administration is for signed-in users")
    return Staff(principal.user_id, principal.platform_role)


async def note_access(store: EventStore, principal: Principal, note: Note) -> None:
    """Tell a reading, to the organization concerned and to the platform.  Another's data is not read without a reason.

    Raises:
        InvalidFieldError: the reason is missing, or none.
    """
    staff = staff_of(principal)
    reason = checked_reason(note.reason, needed=note.needed or note.organization_id is not None)
    event = AdminAccessed(
        user_id=staff.user_id,
        what=note.what,
        organization_id=note.organization_id,
        target=note.target,
        reason=None if reason is None else Sealed(staff.user_id, reason),
        accessed_at=datetime.now(UTC),
    )
    await _tell(store, principal, note.organization_id, event)


async def note_deed(store: EventStore, principal: Principal, note: Note) -> None:
    """Tell a deed, as `note_access`; here a reason is always needed.

    Raises:
        InvalidFieldError: the reason is missing, or none.
    """
    staff = staff_of(principal)
    reason = checked_reason(note.reason, needed=True)
    event = AdminActed(
        user_id=staff.user_id,
        action=note.what,
        organization_id=note.organization_id,
        target=note.target,
        reason=Sealed(staff.user_id, reason),
        acted_at=datetime.now(UTC),
    )
    await _tell(store, principal, note.organization_id, event)


async def _tell(store: EventStore, principal: Principal, organization_id: UUID | None, event: Event) -> None:
    stream = admin_stream(staff_of(principal).user_id)
    for org_id in (organization_id, PLATFORM):
        if org_id is not None:
            await store.append(
                Append(org_id=org_id, stream=stream, events=[NewEvent(event)], facts=True, meta=principal.meta())
            )


async def update_user(
    store: EventStore,
    principal: Principal,
    user_id: UUID,
    *,
    name: str | None = None,
    locale: str | None = None,
    timezone: str | None = None,
    platform_role: str | None = None,
) -> Outcome | None:
    """Change somebody's account; None where nothing changes.

    Raises:
        DomainError: see `domain.users.administer.change`.
        StreamMovedError: others kept changing it.
    """
    changes = UserChanges(
        name=None if name is None else Sealed(user_id, clean_name(name)),
        locale=locale,
        timezone=timezone,
        platform_role=platform_role,
    )
    by, at = staff_of(principal), datetime.now(UTC)
    return await _on_user(
        store, principal, user_id, lambda state: administer.change(state, by=by, changes=changes, at=at)
    )


async def disable_user(store: EventStore, principal: Principal, user_id: UUID) -> Outcome | None:
    """Lock an account and end its logins; None where it is locked.

    Raises:
        DomainError: see `domain.users.administer.disable`.
        StreamMovedError: others kept changing it.
    """
    by, at = staff_of(principal), datetime.now(UTC)
    return await _on_user(store, principal, user_id, lambda state: administer.disable(state, by=by, at=at))


async def enable_user(store: EventStore, principal: Principal, user_id: UUID) -> Outcome | None:
    """Unlock an account; None where it is not locked.

    Raises:
        DomainError: see `domain.users.administer.enable`.
        StreamMovedError: others kept changing it.
    """
    by, at = staff_of(principal), datetime.now(UTC)
    return await _on_user(store, principal, user_id, lambda state: administer.enable(state, by=by, at=at))


async def check_erasable(
    store: EventStore, principal: Principal, user_id: UUID, *, ground: str, confirm: str | None
) -> None:
    """Whether the principal may close somebody's account and erase them on that ground; changes nothing.

    Raises:
        NotConfirmedError: `confirm` is not the user's id.
        ErasureRefusedError: the ground is none of `domain.erasure.decide.REASONS`.
        DomainError: see `domain.users.administer.check_erasable`.
    """
    if confirm != str(user_id):
        raise NotConfirmedError("this cannot be undone: confirm must repeat the id of the user", field="confirm")
    check_reason(ground, "ground")
    state, _, _ = await load(store, PLATFORM, user_stream(user_id), evolve, NOBODY)
    administer.check_erasable(state, by=staff_of(principal))


async def _on_user(
    store: EventStore, principal: Principal, user_id: UUID, decide: Callable[[UserState], Sequence[Event]]
) -> Outcome | None:
    return await transact(store, PLATFORM, user_stream(user_id), evolve, NOBODY, decide, meta=principal.meta())


def acting_in(principal: Principal, org_id: UUID) -> Principal:
    """The staff's principal inside an organization they do not belong to: an owner's rights, under their own name."""
    return Principal(
        actor=principal.actor,
        org_id=org_id,
        person_id=principal.person_id,
        scopes=frozenset(),
        request_id=principal.request_id,
        permission="owner",
        platform_role=principal.platform_role,
    )


async def restore_organization(
    store: EventStore,
    principal: Principal,
    org_id: UUID,
    *,
    owner_id: UUID | None = None,
    email: str | None = None,
    name: str | None = None,
) -> Outcome | None:
    """Bring a deleted organization back, owned by the user `owner_id` too; None where it is not deleted.

    `email` and `name` are what the list of members calls them.

    Raises:
        InvalidFieldError: nobody with that id can sign in.
        DomainError: see `domain.organizations.manage.restore`.
    """
    new_owner = None
    if owner_id is not None:
        state, _, _ = await load(store, PLATFORM, user_stream(owner_id), evolve, NOBODY)
        if not isinstance(state, User) or state.status != "active":
            raise InvalidFieldError("owner_id: there is no such active user", field="owner_id")
        new_owner = NewOwner(
            user_id=owner_id,
            email=Sealed(owner_id, email) if email else None,
            name=Sealed(owner_id, name) if name else None,
        )
    return await tenants.restore_organization(store, acting_in(principal, org_id), new_owner)


async def purge_organization(
    store: EventStore, ring: KeyRing, principal: Principal, org_id: UUID, *, slug: str, confirm: str | None
) -> Outcome | None:
    """End an organization now, deleted before or not, and destroy every key its data was sealed with; None: it was over.

    Raises:
        ConfirmationRequiredError: `confirm` is not its slug.
        DomainError: see `domain.organizations.manage.purge`.
    """
    check_confirmed(confirm, slug)
    inside = acting_in(principal, org_id)
    with contextlib.suppress(NotFoundError):  # it is purged: what a crash left undone is done below
        await tenants.delete_organization(store, inside, slug)
    outcome = await tenants.purge_organization(store, inside, at=datetime.now(UTC), now_rather_than_later=True)
    await ring.destroy_all(org_id)
    return outcome
