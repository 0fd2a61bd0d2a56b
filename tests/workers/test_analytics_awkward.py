"""Late, repeated and shuffled facts correct rows and never add one: the file holds what the log, folded independently, says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from projections.directory import PROJECTION as DIRECTORY
from projections.sessions import PROJECTION
from tests.workers.analytics_house import Asker, contents, file_of, pages, tell
from tests.workers.analytics_truth import check, truth
from tests.workers.awkward import awkward_facts, shuffled
from tests.workers.tally import running
from workers.analytics import run_analytics
from workers.projector import run_projector
from workers.projector.host import Workshop

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(postgres_url: str, nats_url: str, master_key_file: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url, nats_url=nats_url, key_file=str(master_key_file), data_dir=str(tmp_path / "data")
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_late_and_repeated_facts_correct_rows_and_add_none(
    seed: int, settings: Settings, shop: Workshop, store: PostgresStore, asker: Asker
) -> None:
    facts, rng = shuffled(awkward_facts(seed), seed), random.Random(seed)
    async with running(run_projector(settings, wanted=[PROJECTION, DIRECTORY])):
        async with running(run_analytics(settings, subject=asker.subject)):
            start, head = 0, 0
            while start < len(facts):
                size = rng.randrange(1, 60)
                head = await tell(store, facts[start : start + size])
                await asker.ask("summary", after=head)  # every piece is a transaction of its own
                start += size
            told = await asker.ask("summary", after=head)
        live = contents(file_of(settings))
        check(file_of(settings), await truth(shop, head))
        shown = await pages(shop)
        assert told["total_cost_usd_micros"] == sum(page.cost_usd_micros or 0 for page in shown) > 0
        assert told["uncosted_calls"] > 0
        assert told["drift_usd_micros"] != 0
        file_of(settings).unlink()
        async with running(run_analytics(settings, subject=asker.subject)):
            assert await asker.ask("summary", after=head) == told
        assert contents(file_of(settings)) == live
