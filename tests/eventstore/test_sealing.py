"""Sealing: what opens, what never opens again, and which key wraps which."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.kernel import Sealed
from eventstore.database import API_ROLE, WORKER_ROLE
from eventstore.sealing import (
    CACHE_S,
    DARK_PREFIX,
    PREFIX,
    RECHECK_S,
    KeyNotReadyError,
    MemoryKeyRing,
    PostgresKeyRing,
    SealBrokenError,
    load_or_create_master_key,
    unboxed,
)
from tests.eventstore.doubles import pooled

ORG, OTHER_ORG, ADA, BOB = UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=4)
TYPE = "person.observed.v1"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def ring_with(*subjects: UUID, clock: Clock | None = None) -> MemoryKeyRing:
    ring = MemoryKeyRing(b"m" * 32, clock or Clock())
    await ring.prepare(ORG, subjects)
    await ring.prepare(OTHER_ORG, subjects)
    return ring


async def test_what_is_sealed_opens() -> None:
    ring = await ring_with(ADA)
    for text in ("", "Ada", "секрет 🔒", "x" * 100_000):
        box = ring.seal(ORG, TYPE, Sealed(ADA, text))
        assert box.startswith(f"{PREFIX}{ADA.hex}:")
        assert ring.open(ORG, TYPE, unboxed(box)) == text
        assert text not in box or text == ""


async def test_the_same_text_never_looks_the_same() -> None:
    ring = await ring_with(ADA)
    assert ring.seal(ORG, TYPE, Sealed(ADA, "a")) != ring.seal(ORG, TYPE, Sealed(ADA, "a"))


async def test_a_box_moved_elsewhere_does_not_open() -> None:
    ring = await ring_with(ADA, BOB)
    sealed = unboxed(ring.seal(ORG, TYPE, Sealed(ADA, "Ada")))
    with pytest.raises(SealBrokenError):
        ring.open(OTHER_ORG, TYPE, sealed)
    with pytest.raises(SealBrokenError):
        ring.open(ORG, "person.observed.v2", sealed)
    with pytest.raises(SealBrokenError):
        ring.open(ORG, TYPE, Sealed(BOB, None, sealed.box))


async def test_an_altered_box_does_not_open() -> None:
    ring = await ring_with(ADA)
    box = ring.seal(ORG, TYPE, Sealed(ADA, "Ada Lovelace"))
    other = "A" if box[60] != "A" else "B"
    for broken in (box[:60] + other + box[61:], box[:50], box + "!"):
        with pytest.raises(SealBrokenError):
            ring.open(ORG, TYPE, unboxed(broken))


async def test_after_destruction_nothing_opens_and_nothing_new_is_kept() -> None:
    ring = await ring_with(ADA)
    sealed = unboxed(ring.seal(ORG, TYPE, Sealed(ADA, "Ada")))
    await ring.destroy(ORG, ADA)
    assert ring.open(ORG, TYPE, sealed) is None
    await ring.prepare(ORG, [ADA])  # makes no second key
    dark = ring.seal(ORG, TYPE, Sealed(ADA, "Ada again"))
    assert dark == f"{DARK_PREFIX}{ADA.hex}:"
    assert ring.open(ORG, TYPE, unboxed(dark)) is None
    assert ring.wrapped[ORG, ADA] is None


async def test_boxes_of_a_key_that_never_was_stay_closed() -> None:
    ring, stranger = await ring_with(ADA), MemoryKeyRing(b"m" * 32)
    sealed = unboxed(ring.seal(ORG, TYPE, Sealed(ADA, "Ada")))
    assert await stranger.open_many(ORG, [(TYPE, sealed)]) == [None]


async def test_many_boxes_open_in_order() -> None:
    ring = await ring_with(ADA, BOB)
    boxes = [(TYPE, unboxed(ring.seal(ORG, TYPE, Sealed(who, name)))) for who, name in ((ADA, "Ada"), (BOB, "Bob"))]
    await ring.destroy(ORG, ADA)
    assert await ring.open_many(ORG, [*boxes, (TYPE, Sealed(ADA, "not sealed yet"))]) == [None, "Bob", "not sealed yet"]


async def test_keys_are_forgotten_within_the_time_limit() -> None:
    clock = Clock()
    ring = await ring_with(ADA, clock=clock)
    box = unboxed(ring.seal(ORG, TYPE, Sealed(ADA, "Ada")))
    ring.wrapped[ORG, ADA] = None  # destroyed by another process
    assert ring.open(ORG, TYPE, box) == "Ada"
    clock.now = CACHE_S + 1
    with pytest.raises(KeyNotReadyError):
        ring.open(ORG, TYPE, box)
    assert await ring.open_many(ORG, [(TYPE, box)]) == [None]


async def test_a_key_that_another_process_destroyed_is_dropped_by_the_next_fetch() -> None:
    clock = Clock()
    ring = await ring_with(ADA, BOB, clock=clock)
    boxes = [(TYPE, unboxed(ring.seal(ORG, TYPE, Sealed(who, "words")))) for who in (ADA, BOB)]
    ring.wrapped[ORG, ADA] = None
    clock.now = RECHECK_S
    assert await ring.open_many(ORG, boxes) == [None, "words"]
    ring.wrapped[ORG, BOB] = None
    clock.now = 2 * RECHECK_S
    await ring.prepare(ORG, [BOB])
    assert ring.seal(ORG, TYPE, Sealed(BOB, "later words")).startswith(DARK_PREFIX), "they are not even kept"


async def test_asking_which_keys_were_destroyed_is_repeated_until_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    ring = await ring_with(ADA, clock=clock)
    box = unboxed(ring.seal(ORG, TYPE, Sealed(ADA, "Ada")))
    ring.wrapped[ORG, ADA] = None
    clock.now = RECHECK_S

    async def away() -> list[tuple[UUID, UUID]]:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(ring, "_fetch_destroyed", away)
        with pytest.raises(ConnectionError):
            await ring.open_many(ORG, [(TYPE, box)])
    assert await ring.open_many(ORG, [(TYPE, box)]) == [None]


async def test_a_key_cannot_run_out_between_prepare_and_seal() -> None:
    clock = Clock()
    ring = await ring_with(ADA, clock=clock)
    clock.now = CACHE_S - 1
    await ring.prepare(ORG, [ADA])
    clock.now = CACHE_S + 1
    assert ring.seal(ORG, TYPE, Sealed(ADA, "Ada"))


async def test_keys_wrapped_by_another_master_key_are_an_error() -> None:
    ring, other = await ring_with(ADA), MemoryKeyRing(b"o" * 32)
    other.wrapped = ring.wrapped
    with pytest.raises(SealBrokenError, match="another master key"):
        await other.load(ORG, [ADA])


async def test_a_wrapped_key_moved_to_another_person_is_an_error() -> None:
    ring, other = await ring_with(ADA), MemoryKeyRing(b"m" * 32)
    other.wrapped = {(ORG, BOB): ring.wrapped[ORG, ADA]}
    with pytest.raises(SealBrokenError):
        await other.load(ORG, [BOB])


def test_text_that_is_no_box_is_refused() -> None:
    for text in ("", "Ada", "sealed:2:x", f"sealed:1:{ADA.hex}", "sealed:1:zz"):
        with pytest.raises(ValueError):  # noqa: PT011  any wording
            unboxed(text)


def test_a_box_never_shows_in_a_repr() -> None:
    assert "Ada" not in repr(Sealed(ADA, "Ada"))


async def test_two_processes_agree_on_one_key(postgres_url: str) -> None:
    person = uuid4()
    async with pooled(postgres_url, API_ROLE) as pool:
        rings = [PostgresKeyRing(pool, b"m" * 32) for _ in range(6)]
        await asyncio.gather(*(ring.prepare(ORG, [person, ADA]) for ring in rings))
        box = unboxed(rings[0].seal(ORG, TYPE, Sealed(person, "Ada")))
        assert [ring.open(ORG, TYPE, box) for ring in rings] == ["Ada"] * 6


async def test_keys_destroyed_in_postgres_are_dropped_by_every_process_that_asks(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key, then a whole organization's: of that many, not all are named, so everything is dropped."""
    people, clock = [uuid4() for _ in range(5)], Clock()
    async with pooled(postgres_url, API_ROLE) as pool, pooled(postgres_url, WORKER_ROLE) as workers:
        eraser, reader = PostgresKeyRing(pool, b"m" * 32), PostgresKeyRing(workers, b"m" * 32, clock)
        for org_id in (ORG, OTHER_ORG):
            await eraser.prepare(org_id, people)
        mine, others = (
            [(TYPE, unboxed(eraser.seal(org_id, TYPE, Sealed(who, "words")))) for who in people]
            for org_id in (ORG, OTHER_ORG)
        )
        assert await reader.open_many(ORG, mine) == ["words"] * 5
        assert await reader.open_many(OTHER_ORG, others) == ["words"] * 5
        await eraser.destroy(ORG, people[0])
        clock.now += RECHECK_S
        assert await reader.open_many(ORG, mine) == [None, *["words"] * 4]
        monkeypatch.setattr("eventstore.sealing.CACHE_KEYS_MAX", 2)
        assert await eraser.destroy_all(ORG) == 4
        clock.now += RECHECK_S
        assert await reader.open_many(ORG, mine) == [None] * 5
        assert await reader.open_many(OTHER_ORG, others) == ["words"] * 5


