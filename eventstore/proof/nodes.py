"""Hashes of subtrees, as many as asked for, in two queries at most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from domain.proof.merkle import HASH_BYTES, Node, node_hash, split
from eventstore.database import Connection

TILE_LEVEL = 8
TILE_LEAVES = 1 << TILE_LEVEL

_TILES = "SELECT tile, start, hashes FROM crewkit.proof_leaf WHERE tile = ANY ($1::bigint[]) ORDER BY tile, start"
_NODES = """
SELECT w.level, w.index, n.hash
  FROM unnest($1::smallint[], $2::bigint[]) w (level, index)
  JOIN crewkit.proof_node n ON n.level = w.level AND n.index = w.index
"""
_ORGANIZATION_NODES = """
SELECT w.level, w.index, n.hash
  FROM unnest($1::smallint[], $2::bigint[]) w (level, index)
 CROSS JOIN LATERAL (SELECT o.hash FROM crewkit.proof_organization_node o
                      WHERE o.level = w.level AND o.index = w.index AND o.number <= $3
                      ORDER BY o.number DESC LIMIT 1) n
"""


class NotSealedError(LookupError):
    """A subtree was asked for that no checkpoint covers (or whose rows are gone)."""


async def log_hashes(connection: Connection, nodes: Iterable[Node]) -> dict[Node, bytes]:
    """The hashes of perfect subtrees of the log.

    Raises:
        NotSealedError: one is not covered by a checkpoint yet.
    """
    wanted = set(nodes)
    found: dict[Node, bytes] = {}
    if high := [node for node in wanted if node[0] >= TILE_LEVEL]:
        rows = await connection.fetch(_NODES, [level for level, _ in high], [index for _, index in high])
        found |= {(level, index): found_hash for level, index, found_hash in rows}
    low: defaultdict[int, list[Node]] = defaultdict(list)
    for level, index in wanted:
        if level < TILE_LEVEL:
            low[index << level >> TILE_LEVEL].append((level, index))
    if low:
        tiles: defaultdict[int, list[bytes]] = defaultdict(list)
        for tile, start, hashes in await connection.fetch(_TILES, list(low)):
            if start != len(tiles[tile]):
                raise NotSealedError(f"tile {tile} lacks hashes before {start}")
            tiles[tile] += split(hashes)
        for tile, inside in low.items():
            found |= _in_tile(tile, tiles[tile], inside)
    return _complete(wanted, found)


async def organization_hashes(connection: Connection, nodes: Iterable[Node], number: int) -> dict[Node, bytes]:
    """The hashes of perfect subtrees of the tree of organizations, as of checkpoint `number`.

    Raises:
        NotSealedError: there was no such subtree then.
    """
    wanted = set(nodes)
    if not wanted:
        return {}
    levels, indexes = zip(*wanted, strict=True)
    rows = await connection.fetch(_ORGANIZATION_NODES, levels, indexes, number)
    return _complete(wanted, {(level, index): found for level, index, found in rows})


def _complete(wanted: set[Node], found: dict[Node, bytes]) -> dict[Node, bytes]:
    if missing := wanted - found.keys():
        level, index = min(missing)
        raise NotSealedError(f"no hash is stored for the subtree of {1 << level} leaves number {index}")
    return found


def _in_tile(tile: int, leaves: list[bytes], nodes: list[Node]) -> dict[Node, bytes]:
    """Subtrees inside one tile, all levels built once."""
    highest = max(level for level, _ in nodes)
    rows = [leaves]
    while len(rows) <= highest:
        row = rows[-1]
        rows.append([node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)])
    found: dict[Node, bytes] = {}
    for level, index in nodes:
        place = index - (tile << (TILE_LEVEL - level))
        if place < len(rows[level]):
            found[level, index] = rows[level][place]
    return found


def chunks(size: int, hashes: bytes) -> list[tuple[int, int, bytes]]:
    """Rows `(tile, start, hashes)` for the hashes of the leaves that follow the first `size`."""
    rows: list[tuple[int, int, bytes]] = []
    at = 0
    while at < len(hashes):
        tile, start = divmod(size + at // HASH_BYTES, TILE_LEAVES)
        end = at + (TILE_LEAVES - start) * HASH_BYTES
        rows.append((tile, start, hashes[at:end]))
        at = end
    return rows
