"""How the health endpoints answer."""

from __future__ import annotations

from typing import Any

import msgspec


class Component(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`status` is `ok`, `degraded` (works, with a loss the message names) or `down`."""

    status: str
    message: str = ""
    details: dict[str, Any] = {}


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The worst of its components, and each of them."""

    status: str
    components: dict[str, Component]


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: str = "ok"
