"""The writer when things go wrong: poison, lost connections, a busy or absent database, full queues."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest

from eventstore import writer as writer_module
from eventstore.database import WORKER_ROLE
from eventstore.port import AppendRefusedError, Claim, Outcome, Status, StoreUnavailableError
from eventstore.postgres import PostgresStore
from tests.eventstore.doubles import ORG, facts, opened, pooled, stream, wish

POISON = "not\0text"  # Postgres cannot store a NUL in text
KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crewkit-writer'"


async def held_lock(url: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection that holds the append lock until its transaction ends."""
    connection = await asyncpg.connect(url)
    await connection.execute("BEGIN; SELECT pg_advisory_xact_lock(7166181837)")
    return connection


async def all_positions(store: PostgresStore) -> list[int]:
    return [event.position for event in await store.read_all(0, 5_000)]


async def test_a_poison_append_fails_alone(postgres_url: str) -> None:
    async with opened(postgres_url, role=WORKER_ROLE) as store:
        wishes = [wish(n, expected=0) for n in range(40)]
        wishes[17] = wish(POISON)
        wishes[31] = facts("f", 1, claims=(Claim(POISON, "k"),))
        lock = await held_lock(postgres_url)  # so that all of them meet in one batch
        tasks = [asyncio.create_task(store.append(w)) for w in (wish("first"), *wishes)]
        await asyncio.sleep(0)
        await lock.close()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [n for n, a in enumerate(answers) if isinstance(a, AppendRefusedError)] == [18, 32]
        assert sum(isinstance(a, Outcome) and a.status is Status.OK for a in answers) == 39
        assert await all_positions(store) == list(range(1, 40))
        assert store.stats.refused == 2


async def test_a_poisoned_fact_does_not_take_the_facts_that_share_its_slot_with_it(postgres_url: str) -> None:
    async with opened(postgres_url, role=WORKER_ROLE) as store:
        lock = await held_lock(postgres_url)
        tasks = [asyncio.create_task(store.append(facts("s", n))) for n in range(9)]
        await asyncio.sleep(0)
        await lock.close()
        assert [o.position for o in await asyncio.gather(*tasks)] == list(range(1, 10))


async def test_connections_lost_under_load_lose_and_double_nothing(postgres_url: str) -> None:
    dice = random.Random(7)
    acknowledged: list[tuple[str, int]] = []
    stop = asyncio.Event()

    async def killer() -> None:
        async with pooled(postgres_url) as pool:
            for _ in range(12):
                await asyncio.sleep(dice.uniform(0.01, 0.06))
                await pool.execute(KILL)
        stop.set()

    async def checked(name: str) -> None:
        version = 0
        while not stop.is_set():
            outcome = await store.append(wish(name, expected=version))
            assert outcome.status is Status.OK, outcome
            assert outcome.version == version + 1
            version += 1
            acknowledged.append((name, outcome.position))

    async def commanded(name: str) -> None:
        version = 0
        while not stop.is_set():
            outcome = await store.append(wish(name, expected=version, command_id=f"{name}-{version}"))
            assert outcome.status in {Status.OK, Status.DUPLICATE}
            assert outcome.version == version + 1
            version += 1
            acknowledged.append((name, outcome.position))

    async def telling(name: str) -> None:
        told = 0
        while not stop.is_set():
            outcome = await store.append(facts(name, told, told + 1, told + 2))
            assert outcome.version == told + 3
            told += 3
            acknowledged.append((name, outcome.position))

    async with opened(postgres_url, role=WORKER_ROLE) as store, asyncio.timeout(90):
        workers = [
            work(f"{kind}-{n}")
            for n in range(4)
            for kind, work in (("checked", checked), ("commanded", commanded), ("telling", telling))
        ]
        await asyncio.gather(killer(), *workers)
        assert store.stats.reconnects > 0
        head = await store.head()
        seen: list[int] = []
        while len(seen) < head:
            seen += [event.position for event in await store.read_all(len(seen), 5_000)]
        assert seen == list(range(1, head + 1))
        for name in {name for name, _ in acknowledged}:
            last = max(position for other, position in acknowledged if other == name)
            (newest,) = await store.read_stream(ORG, stream(name), newest_first=True, limit=1)
            assert newest.position == last
        assert sum(3 if name.startswith("telling") else 1 for name, _ in acknowledged) == head


async def test_a_commit_whose_answer_was_lost_is_found_by_its_event_ids(postgres_url: str) -> None:
    async with opened(postgres_url, role=WORKER_ROLE) as store:
        await store.append(wish("a", expected=0))
        writer = store._writer
        send = writer._send

        async def send_and_lose(
            connection: asyncpg.Connection[asyncpg.Record], items: list[writer_module.Item]
        ) -> None:
            writer._send = send  # type: ignore[method-assign]
            slots = writer_module.batch.arrange(items)
            await connection.fetch(writer_module.load("append"), *writer_module.batch.arguments(slots))
            raise ConnectionResetError("the answer never came")

        writer._send = send_and_lose  # type: ignore[method-assign]
        assert await store.append(wish("a", count=2, expected=1)) == Outcome(Status.OK, version=3, position=3)
        assert await all_positions(store) == [1, 2, 3]


