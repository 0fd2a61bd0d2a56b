"""KPIs of awkward data, computed three ways: the API, the views of an export over the same rows, and the session pages."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import httpx
import pytest
from litestar import Litestar

from domain.pricing import micro_usd
from eventstore.settings import Settings
from projections.analytics.exported import KPI_VIEWS
from projections.analytics.kpis import SESSION_KPIS, USAGE_KPIS
from projections.analytics.questions.base import rows
from tests.api.house import House
from tests.workers.analytics_house import file_of, subject, tell
from tests.workers.awkward import awkward_facts, shuffled
from tests.workers.tally import running
from workers.analytics import run_analytics

pytestmark = pytest.mark.integration
RANGE = {"since": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


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
    await tell(house.store, shuffled(awkward_facts(7, 60), 7), house.ours.org_id)
    await house.project()
    name = subject()
    async with running(run_analytics(settings, subject=name)):
        yield name


@pytest.fixture
async def get(app: Litestar, http: httpx.AsyncClient, house: House, worker: str) -> Any:
    app.state.services.analytics_subject = worker

    async def ask(path: str, *, code: int = 200, **params: Any) -> Any:
        headers = {**house.ours.headers("read"), "Crewkit-After": str(await house.store.head())}
        answer: Any = None
        for _ in range(500):
            answer = await http.get(f"{house.ours.base}{path}", params={**RANGE, **params}, headers=headers)
            if answer.status_code != 503:
                break
            await asyncio.sleep(0.02)
        assert answer.status_code == code, answer.text
        return answer.json() if "json" in answer.headers["content-type"] else answer

    return ask


async def pages_of(get: Any) -> list[dict[str, Any]]:
    """Every session's page."""
    listed = await get("/sessions", limit=200)
    return [await get(f"/sessions/{one['id']}") for one in listed["items"]]


