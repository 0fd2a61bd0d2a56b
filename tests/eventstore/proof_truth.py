"""What the proof tables must hold, computed anew from the event table by the definition alone."""

from __future__ import annotations

from collections import defaultdict
from hashlib import sha256
from typing import Any
from uuid import UUID

from domain.proof.leaf import event_leaf, microseconds, organization_hash
from domain.proof.merkle import leaf_hash
from domain.proof.note import parse_key, parse_note
from eventstore.proof import is_signed_by


def root_of(hashes: list[bytes]) -> bytes:
    """RFC 6962, 2.1, over leaf hashes."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while 2 * k < len(hashes):
        k *= 2
    return sha256(b"\x01" + root_of(hashes[:k]) + root_of(hashes[k:])).digest()


async def leaves(connection: Any) -> list[tuple[UUID, bytes]]:
    """Organization and leaf hash of every event, in order."""
    rows = await connection.fetch("SELECT * FROM crewkit.event ORDER BY position")
    return [
        (
            row["org_id"],
            leaf_hash(
                event_leaf(
                    row["position"],
                    row["org_id"],
                    row["stream_id"],
                    row["version"],
                    row["type"],
                    row["event_id"],
                    microseconds(row["recorded_at"]),
                    row["data"],
                    row["meta"],
                )
            ),
        )
        for row in rows
    ]


async def establish(connection: Any) -> int:
    """Every checkpoint says the truth, is signed and names the one before; answers how many events they cover."""
    events = await leaves(connection)
    seals = await connection.fetch("SELECT * FROM crewkit.proof_checkpoint ORDER BY number")
    before = None
    for number, row in enumerate(seals, 1):
        found, signatures = parse_note(row["note"])
        assert (found.number, found.size, found.at) == (number, row["size"], row["sealed_at"])
        assert is_signed_by(parse_key(row["public_key"]), found.text(), signatures)
        assert found.root == root_of([one for _, one in events[: found.size]])
        own: defaultdict[UUID, list[bytes]] = defaultdict(list)
        for org_id, one in events[: found.size]:
            own[org_id].append(one)
        organizations = [organization_hash(org_id, len(own[org_id]), root_of(own[org_id])) for org_id in own]
        assert (found.organizations, found.organizations_root) == (len(organizations), root_of(organizations))
        assert found.previous == (before.digest() if before else None)
        assert before is None or (before.size < found.size and before.at <= found.at)
        before = found
    return before.size if before else 0
