"""The bytes of an event that are hashed: everything that matters of a stored row, the same for ever (docs/reference/proof.md).

Format 1, integers big-endian:

    0x01  position u64  org_id 16  stream_id 16  version u64  event_id 16  recorded_at i64 (microseconds since 1970, UTC)
    length u32, type (UTF-8)   length u32, data (as stored)   length u32, meta (as stored)

A change of it is a new first byte, never a new meaning of an old one: released hashes must stay recomputable.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from uuid import UUID

from domain.proof.merkle import leaf_hash

FORMAT = 1
_HEAD = struct.Struct(">BQ16s16sQ16sqI")
_LENGTH = struct.Struct(">I")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ORGANIZATION_FORMAT = 1
_ORGANIZATION = struct.Struct(">B16sQ32s")


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    passed = moment - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def event_leaf(
    position: int,
    org_id: UUID,
    stream_id: UUID,
    version: int,
    kind: str,
    event_id: UUID,
    recorded_us: int,
    data: bytes,
    meta: bytes,
) -> bytes:
    """The canonical bytes of one event; `kind` is its stored type, `data` and `meta` the exact bytes of the columns."""
    name = kind.encode()
    head = _HEAD.pack(FORMAT, position, org_id.bytes, stream_id.bytes, version, event_id.bytes, recorded_us, len(name))
    return b"".join((head, name, _LENGTH.pack(len(data)), data, _LENGTH.pack(len(meta)), meta))


def organization_leaf(org_id: UUID, events: int, root: bytes) -> bytes:
    """What the tree of organizations says about one: how many events it has, and the root of the tree of exactly those."""
    return _ORGANIZATION.pack(ORGANIZATION_FORMAT, org_id.bytes, events, root)


def organization_hash(org_id: UUID, events: int, root: bytes) -> bytes:
    """The leaf of an organization, hashed."""
    return leaf_hash(organization_leaf(org_id, events, root))
