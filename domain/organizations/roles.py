"""Rules about working roles: how an agent treats a member, which tools it may use for them, and what it is told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from domain.kernel import DomainError, Event, NotFoundError
from domain.organizations.events import RoleCreated, RoleDeleted, RoleUpdated
from domain.organizations.members import LimitReachedError
from domain.organizations.state import (
    ADMIN,
    HARD,
    PERMISSIONS,
    Actor,
    InvalidFieldError,
    OrganizationState,
    Role,
    check_text,
    living,
    require,
)

ROLES_MAX = 50
LEVEL_MAX = 100
ROLE_NAME_CHARS_MAX = 100
TOOLS_MAX = 200
TOOL_CHARS_MAX = 200

_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")

PROMPTS = {
    "coaching": (
        "You are coaching a junior engineer. Explain what you see and why it matters, ask guiding questions, and suggest "
        "the next small step. Let them write the change themselves; do not edit files or run commands for them."
    ),
    "collaborative": "",
    "autonomous": "",
}


class RoleInUseError(DomainError):
    """Members have this role, or it is one every organization needs."""

    code = "conflict"


class RoleKnownError(DomainError):
    """There is a role of that key already."""

    code = "conflict"


class RoleFields(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of a role beside its key.  `all_tools` takes the list of tools away."""

    level: int | None = None
    custom_name: str | None = None
    coaching_mode_enabled: bool | None = None
    tools: Sequence[str] | None = None
    all_tools: bool = False


class EffectiveRole(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent has to keep to for one member.

    `tools` None: all.  With enforcement `hard` other tools are taken away (`tools_enforced`); with `soft` the agent is told.
    """

    org_role: str
    level: int
    custom_name: str
    mode: str
    coaching_mode_enabled: bool
    coaching_enforcement: str
    tools: list[str] | None
    tools_enforced: bool
    system_prompt: str


def effective(role: Role, enforcement: str) -> EffectiveRole:
    """The one resolution of role and enforcement."""
    prompt = PROMPTS[role.mode]
    if role.tools is not None and prompt:
        prompt += f" Use only these tools: {', '.join(role.tools)}."
    return EffectiveRole(
        org_role=role.key,
        level=role.level,
        custom_name=role.custom_name,
        mode=role.mode,
        coaching_mode_enabled=role.coaching_mode_enabled,
        coaching_enforcement=enforcement,
        tools=None if role.tools is None else list(role.tools),
        tools_enforced=enforcement == HARD and role.tools is not None,
        system_prompt=prompt,
    )


def create_role(
    state: OrganizationState, *, actor: Actor, role_id: UUID, key: str, fields: RoleFields, at: datetime
) -> list[Event]:
    """Add a working role.

    Raises:
        NotFoundError: there is no such organization.
        EscalationError: the actor is less than an admin.
        InvalidFieldError: a value cannot be accepted.
        RoleKnownError: the key is taken.
        LimitReachedError: there are enough roles.
    """
    organization = living(state)
    require(organization, actor, ADMIN)
    if not _KEY.fullmatch(key):
        raise InvalidFieldError(
            "key must have 1 to 63 lower-case letters, digits, hyphens and underscores, a letter first", field="key"
        )
    if key in organization.roles:
        raise RoleKnownError(f"there is a role {key!r} already", field="key")
    if key in PERMISSIONS:  # a legacy field `role` may hold either, and must not mean two things
        raise InvalidFieldError(f"key must not be a permission, got {key!r}", field="key")
    if len(organization.roles) >= ROLES_MAX:
        raise LimitReachedError(f"an organization has at most {ROLES_MAX} working roles", limit=ROLES_MAX)
    role = Role(
        role_id, key, 1, key.replace("_", " ").replace("-", " ").capitalize(), coaching_mode_enabled=False, tools=None
    )
    told = _with(role, fields)
    return [
        RoleCreated(
            role_id=role_id,
            key=key,
            level=told.level,
            custom_name=told.custom_name,
            coaching_mode_enabled=told.coaching_mode_enabled,
            tools=None if told.tools is None else list(told.tools),
            created_at=at,
        )
    ]


def update_role(state: OrganizationState, *, actor: Actor, role: str, fields: RoleFields, at: datetime) -> list[Event]:
    """Change a working role, named by key or id; built-in ones too.  What is already so tells nothing.

    Raises:
        NotFoundError: there is no such organization or role.
        EscalationError: the actor is less than an admin.
        InvalidFieldError: a value cannot be accepted.
    """
    organization = living(state)
    require(organization, actor, ADMIN)
    known = find_role(organization.roles.values(), role)
    told = _with(known, fields)
    if told == known:
        return []
    return [
        RoleUpdated(
            role_id=known.role_id,
            key=known.key,
            level=told.level,
            custom_name=told.custom_name,
            coaching_mode_enabled=told.coaching_mode_enabled,
            tools=None if told.tools is None else list(told.tools),
            updated_at=at,
        )
    ]


def delete_role(state: OrganizationState, *, actor: Actor, role: str, at: datetime) -> list[Event]:
    """Remove a working role that nobody has.

    Raises:
        NotFoundError: there is no such organization or role.
        EscalationError: the actor is less than an admin.
        RoleInUseError: members have it, or it is built in.
    """
    organization = living(state)
    require(organization, actor, ADMIN)
    known = find_role(organization.roles.values(), role)
    if known.built_in:
        raise RoleInUseError(f"the built-in role {known.key} can be changed, but not deleted")
    holders = sum(member.org_role == known.key for member in organization.members.values())
    if holders:
        raise RoleInUseError(f"{holders} members have the role {known.key}; give them another first", members=holders)
    return [RoleDeleted(role_id=known.role_id, key=known.key, deleted_at=at)]


def find_role(roles: Iterable[Role], named: str) -> Role:
    """The role of that key or id.

    Raises:
        NotFoundError: there is none.
    """
    for role in roles:
        if named in (role.key, str(role.role_id)):
            return role
    raise NotFoundError("role not found")


def _with(role: Role, fields: RoleFields) -> Role:
    if fields.level is not None and not 1 <= fields.level <= LEVEL_MAX:
        raise InvalidFieldError(f"level must be 1 to {LEVEL_MAX}", field="level")
    name = fields.custom_name
    if name is not None:
        check_text(name, "custom_name", ROLE_NAME_CHARS_MAX)
    tools = fields.tools
    odd = (not tool.strip() or len(tool) > TOOL_CHARS_MAX or not tool.isprintable() for tool in tools or ())
    if len(tools or ()) > TOOLS_MAX or any(odd):
        raise InvalidFieldError(
            f"tools must be at most {TOOLS_MAX} names of 1 to {TOOL_CHARS_MAX} printable characters", field="tools"
        )
    return Role(
        role.role_id,
        role.key,
        role.level if fields.level is None else fields.level,
        role.custom_name if name is None else name,
        role.coaching_mode_enabled if fields.coaching_mode_enabled is None else fields.coaching_mode_enabled,
        None if fields.all_tools else role.tools if tools is None else tuple(dict.fromkeys(tools)),
        role.built_in,
    )
