"""The cost taken apart where agents tell totals beyond their calls: every table adds up, and every channel says the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from domain.sessions.events import Context, TranscriptRecorded
from eventstore.settings import Settings
from projections.analytics.exported import KPI_BETWEEN
from projections.analytics.questions.base import rows
from projections.analytics.questions.costs import PARTS_MAX
from tests.api.house import House
from tests.api.test_analytics_awkward import get, settings, viewed
from tests.projections.session_facts import Keyed
from tests.workers.analytics_house import subject, tell
from tests.workers.awkward import awkward_facts, shuffled
from tests.workers.tally import running
from workers.analytics import run_analytics

__all__ = ["get", "settings"]  # fixtures
pytestmark = pytest.mark.integration

AT = datetime(2026, 7, 9, 12, tzinfo=UTC)
BRANCHES = [("acme/shop", "main"), ("acme/shop", "other"), ("acme/alone", "main"), (None, None)]
TOTAL_USD = 5.0


def transcript(name: str, place: Context, kind: str, minute: int, attrs: dict[str, Any]) -> Keyed:
    fact = TranscriptRecorded(
        agent="claude",
        llm_session_id=name,
        kind=kind,
        occurred_at=AT + timedelta(minutes=minute),
        person_id=UUID(int=0xA0),
        attrs={"type": kind, "sessionId": name, **attrs},
        context=place,
    )
    return f"{name}-{minute}", fact


def total_of_agent(name: str, place: Context) -> Iterable[Keyed]:
    """A conversation whose cost is the agent's own total, far beyond its only known call."""
    usage = {"input_tokens": 1_000, "output_tokens": 1_000}
    message = {"id": f"m{name}", "model": "claude-opus-5-5", "role": "assistant", "usage": usage}
    yield transcript(name, place, "assistant", 1, {"uuid": name, "requestId": f"q{name}", "message": message})
    lines = {"totalLinesAdded": 0, "totalLinesRemoved": 0}
    yield transcript(name, place, "cost-state", 2, {"totalCostUSD": TOTAL_USD, **lines})


@pytest.fixture
async def worker(settings: Settings, house: House) -> AsyncIterator[str]:
    await tell(house.store, shuffled(awkward_facts(7, 60), 7), house.ours.org_id)
    for number, (repo, branch) in enumerate(BRANCHES):
        facts = total_of_agent(f"total-{number}", Context(repo=repo, branch=branch))
        await tell(house.store, list(facts), house.ours.org_id)
    await house.project()
    name = subject()
    async with running(run_analytics(settings, subject=name)):
        yield name


async def test_every_table_adds_up_to_the_total_and_says_what_the_other_answers_say(
    get: Any,
    settings: Settings,
) -> None:
    told = await get("/sessions/analytics/cost-breakdown")
    total = told["total"]
    assert total["rest_usd_micros"] > len(BRANCHES) * 4_000_000
    for name in ("by_model", "by_agent", "by_repo"):
        assert len(told[name]) < PARTS_MAX
        cut = len(told[name]) if name == "by_model" else 0  # models cut conversations, so each is rounded by itself
        for kpi in ("total_cost_usd_micros", "rest_usd_micros", "model_calls", "output_tokens"):
            assert abs(sum(row[kpi] for row in told[name]) - total[kpi]) <= cut, (name, kpi)
    (rest,) = [row for row in told["by_model"] if row["model"] is None]
    assert rest["rest_usd_micros"] == rest["total_cost_usd_micros"] == total["rest_usd_micros"]
    for group in (await get("/sessions/analytics/by-agent"))["groups"]:
        (mine,) = [row for row in told["by_agent"] if row["agent"] == group["key"]]
        assert mine == {"agent": group["key"], **{name: group[name] for name in total}}
    branches = {row["repo"]: 0 for row in told["by_branch"]}
    for row in told["by_branch"]:
        branches[row["repo"]] += row["total_cost_usd_micros"]
    by_repo = {row["repo"]: row for row in told["by_repo"]}
    assert {repo: by_repo[repo]["total_cost_usd_micros"] for repo in branches} == branches
    with viewed(settings) as connection:
        for row in rows(connection, "SELECT * FROM kpi_by_repo", []):
            mine = by_repo.pop(
                row["repo"], {"repo": row["repo"], **{name: row[name] for name in total if not row[name]}}
            )
            assert {name: row[name] for name in mine} == mine
    assert by_repo == {}


async def test_discounts_reach_what_names_no_model_where_they_are_for_every_model(
    get: Any,
    house: House,
    http: httpx.AsyncClient,
) -> None:
    async def agree(pattern: str, basis_points: int) -> None:
        body = {"pattern": pattern, "basis_points": basis_points, "valid_from": "2026-01-01"}
        made = await http.post(f"{house.ours.base}/contract_discounts", json=body, headers=house.ours.headers("admin"))
        assert made.status_code == 201, made.text
        await house.project()

    async def costs() -> tuple[int, int]:
        told = await get("/sessions/analytics/cost-breakdown")
        return told["contract_cost_usd_micros"], told["contract_cost_without_model_usd_micros"]

    total = (await get("/sessions/analytics/cost-breakdown"))["total"]
    assert await costs() == (total["total_cost_usd_micros"], total["rest_usd_micros"])
    await agree("anthropic/*", 10_000)
    contract, unnamed = await costs()
    assert unnamed == total["rest_usd_micros"] <= contract < total["total_cost_usd_micros"]
    await agree("*", 10_000)
    assert await costs() == (0, 0)


async def test_the_cache_of_a_model_without_a_price_saved_nobody_knows_what(get: Any) -> None:
    told = await get("/sessions/analytics/cost-breakdown", model="nobody-knows-1")
    assert told["total"]["cache_read_tokens"] > 0
    assert told["cache"]["hit_rate"] > 0
    assert told["cache"]["saved_usd_micros"] is None
    nothing = await get("/sessions/analytics/cost-breakdown", model="never-used")
    assert nothing["cache"]["saved_usd_micros"] == 0


async def test_ranges_are_refused_as_they_were_asked_for_and_widened_to_quarters_of_an_hour(
    get: Any,
    settings: Settings,
) -> None:
    path = "/sessions/analytics/summary"
    for until in ("2026-07-09T12:00:30Z", "2026-07-09T12:01:01Z"):
        refused = await get(path, since="2026-07-09T12:01:01Z", until=until, code=400)
        assert refused["error"]["details"] == {"field": "since", "expected": "a moment before until"}
    told = await get(path, since="2026-07-09T12:01:30Z", until="2026-07-09T12:02:00Z")
    assert (told["since"], told["until"]) == ("2026-07-09T12:00:00Z", "2026-07-09T12:15:00Z")
    assert told["kpis"]["total_sessions"] == told["kpis"]["model_calls"] == len(BRANCHES)
    longest = {"since": "2026-01-01T00:01:00Z", "until": "2031-01-05T00:01:00Z"}  # 1,830 days
    assert (await get(path, **longest))["since"] == "2026-01-01T00:00:00Z"
    assert (await get(path, **{**longest, "until": "2031-01-05T00:01:01Z"}, code=400))["error"]["code"]
    with viewed(settings) as connection:
        connection.execute(KPI_BETWEEN)
        between = "FROM kpi_between(TIMESTAMP '2026-07-09 12:01:30', '2026-07-09 12:02:00')"
        assert rows(connection, between, []) == [told["kpis"]]
