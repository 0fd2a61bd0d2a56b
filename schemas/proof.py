"""Proofs as answers."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class CheckpointView(msgspec.Struct, frozen=True, kw_only=True):
    """A signed checkpoint.  `note` is what was signed, with its signatures; roots are hex."""

    number: int
    size: int
    root: str
    organizations: int
    organizations_root: str
    sealed_at: datetime
    note: str
    public_key: str
    fingerprint: str
    links: dict[str, str] = msgspec.field(name="_links")


class CheckpointPage(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first.  `next_before` None: these were the oldest."""

    items: list[CheckpointView]
    next_before: int | None
    links: dict[str, str] = msgspec.field(name="_links")


class InclusionView(msgspec.Struct, frozen=True, kw_only=True):
    """That one event is in the log (RFC 6962): leaf `index`, its canonical bytes and the path to the root, all hex."""

    event_id: UUID
    index: int
    leaf: str
    path: list[str]
    checkpoint: CheckpointView
    links: dict[str, str] = msgspec.field(name="_links")


class ConsistencyView(msgspec.Struct, frozen=True, kw_only=True):
    """That the second checkpoint only added to the first (RFC 6962); the path is hex."""

    first: CheckpointView
    second: CheckpointView
    path: list[str]
    links: dict[str, str] = msgspec.field(name="_links")
