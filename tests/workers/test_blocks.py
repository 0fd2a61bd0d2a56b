"""Blocks carry rows as they are stored, within the limits of a message."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid5

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.blocks import BYTES_MAX, EVENTS_MAX, FIRST, LAST, LAST_ID, Block, Stored, cut, decode

ORG = UUID(int=1)


def row(position: int, data: bytes = b'{"type":"x"}') -> Stored:
    at = datetime(2026, 11, 20, 12, 0, 0, position % 1_000_000, tzinfo=UTC)
    event_id = uuid5(ORG, str(position))
    return Stored(position, ORG, uuid5(ORG, "s"), "Session", "s1", position, "x.happened.v1", event_id, at, data, b"{}")


@given(st.lists(st.binary(max_size=40_000), min_size=1, max_size=60), st.integers(1, 2**62))
def test_what_was_cut_is_what_comes_out(datas: list[bytes], first: int) -> None:
    rows = [row(first + n, data) for n, data in enumerate(datas)]
    blocks = cut(rows)
    assert [one for block in blocks for one in decode(block.payload)] == rows
    assert all(len(block.payload) <= BYTES_MAX for block in blocks)
    assert [block.first for block in blocks[1:]] == [block.last + 1 for block in blocks[:-1]]


def test_a_block_holds_a_thousand_events_at_most() -> None:
    blocks = cut([row(n) for n in range(1, 2 * EVENTS_MAX + 2)])
    assert [(block.first, block.last) for block in blocks] == [(1, 1000), (1001, 2000), (2001, 2001)]
    assert blocks[0].message_id == "1-1000"


def test_one_event_is_one_block_that_names_itself() -> None:
    (block,) = cut([row(7)])
    assert block.headers == {FIRST: "7", LAST: "7", LAST_ID: str(uuid5(ORG, "7"))}


def test_an_event_too_large_for_a_message_is_announced_without_its_content() -> None:
    blocks = cut([row(1), row(2, b"x" * (BYTES_MAX + 1)), row(3)])
    assert [(block.first, block.last, bool(block.payload)) for block in blocks] == [
        (1, 1, True),
        (2, 2, False),
        (3, 3, True),
    ]
    assert decode(blocks[1].payload) == []


def test_a_hole_in_the_log_is_refused() -> None:
    with pytest.raises(ValueError, match="the log has no gaps"):
        cut([row(1), row(3)])


def test_nothing_makes_no_block() -> None:
    assert cut([]) == []


def test_what_is_no_block_is_not_read() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(b"nonsense")
    assert Block(1, 1, ORG, b"").message_id == "1-1"
