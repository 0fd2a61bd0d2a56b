"""Making the next checkpoint: one transaction that costs what is new, whatever came before."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from uuid import UUID

import msgspec

from domain.proof.leaf import event_leaf, microseconds, organization_hash
from domain.proof.merkle import Node, Range, blocks, leaf_hash, node_hash, span_hash, split
from domain.proof.note import Checkpoint, parse_note
from eventstore.database import Connection, Pool
from eventstore.proof.keys import Signer
from eventstore.proof.nodes import TILE_LEVEL, chunks, log_hashes, organization_hashes
from eventstore.sql import load

SEAL_EVENTS_MAX = 50_000  # events in one checkpoint; a backlog becomes several
PAGE_EVENTS = 2_000

_LAST = "SELECT number, size, sealed_at, public_key, note FROM crewkit.proof_checkpoint ORDER BY number DESC LIMIT 1"
_PAGE = """
SELECT position, org_id, stream_id, version, type, event_id, recorded_at, data, meta
  FROM crewkit.event WHERE position > $1 AND position <= $2 ORDER BY position
"""
_ORGANIZATIONS = """
SELECT DISTINCT ON (org_id) org_id, ordinal, events, peaks
  FROM crewkit.proof_organization WHERE org_id = ANY ($1::uuid[]) ORDER BY org_id, number DESC
"""
_ADD_LEAVES = "INSERT INTO crewkit.proof_leaf SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bytea[])"
_ADD_NODES = "INSERT INTO crewkit.proof_node SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])"
_ADD_ORGANIZATIONS = """
INSERT INTO crewkit.proof_organization (org_id, number, ordinal, events, peaks)
SELECT o.org_id, $1, o.ordinal, o.events, o.peaks
  FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[]) o (org_id, ordinal, events, peaks)
"""
_ADD_ORGANIZATION_NODES = """
INSERT INTO crewkit.proof_organization_node (level, index, number, hash)
SELECT n.level, n.index, $1, n.hash FROM unnest($2::smallint[], $3::bigint[], $4::bytea[]) n (level, index, hash)
"""
_ADD_CHECKPOINT = "INSERT INTO crewkit.proof_checkpoint VALUES ($1, $2, $3, $4, $5, $6)"


class Seal(msgspec.Struct, frozen=True):
    """A checkpoint as stored: what it says, its signed note and the key that signed it."""

    checkpoint: Checkpoint
    note: str
    public_key: str


class _News:
    """What the events since the last checkpoint hash to."""

    def __init__(self, log: Range) -> None:
        self.log = log
        self.leaves = bytearray()
        self.nodes: list[tuple[Node, bytes]] = []
        self.by_org: defaultdict[UUID, list[bytes]] = defaultdict(list)


async def log_name(connection: Connection | Pool) -> str:
    """What this installation's log is called."""
    found: UUID = await connection.fetchval("SELECT id FROM crewkit.proof_log")
    return f"crewkit/{found}"


async def last_seal(connection: Connection) -> Seal | None:
    """The newest checkpoint.

    Raises:
        ProofError: its note cannot be read.
    """
    row = await connection.fetchrow(_LAST)
    return None if row is None else Seal(parse_note(row["note"])[0], row["note"], row["public_key"])


async def seal(connection: Connection, signer: Signer, events_max: int = SEAL_EVENTS_MAX) -> Seal | None:
    """Sign a checkpoint over what is stored, at most `events_max` events further than the last.  None: nothing is new.

    Raises:
        asyncpg.UniqueViolationError: another sealer was faster; nothing was written.
        NotSealedError: rows of earlier checkpoints are gone.
    """
    async with connection.transaction():
        before = await last_seal(connection)
        last = before.checkpoint if before else None
        size = last.size if last else 0
        until = min(int(await connection.fetchval(load("select_head"))), size + events_max)
        if until <= size:
            return None
        number = last.number + 1 if last else 1
        news = await _read(connection, size, until)
        await _write_log(connection, size, news)
        count = last.organizations if last else 0
        count, organizations_root = await _write_organizations(connection, number, count, news.by_org)
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        made = Checkpoint(
            origin=signer.public.name,
            number=number,
            size=until,
            root=news.log.root(),
            organizations=count,
            organizations_root=organizations_root,
            at=max(now, last.at) if last else now,  # a clock that was set back does not turn the order round
            previous=last.digest() if last else None,
        )
        note = signer.note(made.text())
        await connection.execute(_ADD_CHECKPOINT, number, until, count, made.at, signer.public.text(), note)
    return Seal(made, note, signer.public.text())


