"""The analytics endpoints against a real worker and a real server."""

from __future__ import annotations

import asyncio
import csv
import io
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
from tests.workers.tally import running
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
    async with running(run_analytics(settings, subject=name)):
        yield name


@pytest.fixture
async def get(app: Litestar, http: httpx.AsyncClient, house: House, worker: str) -> Any:
    app.state.services.analytics_subject = worker
    head = str(await house.store.head())

    async def ask(path: str, *, key: str = "read", place: Any = None, code: int = 200, **params: Any) -> Any:
        place = place or house.ours
        headers = {**place.headers(key), "Crewkit-After": head}
        url = path if path.startswith("/api/") else f"{place.base}{path}"
        for _ in range(500):
            answer = await http.get(url, params={**RANGE, **params}, headers=headers)
            if answer.status_code != 503 or code == 503:
                break
            await asyncio.sleep(0.02)  # the replica, or the API's connection to NATS, is still coming up
        assert answer.status_code == code, answer.text
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


async def test_every_answer_adds_up_to_the_same_cost(get: Any) -> None:
    kpis = (await get("/sessions/analytics/summary"))["kpis"]
    cost = kpis["total_cost_usd_micros"]
    assert cost == kpis["sessions_cost_usd_micros"] > 0
    for group in ("by-agent", "by-user", "by-project"):
        told = await get(f"/sessions/analytics/{group}")
        assert sum(row["total_cost_usd_micros"] for row in told["groups"]) == cost, group
        assert sum(row["total_sessions"] for row in told["groups"]) == kpis["total_sessions"], group
    breakdown = await get("/sessions/analytics/cost-breakdown")
    assert breakdown["total"]["total_cost_usd_micros"] == cost == breakdown["contract_cost_usd_micros"]
    assert sum(row["total_cost_usd_micros"] for row in breakdown["by_model"]) == cost
    assert breakdown["price_versions"]
    # One recorded session ran a slash command, whose only call the agent attributes to it.
    assert [(row["skill"], row["total_cost_usd_micros"]) for row in breakdown["by_skill"]] == [("hi", 20_348)]
    assert breakdown["cache"]["saved_usd_micros"] > 0
    assert breakdown["total"]["drift_usd_micros"] == 0
    by_subagent = await get("/analytics/costs/by-subagent")
    parts = [*by_subagent["subagents"], by_subagent["main"]]
    assert sum(part["total_cost_usd_micros"] for part in parts) == cost
    assert by_subagent == {**await get("/api/analytics/costs/by-subagent"), "as_of": by_subagent["as_of"]}
    histogram = await get("/analytics/costs/histogram")
    assert sum(bucket["cost_usd_micros"] for bucket in histogram["buckets"]) == cost
    assert (
        sum(bucket["sessions"] for bucket in histogram["buckets"]) + histogram["without_cost"] == kpis["total_sessions"]
    )
    tools = await get("/analytics/costs/by-tool")
    assert sum(tool["calls"] for tool in tools["tools"]) == kpis["tool_calls"]
    assert 0 < sum(tool["cost_usd_micros"] for tool in tools["tools"]) <= cost
    ledger = await get("/ledger", page_size=4)
    assert (ledger["total"], ledger["cost_usd_micros"], len(ledger["lines"])) == (kpis["total_sessions"], cost, 4)


async def test_periods_have_no_gaps_and_add_up(get: Any) -> None:
    kpis = (await get("/sessions/analytics/summary"))["kpis"]
    for period, count in (("daily", 365), ("weekly", 53), ("monthly", 12)):
        told = await get("/sessions/analytics/timeseries", period=period, time_zone="UTC")
        assert len(told["points"]) == count
        for name in ("total_cost_usd_micros", "total_sessions", "output_tokens", "model_calls"):
            assert sum(point[name] for point in told["points"]) == kpis[name], (period, name)
        for before, after in zip(told["points"], told["points"][1:], strict=False):
            assert before["end"] == after["start"]
    trend = await get("/sessions/analytics/success-trend", period="monthly")
    assert trend["success_rate"] == kpis["success_rate"]
    refused = await get("/sessions/analytics/timeseries", period="hourly", code=400)
    assert refused["error"]["details"]["field"] == "period"
    refused = await get("/sessions/analytics/timeseries", time_zone="Europe/Atlantis", code=400)
    assert refused["error"]["details"]["field"] == "time_zone"
    assert (await get("/sessions/analytics/summary", since="2027-01-02T00:00:00Z", code=400))["error"]["code"]
    assert (await get("/sessions/analytics/summary", since="1999-01-01T00:00:00Z", code=400))["error"]["code"]


async def test_the_ledger_filters_and_comes_as_csv(get: Any) -> None:
    whole = await get("/ledger", page_size=100)
    for name, value in (("agent", "codex"), ("outcome", "failed"), ("status", "ended")):
        told = await get("/ledger", **{name: value})
        assert told["total"] == sum(line[name] == value for line in whole["lines"]) > 0, name
    one = whole["lines"][0]
    told = await get("/ledger", conversation=one["session_id"])
    assert told["lines"] == [one]
    assert (await get("/ledger", outcome="splendid", code=400))["error"]["code"] == "validation_failed"
    file = await get("/ledger/export")
    assert file.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(file.text)))
    assert [row["session_id"] for row in rows] == [line["session_id"] for line in whole["lines"]]
    assert sum(int(row["cost_usd_micros"] or 0) for row in rows) == whole["cost_usd_micros"]
    nothing = await get("/api/ledger/export", agent="nobody")
    assert len(nothing.text.splitlines()) == 1
    theirs = await get("/ledger/export", place=None, agent="codex")
    assert len(theirs.text.splitlines()) == 2


