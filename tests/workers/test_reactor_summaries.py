"""A model writes about sessions that came to rest: from event to answer, over a scripted model API on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.kernel import Stream
from domain.organizations.events import OrganizationCreated, OrganizationUpdated, SubjectShredded
from domain.organizations.state import organization_stream
from domain.sessions.events import HookRecorded, SessionEnded
from domain.summaries.events import SessionSummarized
from eventstore.database import API_ROLE, connect_pool, tenant
from eventstore.port import Append, NewEvent
from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from projections import directory
from projections import summaries as read_model
from projections.sessions import PROJECTION
from schemas.insights import Action, Assessment, CoachingTip, Written
from tests.agents.fake_anthropic import Block, Failure, fake_anthropic
from tests.projections.session_facts import ORG, PERSON, RECEIVED, Keyed, hooks_of, otlp_of, transcript_of
from tests.workers.tally import running, until
from tests.workers.test_sessions_live import tell
from workers.projector import run_projector
from workers.projector.host import Workshop
from workers.reactor import found_reactions, host, run_reactor
from workers.reactor.insights.question import TOOL
from workers.reactor.reactions import summaries

pytestmark = pytest.mark.integration
READ_MODELS = (PROJECTION, directory.PROJECTION, read_model.PROJECTION)
NAME = "claude-0447534f"
SESSION = "0447534f-4168-45f3-a089-5808b6b5dc70"
MARKER = "Session facts (JSON)"
WRITTEN = Written(
    summary="Fourteen tool calls, one failed.",
    coaching_tips=[CoachingTip("Test first", "Let the agent run one test.")],
    recommendations=[Action("Name the commands", "Write down how to build.", "high")],
    efficiency=[Assessment("cache_hit_rate", "good", "Most was read from the cache.")],
)
INPUT: dict[str, Any] = msgspec.to_builtins(WRITTEN)


def says(answer: Any) -> dict[str, list[list[Block]]]:
    return {MARKER: [[{"type": "tool_use", "name": TOOL, "input": answer}]]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "POLL_S", 0.02)
    monkeypatch.setattr(host, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(summaries, "BEHIND_S", 0.05)


@pytest.fixture
def settings(postgres_url: str, master_key_file: Path) -> Settings:
    return Settings(
        database_url=postgres_url,
        nats_url="nats://127.0.0.1:9",
        key_file=str(master_key_file),
        anthropic_api_key="sk-ant-dummy",
        insights_settle_s=0.0,
    )


def talking_to(url: str, settings: Settings, **changes: Any) -> Settings:
    return msgspec.structs.replace(settings, anthropic_base_url=url, **changes)


def facts() -> list[Keyed]:
    return [*hooks_of(NAME), *transcript_of(NAME), *otlp_of(NAME)]


async def outcomes(shop: Workshop) -> list[tuple[str, str | None]]:
    rows = await shop.pool.fetch("SELECT state, remark FROM crewkit.reaction ORDER BY position")
    return [(row["state"], row["remark"]) for row in rows]


async def over(shop: Workshop, count: int) -> list[tuple[str, str | None]]:
    """Wait until so many reactions are over."""

    async def holds() -> bool:
        return sum(state != "waiting" for state, _ in await outcomes(shop)) >= count

    await until(holds)
    return await outcomes(shop)


async def kept(store: PostgresStore) -> list[SessionSummarized]:
    found = await store.read_stream(ORG, Stream("SessionSummary", SESSION))
    return [one.event for one in found if isinstance(one.event, SessionSummarized)]


async def end(store: PostgresStore) -> None:
    event = NewEvent(SessionEnded(session_id=SESSION, outcome="completed", ended_at=RECEIVED))
    await store.append(Append(org_id=ORG, stream=Stream("Session", SESSION), events=[event], facts=True))


async def test_an_ended_session_is_written_about_once(shop: Workshop, store: PostgresStore, settings: Settings) -> None:
    asked: list[dict[str, Any]] = []
    with fake_anthropic(says(INPUT), kept=asked) as url:
        used = talking_to(url, settings)
        async with running(run_projector(used, wanted=READ_MODELS), run_reactor(used, wanted=[summaries.REACTION])):
            await tell(store, facts())  # the recording ends with a SessionEnd hook
            assert await over(shop, 1) == [("done", None)]
            await end(store)  # the same rest told a second time: nothing new, nobody is asked
            assert await over(shop, 2) == [("done", None), ("skipped", "no activity since the last summary")]

            async def readable() -> bool:
                async with tenant(shop.pool, ORG) as connection:
                    return await read_model.find_summary(connection, ORG, SESSION) is not None

            await until(readable)
    [event] = await kept(store)
    assert len(asked) == 1
    assert (event.model, event.person_id, event.input_tokens) == (settings.insights_model, PERSON, 12)
    assert event.cost_usd_micros is not None
    assert event.cost_usd_micros > 0
    [recorded] = await store.read_stream(ORG, Stream("SessionSummary", SESSION))
    assert recorded.meta.actor == "system:reactor"
    assert b"Fourteen" not in recorded.data


async def test_only_numbers_and_structure_are_sent(shop: Workshop, store: PostgresStore, settings: Settings) -> None:
    asked: list[dict[str, Any]] = []
    with fake_anthropic(says(INPUT), kept=asked) as url:
        used = talking_to(url, settings)
        async with running(run_projector(used, wanted=READ_MODELS), run_reactor(used, wanted=[summaries.REACTION])):
            await tell(store, facts())
            await over(shop, 1)
    [body] = asked
    sent = json.dumps(body)
    prompts = [row[0] for row in await shop.pool.fetch("SELECT text FROM crewkit.prompt WHERE text IS NOT NULL")]
    assert prompts  # the store has content; the question has none of it
    row = await shop.pool.fetchrow("SELECT * FROM crewkit.session")
    assert row is not None
    private = [*prompts, SESSION, str(PERSON), str(ORG), row["repo"], row["branch"], row["project"], "/home/dev"]
    assert [text for text in private if text and text in sent] == []
    told = json.loads(body["messages"][0]["content"].partition("\n")[2])
    assert told["counts"]["tool_calls"] == sum(tool["calls"] for tool in told["tools"])
    assert body["tool_choice"]["name"] == TOOL
    assert body["max_tokens"] == settings.insights_tokens_max


async def test_prompts_are_told_only_where_the_organization_says_so(
    shop: Workshop, store: PostgresStore, settings: Settings
) -> None:
    asked: list[dict[str, Any]] = []
    founded = OrganizationCreated(organization_id=ORG, slug="acme", name="Acme", owner_id=PERSON, created_at=RECEIVED)
    allowed = OrganizationUpdated(settings={"insights.prompts": True}, updated_at=RECEIVED)
    events = [NewEvent(founded), NewEvent(allowed)]
    await store.append(Append(org_id=ORG, stream=organization_stream(ORG), events=events, facts=True))
    with fake_anthropic(says(INPUT), kept=asked) as url:
        used = talking_to(url, settings)
        async with running(run_projector(used, wanted=READ_MODELS), run_reactor(used, wanted=[summaries.REACTION])):
            await tell(store, facts())
            await over(shop, 1)
    told = json.loads(asked[0]["messages"][0]["content"].partition("\n")[2])
    prompts = [row[0] for row in await shop.pool.fetch("SELECT text FROM crewkit.prompt WHERE text IS NOT NULL")]
    assert sorted(told["prompts"]) == sorted(text[:500] for text in prompts)
    assert (await kept(store))[0].prompt_version == "session-1-prompts"


async def test_new_activity_is_written_about_again(shop: Workshop, store: PostgresStore, settings: Settings) -> None:
    told = hooks_of(NAME)
    last = next(n for n, (_, fact) in enumerate(told) if fact.kind == "SessionEnd")
    with fake_anthropic(says(INPUT)) as url:
        used = talking_to(url, settings)
        async with running(run_projector(used, wanted=READ_MODELS), run_reactor(used, wanted=[summaries.REACTION])):
            early = [(f"first {key}", fact) for key, fact in told[: last + 1]]
            await tell(store, early[: last // 2])
            stopped = msgspec.structs.replace(early[last][1], occurred_at=early[last // 2][1].occurred_at)
            await tell(store, [("first end", stopped)])
            assert [state for state, _ in await over(shop, 1)] == ["done"]
            await tell(store, told)
            assert [state for state, _ in await over(shop, 2)] == ["done", "done"]
    first, second = await kept(store)
    assert first.facts_position < second.facts_position
    assert first.activity_at < second.activity_at


async def test_a_busy_model_is_asked_again_later(shop: Workshop, store: PostgresStore, settings: Settings) -> None:
    failures = [Failure(529), Failure(429, retry_after="0"), Failure(500)]
    with fake_anthropic(says(INPUT), failures=failures) as url:
        used = talking_to(url, settings)
        async with running(run_projector(used, wanted=READ_MODELS), run_reactor(used, wanted=[summaries.REACTION])):
            await tell(store, facts())
            assert await over(shop, 1) == [("done", None)]
    assert failures == []
    assert await shop.pool.fetchval("SELECT tries FROM crewkit.reaction") == 4
    assert len(await kept(store)) == 1


async def test_the_other_side_says_how_long_to_wait(shop: Workshop, store: PostgresStore, settings: Settings) -> None:
    with fake_anthropic(says(INPUT), failures=[Failure(429, retry_after="900")]) as url:
        used = talking_to(url, settings)
        async with running(run_projector(used, wanted=READ_MODELS), run_reactor(used, wanted=[summaries.REACTION])):
            await tell(store, facts())

            async def put_off() -> bool:
                return bool(await shop.pool.fetchval("SELECT remark IS NOT NULL FROM crewkit.reaction"))

            await until(put_off)
    row = await shop.pool.fetchrow(
        "SELECT state, remark, due_at - updated_at > interval '890 s' AS far FROM crewkit.reaction"
    )
    assert row is not None
    assert tuple(row) == ("waiting", "the model API answered 429 rate_limit_error", True)


@pytest.mark.parametrize(
    ("answer", "remark"),
    [
        ({"summary": "only this"}, "the answer is malformed: Object missing required field `coaching_tips`"),
        ({**INPUT, "summary": ""}, "the answer is malformed: Expected `str` of length >= 1 - at `$.summary`"),
    ],
)
async def test_a_malformed_answer_is_a_visible_failure(
    shop: Workshop, store: PostgresStore, settings: Settings, answer: Any, remark: str
) -> None:
    with fake_anthropic(says(answer)) as url:
        used = talking_to(url, settings)
        async with running(run_projector(used, wanted=READ_MODELS), run_reactor(used, wanted=[summaries.REACTION])):
            await tell(store, facts())
            assert await over(shop, 1) == [("dead", remark)]
    assert await kept(store) == []


async def test_an_answer_in_words_and_a_refused_key_are_visible_failures(
    shop: Workshop, store: PostgresStore, settings: Settings
) -> None:
    with fake_anthropic({MARKER: [[{"type": "text", "text": "I would rather talk."}]]}, failures=[Failure(401)]) as url:
        used = talking_to(url, settings)
        async with running(run_projector(used, wanted=READ_MODELS), run_reactor(used, wanted=[summaries.REACTION])):
            await tell(store, facts())
            assert await over(shop, 1) == [("dead", "the model API answered 401 authentication_error")]
            await end(store)
            assert (await over(shop, 2))[1] == ("dead", "the answer is malformed: 0 calls of the tool (end_turn)")


async def test_an_organization_has_its_daily_limit(shop: Workshop, store: PostgresStore, settings: Settings) -> None:
    asked: list[dict[str, Any]] = []
    with fake_anthropic(says(INPUT), failures=[Failure(401)], kept=asked) as url:
        used = talking_to(url, settings, insights_per_day_max=1)
        async with running(run_projector(used, wanted=READ_MODELS), run_reactor(used, wanted=[summaries.REACTION])):
            await tell(store, facts())
            await over(shop, 1)
            await end(store)
            reached = "the organization's daily limit is reached (CREWKIT_INSIGHTS_PER_DAY_MAX)"
            assert (await over(shop, 2))[1] == ("skipped", reached)
    assert len(asked) == 1


async def test_nothing_is_asked_about_an_erased_person_and_what_was_written_is_dark(
    shop: Workshop, store: PostgresStore, settings: Settings, postgres_url: str
) -> None:
    asked: list[dict[str, Any]] = []
    with fake_anthropic(says(INPUT), kept=asked) as url:
        used = talking_to(url, settings)
        async with running(run_projector(used, wanted=READ_MODELS), run_reactor(used, wanted=[summaries.REACTION])):
            await tell(store, facts())
            await over(shop, 1)
            await store.mapper.ring.destroy(ORG, PERSON)
            gone = NewEvent(SubjectShredded(person_id=PERSON, shredded_at=RECEIVED))
            await store.append(Append(org_id=ORG, stream=Stream("Person", str(PERSON)), events=[gone], facts=True))
            await end(store)
            assert (await over(shop, 2))[1] == ("skipped", "the person was erased")

            async def readable() -> bool:
                async with tenant(shop.pool, ORG) as connection:
                    return await read_model.find_summary(connection, ORG, SESSION) is not None

            await until(readable)
    pool = await connect_pool(postgres_url, API_ROLE, max_size=1)
    async with tenant(pool, ORG) as connection:
        row = await read_model.find_summary(connection, ORG, SESSION)
    async with tenant(pool, PERSON) as connection:  # another tenant sees none of it
        assert await read_model.find_summary(connection, ORG, SESSION) is None
    await pool.close()
    assert row is not None
    shown = await read_model.opened(shop.ring, row, None)
    assert (shown.written, shown.erased) == (None, True)
    assert len(asked) == 1


def test_without_a_key_nobody_is_asked() -> None:
    [reaction] = [one for one in found_reactions() if one.kind == "session.summary"]
    assert not reaction.enabled(Settings())
    assert {on.event for on in reaction.on} >= {SessionEnded, HookRecorded}
