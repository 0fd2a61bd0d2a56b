"""The analytics endpoints against a real worker and a real server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar

from eventstore.settings import Settings
from tests.api.house import House
from tests.projections.session_facts import RECEIVED
from tests.workers.analytics_house import recorded_facts, subject, tell
from workers.analytics import run_analytics

pytestmark = pytest.mark.integration
RANGE = {"since": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}


@pytest.fixture
def settings(postgres_url: str, nats_url: str, master_key_file: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url,
        nats_url=nats_url,
        key_file=str(master_key_file),
        data_dir=str(tmp_path),
        read_after_wait_s=15,
    )


@pytest.fixture
async def worker(settings: Settings, house: House) -> AsyncIterator[str]:
    """A replica on the recorded sessions of our organization; its subject."""
    await tell(house.store, recorded_facts(), house.ours.org_id)
    await house.project()
    name = subject()
    task = asyncio.create_task(run_analytics(settings, subject=name))
    yield name
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def get(app: Litestar, http: httpx.AsyncClient, house: House, worker: str) -> Any:
    app.state.services.analytics_subject = worker
    head = str(await house.store.head())

    async def ask(path: str, *, key: str = "read", place: Any = None, status: int = 200, **params: Any) -> Any:
        place = place or house.ours
        headers = {**place.headers(key), "Crewkit-After": head}
        url = path if path.startswith("/api/") else f"{place.base}{path}"
        for _ in range(500):
            answer = await http.get(url, params={**RANGE, **params}, headers=headers)
            if answer.status_code != 503 or status == 503:
                break
            await asyncio.sleep(0.02)  # the replica, or the API's connection to NATS, is still coming up
        assert answer.status_code == status, answer.text
        return answer.json() if "json" in answer.headers["content-type"] else answer

    return ask


async def test_the_summary_is_the_sum_of_the_session_pages(get: Any, http: httpx.AsyncClient, house: House) -> None:
    told = await get("/sessions/analytics/summary")
    pages = (
        await http.get(f"{house.ours.base}/sessions", params={"limit": 200}, headers=house.ours.headers("read"))
    ).json()
    assert told["kpis"]["total_sessions"] == len(pages["items"]) == 11
    assert told["kpis"]["total_cost_usd_micros"] == sum(page["cost_usd_micros"] or 0 for page in pages["items"])
    assert told["kpis"]["lines_added"] == sum(page["lines"]["added"] for page in pages["items"])
    assert told["position"] >= 1
    assert RECEIVED.year == 2026
    for alias in ("/analytics/summary", "/api/analytics/summary"):
        assert (await get(alias))["kpis"] == told["kpis"]
    theirs = await get("/sessions/analytics/summary", place=house.theirs)
    assert theirs["kpis"]["total_sessions"] == 0
    assert theirs["kpis"]["total_cost_usd_micros"] == 0
    assert theirs["kpis"]["success_rate"] is None
