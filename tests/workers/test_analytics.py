"""The analytics worker: rows equal the session pages, a file survives everything, questions never hold up ingestion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest

from eventstore.mapper import Mapper
from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from projections.directory import PROJECTION as DIRECTORY
from projections.sessions import PROJECTION
from tests.workers.analytics_house import Asker, contents, file_of, pages, recorded_facts, subject, tell
from tests.workers.tally import running
from workers.analytics import run_analytics
from workers.projector import rebuild, run_projector
from workers.projector.host import Workshop, workshop

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(postgres_url: str, nats_url: str, master_key_file: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url, nats_url=nats_url, key_file=str(master_key_file), data_dir=str(tmp_path / "data")
    )


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Workshop]:
    async with workshop(settings, 2) as opened:
        yield opened


@pytest.fixture
async def store(shop: Workshop, postgres_url: str) -> AsyncIterator[PostgresStore]:
    opened = PostgresStore(postgres_url, Mapper(shop.ring), role="crewkit_worker", pool=shop.pool)
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
async def asker(nats_url: str) -> AsyncIterator[Asker]:
    client = await nats.connect(nats_url)
    yield Asker(client, subject())
    await client.close()


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
        live = contents(file_of(settings))
        shown = await pages(shop)
        assert told["total_sessions"] == len(shown) == 11
        assert told["total_cost_usd_micros"] == sum(page.cost_usd_micros or 0 for page in shown)
        assert told["model_calls"] == sum(page.counts.model_calls for page in shown)
        assert told["cache_read_tokens"] == sum(page.tokens.cache_read for page in shown)
        # A file built anew holds the same rows.
        file_of(settings).unlink()
        async with running(run_analytics(settings, subject=asker.subject)):
            assert await asker.ask("summary", after=head) == told
        assert contents(file_of(settings)) == live
        # So does one that followed a rebuild of the read model.
        async with running(run_analytics(settings, subject=asker.subject)):
            await rebuild(settings, "sessions")
            assert await asker.ask("summary", after=head) == told
