"""What every event store promises, in memory and on Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from domain.kernel import Sealed, Stream, fact_id
from domain.organizations.events import OrganizationCreated, PersonObserved
from domain.sessions.events import HookRecorded, SessionEnded
from eventstore.database import WORKER_ROLE
from eventstore.mapper import Mapper
from eventstore.memory import MemoryStore
from eventstore.port import (
    BATCH_EVENTS_MAX,
    Append,
    AppendRefusedError,
    Claim,
    EventStore,
    Meta,
    NewEvent,
    Outcome,
    Recorded,
    Status,
)
from eventstore.postgres import PostgresStore
from eventstore.sealing import MemoryKeyRing

ORG, OTHER_ORG = UUID(int=1), UUID(int=2)
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
STREAM = Stream("Session", "s-1")


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[EventStore]:
    mapper = Mapper(MemoryKeyRing())
    if request.param == "memory":
        yield MemoryStore(mapper)
        return
    postgres = PostgresStore(request.getfixturevalue("postgres_url"), mapper, role=WORKER_ROLE)
    await postgres.start()
    yield postgres
    await postgres.close()


def ended(number: int = 0, session: str = "s-1") -> SessionEnded:
    return SessionEnded(session_id=session, outcome="completed", ended_at=AT + timedelta(seconds=number))


def wish(
    *numbers: int,
    stream: Stream = STREAM,
    org_id: UUID = ORG,
    expected: int | None = None,
    command_id: str | None = None,
) -> Append:
    events = [NewEvent(ended(number, stream.id)) for number in numbers]
    return Append(org_id=org_id, stream=stream, events=events, expected=expected, command_id=command_id)


def facts(*keys: str, stream: Stream = STREAM, command_id: str | None = None) -> Append:
    events = [NewEvent(ended(0, stream.id), fact_id(stream.uuid(ORG), key)) for key in keys]
    return Append(org_id=ORG, stream=stream, events=events, facts=True, command_id=command_id)


async def everything(store: EventStore) -> list[Recorded]:
    return await store.read_all(0, 5_000)


async def test_what_was_appended_reads_back(store: EventStore) -> None:
    cause = uuid4()
    meta = Meta(actor="key:1", request_id="r-1", causation_id=cause)
    outcome = await store.append(
        Append(org_id=ORG, stream=STREAM, events=[NewEvent(ended(1)), NewEvent(ended(2))], expected=0, meta=meta)
    )
    assert outcome == Outcome(Status.OK, version=2, position=2)
    first, second = await store.read_stream(ORG, STREAM)
    assert (first.event, second.event) == (ended(1), ended(2))
    assert (first.position, first.version, first.type) == (1, 1, "session.ended.v1")
    assert (first.org_id, first.stream, first.stream_id) == (ORG, STREAM, STREAM.uuid(ORG))
    assert first.meta == meta
    assert first.recorded_at.tzinfo is not None
    assert b'"type":"session.ended.v1"' in first.data
    assert [e.event_id for e in await everything(store)] == [first.event_id, second.event_id]
    assert await store.head() == 2


async def test_an_empty_store_has_nothing(store: EventStore) -> None:
    assert await store.head() == 0
    assert await everything(store) == []
    assert await store.read_stream(ORG, STREAM) == []
    assert await store.find(ORG) == []
    assert await store.position_at(AT) == 0


async def test_a_stale_writer_is_refused_and_takes_no_position(store: EventStore) -> None:
    await store.append(wish(1, 2, expected=0))
    assert await store.append(wish(3, expected=1)) == Outcome(Status.CONFLICT, version=2, position=2)
    assert await store.append(wish(3, expected=0)) == Outcome(Status.CONFLICT, version=2, position=2)
    assert await store.append(wish(3, expected=2)) == Outcome(Status.OK, version=3, position=3)


async def test_a_stream_expected_beyond_its_head_is_a_conflict(store: EventStore) -> None:
    assert await store.append(wish(1, expected=5)) == Outcome(Status.CONFLICT, version=0, position=0)


async def test_without_an_expected_version_an_append_always_fits(store: EventStore) -> None:
    await store.append(wish(1))
    assert await store.append(wish(2)) == Outcome(Status.OK, version=2, position=2)


async def test_facts_told_twice_are_stored_once(store: EventStore) -> None:
    assert await store.append(facts("a", "b")) == Outcome(Status.OK, version=2, position=2)
    assert await store.append(facts("b", "c", "a", "d")) == Outcome(Status.OK, 4, 4, duplicates=(0, 2))
    assert await store.append(facts("a", "d")) == Outcome(Status.OK, 4, 4, duplicates=(0, 1))
    assert [e.version for e in await store.read_stream(ORG, STREAM)] == [1, 2, 3, 4]


async def test_a_fact_twice_in_one_append_is_stored_once(store: EventStore) -> None:
    assert await store.append(facts("a", "a", "b", "a")) == Outcome(Status.OK, 2, 2, duplicates=(1, 3))


async def test_the_same_key_on_another_stream_is_another_fact(store: EventStore) -> None:
    await store.append(facts("a"))
    assert (await store.append(facts("a", stream=Stream("Session", "s-2")))).duplicates == ()


async def test_the_same_facts_from_many_callers_at_once_are_stored_once(store: EventStore) -> None:
    keys = [str(number) for number in range(20)]
    outcomes = await asyncio.gather(*(store.append(facts(*keys)) for _ in range(10)))
    assert sum(len(keys) - len(outcome.duplicates) for outcome in outcomes) == 20
    assert [e.position for e in await everything(store)] == list(range(1, 21))


async def test_merged_facts_are_told_their_own_position(store: EventStore) -> None:
    outcomes = await asyncio.gather(*(store.append(facts(f"{number}")) for number in range(5)))
    assert [(o.version, o.position) for o in outcomes] == [(n, n) for n in range(1, 6)]


async def test_a_repeated_command_gets_the_first_answer(store: EventStore) -> None:
    first = await store.append(wish(1, 2, expected=0, command_id="c-1"))
    await store.append(wish(3, expected=2))
    assert await store.append(wish(1, 2, expected=0, command_id="c-1")) == Outcome(Status.DUPLICATE, 2, 2)
    assert (first.version, first.position) == (2, 2)
    assert await store.head() == 3


async def test_repeated_facts_with_a_command_id_get_the_first_answer(store: EventStore) -> None:
    await store.append(facts("a", "b", command_id="c-1"))
    assert (await store.append(facts("c", command_id="c-1"))).status is Status.DUPLICATE
    assert await store.head() == 2


async def test_the_same_command_many_times_at_once_happens_once(store: EventStore) -> None:
    outcomes = await asyncio.gather(*(store.append(wish(1, command_id="c-1")) for _ in range(8)))
    assert sorted(o.status.value for o in outcomes) == ["duplicate"] * 7 + ["ok"]
    assert await store.head() == 1


async def test_a_conflict_leaves_no_receipt(store: EventStore) -> None:
    await store.append(wish(1, expected=0))
    assert (await store.append(wish(2, expected=0, command_id="c-1"))).status is Status.CONFLICT
    assert (await store.append(wish(2, expected=1, command_id="c-1"))).status is Status.OK


async def test_a_command_id_used_for_another_stream_is_an_error(store: EventStore) -> None:
    await store.append(wish(1, command_id="c-1"))
    with pytest.raises(AppendRefusedError, match="another stream"):
        await store.append(wish(1, stream=Stream("Session", "s-2"), command_id="c-1"))
    assert await store.head() == 1


async def test_command_ids_of_two_organizations_do_not_meet(store: EventStore) -> None:
    await store.append(wish(1, command_id="c-1"))
    assert (await store.append(wish(1, org_id=OTHER_ORG, command_id="c-1"))).status is Status.OK


def claiming(stream: Stream, *, claims: tuple[Claim, ...] = (), releases: tuple[Claim, ...] = ()) -> Append:
    return Append(org_id=ORG, stream=stream, events=[NewEvent(ended(0))], claims=claims, releases=releases)


async def test_a_name_belongs_to_one_stream_until_it_is_released(store: EventStore) -> None:
    acme, one, two = Claim("organization.slug", "acme"), Stream("Organization", "1"), Stream("Organization", "2")
    assert (await store.append(claiming(one, claims=(acme,)))).status is Status.OK
    assert (await store.append(claiming(one, claims=(acme,)))).status is Status.OK  # it holds it already
    taken = await store.append(claiming(two, claims=(acme,)))
    assert taken == Outcome(Status.TAKEN, version=0, position=0)
    assert (await store.append(claiming(two, releases=(acme,)))).status is Status.OK  # not its own: nothing released
    assert (await store.append(claiming(two, claims=(acme,)))).status is Status.TAKEN
    assert (await store.append(claiming(one, releases=(acme,)))).status is Status.OK
    assert (await store.append(claiming(two, claims=(acme,)))).status is Status.OK


async def test_of_many_who_claim_a_name_at_once_one_gets_it(store: EventStore) -> None:
    acme = Claim("organization.slug", "acme")
    outcomes = await asyncio.gather(
        *(store.append(claiming(Stream("Organization", str(n)), claims=(acme,))) for n in range(8))
    )
    assert sorted(o.status.value for o in outcomes) == ["ok"] + ["taken"] * 7
    assert await store.head() == 1


async def test_one_conflict_never_fails_its_neighbours(store: EventStore) -> None:
    await store.append(wish(1, expected=0))
    streams = [Stream("Session", f"n-{number}") for number in range(20)]
    wishes = [wish(1, expected=0, stream=stream) for stream in streams]
    wishes.insert(7, wish(9, expected=0))
    wishes.insert(3, claiming(Stream("Session", "c"), claims=(Claim("x", "y"),)))
    outcomes = await asyncio.gather(*(store.append(w) for w in wishes))
    assert [o.status for o in outcomes].count(Status.CONFLICT) == 1
    assert [o.status for o in outcomes].count(Status.OK) == 21
    assert [e.position for e in await everything(store)] == list(range(1, 23))


async def test_of_many_writers_with_the_same_expectation_one_wins(store: EventStore) -> None:
    outcomes = await asyncio.gather(*(store.append(wish(number, expected=0)) for number in range(8)))
    assert sorted(o.status.value for o in outcomes) == ["conflict"] * 7 + ["ok"]


async def test_eight_writers_and_a_tail_that_sees_every_position_in_order(store: EventStore) -> None:
    seen: list[int] = []
    total = 8 * 25 * 3

    async def tail() -> None:
        while len(seen) < total:
            page = await store.read_all(seen[-1] if seen else 0, 100)
            seen.extend(event.position for event in page)
            await asyncio.sleep(0)

    async def writer(number: int) -> None:
        for turn in range(25):
            stream = Stream("Session", f"{number}")
            if number % 2:
                await store.append(facts(*(f"{turn}-{n}" for n in range(3)), stream=stream))
            else:
                await store.append(wish(1, 2, 3, stream=stream, expected=turn * 3))

    async with asyncio.timeout(60):
        await asyncio.gather(tail(), *(writer(number) for number in range(8)))
    assert seen == list(range(1, total + 1))


async def test_what_no_store_may_take(store: EventStore) -> None:
    with pytest.raises(ValueError, match="at least one event"):
        await store.append(Append(org_id=ORG, stream=STREAM, events=[]))
    with pytest.raises(ValueError, match="at most 2000"):
        await store.append(wish(*range(BATCH_EVENTS_MAX + 1)))
    with pytest.raises(ValueError, match="without an expected version"):
        await store.append(Append(org_id=ORG, stream=STREAM, events=[NewEvent(ended())], expected=0, facts=True))
    with pytest.raises(ValueError, match="0 or more"):
        await store.append(wish(1, expected=-1))
    assert await store.head() == 0
    assert (await store.append(wish(*range(BATCH_EVENTS_MAX)))).position == BATCH_EVENTS_MAX


async def test_an_event_id_is_used_once(store: EventStore) -> None:
    chosen = uuid4()
    await store.append(Append(org_id=ORG, stream=STREAM, events=[NewEvent(ended(), chosen)]))
    with pytest.raises(AppendRefusedError):
        await store.append(Append(org_id=ORG, stream=STREAM, events=[NewEvent(ended(), chosen)]))
    assert await store.head() == 1


async def test_pages_of_the_log_and_of_one_organization(store: EventStore) -> None:
    for number in range(6):
        await store.append(wish(number, org_id=(ORG, OTHER_ORG)[number % 2]))
    assert [e.position for e in await store.read_all(2, 3)] == [3, 4, 5]
    assert [e.position for e in await store.read_all(0, org_id=OTHER_ORG)] == [2, 4, 6]
    assert [e.position for e in await store.read_all(2, 1, org_id=OTHER_ORG)] == [4]
    assert [e.position for e in await store.read_all(1, until=4)] == [2, 3, 4]
    assert [e.position for e in await store.read_all(0, org_id=ORG, until=3)] == [1, 3]


async def test_pages_of_a_stream(store: EventStore) -> None:
    await store.append(wish(*range(5)))
    assert [e.version for e in await store.read_stream(ORG, STREAM, after=2)] == [3, 4, 5]
    assert [e.version for e in await store.read_stream(ORG, STREAM, after=1, limit=2)] == [2, 3]
    assert [e.version for e in await store.read_stream(ORG, STREAM, after=1, limit=2, newest_first=True)] == [5, 4]
    assert await store.read_stream(OTHER_ORG, STREAM) == []
    with pytest.raises(ValueError, match="limit"):
        await store.read_stream(ORG, STREAM, limit=0)


async def test_history_by_stream_type_actor_and_position(store: EventStore) -> None:
    other = Stream("Organization", "o")
    made = OrganizationCreated(organization_id=ORG, slug="a", name="A", owner_id=ORG, created_at=AT)
    await store.append(wish(1, 2))
    await store.append(Append(org_id=ORG, stream=other, events=[NewEvent(made)], meta=Meta(actor="user:1")))
    await store.append(wish(3, org_id=OTHER_ORG))
    await store.append(wish(3))

    async def positions(**filters: object) -> list[int]:
        return [event.position for event in await store.find(ORG, **filters)]  # type: ignore[arg-type]

    assert await positions() == [1, 2, 3, 5]
    assert await positions(stream=STREAM) == [1, 2, 5]
    assert await positions(stream=STREAM, newest_first=True, limit=2) == [5, 2]
    assert await positions(type="organization.created.v1") == [3]
    assert await positions(actor="user:1") == [3]
    assert await positions(actor="user:2") == []
    assert await positions(after=2, limit=1) == [3]
    assert await positions(until_position=3) == [1, 2, 3]
    assert await positions(until_position=3, newest_first=True, limit=2) == [3, 2]


async def test_history_without_what_agents_reported(store: EventStore) -> None:
    hook = HookRecorded(agent="claude", llm_session_id="s-1", kind="Stop", occurred_at=AT, person_id=ORG)
    await store.append(
        Append(org_id=ORG, stream=STREAM, events=[NewEvent(ended(1)), NewEvent(hook), NewEvent(ended(2))])
    )
    for stream in (None, STREAM):
        found = await store.find(ORG, stream=stream, decided=True)
        assert [event.position for event in found] == [1, 3]
        found = await store.find(ORG, stream=stream, decided=True, newest_first=True, limit=1)
        assert [event.position for event in found] == [3]
        assert [event.position for event in await store.find(ORG, stream=stream)] == [1, 2, 3]
        assert [event.position for event in await store.find(ORG, stream=stream, type="hook.recorded.v1")] == [2]
        assert await store.find(ORG, stream=stream, type="hook.recorded.v1", decided=True) == []


async def test_history_by_time(store: EventStore) -> None:
    await store.append(wish(1))
    await asyncio.sleep(0.002)
    await store.append(wish(2))
    first, second = await everything(store)
    assert await store.position_at(first.recorded_at) == 1
    assert await store.position_at(second.recorded_at) == 2
    assert await store.position_at(first.recorded_at - timedelta(microseconds=1)) == 0
    assert [e.position for e in await store.find(ORG, since=second.recorded_at)] == [2]
    assert [e.position for e in await store.find(ORG, until=first.recorded_at)] == [1]
    assert len(await store.find(ORG, since=first.recorded_at, until=second.recorded_at)) == 2


async def test_one_event_by_its_id_for_its_own_organization_only(store: EventStore) -> None:
    await store.append(wish(1))
    (event,) = await everything(store)
    assert await store.read_one(ORG, event.event_id) == event
    assert await store.read_one(OTHER_ORG, event.event_id) is None
    assert await store.read_one(ORG, uuid4()) is None


async def test_sealed_fields_come_back_closed_and_open_with_the_key(store: EventStore) -> None:
    person = uuid4()
    event = PersonObserved(person_id=person, email=Sealed(person, "ada@example.org"))
    await store.append(Append(org_id=ORG, stream=Stream("Person", person.hex), events=[NewEvent(event)]))
    (recorded,) = await everything(store)
    assert b"ada" not in recorded.data
    assert isinstance(recorded.event, PersonObserved)
    sealed = recorded.event.email
    assert sealed is not None
    assert (sealed.subject, sealed.text) == (person, None)
    ring = store.mapper.ring  # type: ignore[attr-defined]
    assert await ring.open_many(ORG, [(recorded.type, sealed)]) == ["ada@example.org"]


async def test_a_hook_fact_keeps_its_structure_readable_and_its_content_sealed(store: EventStore) -> None:
    person = uuid4()
    hook = HookRecorded(
        agent="claude",
        llm_session_id="x",
        kind="UserPromptSubmit",
        occurred_at=AT,
        person_id=person,
        attrs={"prompt_id": "p-1", "n": 3},
        content=Sealed(person, '{"prompt":"секрет 🔒"}'),
    )
    await store.append(Append(org_id=ORG, stream=Stream("LlmSession", "x"), events=[NewEvent(hook)], facts=True))
    (recorded,) = await everything(store)
    assert isinstance(recorded.event, HookRecorded)
    assert recorded.event.attrs == {"prompt_id": "p-1", "n": 3}
    assert recorded.event.content is not None
    ring = store.mapper.ring  # type: ignore[attr-defined]
    assert ring.open(ORG, recorded.type, recorded.event.content) == '{"prompt":"секрет 🔒"}'
