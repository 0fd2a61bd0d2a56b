"""The reactor: every effect of every event happens, in bounded lanes, tried again when it failed, given up visibly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import nats
import pytest

from domain.sessions.events import SessionEnded, SessionStarted
from eventstore.port import Recorded
from eventstore.settings import Settings
from tests.workers.tally import Log, fresh_names, open_log, running, settings_for, until
from workers import reactor
from workers.reactor import host, run_reactor
from workers.reactor.base import Done, GiveUpError, Later, On, Reaction, Result, RetryError, Skipped, Tools

pytestmark = pytest.mark.integration


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[Log]:
    async with open_log(postgres_url) as opened:
        yield opened


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    return settings_for(postgres_url, "nats://127.0.0.1:9", tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "POLL_S", 0.02)
    monkeypatch.setattr(host, "STANDBY_S", 0.02)
    monkeypatch.setattr(host, "RETRY_FIRST_S", 0.01)


class Effects:
    """Notes which events a reaction was told of, and does what the test wants."""

    def __init__(self, act: Callable[[Recorded, int], Awaitable[Result]] | None = None) -> None:
        self.told: list[int] = []
        self._act = act

    async def run(self, _: Tools, recorded: Recorded) -> Result:
        self.told.append(recorded.position)
        return Done() if self._act is None else await self._act(recorded, self.told.count(recorded.position))

    async def begins(self) -> None:
        """Wait until it was told of something."""

        async def holds() -> bool:
            return bool(self.told)

        await until(holds)

    def reaction(self, kind: str = "test.end", **fields: Any) -> Reaction:
        return Reaction(**{"kind": kind, "lane": kind, "on": (On(SessionEnded),), "run": self.run} | fields)


async def states(log: Log) -> dict[tuple[str, int], tuple[str, int, str | None]]:
    rows = await log.store.pool.fetch("SELECT kind, position, state, tries, remark FROM crewkit.reaction")
    return {(row["kind"], row["position"]): (row["state"], row["tries"], row["remark"]) for row in rows}


async def has_state(log: Log, position: int, state: str, kind: str = "test.end") -> None:
    async def holds() -> bool:
        return (await states(log)).get((kind, position), ("", 0, None))[0] == state

    await until(holds)


async def test_each_event_has_its_effect_once_and_what_was_before_has_none(log: Log, settings: Settings) -> None:
    await log.end("before")
    await log.store.pool.execute("UPDATE crewkit.reactor SET position = crewkit.head()")
    effects = Effects()
    first = await log.end("s0")
    async with running(run_reactor(settings, wanted=[effects.reaction()])):
        await has_state(log, first, "done")
        await log.add(50)
        second = await log.end("s1")
        await has_state(log, second, "done")
    async with running(run_reactor(settings, wanted=[effects.reaction()])):
        third = await log.end("s2")
        await has_state(log, third, "done")
    assert effects.told == [first, second, third]
    assert await log.store.pool.fetchval("SELECT position FROM crewkit.reactor") == third


async def test_a_migrated_reactor_begins_at_the_head(log: Log) -> None:
    assert await log.store.pool.fetchval("SELECT position FROM crewkit.reactor") == 0  # of an empty log


async def test_a_mark_chooses_among_events_of_a_type(log: Log, settings: Settings) -> None:
    effects = Effects()
    reaction = effects.reaction(on=(On(SessionStarted, '"kind":"dashboard"'),))
    await log.add(3, sessions=3)
    wanted = await log.add(1, sessions=1, kind="dashboard")
    async with running(run_reactor(settings, wanted=[reaction])):
        await has_state(log, wanted, "done")
    assert effects.told == [wanted]


async def test_a_failure_is_tried_again_and_given_up_visibly(log: Log, settings: Settings, postgres_url: str) -> None:
    async def act(_: Recorded, n: int) -> Result:
        if n < 5:
            raise RetryError("the other side is away") if n % 2 else RuntimeError("secret detail")
        return Done()

    effects = Effects(act)
    position = await log.end("s0")
    async with running(run_reactor(settings, wanted=[effects.reaction(tries_max=4)])):
        await has_state(log, position, "dead")
        assert (await states(log))["test.end", position] == ("dead", 4, "RuntimeError")
        [dead] = await reactor.listed(settings, "dead", None, 10)
        assert (dead.kind, dead.position, dead.tries) == ("test.end", position, 4)
        assert await reactor.retry(settings, "test.end", dead.event_id) == 1
        await has_state(log, position, "done")
    assert effects.told == [position] * 5
    with pytest.raises(reactor.Refused):
        await reactor.retry(settings, None, None)


async def test_what_cannot_work_is_not_tried_twice_and_can_be_dropped(log: Log, settings: Settings) -> None:
    async def act(_: Recorded, __: int) -> Result:
        raise GiveUpError("refused for good")

    effects = Effects(act)
    position = await log.end("s0")
    async with running(run_reactor(settings, wanted=[effects.reaction()])):
        await has_state(log, position, "dead")
    assert effects.told == [position]
    with pytest.raises(reactor.Refused):
        await reactor.drop(settings, None, None, " ")
    assert await reactor.drop(settings, "test.end", None, "not needed") == 1
    assert (await states(log))["test.end", position] == ("skipped", 1, "dropped: not needed")


async def test_putting_off_costs_no_try_and_being_late_ends_it(log: Log, settings: Settings) -> None:
    async def act(_: Recorded, n: int) -> Result:
        return Later(0.01) if n < 12 else Skipped("nothing to do")

    patient, late = Effects(act), Effects()
    position = await log.end("s0")
    reactions = [patient.reaction(tries_max=2), late.reaction("test.late", valid_s=0)]
    async with running(run_reactor(settings, wanted=reactions)):
        await has_state(log, position, "skipped")
        await has_state(log, position, "skipped", "test.late")
    assert (await states(log))["test.end", position] == ("skipped", 1, "nothing to do")
    assert len(patient.told) == 12
    assert late.told == []


async def test_a_stuck_lane_holds_up_no_other(log: Log, settings: Settings) -> None:
    release, together, most = asyncio.Event(), 0, 0

    async def act(_: Recorded, __: int) -> Result:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await release.wait()
        together -= 1
        return Done()

    slow, quick = Effects(act), Effects()
    positions = [await log.end(f"s{n}") for n in range(8)]
    reactions = [slow.reaction("test.slow", lane_max=3), quick.reaction("test.quick", lane_max=2)]
    async with running(run_reactor(settings, wanted=reactions)):
        for position in positions:
            await has_state(log, position, "done", "test.quick")
        assert (len(slow.told), most) == (3, 3)
        release.set()
        for position in positions:
            await has_state(log, position, "done", "test.slow")
    assert most == 3
    assert sorted(slow.told) == sorted(quick.told) == positions


async def test_a_try_that_takes_too_long_is_cut(log: Log, settings: Settings) -> None:
    async def act(_: Recorded, n: int) -> Result:
        if n == 1:
            await asyncio.Event().wait()
        return Done()

    effects = Effects(act)
    position = await log.end("s0")
    async with running(run_reactor(settings, wanted=[effects.reaction(timeout_s=0.5)])):
        await has_state(log, position, "done")
    assert (await states(log))["test.end", position][1] >= 2


async def test_one_instance_acts_and_whoever_follows_finds_what_it_had_in_hand(
    log: Log, settings: Settings, postgres_url: str
) -> None:
    async def act(_: Recorded, __: int) -> Result:
        if len(first.told) + len(second.told) == 1:
            await asyncio.Event().wait()
        return Done()

    first, second = Effects(act), Effects(act)
    position = await log.end("s0")
    async with running(run_reactor(settings, wanted=[first.reaction()])):
        await first.begins()
        async with running(run_reactor(settings, wanted=[second.reaction()])):
            await asyncio.sleep(0.1)
            assert second.told == []
            # Its connection goes as if the cable had been cut: the office is lost, what was in hand is nobody's.
            admin = await asyncpg.connect(postgres_url)
            await admin.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_locks
                    WHERE locktype = 'advisory' AND granted AND objid = ($1::bigint & 4294967295)::oid AND objsubid = 1
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""",
                host.LOCK_KEY,
            )
            await admin.close()
            await has_state(log, position, "done")
    assert first.told + second.told == [position] * 2
    assert (await states(log))["test.end", position] == ("done", 2, None)


