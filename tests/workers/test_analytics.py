"""The analytics worker: rows equal the session pages, a file survives everything, questions never hold up ingestion."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import msgspec
import pytest

from domain.kernel import Stream
from domain.organizations.events import OrganizationCreated, OrganizationPurged, SubjectShredded
from domain.pricing import ModelPrice, PriceBook, PriceTable, Rates
from eventstore.port import Append, NewEvent
from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from projections.analytics.exported import KPI_VIEWS
from projections.analytics.questions import found_questions
from projections.analytics.questions.base import Cursor, Question, rows
from projections.analytics.questions.summary import SummaryParams
from projections.directory import PROJECTION as DIRECTORY
from projections.sessions import PROJECTION
from tests.projections.session_facts import ORG, PERSON, RECEIVED
from tests.workers.analytics_house import Asker, contents, file_of, pages, recorded_facts, tell
from tests.workers.tally import running, until
from workers.analytics import run_analytics
from workers.analytics.answers import RUNNING_MAX
from workers.analytics.file import AnalyticsFile, Batch
from workers.projector import rebuild, run_projector
from workers.projector.host import Workshop

pytestmark = pytest.mark.integration
TABLE = next((Path(__file__).parents[2] / "projections" / "prices").glob("table-*.json"))


@pytest.fixture
def settings(postgres_url: str, nats_url: str, master_key_file: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url, nats_url=nats_url, key_file=str(master_key_file), data_dir=str(tmp_path / "data")
    )


def projector(settings: Settings):
    return run_projector(settings, wanted=[PROJECTION, DIRECTORY])


async def test_totals_equal_the_session_pages_however_the_rows_got_there(
    settings: Settings, shop: Workshop, store: PostgresStore, asker: Asker
) -> None:
    facts = recorded_facts()
    middle = len(facts) // 3
    async with running(projector(settings)):
        head = await tell(store, facts[:middle])
        async with running(run_analytics(settings, subject=asker.subject)):
            await asker.ask("summary", after=head)
            for start in range(middle, len(facts), 40):
                head = await tell(store, facts[start : start + 40])
            told = await asker.ask("summary", after=head)
            november = {"since": "2026-11-01T00:00:00Z", "until": "2026-12-02T00:00:00Z"}
            days = await asker.ask("timeseries", scope=november, length="daily")
        live = contents(file_of(settings))
        shown = await pages(shop)
        assert told["total_sessions"] == len(shown) == 11
        assert told["total_cost_usd_micros"] == sum(page.cost_usd_micros or 0 for page in shown)
        assert told["model_calls"] == sum(page.counts.model_calls for page in shown)
        assert told["cache_read_tokens"] == sum(page.tokens.cache_read for page in shown)
        # The views of exports say the same.
        connection = duckdb.connect(str(file_of(settings)), read_only=True)
        for view in KPI_VIEWS:
            connection.execute(f"CREATE TEMP VIEW {view.name} AS {view.sql}")
        (total,) = rows(connection, "SELECT * FROM kpi_summary", [])
        assert total == told
        by_day = rows(connection, "SELECT * FROM kpi_daily ORDER BY day", [])
        points = [point for point in days["points"] if point["total_sessions"] or point["total_cost_usd_micros"]]
        assert [{name: row[name] for name in told} for row in by_day] == [
            {name: point[name] for name in told} for point in points
        ]
        connection.close()
        # A file built anew holds the same rows.
        file_of(settings).unlink()
        async with running(run_analytics(settings, subject=asker.subject)):
            assert await asker.ask("summary", after=head) == told
        assert contents(file_of(settings)) == live
        # So does one that followed a rebuild of the read model.
        async with running(run_analytics(settings, subject=asker.subject)):
            await rebuild(settings, "sessions")
            assert await asker.ask("summary", after=head) == told


async def test_an_erased_person_leaves_no_id_live_later_or_rebuilt(
    settings: Settings, shop: Workshop, store: PostgresStore, asker: Asker
) -> None:
    facts = recorded_facts()
    middle = len(facts) // 2
    whole = {"since": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}

    def ids() -> set[str]:
        text = repr(contents(file_of(settings)))
        return {form for form in (repr(PERSON), str(PERSON)) if form in text}

    async with running(projector(settings)):
        async with running(run_analytics(settings, subject=asker.subject)):
            head = await tell(store, facts[:middle])
            before = await asker.ask("grouped", after=head, by="person_id", scope=whole)
            assert [row["key"] for row in before["groups"]] == [str(PERSON)]
            await store.mapper.ring.destroy(ORG, PERSON)
            gone = SubjectShredded(person_id=PERSON, shredded_at=RECEIVED)
            wish = Append(org_id=ORG, stream=Stream("Person", str(PERSON)), events=[NewEvent(gone)], facts=True)
            head = (await store.append(wish)).position
            after = await asker.ask("grouped", after=head, by="person_id", scope=whole)
            assert [row["key"] for row in after["groups"]] == [None]
            assert after["groups"][0]["total_cost_usd_micros"] == before["groups"][0]["total_cost_usd_micros"]
            # What the same person's agent tells later does not bring the id back.
            head = await tell(store, facts[middle:])
            told = await asker.ask("grouped", after=head, by="person_id", scope=whole)
            assert [row["key"] for row in told["groups"]] == [None]
        assert ids() == set()
        live = contents(file_of(settings))
        file_of(settings).unlink()
        async with running(run_analytics(settings, subject=asker.subject)):
            await asker.ask("summary", after=head)
        assert ids() == set()
        assert contents(file_of(settings)) == live


async def test_replicas_have_files_of_their_own_and_share_the_questions(
    settings: Settings, shop: Workshop, store: PostgresStore, asker: Asker
) -> None:
    async with running(projector(settings), *(run_analytics(settings, subject=asker.subject) for _ in range(2))):
        head = await tell(store, recorded_facts()[:200])
        answers = [await asker.ask("summary", after=head) for _ in range(12)]
        assert answers.count(answers[0]) == len(answers)
        assert answers[0]["model_calls"] > 0

        async def both_heard() -> bool:
            return await shop.pool.fetchval("SELECT count(*) FROM crewkit.analytics_replica") == 2

        await until(both_heard)
    assert contents(file_of(settings, 0)) == contents(file_of(settings, 1))


async def test_a_question_that_takes_too_long_or_fails_holds_up_neither_the_next_one_nor_ingestion(
    settings: Settings, store: PostgresStore, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(cursor: Any, org_id: Any, params: Any) -> Any:
        return cursor.execute("SELECT count(*) FROM range(100_000_000_000) t(i) WHERE i % 7 = 3").fetchall()

    def broken(cursor: Any, org_id: Any, params: Any) -> Any:
        return cursor.execute("SELECT nothing FROM nowhere").fetchall()

    def greedy(cursor: Any, org_id: Any, params: Any) -> Any:
        return cursor.execute("SELECT list(i) FROM range(1_000_000_000) t(i)").fetchall()

    questions = found_questions()
    for name, work in (("endless", endless), ("broken", broken), ("greedy", greedy)):
        questions[name] = Question(name, SummaryParams, work)
    monkeypatch.setattr("workers.analytics.answers.found_questions", lambda: questions)
    facts = recorded_facts()
    small = msgspec.structs.replace(settings, analytics_memory_mb=96)
    async with running(projector(settings), run_analytics(small, subject=asker.subject)):
        head = await tell(store, facts[:100])
        await asker.ask("summary", after=head)
        slow = [asyncio.create_task(asker.reply("endless", deadline_s=8)) for _ in range(RUNNING_MAX)]
        head = await tell(store, facts[100:400])
        assert [(await one).error for one in slow] == ["deadline"] * RUNNING_MAX
        # The rows went in meanwhile: the next question need not wait for them.
        assert (await asker.reply("summary", after=head, wait_s=0)).error is None
        assert (await asker.reply("broken")).error == "failed"
        assert (await asker.reply("greedy")).error in {"memory", "deadline"}
        assert (await asker.reply("nonsense")).error == "unknown"
        assert (await asker.reply("summary", scope={"since": 3})).error == "invalid"
        assert (await asker.reply("summary", after=head + 10**6, wait_s=0)).error == "behind"
        head = await tell(store, facts[400:500])
        assert (await asker.ask("summary", after=head))["total_sessions"] > 0


async def test_rows_come_before_questions_that_take_all_the_memory(
    settings: Settings, store: PostgresStore, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(cursor: Any, org_id: Any, params: Any) -> Any:
        return cursor.execute("SELECT list(i) FROM range(1_000_000_000) t(i)").fetchall()

    questions = found_questions()
    questions["greedy"] = Question("greedy", SummaryParams, greedy)
    monkeypatch.setattr("workers.analytics.answers.found_questions", lambda: questions)
    facts = recorded_facts()
    errors: set[str | None] = set()

    async def ask_on() -> None:
        while True:
            errors.add((await asker.reply("greedy", deadline_s=3)).error)

    small = msgspec.structs.replace(settings, analytics_memory_mb=96)
    async with running(projector(settings), run_analytics(small, subject=asker.subject)):
        head = await tell(store, facts[:100])
        await asker.ask("summary", after=head)
        async with running(ask_on()):
            for start in range(100, 220, 60):
                head = await tell(store, facts[start : start + 60])

                async def told(head: int = head) -> bool:
                    return (await asker.reply("summary", after=head, wait_s=0)).error in {None, "memory", "busy"}

                await until(told)
        assert (await asker.ask("summary", after=head))["model_calls"] > 0
    assert errors <= {"memory", "busy", "deadline"}


async def test_a_file_that_duckdb_refuses_to_go_on_with_is_opened_again(
    settings: Settings, store: PostgresStore, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = recorded_facts()
    write, calls = AnalyticsFile.write, itertools.count()

    def fails_once(file: AnalyticsFile, batch: Batch) -> int:
        if next(calls) == 0:
            file.close()  # as an invalidated one, it can do nothing any more
            raise duckdb.FatalException("Failed: database has been invalidated because of a previous fatal error")
        return write(file, batch)

    async with running(projector(settings), run_analytics(settings, subject=asker.subject)):
        head = await tell(store, facts[:100])
        before = (await asker.ask("summary", after=head))["model_calls"]
        opened = file_of(settings)
        monkeypatch.setattr(AnalyticsFile, "write", fails_once)
        head = await tell(store, facts[100:400])
        assert (await asker.ask("summary", after=head))["model_calls"] > before
        assert next(calls) > 1
        assert file_of(settings) == opened  # the same one: nothing had to be built again


async def test_a_question_after_which_duckdb_refuses_to_go_on_costs_the_next_one_nothing(
    settings: Settings, store: PostgresStore, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    invalid: list[AnalyticsFile] = []
    opened: list[AnalyticsFile] = []
    cursor = AnalyticsFile.cursor

    def refuses(file: AnalyticsFile) -> duckdb.DuckDBPyConnection:
        if file in invalid:
            raise duckdb.FatalException("Failed: database has been invalidated because of a previous fatal error")
        opened.append(file)
        return cursor(file)

    def breaks(_: Cursor, __: UUID, ___: SummaryParams) -> None:
        invalid.append(opened[-1])
        raise duckdb.InternalException("INTERNAL Error: Attempted to access index 3 within vector of size 3")

    questions = found_questions()
    questions["breaking"] = Question("breaking", SummaryParams, breaks)
    monkeypatch.setattr("workers.analytics.answers.found_questions", lambda: questions)
    async with running(projector(settings), run_analytics(settings, subject=asker.subject)):
        head = await tell(store, recorded_facts()[:100])
        before = await asker.ask("summary", after=head)
        path = file_of(settings)
        monkeypatch.setattr(AnalyticsFile, "cursor", refuses)
        assert (await asker.reply("breaking")).error == "failed"

        async def answered() -> bool:
            return (await asker.reply("summary", after=head)).error is None

        await until(answered)  # though nothing new is written: who asked is why the file is opened again
        assert await asker.ask("summary", after=head) == before
        assert file_of(settings) == path  # the same one: nothing had to be built again


async def test_rows_do_not_wait_for_a_question_that_reads_the_file_before_a_rebuild(
    settings: Settings, store: PostgresStore, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = found_questions()
    questions["endless"] = Question(
        "endless",
        SummaryParams,
        lambda cursor, _, __: cursor.execute(
            "SELECT count(*) FROM range(100_000_000_000) t(i) WHERE i % 7 = 3"
        ).fetchall(),
    )
    monkeypatch.setattr("workers.analytics.answers.found_questions", lambda: questions)
    facts = recorded_facts()
    async with running(projector(settings), run_analytics(settings, subject=asker.subject)):
        head = await tell(store, facts[:100])
        await asker.ask("summary", after=head)
        old = file_of(settings)
        slow = asyncio.create_task(asker.reply("endless", deadline_s=12))
        await rebuild(settings, "sessions")

        async def switched() -> bool:
            return file_of(settings) != old

        await until(switched)
        head = await tell(store, facts[100:300])
        assert (await asker.reply("summary", after=head)).error is None
        assert not slow.done()  # it still reads the old file
        assert (await slow).error == "deadline"

        async def gone() -> bool:
            return not old.exists()

        await until(gone)


async def test_new_prices_reach_every_number_by_a_rebuild_of_the_read_model(
    settings: Settings, shop: Workshop, store: PostgresStore, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(projector(settings), run_analytics(settings, subject=asker.subject)):
        head = await tell(store, recorded_facts())
        before = await asker.ask("summary", after=head)
        assert before["drift_usd_micros"] == 0
        dearer = msgspec.json.decode(TABLE.read_bytes(), type=PriceTable)
        models = {name: _doubled(price) for name, price in dearer.models.items()}
        since = datetime(2026, 11, 1, tzinfo=UTC)
        book = PriceBook([msgspec.structs.replace(dearer, version="doubled", effective_from=since, models=models)])
        monkeypatch.setattr("projections.sessions.price_book", lambda: book)
        old = file_of(settings)
        await rebuild(settings, "sessions")

        async def switched() -> bool:
            return file_of(settings) != old

        await until(switched)
        after = await asker.ask("summary", after=head)
        assert after["priced_usd_micros"] == 2 * before["priced_usd_micros"]
        assert after["reported_usd_micros"] == before["reported_usd_micros"] > 0
        assert after["drift_usd_micros"] == -before["reported_usd_micros"]  # every reported call has a price of ours
        shown = await pages(shop)
        assert after["total_cost_usd_micros"] == sum(page.cost_usd_micros or 0 for page in shown)
        assert (
            after["total_cost_usd_micros"] > before["total_cost_usd_micros"]
        )  # the agent that tells no cost costs more
        november = {"since": "2026-11-01T00:00:00Z", "until": "2026-12-02T00:00:00Z"}
        assert (await asker.ask("cost-breakdown", scope=november))["price_versions"] == ["doubled"]
    connection = duckdb.connect(str(file_of(settings)), read_only=True)
    assert connection.execute("SELECT DISTINCT price_version FROM fact_llm_call").fetchall() == [("doubled",)]
    connection.close()


def _doubled(price: ModelPrice) -> ModelPrice:
    def twice(rates: dict[str, Rates]) -> dict[str, Rates]:
        return {
            name: Rates(*(None if rate is None else 2 * rate for rate in msgspec.structs.astuple(row)))
            for name, row in rates.items()
        }

    tiers = tuple(msgspec.structs.replace(tier, rates=twice(tier.rates)) for tier in price.tiers)
    return msgspec.structs.replace(price, rates=twice(price.rates), tiers=tiers)


async def test_a_file_that_is_no_file_or_of_another_version_is_built_anew(
    settings: Settings, store: PostgresStore, asker: Asker
) -> None:
    async with running(projector(settings)):
        head = await tell(store, recorded_facts()[:150])
        async with running(run_analytics(settings, subject=asker.subject)):
            told = await asker.ask("summary", after=head)
        file_of(settings).write_bytes(b"not a database")
        async with running(run_analytics(settings, subject=asker.subject)):
            assert await asker.ask("summary", after=head) == told
        connection = duckdb.connect(str(file_of(settings)))
        connection.execute("UPDATE crewkit_analytics SET schema_version = 0")
        connection.close()
        old = file_of(settings)
        async with running(run_analytics(settings, subject=asker.subject)):
            assert await asker.ask("summary", after=head) == told
        assert file_of(settings) != old
        assert not old.exists()


async def test_of_a_purged_organization_no_row_is_left_live_or_rebuilt(
    settings: Settings, shop: Workshop, store: PostgresStore, asker: Asker
) -> None:
    other = UUID(int=77)
    facts = recorded_facts()
    async with running(projector(settings)):
        async with running(run_analytics(settings, subject=asker.subject)):
            stream = Stream("Organization", str(other))
            made = OrganizationCreated(
                organization_id=other, slug="gone", name="Gone", owner_id=PERSON, created_at=RECEIVED
            )
            await store.append(Append(org_id=other, stream=stream, events=[NewEvent(made)], expected=0))
            await tell(store, facts, other)
            head = await tell(store, facts)
            await asker.ask("summary", after=head)
            purged = NewEvent(OrganizationPurged(purged_at=RECEIVED))
            head = (await store.append(Append(org_id=other, stream=stream, events=[purged], expected=1))).position
            told = await asker.ask("summary", after=head)
        assert told["total_sessions"] > 0
        assert str(other) not in repr(live := contents(file_of(settings)))
        assert "'gone'" not in repr(live)
        file_of(settings).unlink()
        async with running(run_analytics(settings, subject=asker.subject)):  # before the scheduler removed its rows
            assert await asker.ask("summary", after=head) == told
        assert contents(file_of(settings)) == live
