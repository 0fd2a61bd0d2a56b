"""The window holds the newest events, whatever order and however often they arrive."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from domain.kernel import Event
from domain.sessions.events import SessionEnded, SessionTimedOut
from eventstore.mapper import Mapper
from eventstore.sealing import MemoryKeyRing
from tests.workers.pages import page, row
from workers.blocks import cut
from workers.log import Broken, Decoder, Reads
from workers.projector import window as windows
from workers.projector.window import Run, Window

DATA = b'{"type":"session.ended.v1","session_id":"s1","outcome":"completed","ended_at":"2026-11-20T12:00:00Z"}'


ENDED = "session.ended.v1"


def fresh() -> Window:
    return Window(Decoder(Mapper(MemoryKeyRing(), types=[SessionEnded, SessionTimedOut])))


def reading(window: Window, *classes: type[Event]) -> Reads:
    """What reads events of these classes; none: all."""
    return Reads(frozenset(classes) or None, window.decoder)


def push(window: Window, first: int, last: int) -> None:
    """A block of events that can be decoded, except every seventh."""
    rows = [row(n, DATA, type=ENDED if n % 7 else "x.happened.v1") for n in range(first, last + 1)]
    (block,) = cut(page(rows))
    window.push(first, last, block.payload)


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 20)), max_size=30), st.integers(0, 200), st.integers(1, 50)
)
def test_an_answer_is_always_the_run_that_follows(blocks: list[tuple[int, int]], position: int, limit: int) -> None:
    window = fresh()
    for first, count in blocks:
        push(window, first, first + count - 1)
    run = window.after(position, limit, reading(window))
    assert [item.position for item in run.items] == list(range(position + 1, run.last + 1))
    assert len(run.items) <= limit
    assert all(isinstance(item, Broken) == (item.position % 7 == 0) for item in run.items)
    # Whoever reads other events gets as far, and is told of those nobody can read.
    other = window.after(position, limit, reading(window, SessionTimedOut))
    assert other.last == run.last
    assert other.items == [item for item in run.items if isinstance(item, Broken)]


def test_an_event_of_no_interest_is_passed_unread() -> None:
    """Also one whose content no longer fits: only who reads its type stops there."""
    window = fresh()
    rows = [row(1, DATA, type=ENDED), row(2, b'{"odd":', type=ENDED), row(3, DATA, type=ENDED)]
    window.push(1, 3, cut(page(rows))[0].payload)
    assert window.after(0, 10, reading(window, SessionTimedOut)) == Run([], 3)
    found = window.after(0, 10, reading(window, SessionEnded)).items
    assert [isinstance(item, Broken) for item in found] == [False, True, False]


def test_old_blocks_give_way_and_passed_ones_are_forgotten() -> None:
    window = fresh()
    size = windows.BYTES_MAX
    try:
        windows.BYTES_MAX = 20_000
        for first in range(1, 2_000, 10):
            push(window, first, first + 9)
        assert window.after(0, 10, reading(window)) == Run([], 0)
        assert window.after(1_990, 10, reading(window)).last == 2_000
        window.trim(2_000)
        assert window.last == 0
    finally:
        windows.BYTES_MAX = size


def test_a_block_that_is_not_what_it_says_is_not_used() -> None:
    window = fresh()
    (block,) = cut(page([row(n, DATA) for n in range(1, 6)]))
    window.push(1, 9, block.payload)
    window.push(10, 12, b"nonsense")
    assert window.after(0, 10, reading(window)) == Run([], 0)
    assert window.after(9, 10, reading(window)) == Run([], 9)


def test_an_empty_block_only_wakes() -> None:
    window, wake = fresh(), asyncio.Event()
    window.listeners.add(wake)
    window.push(1, 1, b"")
    assert wake.is_set()
    assert window.after(0, 10, reading(window)) == Run([], 0)