async def calls_of(get: Any, session_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = await get(
            f"/conversations/{session_id}/llm-calls", page=1 + len(found) // 100, page_size=100, sort_by="id"
        )
        found += page["calls"]
        if len(found) >= page["total"]:
            return found


@contextlib.contextmanager
def viewed(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """The views of an export over the rows of the worker, which has its file open."""
    source = file_of(settings)
    copy = source.with_name("copy.duckdb")
    for suffix in ("", ".wal"):
        if (part := source.with_name(source.name + suffix)).exists():
            shutil.copy(part, copy.with_name(copy.name + suffix))
    with duckdb.connect(str(copy)) as connection:
        for view in KPI_VIEWS:
            connection.execute(f"CREATE VIEW {view.name} AS {view.sql}")
        yield connection


async def test_kpis_are_the_same_three_ways(get: Any, settings: Settings) -> None:
    kpis = (await get("/sessions/analytics/summary"))["kpis"]
    pages = await pages_of(get)
    tops = [page["session"] for page in pages]
    finished = [top for top in tops if top["status"] != "active"]
    costs = [page["cost"]["cost_usd_micros"] for page in pages if page["cost"]["cost_usd_micros"] is not None]
    assert 0 < len(finished) < len(tops)  # some are open
    assert {page["cost"]["source"] for page in pages} >= {"telemetry", "priced"}
    counts = {
        name: sum(top["counts"][name] for top in tops)
        for name in (
            "prompts", "turns", "failed_turns", "tool_calls", "tool_failures", "tool_denials", "subagents", "compactions",
            "commits", "pull_requests", "model_calls",
        )
    }  # fmt: skip
    tokens = {
        f"{name}_tokens": sum(top["tokens"][name] for top in tops)
        for name in ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning")
    }
    completed = sum(top["outcome"] == "completed" for top in tops)
    by_hand = {
        **counts,
        **tokens,
        "total_sessions": len(tops),
        "active_sessions": len(tops) - len(finished),
        "finished_sessions": len(finished),
        "completed_sessions": completed,
        "failed_sessions": sum(top["outcome"] == "failed" for top in tops),
        "abandoned_sessions": sum(top["outcome"] == "abandoned" for top in tops),
        "success_rate": completed / len(finished),
        "people": len({top["person_id"] for top in tops}),
        "sessions_cost_usd_micros": sum(costs),
        "total_cost_usd_micros": sum(costs),
        "sessions_without_cost": sum(
            page["cost"]["cost_usd_micros"] is None and page["session"]["counts"]["model_calls"] > 0 for page in pages
        ),
        "unpriced_calls": sum(page["cost"]["sources"]["unpriced_calls"] for page in pages),
        "lines_added": sum(top["lines"]["added"] for top in tops),
        "lines_removed": sum(top["lines"]["removed"] for top in tops),
    }
    assert {name: kpis[name] for name in by_hand} == by_hand
    assert kpis["unpriced_calls"] > 0 < kpis["uncosted_calls"]
    assert kpis["drift_usd_micros"] != 0
    assert abs(kpis["average_duration_ms"] - sum(top["duration_ms"] for top in tops) / len(tops)) <= 0.5
    assert abs(kpis["average_cost_usd_micros"] - sum(costs) / len(costs)) <= 0.5
    with viewed(settings) as connection:
        assert rows(connection, "SELECT * FROM kpi_summary", []) == [kpis]
        days = {row.pop("day"): row for row in rows(connection, "SELECT * FROM kpi_daily", [])}
        series = await get("/sessions/analytics/timeseries", period="daily")
        for point in series["points"]:
            assert {name: point[name] for name in kpis} == days.get(
                date.fromisoformat(point["label"][:10]), {name: None if kpis_none(name) else 0 for name in kpis}
            ), point["label"]
        for view, path, key in (
            ("agent", "by-agent", "agent"),
            ("project", "by-project", "project"),
            ("person", "by-user", "person_id"),
        ):
            told = {group["key"]: group for group in (await get(f"/sessions/analytics/{path}"))["groups"]}
            for row in rows(connection, f"SELECT * FROM kpi_by_{view}", []):
                value = row.pop(key)
                assert told.pop(None if value is None else str(value)) == {
                    "key": None if value is None else str(value),
                    **row,
                }
            assert told == {}


def kpis_none(name: str) -> bool:
    return next(kpi.is_share for kpi in (*SESSION_KPIS, *USAGE_KPIS) if kpi.name == name)


def pico(call: dict[str, Any]) -> int:
    return 0 if call["cost"] is None else round(call["cost"] * 10**12)


async def test_model_calls_add_up_to_the_page_and_to_every_period_of_every_place(get: Any) -> None:
    pages = await pages_of(get)
    calls: list[dict[str, Any]] = []
    rests: list[tuple[str, int]] = []  # when, pico-USD: what a conversation cost beyond its calls
    for page in pages:
        mine = await calls_of(get, page["session"]["id"])
        assert len(mine) == page["session"]["counts"]["model_calls"]
        for llm in page["llm_sessions"]:
            told = [call for call in mine if call["conversation_id"] == llm["id"]]
            cost, source = llm["cost"]["cost_usd_micros"], llm["cost"]["source"]
            if source in {"telemetry", "priced"}:
                assert micro_usd(sum(map(pico, told))) == cost
                assert {call["cost_source"] for call in told if call["cost"] is not None} == {source}
            if cost is not None and (rest := cost * 10**6 - sum(map(pico, told))):
                rests.append((llm["last_activity_at"], rest))
            for sub in llm["subagents"]:
                parts = [call for call in told if call["subagent_id"] == sub["agent_id"]]
                assert sub["model_calls"] == len(parts)
                if sub["cost_usd_micros"] is not None:
                    assert sub["cost_usd_micros"] == micro_usd(sum(map(pico, parts)))
        calls += mine
    for place in (
        "UTC",
        "Asia/Kolkata",
        "Australia/Lord_Howe",
        "Europe/Berlin",
        "America/New_York",
        "America/St_Johns",
    ):
        for period in ("daily", "weekly", "monthly"):
            told = await get("/sessions/analytics/timeseries", period=period, time_zone=place)
            expected: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
            for call in calls:
                sums = expected[label(call["timestamp"], period, place)]
                sums[0] += 1
                sums[1] += call["output_tokens"] if "output_tokens" in call else call["completion_tokens"]
                sums[2] += pico(call)
            for at, rest in rests:
                expected[label(at, period, place)][2] += rest
            found = {point["label"][:10]: point for point in told["points"]}
            assert len(found) == len(told["points"])
            for name, (count, tokens, cost) in expected.items():
                point = found[name]
                assert (point["model_calls"], point["output_tokens"]) == (count, tokens), (place, name)
                assert point["total_cost_usd_micros"] == micro_usd(cost), (place, name)
            assert sum(point["model_calls"] for point in told["points"]) == len(calls)
            begun: dict[str, int] = defaultdict(int)
            for page in pages:
                begun[label(page["session"]["started_at"], period, place)] += 1
            assert {name: point["total_sessions"] for name, point in found.items() if point["total_sessions"]} == begun


def label(moment: str, period: str, place: str) -> str:
    """The first day of the period in which a moment is, by the calendar of the place."""
    day = datetime.fromisoformat(moment).astimezone(ZoneInfo(place)).date()
    if period == "weekly":
        day -= timedelta(days=day.weekday())
    elif period == "monthly":
        day = day.replace(day=1)
    return max(day, first(place, period)).isoformat()


def first(place: str, period: str) -> date:
    day = datetime.fromisoformat(RANGE["since"]).astimezone(ZoneInfo(place)).date()
    return (
        day - timedelta(days=day.weekday())
        if period == "weekly"
        else day.replace(day=1)
        if period == "monthly"
        else day
    )


async def test_shares_of_tools_are_the_same_in_every_range_and_add_up(get: Any) -> None:
    whole = await get("/analytics/costs/by-tool")
    assert {tool["mcp_server"] for tool in whole["tools"]} == {None, "files"}
    (server,) = whole["mcp_servers"]
    assert server["calls"] == sum(tool["calls"] for tool in whole["tools"] if tool["mcp_server"] == "files")
    cost = sum(tool["cost_usd_micros"] for tool in whole["tools"])
    assert 0 < cost <= (await get("/sessions/analytics/summary"))["kpis"]["total_cost_usd_micros"]
    models = await get("/sessions/analytics/cost-breakdown")
    names = [row["model"] for row in models["by_model"] if row["model"] is not None]
    assert len(names) == 3
    parts = [await get("/analytics/costs/by-tool", model=name) for name in names]
    unasked = sum(tool["calls"] for tool in whole["tools"]) - sum(tool["calls"] for p in parts for tool in p["tools"])
    assert unasked >= 0  # calls whose asking model call is not known
    assert abs(sum(tool["cost_usd_micros"] for part in parts for tool in part["tools"]) - cost) <= len(names) * 4
    # A model call may ask for tools that run before and after a midnight: its cost is not told twice.
    cuts = [f"2026-{month:02}-{day:02}T00:00:00Z" for month in range(1, 13) for day in (1, 2, 5, 10, 25)][1:]
    ends = [RANGE["since"], *cuts, RANGE["until"]]
    pieces = [await get("/analytics/costs/by-tool", since=since, until=until) for since, until in pairwise(ends)]
    told = [tool for piece in pieces for tool in piece["tools"]]
    assert sum(tool["calls"] for tool in told) == sum(tool["calls"] for tool in whole["tools"])
    assert abs(sum(tool["cost_usd_micros"] for tool in told) - cost) <= len(told)


async def test_cost_of_skills_is_that_of_the_calls_attributed_to_them(get: Any) -> None:
    calls = [call for page in await pages_of(get) for call in await calls_of(get, page["session"]["id"])]
    expected: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for call in calls:
        if call["skill"] is not None:
            expected[call["skill"]][0] += 1
            expected[call["skill"]][1] += pico(call)
    told = (await get("/sessions/analytics/cost-breakdown"))["by_skill"]
    assert set(expected) == {"pdf", "review"}
    assert {row["skill"]: (row["model_calls"], row["total_cost_usd_micros"]) for row in told} == {
        name: (count, micro_usd(cost)) for name, (count, cost) in expected.items()
    }


async def test_filters_combine(get: Any) -> None:
    lines = (await get("/ledger", page_size=100))["lines"]
    for filters in (
        {"repo": "acme/shop", "branch": "main"},
        {"repo": "acme/shop", "user": lines[0]["person_id"]},
        {"project": "shop", "agent": "claude", "branch": "main", "user": lines[0]["person_id"]},
        {"project": "café"},
        {"project": "shop", "agent": "codex"},
    ):
        mine = [
            line
            for line in lines
            if all(line["person_id" if name == "user" else name] == value for name, value in filters.items())
        ]
        told = await get("/ledger", page_size=100, **filters)
        assert told["lines"] == mine, filters
        kpis = (await get("/sessions/analytics/summary", **filters))["kpis"]
        assert kpis["total_sessions"] == len(mine)
        assert kpis["model_calls"] == sum(line["model_calls"] for line in mine)
        week = await get("/sessions/summary/weekly", week="2026-10-25", **filters)
        assert sum(point["total_sessions"] for point in week["days"]) == week["kpis"]["total_sessions"] <= len(mine)
    used = {
        (page["session"]["id"], llm["id"])
        for page in await pages_of(get)
        for llm in page["llm_sessions"]
        if "nobody-knows-1" in llm["models"]
    }
    told = await get("/analytics/conversations", model="nobody-knows-1", page_size=100)
    assert {(item["session_id"], item["llm_session_id"]) for item in told["items"]} == used


async def test_the_ledger_stands_still_for_who_follows_its_cursor(get: Any, house: House) -> None:
    whole = (await get("/ledger", page_size=100))["lines"]
    page = await get("/ledger", page_size=7)
    found = page["lines"]
    newer = [
        (key, fact)
        for key, fact in awkward_facts(8, 6)
        if fact.llm_session_id not in {line["session_id"] for line in whole}
    ]
    await tell(house.store, newer, house.ours.org_id)
    await house.project()
    while page["next_cursor"]:
        assert page["next_cursor"] in page["_links"]["next"]
        page = await get("/ledger", page_size=7, cursor=page["next_cursor"])
        found += page["lines"]
    old = {line["session_id"] for line in whole}
    assert [line for line in found if line["session_id"] in old] == whole
    assert (await get("/ledger", cursor="nonsense", code=400))["error"]["details"]["field"] == "cursor"


async def test_the_ledger_is_a_file_that_spreadsheets_read_and_do_not_run(
    get: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.analytics.ledger.LINES_MAX", 7)  # several parts
    lines = (await get("/ledger", page_size=100))["lines"]
    file = await get("/ledger/export", bom="true")
    assert file.headers["content-type"] == "text/csv; charset=utf-8"
    assert file.content.startswith(b"\xef\xbb\xbfsession_id,")
    text = file.content.decode("utf-8-sig")
    assert text.count("\r\n") == text.count("\n") == len(lines) + 1
    plain = await get("/ledger/export")
    assert plain.text == text
    told = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["session_id"] for row in told] == [line["session_id"] for line in lines]
    for row, line in zip(told, lines, strict=True):
        branch = line["branch"] or ""
        assert row["branch"] == (f"'{branch}" if branch.startswith("=") else branch)
        assert row["repo"] == (line["repo"] or "")
        assert row["cost_complete"] == str(line["cost_complete"]).lower()
    assert any(row["branch"].startswith("'=cmd") for row in told)
    assert any(row["project"] == "café" for row in told)


async def test_the_longest_series_is_answered_and_the_ends_of_the_calendar_are_refused(get: Any) -> None:
    told = await get(
        "/sessions/analytics/timeseries", period="hourly", since="2026-09-01T00:00:00Z", until="2026-11-02T12:00:00Z"
    )
    assert len(told["points"]) == 1_500
    for params in (
        {"until": "9999-12-31T23:59:59Z"},
        {"since": "0001-01-01T00:00:00+10:00"},
        {"until": "0001-01-05T00:00:00Z"},
    ):
        refused = await get("/sessions/analytics/summary", code=400, **params)
        assert refused["error"]["details"]["field"] in {"since", "until"}
    for week in ("0001-01-01", "9999-12-31"):
        assert (await get("/sessions/summary/weekly", week=week, code=400))["error"]["details"]["field"] == "week"


async def test_days_of_model_calls_include_the_last_one(get: Any) -> None:
    page = max(await pages_of(get), key=lambda page: page["session"]["counts"]["model_calls"])
    ident = page["session"]["id"]
    calls = await calls_of(get, ident)
    days = sorted({call["timestamp"][:10] for call in calls})
    told = await get(f"/conversations/{ident}/llm-calls", date_from=days[0], date_to=days[-1])
    assert told["total"] == len(calls)
    only = await get(f"/conversations/{ident}/llm-calls", date_from=days[0], date_to=days[0])
    assert only["total"] == sum(call["timestamp"].startswith(days[0]) for call in calls)
    for bad in ("yesterday", "2026-13-01", "0001-01-01T00:00:00+10:00"):
        refused = await get(f"/conversations/{ident}/llm-calls", date_from=bad, code=400)
        assert refused["error"]["details"]["field"] == "date_from"