async def test_a_late_commit_of_a_lost_try_is_not_told_as_a_conflict(postgres_url: str) -> None:
    async with opened(postgres_url, role=WORKER_ROLE) as store:
        writer = store._writer
        look_up = writer._look_up
        send = writer._send
        late: list[tuple[object, ...]] = []

        async def lose(_: object, items: list[writer_module.Item]) -> None:
            writer._send = send  # type: ignore[method-assign]
            late.append(writer_module.batch.arguments(writer_module.batch.arrange(items)))
            raise ConnectionResetError

        async def look_up_too_early(
            connection: asyncpg.Connection[asyncpg.Record], items: list[writer_module.Item]
        ) -> list[writer_module.Item]:
            writer._look_up = look_up  # type: ignore[method-assign]
            remaining = await look_up(connection, items)
            await connection.fetch(writer_module.load("append"), *late.pop())  # only now the lost try commits
            return remaining

        writer._send = lose  # type: ignore[method-assign,assignment]
        writer._look_up = look_up_too_early  # type: ignore[method-assign]
        assert await store.append(wish("a", expected=0)) == Outcome(Status.OK, version=1, position=1)
        assert await store.head() == 1


async def test_a_long_lock_is_waited_out_and_a_longer_one_tried_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "LOCK_MS_MAX", 50)
    async with opened(postgres_url, role=WORKER_ROLE) as store:
        lock = await held_lock(postgres_url)
        append = asyncio.create_task(store.append(wish("a", expected=0)))
        await asyncio.sleep(0.2)
        assert not append.done()
        await lock.close()
        assert (await append).status is Status.OK


async def test_what_cannot_be_settled_in_time_is_said_to_be_unavailable(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "LOCK_MS_MAX", 20)
    monkeypatch.setattr(writer_module, "SETTLE_S", 0.1)
    async with opened(postgres_url, role=WORKER_ROLE) as store:
        lock = await held_lock(postgres_url)
        with pytest.raises(StoreUnavailableError):
            await store.append(wish("a"))
        await lock.close()
        assert (await store.append(wish("a"))).position == 1
        assert store.stats.unavailable == 1


async def test_a_full_queue_refuses_at_once(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "QUEUE_MAX", 3)
    async with opened(postgres_url) as store:
        answers = await asyncio.gather(*(store.append(wish(n)) for n in range(10)), return_exceptions=True)
        assert sum(isinstance(a, StoreUnavailableError) for a in answers) == 7
        assert (await store.append(wish("later"))).status is Status.OK


async def test_closing_settles_what_is_queued_and_refuses_what_comes_after(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        tasks = [asyncio.create_task(store.append(wish(n))) for n in range(20)]
        await asyncio.sleep(0)
        await store._writer.close()
        assert [o.status for o in await asyncio.gather(*tasks)] == [Status.OK] * 20
        with pytest.raises(StoreUnavailableError):
            await store.append(wish("late"))


async def test_a_caller_that_gives_up_does_not_hurt_the_others(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        tasks = [asyncio.create_task(store.append(wish(n))) for n in range(10)]
        await asyncio.sleep(0)
        tasks[4].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(a, Outcome) for a in answers) == 9


async def test_commits_are_announced_with_their_position(postgres_url: str) -> None:
    announced: list[int] = []
    async with opened(postgres_url, on_commit=announced.append) as store:
        await store.append(wish("a", count=3))
        await store.append(wish("a", expected=0))  # a conflict announces nothing
        await asyncio.sleep(0)
        assert announced == [3]


async def test_a_crowd_shares_commits(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        await asyncio.gather(*(store.append(wish(n)) for n in range(200)))
        assert store.stats.appends == 200
        assert store.stats.batches < 20


async def test_a_database_without_the_schema_is_a_clear_error_at_the_start(postgres_server: str) -> None:
    with pytest.raises(asyncpg.PostgresError):
        async with opened(postgres_server, role=None):
            pass


@pytest.mark.parametrize("bad", [{"claims": (Claim("x", "\ud800"),)}, {"command_id": "a\0b"}, {"expected": 2**64}])
async def test_what_cannot_even_be_sent_fails_alone_and_at_once(postgres_url: str, bad: dict[str, object]) -> None:
    async with opened(postgres_url) as store:
        lock = await held_lock(postgres_url)
        tasks = [asyncio.create_task(store.append(w)) for w in (wish("first"), wish("a"), wish("b", **bad), wish("c"))]
        await asyncio.sleep(0)
        await lock.close()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(a) for a in answers] == [Outcome, Outcome, AppendRefusedError, Outcome]
        assert store.stats.reconnects == 0


async def test_a_caller_with_an_unencodable_name_is_told_so(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        with pytest.raises(UnicodeEncodeError):
            await store.append(wish("\ud800"))
        with pytest.raises(UnicodeEncodeError):
            await store.append(wish("a", command_id="\ud800"))
        assert (await store.append(wish("fine"))).status is Status.OK
