"""Numbers that nobody can mean: who tells them spoils nobody's answers, and has answers too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from domain.sessions.events import TelemetryRecorded
from eventstore.database import tenant
from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from projections.directory import PROJECTION as DIRECTORY
from projections.llm_calls import LlmCallFilter, calls_of
from projections.paging import Paging
from projections.sessions import PROJECTION
from projections.sessions.queries import organization_live
from tests.projections.session_facts import PERSON, Keyed
from tests.workers.analytics_house import Asker, file_of, pages, recorded_facts, tell
from tests.workers.tally import running, until
from workers.analytics import run_analytics
from workers.projector import run_projector
from workers.projector.control import standing
from workers.projector.host import Workshop

pytestmark = pytest.mark.integration
OTHER = UUID(int=0x0DD)
AT = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
MOST_USD = 9_999


@pytest.fixture
def settings(postgres_url: str, nats_url: str, master_key_file: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url, nats_url=nats_url, key_file=str(master_key_file), data_dir=str(tmp_path / "data")
    )


def calls(session: str, count: int, kind: str = "claude_code.api_request", **attrs: Any) -> list[Keyed]:
    """Calls within one quarter of an hour."""
    return [
        (
            f"{session}-{n}",
            TelemetryRecorded(
                agent="claude",
                llm_session_id=session,
                kind=kind,
                occurred_at=AT + timedelta(milliseconds=n),
                person_id=PERSON,
                signal="log",
                attrs={
                    "event.sequence": str(n),
                    "model": "claude-opus-5-5",
                    "request_id": f"{session}-{n}",
                    "input_tokens": 1,
                    **attrs,
                },
            ),
        )
        for n in range(count)
    ]


ABSURD = {
    "tokens without a price that fits": calls("epoch", 3, output_tokens=1_783_598_400_000),
    "tokens at the edge of what fits": calls("edge", 400, output_tokens=399_000_000),
    "tokens beyond any": calls("most", 30, output_tokens=2**53, cache_read_tokens=2**53, duration_ms=2**53),
    "a costly conversation": calls("costly", 800, cost_usd=MOST_USD),
    "costly conversations": [fact for n in range(3) for fact in calls(f"costly-{n}", 400, cost_usd=MOST_USD)],
    "costs beyond any": calls("beyond", 40, cost_usd=999_999),
    "more than a quarter of an hour holds": calls("full", 1_000, cost_usd=MOST_USD),
}


@pytest.mark.parametrize("name", ABSURD)
async def test_other_organizations_go_on(
    settings: Settings, shop: Workshop, store: PostgresStore, asker: Asker, name: str
) -> None:
    async with running(
        run_projector(settings, wanted=[PROJECTION, DIRECTORY]), run_analytics(settings, subject=asker.subject)
    ):
        head = await tell(store, recorded_facts()[:100])
        await asker.ask("summary", after=head)  # the file is filled: what follows are steps
        await tell(store, ABSURD[name], OTHER)
        head = await tell(store, recorded_facts()[100:200])
        ours = await asker.ask("summary", after=head)
        theirs = await asker.ask("summary", org_id=OTHER, after=head)
    assert ours["total_sessions"] == len(await pages(shop))
    shown = await pages(shop, OTHER)
    assert theirs["model_calls"] == len(ABSURD[name]) == sum(page.counts.model_calls for page in shown)
    if name != "more than a quarter of an hour holds":
        assert theirs["total_cost_usd_micros"] == sum(page.cost_usd_micros or 0 for page in shown)
    file_of(settings).unlink()
    async with running(run_analytics(settings, subject=asker.subject)):
        assert await asker.ask("summary", after=head) == ours
        assert await asker.ask("summary", org_id=OTHER, after=head) == theirs


async def test_ten_thousand_dollars_a_call_are_added_up_exactly(
    settings: Settings, shop: Workshop, store: PostgresStore
) -> None:
    facts = ABSURD["a costly conversation"]
    async with running(run_projector(settings, wanted=[PROJECTION, DIRECTORY])):
        head = await tell(store, facts, OTHER)

        async def reached() -> bool:
            found = await standing(shop.pool, PROJECTION.name)
            return found is not None and found.position >= head

        await until(reached)
    (page,) = await pages(shop, OTHER)
    assert page.cost_usd_micros == len(facts) * MOST_USD * 10**6
    async with tenant(shop.pool, OTHER) as connection:
        found = await calls_of(connection, OTHER, "costly", LlmCallFilter(), Paging(order="at", tie="call_key"))
        assert found is not None
        assert found.cost_pico_usd == len(facts) * MOST_USD * 10**12
        live = await organization_live(connection, OTHER)
        assert live.today_cost_usd_micros in {None, page.cost_usd_micros}  # the hour before this one may be yesterday's
        # A text no column can hold matches nothing.
        for nothing in (LlmCallFilter(model="\x00"), LlmCallFilter(text="\x00")):
            none = await calls_of(connection, OTHER, "costly", nothing, Paging(order="at", tie="call_key"))
            assert none is not None
            assert none.total == 0
