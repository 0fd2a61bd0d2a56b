"""Working roles as requests and answers."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType


class NewRole(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A working role to create.  `tools` null: all tools; `level` 3 and more: autonomous, unless coached."""

    key: str
    level: int = 1
    custom_name: str | None = None
    coaching_mode_enabled: bool = False
    tools: list[str] | None = None


class RolePatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to change.  `tools` null: all tools; not sent: as they are."""

    level: int | None = None
    custom_name: str | None = None
    coaching_mode_enabled: bool | None = None
    tools: list[str] | UnsetType | None = UNSET


class RoleView(msgspec.Struct, frozen=True, kw_only=True):
    """A working role.  `mode` follows from it: `coaching`, `collaborative` or `autonomous`."""

    role_id: UUID
    key: str
    level: int
    custom_name: str
    coaching_mode_enabled: bool
    mode: str
    tools: list[str] | None
    built_in: bool
    created_at: datetime
    updated_at: datetime
    links: dict[str, str] = msgspec.field(name="_links")


class RolePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of working roles.  `total` counts all pages."""

    items: list[RoleView]
    page: int
    page_size: int
    total: int
    links: dict[str, str] = msgspec.field(name="_links")


class EffectiveRoleView(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent has to keep to for one member.

    `tools` null: all.  `tools_enforced`: others are taken away; else the agent is told by `system_prompt`.  `user_id` null:
    the caller is no member, and gets what members get by default.
    """

    user_id: UUID | None
    permission: str | None
    org_role: str
    level: int
    custom_name: str
    mode: str
    coaching_mode_enabled: bool
    coaching_enforcement: str
    tools: list[str] | None
    tools_enforced: bool
    system_prompt: str
    links: dict[str, str] = msgspec.field(name="_links")
