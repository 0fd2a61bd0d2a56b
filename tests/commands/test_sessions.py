"""Ingestion through a real (in-memory) store: what is accepted, what is a duplicate, what is refused, and why."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from commands.bus import Principal
from commands.sessions import (
    end_session,
    ingest_bare_hook,
    ingest_hooks,
    ingest_items,
    ingest_telemetry,
    start_session,
    time_out_session,
)
from commands.sessions.facts import person_id_of
from domain.kernel import Stream
from domain.organizations.events import PersonObserved
from domain.sessions import decide
from domain.sessions.events import ChannelFact, HookRecorded, TelemetryRecorded, TranscriptRecorded
from domain.sessions.observations import ModelCalled, SubagentStarted
from domain.sessions.reading import observe
from eventstore.memory import MemoryStore
from eventstore.port import Append, Outcome, Recorded, Status, StoreUnavailableError
from schemas.ingest import HookEnvelope, ItemBatch, Person
from schemas.otlp import OtlpRecord
from tests.domain.recorded import CLAUDE, lines, logs, metrics, session_id, spans, subagents
from tests.domain.told import seen, totals

NOW = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)
ORG, OWNER = UUID(int=1), UUID(int=2)
PRINCIPAL = Principal(actor="key:1", org_id=ORG, person_id=OWNER, scopes=frozenset({"ingest"}), request_id="req-1")
SESSION = "0447534f-4168-45f3-a089-5808b6b5dc70"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def facts_of(store: MemoryStore) -> list[Any]:
    return [recorded.event for recorded in await everything(store) if isinstance(recorded.event, ChannelFact)]


async def everything(store: MemoryStore) -> list[Recorded]:
    return await store.read_all(0, limit=5_000)


def envelope(kind: str = "Stop", **over: Any) -> HookEnvelope:
    payload = {"session_id": SESSION, "hook_event_name": kind, "prompt_id": "p1", **over.pop("payload", {})}
    return HookEnvelope(payload=payload, **{"at": NOW, **over})


def recorded_envelopes(name: str) -> list[HookEnvelope]:
    return [HookEnvelope(**line) for line in lines(f"{name}/hooks.jsonl")]


# -- hooks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLAUDE)
async def test_a_recorded_session_is_accepted_once_however_often_it_is_sent(store: MemoryStore, name: str) -> None:
    sent = recorded_envelopes(name)

    first = await ingest_hooks(store, PRINCIPAL, sent, received_at=NOW)
    again = await ingest_hooks(store, PRINCIPAL, [*sent, *sent], received_at=NOW + timedelta(days=1))

    assert (first.accepted, first.duplicate, first.rejected) == (len(sent), 0, 0)
    assert (again.accepted, again.duplicate, again.rejected) == (0, 2 * len(sent), 0)
    assert [result.id for result in first.results] == [result.id for result in again.results[: len(sent)]]
    assert len(await everything(store)) == len(sent)
    assert first.position == len(sent)


async def test_batches_cut_anywhere_in_any_order_store_the_same_facts() -> None:
    sent = recorded_envelopes("claude-0447534f")
    chance = random.Random(7)
    whole, pieces = MemoryStore(), MemoryStore()
    await ingest_hooks(whole, PRINCIPAL, sent, received_at=NOW)
    mixed = chance.sample(sent, len(sent)) + chance.sample(sent, 9)
    while mixed:
        size = chance.randint(1, 7)
        await ingest_hooks(pieces, PRINCIPAL, mixed[:size], received_at=NOW)
        del mixed[:size]

    assert {fact.event_id for fact in await everything(whole)} == {fact.event_id for fact in await everything(pieces)}


async def test_command_and_http_twins_of_one_event_are_one_fact(store: MemoryStore) -> None:
    sent = recorded_envelopes("claude-0447534f")
    await ingest_hooks(store, PRINCIPAL, sent, received_at=NOW)
    statuses = {}
    for one in sent:
        answer = await ingest_bare_hook(store, PRINCIPAL, "claude", one.payload, received_at=NOW)
        statuses[one.payload["hook_event_name"]] = answer.results[0].status

    unkeyed = {"SessionStart", "InstructionsLoaded"}  # the first cannot be an http hook at all
    assert {kind for kind, status in statuses.items() if status == "accepted"} == unkeyed


async def test_each_event_gets_its_own_answer_in_order(store: MemoryStore) -> None:
    answer = await ingest_hooks(
        store,
        PRINCIPAL,
        [
            envelope(),
            HookEnvelope(payload={"hook_event_name": "Stop"}, id="mine"),
            envelope(),
            envelope("NeverHeardOf", payload={"anything": [1, {"x": None}]}),
            HookEnvelope(payload={"session_id": "s", "hook_event_name": 7}),
            HookEnvelope(payload={"session_id": "", "hook_event_name": "Stop"}),
            envelope(agent="\n"),
        ],
        received_at=NOW,
    )

    assert [result.status for result in answer.results] == [
        "accepted", "rejected", "duplicate", "accepted", "rejected", "rejected", "rejected",
    ]  # fmt: skip
    assert [result.index for result in answer.results] == list(range(7))
    assert (answer.accepted, answer.duplicate, answer.rejected) == (2, 1, 4)
    assert answer.results[1].reason == "payload.session_id: expected 1 to 200 printable characters, got nothing"
    assert answer.results[1].id == "mine"
    assert answer.results[4].reason == "payload.hook_event_name: expected 1 to 200 printable characters, got int"


async def test_nothing_but_rejected_events_is_no_append(store: MemoryStore) -> None:
    answer = await ingest_hooks(store, PRINCIPAL, [HookEnvelope(payload={})], received_at=NOW)

    assert (answer.rejected, answer.position) == (1, 0)
    assert await everything(store) == []


async def test_absurd_depth_is_one_rejected_record_not_a_failed_batch(store: MemoryStore) -> None:
    deep: Any = "x"
    for _ in range(3_000):
        deep = [deep]
    sent = [envelope(payload={"novel": deep}), envelope("SessionEnd")]
    record = OtlpRecord(signal="log", name="user_prompt", attributes={"session.id": "s", "novel": deep}, resource={})

    answer = await ingest_hooks(store, PRINCIPAL, sent, received_at=NOW)
    told = await ingest_telemetry(store, PRINCIPAL, [record], received_at=NOW)
    items = await ingest_items(store, PRINCIPAL, "s", ItemBatch(items=[{"type": "x", "novel": deep}]), received_at=NOW)

    assert [result.status for result in answer.results] == ["rejected", "accepted"]
    assert answer.results[0].reason == "payload: nested too deeply"
    assert (told.rejected, items.rejected) == (1, 1)


async def test_one_batch_may_carry_many_sessions(store: MemoryStore) -> None:
    sent = [one for name in CLAUDE for one in recorded_envelopes(name)]
    random.Random(3).shuffle(sent)

    answer = await ingest_hooks(store, PRINCIPAL, sent, received_at=NOW)

    assert answer.accepted == len(sent)
    assert {str(recorded.stream) for recorded in await everything(store)} == {
        f"LlmSession:{session_id(name)}" for name in CLAUDE
    }


async def test_the_text_is_sealed_and_the_structure_readable(store: MemoryStore) -> None:
    await ingest_hooks(
        store,
        PRINCIPAL,
        [envelope("UserPromptSubmit", payload={"prompt": "top secret", "cwd": "/home/x"})],
        received_at=NOW,
    )
    (stored,) = await everything(store)

    assert isinstance(stored.event, HookRecorded)
    assert b"top secret" not in stored.data
    assert b"/home/x" not in stored.data
    assert stored.event.attrs == {"prompt_id": "p1", "derived": {"prompt_chars": 10}}
    assert stored.meta.actor == "key:1"


async def test_context_and_the_session_posted_to_are_kept(store: MemoryStore) -> None:
    told = envelope(repo="acme/shop", branch="main", commit="abc", project="shop")
    await ingest_hooks(store, PRINCIPAL, [told], received_at=NOW, session_id="work-1")
    await ingest_hooks(store, PRINCIPAL, [envelope(payload={"prompt_id": "p2"})], received_at=NOW, session_id=SESSION)
    first, second = await facts_of(store)

    assert (first.context.repo, first.context.branch, first.context.commit, first.context.project) == (
        "acme/shop", "main", "abc", "shop",
    )  # fmt: skip
    assert first.context.work_id == "work-1"
    assert second.context.work_id is None  # the session is the agent's own


async def test_a_large_payload_is_cut_marked_and_hashed(store: MemoryStore) -> None:
    big = envelope("PostToolUse", payload={"tool_use_id": "t", "tool_response": {"stdout": "x" * 100_000}})
    await ingest_hooks(store, PRINCIPAL, [big], received_at=NOW)
    (fact,) = await facts_of(store)

    assert fact.cut_bytes > 100_000
    assert len(fact.sha256) == 64


@pytest.mark.parametrize(
    ("told", "read"),
    [
        (NOW - timedelta(days=300), NOW - timedelta(days=300)),
        (NOW + timedelta(minutes=4), NOW + timedelta(minutes=4)),
        (NOW + timedelta(minutes=6), NOW),
        (datetime(1999, 12, 31, tzinfo=UTC), NOW),
    ],
)
async def test_a_clock_that_is_plainly_wrong_is_kept_but_not_believed(
    store: MemoryStore, told: datetime, read: datetime
) -> None:
    await ingest_hooks(store, PRINCIPAL, [envelope(at=told)], received_at=NOW)
    (fact,) = await facts_of(store)

    assert fact.occurred_at == told
    assert {one.at for one in observe(fact)} == {read}


async def test_a_missing_or_nonsensical_time_is_the_time_of_receipt(store: MemoryStore) -> None:
    sent = [
        HookEnvelope(payload=envelope().payload),
        HookEnvelope(payload=envelope("SessionEnd").payload, captured_at=float("inf")),
        HookEnvelope(payload=envelope("StopFailure").payload, at=datetime(2026, 11, 20, 22)),  # noqa: DTZ001
    ]
    await ingest_hooks(store, PRINCIPAL, sent, received_at=NOW)

    assert [fact.occurred_at for fact in await facts_of(store)] == [NOW, NOW, NOW - timedelta(hours=1)]


async def test_a_person_named_by_e_mail_is_observed_once_and_never_readable(store: MemoryStore) -> None:
    ann = Person(email="Ann@Example.com ", name="Ann")
    sent = [envelope(user=ann), envelope("SessionEnd", user=Person(email="ann@example.com", name="Ann"))]
    first = await ingest_hooks(store, PRINCIPAL, sent, received_at=NOW, person_secret=b"s")
    again = await ingest_hooks(store, PRINCIPAL, sent, received_at=NOW, person_secret=b"s")
    stored = await everything(store)
    observed = [recorded for recorded in stored if isinstance(recorded.event, PersonObserved)]

    assert (first.accepted, again.duplicate) == (2, 2)
    assert len(observed) == 1
    person_id = person_id_of(b"s", ORG, "ann@example.com")
    assert {fact.person_id for fact in await facts_of(store)} == {person_id}
    assert str(observed[0].stream) == f"Person:{person_id}"
    assert not any(b"ann" in recorded.data.lower() for recorded in stored)
    assert person_id != person_id_of(b"other", ORG, "ann@example.com")
    assert person_id != person_id_of(b"s", UUID(int=9), "ann@example.com")


async def test_without_an_e_mail_the_data_belongs_to_the_keys_owner(store: MemoryStore) -> None:
    sent = [envelope(user=Person(name="Nobody")), envelope("SessionEnd", user=Person(email="  "))]
    await ingest_hooks(store, PRINCIPAL, sent, received_at=NOW)

    assert {fact.person_id for fact in await facts_of(store)} == {OWNER}


async def test_a_store_that_cannot_answer_is_an_error_not_an_acknowledgement(store: MemoryStore) -> None:
    class Broken(MemoryStore):
        async def append(self, wish: Append) -> Outcome:
            if wish.stream.id == "bad":
                raise StoreUnavailableError("down")
            return await super().append(wish)

    broken = Broken()
    sent = [envelope(), HookEnvelope(payload={"session_id": "bad", "hook_event_name": "Stop"})]
    with pytest.raises(StoreUnavailableError):
        await ingest_hooks(broken, PRINCIPAL, sent, received_at=NOW)
    assert len(await everything(broken)) == 1  # sending again is safe: that one is then a duplicate


async def test_batches_sent_side_by_side_store_each_fact_once(store: MemoryStore) -> None:
    sent = recorded_envelopes("claude-0447534f")
    answers = await asyncio.gather(*(ingest_hooks(store, PRINCIPAL, sent, received_at=NOW) for _ in range(8)))

    assert sum(answer.accepted for answer in answers) == len(sent) == len(await everything(store))


# -- telemetry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CLAUDE, "codex"])
async def test_recorded_telemetry_is_taken_whole_and_noise_is_not_stored(store: MemoryStore, name: str) -> None:
    records = [*logs(name), *(metrics(name) if name != "codex" else []), *(spans(name) if name != "codex" else [])]

    first = await ingest_telemetry(store, PRINCIPAL, records, received_at=NOW)
    again = await ingest_telemetry(store, PRINCIPAL, records, received_at=NOW)
    facts = await facts_of(store)

    assert (first.accepted, first.duplicate, first.rejected, first.message) == (len(records), 0, 0, "")
    assert again.duplicate == len(facts)
    assert again.accepted + again.duplicate == len(records)
    assert not {"hook_registered", "plugin_loaded"} & {fact.kind for fact in facts}
    assert {fact.agent for fact in facts} == {"codex" if name == "codex" else "claude"}


async def test_a_body_with_records_of_several_sessions_is_filed_by_record(store: MemoryStore) -> None:
    records = [record for name in CLAUDE for record in logs(name)]
    await ingest_telemetry(store, PRINCIPAL, records, received_at=NOW)

    for name, requests in zip(CLAUDE, (10, 2, 1, 1), strict=True):
        own = [
            recorded.event
            for recorded in await store.read_stream(ORG, Stream("LlmSession", session_id(name)))
            if isinstance(recorded.event, TelemetryRecorded)
        ]
        assert totals(own)["calls"] == requests


async def test_records_without_a_session_are_rejected_with_a_reason(store: MemoryStore) -> None:
    records = [
        OtlpRecord(signal="metric", name="claude_code.cost.usage", attributes={"model": "m"}, resource={}, value=1),
        OtlpRecord(signal="log", name="x", attributes={"session.id": 7}, resource={}),
        OtlpRecord(signal="log", name="user_prompt", attributes={"session.id": "s"}, resource={}),
    ]
    answer = await ingest_telemetry(store, PRINCIPAL, records, received_at=NOW)

    assert (answer.accepted, answer.rejected) == (1, 2)
    assert "session.id or conversation.id or gen_ai.conversation.id" in answer.message


async def test_a_person_named_in_telemetry_is_the_same_as_one_named_in_hooks(store: MemoryStore) -> None:
    record = OtlpRecord(
        signal="log",
        name="user_prompt",
        attributes={"session.id": SESSION, "user.email": "ANN@example.com"},
        resource={},
    )
    await ingest_telemetry(store, PRINCIPAL, [record], received_at=NOW, person_secret=b"s")
    await ingest_hooks(
        store, PRINCIPAL, [envelope(user=Person(email="ann@example.com"))], received_at=NOW, person_secret=b"s"
    )

    assert len({fact.person_id for fact in await facts_of(store)}) == 1
    assert not any(b"ann@" in recorded.data.lower() for recorded in await everything(store))


async def test_a_record_without_a_time_takes_its_own_stamp_or_the_time_of_receipt(store: MemoryStore) -> None:
    stamp = "2026-11-20T21:00:00.000Z"
    records = [
        OtlpRecord(signal="log", name="a", attributes={"session.id": "s", "event.timestamp": stamp}, resource={}),
        OtlpRecord(signal="log", name="b", attributes={"session.id": "s"}, resource={}),
        OtlpRecord(signal="log", name="c", attributes={"session.id": "s"}, resource={}, time_unix_nano=2**64),
    ]
    await ingest_telemetry(store, PRINCIPAL, records, received_at=NOW)

    assert [fact.occurred_at for fact in await facts_of(store)] == [NOW - timedelta(hours=2), NOW, NOW]


async def test_more_records_than_one_append_takes_are_appended_in_parts(store: MemoryStore) -> None:
    records = [
        OtlpRecord(signal="log", name="user_prompt", attributes={"session.id": "s", "event.sequence": n}, resource={})
        for n in range(4_500)
    ]
    answer = await ingest_telemetry(store, PRINCIPAL, records, received_at=NOW)

    assert (answer.accepted, answer.position) == (4_500, 4_500)


# -- transcripts -------------------------------------------------------------------------------------------------------


async def test_a_transcript_and_its_subagent_are_taken_once(store: MemoryStore) -> None:
    name = "claude-0447534f"
    transcript = lines(f"{name}/transcript.jsonl")
    for _ in range(2):
        await ingest_items(store, PRINCIPAL, SESSION, ItemBatch(items=transcript), received_at=NOW)
        for agent_id, (own, meta) in subagents(name).items():
            batch = ItemBatch(items=own, subagent_id=agent_id, meta=meta)
            answer = await ingest_items(store, PRINCIPAL, SESSION, batch, received_at=NOW)
    found = totals(await facts_of(store))
    started = [one for one in seen(*await facts_of(store)) if isinstance(one, SubagentStarted)]

    assert answer.accepted == 0
    assert (found["calls"], found["input"], found["output"], found["tools"]) == (10, 149, 471, 9)
    assert "toolu_01e09f86ad932c456a81d0f8" in {one.parent_tool_use_id for one in started}
    assert {fact.kind for fact in await facts_of(store)} >= {
        "system.stop_hook_summary",
        "attachment.model",
        "cost-state",
    }


async def test_importing_in_parts_is_importing_once(store: MemoryStore) -> None:
    transcript = lines("claude-0447534f/transcript.jsonl")
    whole = MemoryStore()
    await ingest_items(whole, PRINCIPAL, SESSION, ItemBatch(items=transcript), received_at=NOW)
    for start in range(0, len(transcript), 7):
        overlapping = transcript[max(0, start - 3) : start + 7]
        await ingest_items(store, PRINCIPAL, SESSION, ItemBatch(items=overlapping), received_at=NOW)

    assert {fact.event_id for fact in await everything(whole)} == {fact.event_id for fact in await everything(store)}
    assert totals(await facts_of(whole)) == totals(await facts_of(store))


async def test_a_line_without_a_time_takes_that_of_the_line_before(store: MemoryStore) -> None:
    transcript = lines("claude-840b8813/transcript.jsonl")
    await ingest_items(store, PRINCIPAL, SESSION, ItemBatch(items=transcript), received_at=NOW)
    await ingest_items(store, PRINCIPAL, "other", ItemBatch(items=[transcript[-1]]), received_at=NOW)
    stated = [fact for fact in await facts_of(store) if fact.kind == "cost-state"]

    assert transcript[-1]["type"] == "cost-state"
    assert all(datetime(2026, 11, 20, 21, 13, tzinfo=UTC) < fact.occurred_at < NOW for fact in stated)


async def test_codex_usage_learns_its_model_from_the_turns_context(store: MemoryStore) -> None:
    rollout = lines("codex/rollout.jsonl")
    await ingest_items(store, PRINCIPAL, session_id("codex"), ItemBatch(items=rollout, agent="codex"), received_at=NOW)
    calls = [one for one in seen(*await facts_of(store)) if isinstance(one, ModelCalled)]

    assert [call.model for call in calls] == ["gpt-5.5"] * 3


async def test_odd_lines_are_stored_and_empty_ones_rejected(store: MemoryStore) -> None:
    odd: list[dict[str, Any]] = [
        {},
        {"type": None},
        {"type": ["x"]},
        {"role": "user", "content": "hi", "id": "1"},
        {"a": {}},
    ]
    answer = await ingest_items(store, PRINCIPAL, "s", ItemBatch(items=odd, agent="other"), received_at=NOW)

    assert [result.status for result in answer.results] == ["rejected", "accepted", "accepted", "accepted", "accepted"]
    assert [fact.kind for fact in await facts_of(store)] == ["unknown", "unknown", "user", "unknown"]
    assert all(isinstance(fact, TranscriptRecorded) for fact in await facts_of(store))


async def test_fork_copies_live_in_the_new_session_and_name_the_old(store: MemoryStore) -> None:
    transcript = lines("claude-d9f5b624/transcript.jsonl")
    forked = [
        {**line, "sessionId": "new", "forkedFrom": {"sessionId": line["sessionId"], "messageUuid": line["uuid"]}}
        for line in json.loads(json.dumps(transcript))
        if "uuid" in line
    ]
    await ingest_items(store, PRINCIPAL, "new", ItemBatch(items=forked), received_at=NOW)
    found = seen(*await facts_of(store))

    assert {one.copied_from for one in found if isinstance(one, ModelCalled)} == {session_id("claude-d9f5b624")}
    assert totals(await facts_of(store))["prompts"] == 0


# -- the life of a session ---------------------------------------------------------------------------------------------


async def test_a_session_is_opened_times_out_and_ends(store: MemoryStore) -> None:
    opened = await start_session(store, PRINCIPAL, "s", kind="cli", at=NOW)
    assert opened is not None
    assert opened.status is Status.OK
    assert await start_session(store, PRINCIPAL, "s", kind="cli", at=NOW) is None

    later = NOW + timedelta(hours=1)
    assert await time_out_session(store, PRINCIPAL, "s", last_activity_at=NOW, now=later, limit_s=1800) is not None
    assert await time_out_session(store, PRINCIPAL, "s", last_activity_at=NOW, now=later, limit_s=1800) is None
    assert await end_session(store, PRINCIPAL, "s", outcome="failed", at=later) is not None
    assert await end_session(store, PRINCIPAL, "s", outcome="failed", at=later) is None
    with pytest.raises(decide.SessionEndedError):
        await end_session(store, PRINCIPAL, "s", outcome="completed", at=later)
    assert [recorded.type for recorded in await everything(store)] == [
        "session.started.v1", "session.timed_out.v1", "session.ended.v1",
    ]  # fmt: skip


async def test_a_repeated_command_is_one_event(store: MemoryStore) -> None:
    for _ in range(2):
        await start_session(store, PRINCIPAL, "s", at=NOW, command_id="same")

    assert len(await everything(store)) == 1