async def test_a_stop_lets_what_is_in_hand_finish(log: Log, settings: Settings) -> None:
    release = asyncio.Event()

    async def act(_: Recorded, __: int) -> Result:
        await release.wait()
        return Done()

    effects = Effects(act)
    position = await log.end("s0")
    task = asyncio.create_task(run_reactor(settings, wanted=[effects.reaction()]))
    await effects.begins()
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, release.set)
    await asyncio.wait({task})
    assert (await states(log))["test.end", position] == ("done", 1, None)


async def test_an_event_that_nobody_can_read_is_a_dead_letter_of_its_own(log: Log, settings: Settings) -> None:
    effects = Effects()
    position = await log.end("s0")
    await log.store.pool.execute(
        "INSERT INTO crewkit.reaction (kind, event_id, org_id, position, due_at)"
        " VALUES ('test.end', gen_random_uuid(), gen_random_uuid(), 999, clock_timestamp())"
    )
    async with running(run_reactor(settings, wanted=[effects.reaction()])):
        await has_state(log, position, "done")
        await has_state(log, 999, "dead")
    assert effects.told == [position]


async def test_what_nobody_does_any_more_ends_after_a_week(log: Log, settings: Settings) -> None:
    for position, days in ((998, 8), (999, 6)):
        await log.store.pool.execute(
            "INSERT INTO crewkit.reaction (kind, event_id, org_id, position, due_at, created_at) VALUES"
            " ('test.gone', gen_random_uuid(), gen_random_uuid(), $1, clock_timestamp(),"
            " clock_timestamp() - make_interval(days => $2))",
            position,
            days,
        )
    async with running(run_reactor(settings, wanted=[Effects().reaction()])):
        await has_state(log, 998, "skipped", "test.gone")
    assert (await states(log))["test.gone", 999][0] == "waiting"


async def test_whoever_commits_wakes_it(
    log: Log, settings: Settings, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "POLL_S", 600.0)
    names, effects = fresh_names(), Effects()
    first = await log.end("s0")
    client = await nats.connect(nats_url)
    used = msgspec.structs.replace(settings, nats_url=nats_url)
    async with running(run_reactor(used, names=names, wanted=[effects.reaction()])):
        await has_state(log, first, "done")
        second = await log.end("s1")

        async def woken() -> bool:
            await client.publish(names.poke, b"")
            return second in effects.told

        await until(woken)
        await has_state(log, second, "done")
    await client.close()


def test_every_reaction_has_a_kind_of_its_own() -> None:
    kinds = [reaction.kind for reaction in reactor.found_reactions()]
    assert "session.summary" in kinds
    assert len(kinds) == len(set(kinds))
