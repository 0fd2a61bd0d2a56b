"""Rules about an organization as a whole: its name, slug and settings, and how it ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from domain.kernel import DomainError, Event, NotFoundError, Sealed
from domain.organizations.decide import NAME_CHARS_MAX, check_slug
from domain.organizations.events import (
    CoachingEnforcementChanged,
    OrganizationDeleted,
    OrganizationPurged,
    OrganizationRestored,
    OrganizationSlugChanged,
    OrganizationUpdated,
)
from domain.organizations.members import lift
from domain.organizations.state import (
    ADMIN,
    HARD,
    OWNER,
    SOFT,
    Absent,
    Actor,
    InvalidFieldError,
    OrganizationState,
    check_text,
    living,
    require,
    restorable,
)

SETTINGS_MAX = 100
SETTING_CHARS_MAX = 2_000
REGIONS = ("na", "eu")
KEEP_DELETED = timedelta(days=90)

_SETTING = re.compile(r"[a-z][a-z0-9_.]{0,63}")


class ConfirmationRequiredError(DomainError):
    """What cannot be undone by oneself needs its name typed: `confirm` must be the slug."""

    code = "confirmation_required"


class OrganizationChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; None leaves a field as it is.  In `settings` a value of None removes that setting."""

    name: str | None = None
    slug: str | None = None
    settings: Mapping[str, Any] | None = None
    coaching_enforcement: str | None = None


def update(state: OrganizationState, *, actor: Actor, changes: OrganizationChanges, at: datetime) -> list[Event]:
    """Change the organization.  What is already so tells nothing.

    Raises:
        NotFoundError: there is no such organization.
        EscalationError: the actor is less than an admin.
        InvalidFieldError: a value cannot be accepted.
    """
    organization = living(state)
    require(organization, actor, ADMIN)
    name = _new(changes.name, organization.name)
    if name is not None:
        check_name(name)
    settings = None
    if changes.settings is not None:
        settings = _new(merged(organization.settings, changes.settings), organization.settings)
    events: list[Event] = []
    if name is not None or settings is not None:
        events.append(OrganizationUpdated(name=name, settings=settings, updated_at=at))
    if (slug := _new(changes.slug, organization.slug)) is not None:
        check_slug(slug)
        events.append(OrganizationSlugChanged(slug=slug, before=organization.slug, changed_at=at))
    if (strict := _new(changes.coaching_enforcement, organization.coaching_enforcement)) is not None:
        if strict not in (SOFT, HARD):
            raise InvalidFieldError("coaching_enforcement must be soft or hard", field="coaching_enforcement")
        events.append(
            CoachingEnforcementChanged(
                coaching_enforcement=strict, before=organization.coaching_enforcement, changed_at=at
            )
        )
    return events


def delete(state: OrganizationState, *, actor: Actor, confirm: str | None, at: datetime) -> list[Event]:
    """Hide the organization.  Deleting twice changes nothing.

    Raises:
        NotFoundError: there never was one, or it is purged.
        EscalationError: the actor is no owner.
        ConfirmationRequiredError: `confirm` is not its slug.
    """
    organization = restorable(state)
    check_confirmed(confirm, organization.slug)
    require(organization, actor, OWNER)
    if organization.deleted_at is not None:
        return []
    return [OrganizationDeleted(deleted_at=at)]


class NewOwner(msgspec.Struct, frozen=True, kw_only=True):
    """A user who shall own an organization, and how the list of members names them."""

    user_id: UUID
    email: Sealed | None = None
    name: Sealed | None = None


class OwnerlessError(DomainError):
    """Every owner has closed their account: somebody has to be named who owns it from now on."""

    code = "conflict"


def restore(state: OrganizationState, *, actor: Actor, at: datetime, new_owner: NewOwner | None = None) -> list[Event]:
    """Bring a deleted organization back as it was, with one owner more where one is named.  One that is not deleted stays.

    Raises:
        NotFoundError: there never was one, or it is purged.
        EscalationError: the actor is no owner.
        OwnerlessError: it has no owner any more, and none is named.
    """
    organization = restorable(state)
    require(organization, actor, OWNER)
    if organization.deleted_at is None:
        return []
    restored = OrganizationRestored(restored_at=at)
    if new_owner is None:
        if organization.owners() == 0:
            raise OwnerlessError("every owner closed their account; name the user who owns it now", field="owner_id")
        return [restored]
    member = organization.members.get(new_owner.user_id)
    if member is not None and member.permission == OWNER:
        return [restored]
    return [restored, lift(organization, new_owner.user_id, new_owner.email, new_owner.name, at)]


def purge(state: OrganizationState, *, at: datetime, now_rather_than_later: bool = False) -> list[Event]:
    """End an organization that has been deleted for `KEEP_DELETED`; earlier only where somebody decided so.

    Raises:
        NotFoundError: there never was one.
        NotDueError: it is not deleted, or not for long enough.
    """
    if isinstance(state, Absent):
        raise NotFoundError("organization not found")
    if state.purged:
        return []
    if state.deleted_at is None:
        raise NotDueError("only a deleted organization is purged")
    if not now_rather_than_later and at - state.deleted_at < KEEP_DELETED:
        raise NotDueError(f"a deleted organization is kept for {KEEP_DELETED.days} days")
    return [OrganizationPurged(purged_at=at)]


class NotDueError(DomainError):
    """Too early to purge."""

    code = "conflict"


def check_confirmed(confirm: str | None, slug: str) -> None:
    """Let through who typed the slug.

    Raises:
        ConfirmationRequiredError: they did not.
    """
    if confirm != slug:
        raise ConfirmationRequiredError(f"to delete it, send confirm={slug}", field="confirm", expected=slug)


def check_name(name: str) -> None:
    """Refuse a name that nobody could read.

    Raises:
        InvalidFieldError: empty, too long or not printable.
    """
    check_text(name, "name", NAME_CHARS_MAX)


def check_region(region: str) -> None:
    """Refuse a region we do not have.

    Raises:
        InvalidFieldError: it is none of `REGIONS`.
    """
    if region not in REGIONS:
        raise InvalidFieldError(f"region must be one of {', '.join(REGIONS)}", field="region")


def merged(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """All settings after `changes`: flat names, plain values, a bounded number.

    Raises:
        InvalidFieldError: a name or a value cannot be accepted, or there would be too many.
    """
    for name, value in changes.items():
        if not _SETTING.fullmatch(name):
            raise InvalidFieldError(
                "names of settings have 1 to 64 lower-case letters, digits, dots and underscores",
                field=f"settings.{name[:64]}",
            )
        if not isinstance(value, str | int | float | bool | None):
            raise InvalidFieldError("a setting is a text, a number or a truth value", field=f"settings.{name}")
        if isinstance(value, str) and len(value) > SETTING_CHARS_MAX:
            raise InvalidFieldError(f"a setting has at most {SETTING_CHARS_MAX} characters", field=f"settings.{name}")
    after = {name: value for name, value in {**before, **changes}.items() if value is not None}
    if len(after) > SETTINGS_MAX:
        raise InvalidFieldError(f"there may be at most {SETTINGS_MAX} settings", field="settings")
    return after


def _new(wanted: Any, known: Any) -> Any:
    """The wanted value where it is one and differs, else None."""
    return None if wanted is None or wanted == known else wanted
