"""The window holds the newest events, whatever order and however often they arrive."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from domain.sessions.events import SessionEnded
from eventstore.mapper import Mapper
from eventstore.sealing import MemoryKeyRing
from tests.workers.test_blocks import row
from workers.blocks import cut
from workers.log import Broken, Decoder
from workers.projector import window as windows
from workers.projector.window import Window

DATA = b'{"type":"session.ended.v1","session_id":"s1","outcome":"completed","ended_at":"2026-11-20T12:00:00Z"}'


def fresh() -> Window:
    return Window(Decoder(Mapper(MemoryKeyRing(), types=[SessionEnded])))


def push(window: Window, first: int, last: int) -> None:
    """A block of events that can be decoded, except every seventh."""
    rows = [row(n, DATA) for n in range(first, last + 1)]
    import msgspec  # noqa: PLC0415

    known = [msgspec.structs.replace(one, type="session.ended.v1") if one.position % 7 else one for one in rows]
    (block,) = cut(known)
    window.push(first, last, block.payload)


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 20)), max_size=30), st.integers(0, 200), st.integers(1, 50)
)
def test_an_answer_is_always_the_run_that_follows(blocks: list[tuple[int, int]], position: int, limit: int) -> None:
    window = fresh()
    for first, count in blocks:
        push(window, first, first + count - 1)
    found = window.after(position, limit)
    assert [item.position for item in found] == list(range(position + 1, position + 1 + len(found)))
    assert len(found) <= limit
    assert all(isinstance(item, Broken) == (item.position % 7 == 0) for item in found)


def test_old_blocks_give_way_and_passed_ones_are_forgotten() -> None:
    window = fresh()
    size = windows.BYTES_MAX
    try:
        windows.BYTES_MAX = 20_000
        for first in range(1, 2_000, 10):
            push(window, first, first + 9)
        assert window.after(0, 10) == []
        assert window.after(1_990, 10)
        window.trim(2_000)
        assert window.last == 0
    finally:
        windows.BYTES_MAX = size


def test_a_block_that_is_not_what_it_says_is_not_used() -> None:
    window = fresh()
    (block,) = cut([row(n, DATA) for n in range(1, 6)])
    window.push(1, 9, block.payload)
    window.push(10, 12, b"nonsense")
    assert window.after(0, 10) == []
    assert window.after(9, 10) == []


def test_an_empty_block_only_wakes() -> None:
    window, wake = fresh(), asyncio.Event()
    window.listeners.add(wake)
    window.push(1, 1, b"")
    assert wake.is_set()
    assert window.after(0, 10) == []
