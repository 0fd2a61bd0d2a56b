"""Blocks carry rows as they are stored, within the limits of a message."""

from __future__ import annotations

from uuid import uuid5

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.pages import ORG, page, row, rows_in, rows_of
from workers.blocks import BYTES_MAX, EMPTY, EVENTS_MAX, FIRST, LAST, LAST_ID, Block, cut, decode


@given(
    st.lists(
        st.tuples(st.binary(max_size=40_000), st.sampled_from(["s1", "s2", "s3"]), st.sampled_from(["a.v1", "b.v1"])),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 2**62),
)
def test_what_was_cut_is_what_comes_out(datas: list[tuple[bytes, str, str]], first: int) -> None:
    rows = [row(first + n, data, stream=stream, type=kind) for n, (data, stream, kind) in enumerate(datas)]
    assert rows_of(page(rows)) == rows
    blocks = cut(page(rows))
    assert rows_in(block.payload for block in blocks) == rows
    assert all(len(block.payload) <= BYTES_MAX for block in blocks)
    assert [block.first for block in blocks[1:]] == [block.last + 1 for block in blocks[:-1]]


def test_a_block_holds_a_thousand_events_at_most() -> None:
    blocks = cut(page([row(n) for n in range(1, 2 * EVENTS_MAX + 2)]))
    assert [(block.first, block.last) for block in blocks] == [(1, 1000), (1001, 2000), (2001, 2001)]
    assert blocks[0].message_id == "1-1000"


def test_one_event_is_one_block_that_names_itself() -> None:
    (block,) = cut(page([row(7)]))
    assert block.headers == {FIRST: "7", LAST: "7", LAST_ID: str(uuid5(ORG, "7"))}


def test_an_event_too_large_for_a_message_is_announced_without_its_content() -> None:
    blocks = cut(page([row(1), row(2, b"x" * (BYTES_MAX + 1)), row(3)]))
    assert [(block.first, block.last, bool(block.payload)) for block in blocks] == [
        (1, 1, True),
        (2, 2, False),
        (3, 3, True),
    ]


def test_a_hole_in_the_log_is_refused() -> None:
    with pytest.raises(ValueError, match="the log has no gaps"):
        page([row(1), row(3)])


def test_nothing_makes_no_block() -> None:
    assert cut(EMPTY) == []


def test_what_is_no_block_is_not_read() -> None:
    """Such as the blocks of an older program, and columns that do not fit each other."""
    older = msgspec.msgpack.encode([[1, ORG.bytes, ORG.bytes, "Session", "s1", 1, "x.v1", ORG.bytes, 0, b"{}", b"{}"]])
    short = msgspec.msgpack.encode(msgspec.structs.replace(page([row(1), row(2)]), data=[b"{}"]))
    for payload in (b"", b"nonsense", older, short):
        with pytest.raises(msgspec.DecodeError):
            decode(payload)
    assert Block(1, 1, ORG, b"").message_id == "1-1"