async def test_conversations_weeks_and_coaching(get: Any) -> None:
    found = await get("/analytics/conversations", sort_by="cost", page_size=3)
    assert (found["total"], len(found["items"])) == (11, 3)
    costs = [item["cost_usd_micros"] for item in found["items"]]
    assert costs == sorted(costs, reverse=True)
    coaching = await get("/sessions/analytics/coaching")
    kinds = ("coached", "uncoached", "unknown")
    assert sum(coaching[kind]["total_sessions"] for kind in kinds) == 11
    day = found["items"][0]["started_at"][:10]
    week = await get("/sessions/summary/weekly", week=day, time_zone="Pacific/Auckland")
    assert len(week["days"]) == 7
    assert week["kpis"]["total_sessions"] == sum(point["total_sessions"] for point in week["days"]) > 0
    assert week["change"]["total_sessions"] == week["kpis"]["total_sessions"] - week["before"]["total_sessions"]


async def test_model_calls_of_a_conversation(get: Any) -> None:
    line = next(
        one for one in (await get("/ledger", page_size=100))["lines"] if one["session_id"].startswith("0447534f")
    )
    path = f"/conversations/{line['session_id']}/llm-calls"
    told = await get(path)
    assert (told["total"], told["total_cost_usd_micros"]) == (line["model_calls"], line["cost_usd_micros"])
    tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    assert told["total_tokens_used"] == sum(line[name] for name in tokens)
    for sort in ("timestamp", "model", "total_tokens", "response_time_ms", "cost", "id"):
        page = await get(path, sort_by=sort, sort_dir="asc", page_size=3, page=2)
        assert len(page["calls"]) == 3, sort
    by_cost = [call["cost"] for call in (await get(path, sort_by="cost", sort_dir="asc"))["calls"]]
    assert by_cost == sorted(by_cost)
    first = told["calls"][0]
    assert (await get(path, q=first["request_id"]))["calls"] == [first]
    assert (await get(path, model="none"))["total"] == 0
    assert (await get(path, date_from=first["timestamp"]))["total"] == 1
    assert (await get(path, sort_by="colour", code=400))["error"]["details"]["field"] == "sort_by"
    assert (await get("/conversations/none/llm-calls", code=404))["error"]["code"] == "not_found"


async def test_discounts_lower_the_contract_cost_of_the_models_and_days_they_are_for(
    get: Any, http: httpx.AsyncClient, house: House
) -> None:
    path = f"{house.ours.base}/contract_discounts"
    body = {"pattern": "anthropic/*", "basis_points": 1250, "valid_from": "2026-01-01", "valid_until": "2027-01-01"}
    refused = await http.post(path, json=body, headers=house.ours.headers("read"))
    assert refused.status_code == 403
    made = await http.post(path, json=body, headers=house.ours.headers("admin"))
    assert made.status_code == 201, made.text

    async def cost() -> tuple[int, int, int]:
        await house.project()
        after = {"Crewkit-After": str(await house.store.head())}
        answer = await http.get(
            f"{house.ours.base}/sessions/analytics/cost-breakdown",
            params=RANGE,
            headers={**house.ours.headers("read"), **after},
        )
        told = answer.json()
        mine = sum(
            row["total_cost_usd_micros"] for row in told["by_model"] if (row["model"] or "").startswith("claude")
        )
        return told["total"]["total_cost_usd_micros"], mine, told["contract_cost_usd_micros"]

    await get("/sessions/analytics/summary")
    whole, mine, contract = await cost()
    assert 0 < mine <= whole
    assert abs(contract - (whole - mine * 0.125)) <= 1
    changed = await http.put(
        made.json()["_links"]["self"], json={**body, "valid_from": "2026-12-31"}, headers=house.ours.headers("admin")
    )
    assert changed.status_code == 200
    assert (await cost())[2] == whole
    bad = await http.put(
        made.json()["_links"]["self"], json={**body, "valid_until": "2025-01-01"}, headers=house.ours.headers("admin")
    )
    assert bad.status_code == 422
    gone = await http.delete(made.json()["_links"]["self"], headers=house.ours.headers("admin"))
    assert gone.status_code == 204
    assert (await http.get(path, headers={**house.ours.headers("read"), "Crewkit-After": "0"})).status_code == 200
    await house.project()
    assert (await http.get(path, headers=house.ours.headers("read"))).json()["items"] == []


async def test_without_a_worker_the_answer_is_try_later(app: Litestar, http: httpx.AsyncClient, house: House) -> None:
    app.state.services.analytics_subject = subject()
    answer = await http.get(f"{house.ours.base}/sessions/analytics/summary", headers=house.ours.headers("read"))
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
