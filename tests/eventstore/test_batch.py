"""Which waiting appends go together, and what each is told."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec

from eventstore import batch
from eventstore.batch import Item
from eventstore.port import Append, Claim, Meta, Outcome, Status
from tests.eventstore.doubles import ORG, OTHER_ORG, facts, wish


def item(wanted: Append, size: int = 10) -> Item:
    data = [("session.ended.v1", b"x" * size)] * len(wanted.events)
    return Item(wanted, data, asyncio.get_running_loop().create_future(), 0.0)


def queue(*wishes: Append) -> deque[Item]:
    return deque(item(wanted) for wanted in wishes)


async def test_one_checked_append_per_stream_and_the_rest_keep_their_order() -> None:
    first, second, third, other = (item(wish(name)) for name in ("a", "a", "a", "b"))
    waiting = deque([first, second, third, other])
    assert batch.take(waiting) == [first, other]
    assert list(waiting) == [second, third]
    assert batch.take(waiting) == [second]


async def test_plain_facts_of_one_stream_share_a_slot() -> None:
    taken = batch.take(queue(facts("a", 1), facts("a", 1, 2), facts("b", 1), facts("a", 3)))
    slots = batch.arrange(taken)
    assert [len(slot.events) for slot in slots] == [3, 1]
    assert [slot.places for slot in slots] == [[[0], [-1, 1], [2]], [[0]]]


async def test_facts_wait_behind_a_checked_append_of_their_stream() -> None:
    waiting = queue(facts("a", 1), wish("a"), facts("a", 2))
    assert len(batch.take(waiting)) == 1
    assert [i.wish.facts for i in waiting] == [False, True]


async def test_facts_with_a_receipt_or_names_do_not_share() -> None:
    name = Claim("x", "y")
    assert len(batch.take(queue(facts("a", 1, command_id="c"), facts("a", 2)))) == 1
    assert len(batch.take(queue(facts("a", 1), facts("a", 2, claims=(name,))))) == 1


async def test_a_command_id_and_a_name_once_per_batch() -> None:
    name = Claim("x", "y")
    assert len(batch.take(queue(wish("a", command_id="c"), wish("b", command_id="c")))) == 1
    assert len(batch.take(queue(wish("a", command_id="c"), wish("b", command_id="c", org_id=OTHER_ORG)))) == 2
    assert len(batch.take(queue(wish("a", claims=(name,)), wish("b", releases=(name,))))) == 1


async def test_batches_are_bounded_by_count_bytes_and_events() -> None:
    assert len(batch.take(queue(*(wish(n) for n in range(batch.COMMANDS_MAX + 5))))) == batch.COMMANDS_MAX
    heavy = deque(item(wish(n), size=batch.BYTES_MAX // 3) for n in range(6))
    assert [len(batch.take(heavy)) for _ in range(3)] == [2, 2, 2]
    huge = deque([item(wish(0), size=3 * batch.BYTES_MAX), item(wish(1))])
    assert [len(batch.take(huge)) for _ in range(2)] == [1, 1]
    assert len(batch.take(queue(wish("a", count=1_500), wish("b", count=1_500)))) == 1


async def test_passing_over_is_bounded() -> None:
    waiting = queue(*(wish("a") for _ in range(batch.DEFERRED_MAX + 10)), wish("b"))
    assert len(batch.take(waiting)) == 1
    assert len(waiting) == batch.DEFERRED_MAX + 10


async def test_who_stopped_waiting_before_it_was_sent_is_dropped() -> None:
    waiting = queue(wish("a"), wish("b"))
    waiting[0].future.cancel()
    assert [i.wish.stream.id for i in batch.take(waiting)] == ["b"]


async def test_every_append_of_a_shared_slot_is_told_its_own_part() -> None:
    slots = batch.arrange([item(facts("a", 1, 2)), item(facts("a", 2, 3)), item(facts("b", 9)), item(facts("a", 4))])
    # slot a: 1 2 3 4, of which the store knew 1; afterwards version 13, position 103; slot b: one event behind it
    told = batch.answers(slots, [(0, 13, 103, [1]), (0, 1, 104, None)])
    assert [outcome for _, outcome in told] == [
        Outcome(Status.OK, 13, 103, duplicates=(0,)),
        Outcome(Status.OK, 13, 103, duplicates=(0,)),
        Outcome(Status.OK, 13, 103),
        Outcome(Status.OK, 1, 104),
    ]


async def test_arguments_line_up() -> None:
    arguments: tuple[Any, ...] = batch.arguments(
        batch.arrange([item(wish("a", count=2, expected=4, command_id="c")), item(facts("b", 1))])
    )
    assert len(arguments) == 19
    assert arguments[0] == [ORG, ORG]
    assert arguments[4:8] == ([4, -1], [False, True], [2, 1], ["c", None])
    assert arguments[8] == [1, 1, 2]
    assert msgspec.json.decode(arguments[12][0], type=Meta).command_id == "c"
