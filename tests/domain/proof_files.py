"""Exports made in memory, by the definition: a log of several organizations, checkpoints on the way, one signer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from domain.kernel import Stream
from domain.proof.leaf import event_leaf, microseconds, organization_hash
from domain.proof.lines import FORMAT, End, Head, Line, Shown, Skipped, write_line
from domain.proof.merkle import Node, Range, blocks, inclusion_spans, leaf_hash, span_hash
from domain.proof.note import Checkpoint
from eventstore.proof import Signer

AT = datetime(2026, 11, 25, 3, 40, tzinfo=UTC)
SIGNER = Signer(b"k" * 32, "crewkit/test")
OURS = UUID(int=0xA)


def event(position: int, org_id: UUID, text: str = "") -> Shown:
    """An event as an export shows it."""
    stream = Stream("Session", f"s{position % 3}")
    at = AT + timedelta(microseconds=position)
    data, meta = f'{{"type":"session.ended.v1","text":"{text or position}"}}', '{"actor":"system:test"}'
    ids = (position, org_id, stream.uuid(org_id), position, "session.ended.v1", UUID(int=position), microseconds(at))
    return Shown(
        position=position,
        stream=str(stream),
        version=position,
        type="session.ended.v1",
        event_id=UUID(int=position),
        recorded_at=at,
        data=data,
        meta=meta,
        hash=leaf_hash(event_leaf(*ids, data.encode(), meta.encode())),
    )


class World:
    """A log whose event n belongs to `owners[n]`, sealed at each size of `cuts`."""

    def __init__(
        self, owners: Sequence[int], cuts: Sequence[int], *, changed: int = 0, signer: Signer = SIGNER
    ) -> None:
        """`changed` is the position of an event that this world tells in another way."""
        self.orgs = [UUID(int=owner) for owner in owners]
        self.events = [event(n, org, "x" if n == changed else "") for n, org in enumerate(self.orgs, 1)]
        self.nodes = dict[Node, bytes]()
        tree = Range()
        for n, one in enumerate(self.events):
            self.nodes[0, n] = one.hash
            self.nodes |= dict(tree.append(one.hash))
        self.signer = signer
        self.checkpoints: list[Checkpoint] = []
        for size in cuts:
            self._seal(size)

    def _own(self, size: int) -> dict[UUID, Range]:
        own = dict[UUID, Range]()
        for org, one in zip(self.orgs[:size], self.events[:size], strict=True):
            own.setdefault(org, Range()).extend([one.hash])
        return own

    def _organizations(self, size: int) -> list[bytes]:
        return [organization_hash(org, own.size, own.root()) for org, own in self._own(size).items()]

    def _seal(self, size: int) -> None:
        log, organizations = Range(), Range()
        log.extend(one.hash for one in self.events[:size])
        organizations.extend(self._organizations(size))
        before = self.checkpoints[-1] if self.checkpoints else None
        made = Checkpoint(
            origin=self.signer.public.name,
            number=len(self.checkpoints) + 1,
            size=size,
            root=log.root(),
            organizations=organizations.size,
            organizations_root=organizations.root(),
            at=AT + timedelta(seconds=size),
            previous=before.digest() if before else None,
        )
        self.checkpoints.append(made)

    def export(self, *, after: int = 0, org: UUID = OURS, numbers: Sequence[int] = ()) -> list[Line]:
        """What `crewkit audit export` writes; `numbers`: the checkpoints in it (all of them)."""
        chosen = [one for one in self.checkpoints if one.number >= after and (not numbers or one.number in numbers)]
        last, start = chosen[-1], chosen[0].size if after else 0
        begun = self._own(start).get(org, Range())
        own = list(self._own(last.size))
        lines: list[Line] = [
            Head(
                format=FORMAT,
                organization_id=org,
                checkpoints=[self.signer.note(one.text()) for one in chosen],
                keys=[self.signer.public.text()],
                start_size=start,
                start_peaks=b"".join(self.nodes[node] for node in blocks(0, start)),
                start_events=begun.size,
                start_organization_peaks=b"".join(begun.peaks),
            )
        ]
        at, marks = start, [one.size for one in chosen]
        for position in [*range(start + 1, last.size + 1), None]:
            if position is not None and self.orgs[position - 1] != org:
                continue
            until = last.size if position is None else position - 1
            for mark in [*(mark for mark in marks if at < mark < until), until]:
                if mark > at:
                    hashes = b"".join(self.nodes[node] for node in blocks(at, mark))
                    lines.append(Skipped(until=mark, hashes=hashes))
                    at = mark
            if position is not None:
                lines.append(self.events[position - 1])
                at = position
        tree, nodes = Range(), dict[Node, bytes]()
        for n, found in enumerate(self._organizations(last.size)):
            nodes[0, n] = found
            nodes |= dict(tree.append(found))
        spans = inclusion_spans(own.index(org), tree.size)
        path = b"".join(span_hash(span, nodes.__getitem__) for span in spans)
        return [*lines, End(events=self._own(last.size)[org].size, ordinal=own.index(org), path=path)]


def written(lines: Sequence[Any]) -> list[bytes]:
    return [write_line(line) for line in lines]