async def test_destruction_in_postgres_leaves_an_empty_row_for_ever(postgres_url: str) -> None:
    async with pooled(postgres_url, API_ROLE) as pool:
        ring = PostgresKeyRing(pool, b"m" * 32)
        await ring.prepare(ORG, [ADA])
        box = unboxed(ring.seal(ORG, TYPE, Sealed(ADA, "Ada")))
        await ring.destroy(ORG, ADA)
        await ring.destroy(ORG, ADA)
        await ring.destroy(ORG, BOB)  # never had one, never gets one
        fresh = PostgresKeyRing(pool, b"m" * 32)
        assert await fresh.open_many(ORG, [(TYPE, box)]) == [None]
        await fresh.prepare(ORG, [ADA, BOB])
        assert fresh.seal(ORG, TYPE, Sealed(BOB, "Bob")).startswith(DARK_PREFIX)
    async with pooled(postgres_url) as owner:
        rows = await owner.fetch("SELECT wrapped, destroyed_at IS NOT NULL FROM crewkit.subject_key")
        assert [tuple(row) for row in rows] == [(None, True)] * 2


def test_the_master_key_file_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    key = load_or_create_master_key(path)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_master_key(path) == key


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    for text in ("", "short", "!" * 44):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"master\.key: expected 32 bytes"):
            load_or_create_master_key(path)


def test_the_file_that_up_makes_is_read(master_key_file: Path) -> None:
    assert len(load_or_create_master_key(master_key_file)) == 32