async def _read(connection: Connection, size: int, until: int) -> _News:
    peaks = list(blocks(0, size))
    known = await log_hashes(connection, peaks)
    news = _News(Range(size, [known[node] for node in peaks]))
    append, leaves, nodes, by_org = news.log.append, news.leaves, news.nodes, news.by_org
    at = size
    while at < until:
        # Positions have no gaps, so the page's end is known: a limit would have some plans sort the whole backlog for each page.
        page = await connection.fetch(_PAGE, at, min(at + PAGE_EVENTS, until))
        for position, org_id, stream_id, version, kind, event_id, recorded_at, data, meta in page:
            found = leaf_hash(
                event_leaf(position, org_id, stream_id, version, kind, event_id, microseconds(recorded_at), data, meta)
            )
            leaves += found
            by_org[org_id].append(found)
            nodes += [made for made in append(found) if made[0][0] >= TILE_LEVEL]
        if not page or page[-1][0] != at + len(page):
            raise LookupError(f"the log lacks events after position {at}")  # leaves that were moved away too early
        at = page[-1][0]
    return news


async def _write_log(connection: Connection, size: int, news: _News) -> None:
    rows = chunks(size, bytes(news.leaves))
    await connection.execute(_ADD_LEAVES, *(list(column) for column in zip(*rows, strict=True)))
    if news.nodes:
        await connection.execute(
            _ADD_NODES,
            [level for (level, _), _ in news.nodes],
            [index for (_, index), _ in news.nodes],
            [found for _, found in news.nodes],
        )


async def _write_organizations(
    connection: Connection, number: int, count: int, news: dict[UUID, list[bytes]]
) -> tuple[int, bytes]:
    """How many organizations there are now, and the root of their tree."""
    known = {
        row["org_id"]: (row["ordinal"], Range(row["events"], split(row["peaks"])))
        for row in await connection.fetch(_ORGANIZATIONS, list(news))
    }
    changed: dict[Node, bytes] = {}
    rows: list[tuple[UUID, int, int, bytes]] = []
    for org_id, hashes in news.items():
        if (found := known.get(org_id)) is None:
            found = (count, Range())
            count += 1
        ordinal, own = found
        own.extend(hashes)
        rows.append((org_id, ordinal, own.size, b"".join(own.peaks)))
        changed[0, ordinal] = organization_hash(org_id, own.size, own.root())
    await connection.execute(_ADD_ORGANIZATIONS, number, *(list(column) for column in zip(*rows, strict=True)))
    root = await _climb(connection, number - 1, count, changed)
    await connection.execute(
        _ADD_ORGANIZATION_NODES,
        number,
        [level for level, _ in changed],
        [index for _, index in changed],
        list(changed.values()),
    )
    return count, root


async def _climb(connection: Connection, before: int, count: int, changed: dict[Node, bytes]) -> bytes:
    """Add to `changed`, which holds leaves, every perfect subtree above them; the root of all `count` leaves.

    What did not change is looked up as of checkpoint `before`, all of it at once.
    """
    rising = sorted(changed)
    climbed: list[Node] = []
    while rising:
        level = rising[0][0] + 1
        rising = sorted({(level, index >> 1) for _, index in rising if ((index >> 1) + 1) << level <= count})
        climbed += rising
    fresh = {*changed, *climbed}
    below = {(level - 1, 2 * index + side) for level, index in climbed for side in (0, 1)}
    unchanged = await organization_hashes(connection, (below | set(blocks(0, count))) - fresh, before)
    for level, index in climbed:
        left, right = ((level - 1, 2 * index + side) for side in (0, 1))
        changed[level, index] = node_hash(changed.get(left) or unchanged[left], changed.get(right) or unchanged[right])
    return span_hash((0, count), lambda node: changed.get(node) or unchanged[node])
