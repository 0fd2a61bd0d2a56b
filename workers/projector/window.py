"""The newest events in memory, shared by all projections of a process: what arrived by NATS and was not folded yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

import msgspec

from workers.blocks import decode
from workers.log import Decoder, Item, Items, Reads

BYTES_MAX = 4 * 1024 * 1024  # of encoded blocks; whoever falls further behind reads Postgres


class Run(msgspec.Struct, frozen=True):
    """What follows a position: those of the events up to `last` that somebody asked for, or nothing yet."""

    items: list[Item]
    last: int


class _Held:
    """One block, looked into when the first projection asks for it."""

    __slots__ = ("first", "items", "last", "payload", "size")

    def __init__(self, first: int, last: int, payload: bytes) -> None:
        self.first = first
        self.last = last
        self.payload = payload
        self.size = len(payload)
        self.items: Items | None = None


class Window:
    """A bounded run of blocks in order.  It may have holes and may be empty: Postgres fills what it lacks."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._blocks: deque[_Held] = deque()
        self._bytes = 0
        self.told = 0  # the last position heard of, whether its block is here or not
        self.listeners: set[asyncio.Event] = set()

    @property
    def last(self) -> int:
        """The newest position held, 0 when empty."""
        return self._blocks[-1].last if self._blocks else 0

    def push(self, first: int, last: int, payload: bytes) -> None:
        """Take in a block; repeats are dropped, an empty payload is only a wake-up."""
        self.told = max(self.told, last)
        if payload and last > self.last:
            self._blocks.append(_Held(first, last, payload))
            self._bytes += len(payload)
            while self._bytes > BYTES_MAX and len(self._blocks) > 1:
                self._bytes -= self._blocks.popleft().size
        for listener in self.listeners:
            listener.set()

    def after(self, position: int, limit: int, reads: Reads) -> Run:
        """Up to `limit` consecutive events that follow `position`, of which those that `reads` is about are decoded."""
        start = len(self._blocks)
        for block in reversed(self._blocks):  # readers are near the end
            if block.last <= position:
                break
            start -= 1
        found: list[Item] = []
        passed, end = position, position + limit
        for n in range(start, len(self._blocks)):
            block = self._blocks[n]
            if block.first > passed + 1 or passed >= end or (items := self._items(block)) is None:
                break
            stop = min(block.last, end)
            found += items.wanted(passed + 1 - block.first, stop + 1 - block.first, reads)
            passed = stop
        return Run(found, passed)

    def _items(self, block: _Held) -> Items | None:
        """None for a block that is not what it says it is: read Postgres."""
        if block.items is None and block.payload:
            with contextlib.suppress(msgspec.DecodeError):
                page = decode(block.payload)
                if (page.first, page.last) == (block.first, block.last):
                    block.items = Items(page, self.decoder)
            block.payload = b""
        return block.items

    def trim(self, position: int) -> None:
        """Forget blocks at or below `position`: everybody has passed them."""
        while self._blocks and self._blocks[0].last <= position:
            self._bytes -= self._blocks.popleft().size

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self._bytes = 0
        self.told = 0
