"""Merkle trees as RFC 6962 hashes them: leaf `SHA-256(0x00 || leaf)`, node `SHA-256(0x01 || left || right)`.

Only perfect subtrees are ever stored.  `(level, index)` names the one over leaves `index * 2**level` up to, but not including,
`(index + 1) * 2**level`; whatever else a proof needs is put together from those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import TypeAlias

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

Node: TypeAlias = tuple[int, int]  # level, index
Span: TypeAlias = tuple[int, int]  # leaves from, to (exclusive)
Lookup: TypeAlias = Callable[[Node], bytes]


class ProofError(Exception):
    """What was shown does not prove what it claims; the message says where."""


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf's bytes."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def split(hashes: bytes) -> list[bytes]:
    """Hashes that were written one after the other.

    Raises:
        ProofError: the length fits no number of hashes.
    """
    if len(hashes) % HASH_BYTES:
        raise ProofError(f"{len(hashes)} bytes are no row of {HASH_BYTES}-byte hashes")
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


def blocks(start: int, end: int) -> Iterator[Node]:
    """The fewest perfect subtrees that cover leaves `start` to `end`, left to right."""
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield level, start >> level
        start += 1 << level


class Range:
    """A tree that grows at its right end, remembered by the perfect subtrees it is made of: never more than 63 hashes."""

    __slots__ = ("_levels", "_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """`peaks` are the hashes of the perfect subtrees of a tree of `size` leaves, left to right.

        Raises:
            ProofError: there are more or fewer of them than such a tree has.
        """
        self._levels = [level for level, _ in blocks(0, size)]
        if len(self._levels) != len(peaks):
            raise ProofError(f"a tree of {size} leaves has {len(self._levels)} peaks, not {len(peaks)}")
        self._peaks = list(peaks)
        self.size = size

    @property
    def peaks(self) -> list[bytes]:
        """What `Range(size, peaks)` starts from."""
        return list(self._peaks)

    def append(self, found: bytes, level: int = 0) -> Iterator[tuple[Node, bytes]]:
        """Add a leaf's hash, or a whole perfect subtree; yields the perfect subtrees above it that this completes.

        Consume the iterator: the work is done on the way.

        Raises:
            ProofError: a subtree of that level cannot begin at this size.
        """
        if self.size & ((1 << level) - 1):
            raise ProofError(f"a subtree of {1 << level} leaves cannot begin after {self.size}")
        self.size += 1 << level
        levels, peaks = self._levels, self._peaks
        while levels and levels[-1] == level:
            levels.pop()
            found = node_hash(peaks.pop(), found)
            level += 1
            yield (level, (self.size >> level) - 1), found
        levels.append(level)
        peaks.append(found)

    def extend(self, hashes: Iterable[bytes]) -> None:
        """Add leaves by their hashes."""
        for found in hashes:
            for _ in self.append(found):
                pass

    def fill(self, end: int, hashes: Sequence[bytes]) -> None:
        """Grow to `end` leaves by the hashes of `blocks(size, end)`: leaves that are not shown.

        Raises:
            ProofError: there are more or fewer hashes than blocks.
        """
        wanted = list(blocks(self.size, end))
        if len(wanted) != len(hashes):
            raise ProofError(f"leaves {self.size} to {end} need {len(wanted)} hashes, not {len(hashes)}")
        for (level, _), found in zip(wanted, hashes, strict=True):
            for _ in self.append(found, level):
                pass

    def root(self) -> bytes:
        """The root of the whole tree."""
        return _fold(self._peaks)


def _fold(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    found = peaks[-1]
    for peak in reversed(peaks[:-1]):
        found = node_hash(peak, found)
    return found


def span_hash(span: Span, lookup: Lookup) -> bytes:
    """The hash of a subtree of the tree, perfect or at its ragged right edge."""
    return _fold([lookup(node) for node in blocks(*span)])


def inclusion_spans(index: int, size: int) -> list[Span]:
    """The subtrees whose hashes prove leaf `index` in a tree of `size` leaves (RFC 6962, 2.1.1), from the leaf upward."""
    found: list[Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        if index < middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start = middle
    return found[::-1]


def consistency_spans(first: int, second: int) -> list[Span]:
    """The subtrees whose hashes prove that the tree of `first` leaves is the beginning of that of `second` (RFC 6962, 2.1.2)."""
    found: list[Span] = []
    start, end, left, whole = 0, second, first, True
    while left != end - start:
        width = 1 << ((end - start - 1).bit_length() - 1)
        if left <= width:
            found.append((start + width, end))
            end = start + width
        else:
            found.append((start, start + width))
            start, left, whole = start + width, left - width, False
    if not whole:
        found.append((start, end))
    return found[::-1]


def root_of_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root to which a leaf's hash and its path lead.

    Raises:
        ProofError: the path is too long or too short for such a tree.
    """
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    at, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ProofError("the path is too long")
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            at, last = _climb_left(at, last)
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the path is too short")
    return found


def check_consistency(first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]) -> None:
    """Make sure that the first tree is the beginning of the second.

    Raises:
        ProofError: it is not, or the path does not show it.
    """
    if not 0 < first <= second:
        raise ProofError(f"a tree of {first} leaves cannot be the beginning of one of {second}")
    if first == second:
        if path or first_root != second_root:
            raise ProofError("two trees of the same size differ")
        return
    hashes = [first_root, *path] if first & (first - 1) == 0 else list(path)
    if not hashes:
        raise ProofError("the path is too short")
    at, last = _climb_right(first - 1, second - 1)
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofError("the path is too long")
        if at & 1 or at == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            at, last = _climb_left(at, last)
        else:
            new = node_hash(new, sibling)
        at, last = at >> 1, last >> 1
    if last or old != first_root or new != second_root:
        raise ProofError("the first tree is not the beginning of the second")


def _climb_left(at: int, last: int) -> tuple[int, int]:
    """Up to where the node at `at` is a right child, or the only one of its row."""
    while at and not at & 1:
        at, last = at >> 1, last >> 1
    return at, last


def _climb_right(at: int, last: int) -> tuple[int, int]:
    """Up to where the node at `at` is a left child."""
    while at & 1:
        at, last = at >> 1, last >> 1
    return at, last
