"""Exports over HTTP: what they hold, how they are fetched, who may, and what becomes of them."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar

from eventstore.settings import Settings
from projections.analytics.exported import EXPORTED, KPI_VIEWS, views
from projections.analytics.kpis import KPIS
from tests.api.house import House
from tests.workers.analytics_house import recorded_facts, subject, tell
from tests.workers.exports_house import Counter, rows
from tests.workers.tally import running
from workers.analytics import run_analytics

pytestmark = pytest.mark.integration
EVER = {"since": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}


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
async def told(house: House) -> House:
    """The recorded sessions, as ours."""
    facts = recorded_facts()
    await tell(house.store, facts, house.ours.org_id)
    await house.project()
    return house


@pytest.fixture
async def worker(settings: Settings, told: House) -> AsyncIterator[str]:
    name = subject()
    async with running(run_analytics(settings, subject=name)):
        yield name


@pytest.fixture
async def counter(app: Litestar, http: httpx.AsyncClient, told: House, worker: str) -> Counter:
    app.state.services.analytics_subject = worker
    return Counter(http, told)


async def summary(counter: Counter, **params: Any) -> dict[str, Any]:
    head = await counter.house.project()
    headers = {**counter.house.ours.headers("read"), "Crewkit-After": str(head)}
    answer: Any = None
    for _ in range(500):
        answer = await counter.http.get(
            f"{counter.house.ours.base}/analytics/summary", params={**EVER, **params}, headers=headers
        )
        if answer.status_code != 503:
            break
        await asyncio.sleep(0.02)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["kpis"])


async def test_a_database_tells_the_kpis_of_the_api_and_explains_itself(counter: Counter, tmp_path: Path) -> None:
    path = await counter.database(tmp_path)
    kpis = await summary(counter)
    assert set(kpis) == {kpi.name for kpi in KPIS}
    assert rows(path, "FROM kpi_summary") == [kpis]
    assert rows(path, "FROM kpi_between(TIMESTAMP '2026-01-01', TIMESTAMP '2027-01-01')") == [kpis]
    by_agent = rows(path, "FROM kpi_by_agent")
    assert len(by_agent) > 1
    for row in by_agent:
        agent = row.pop("agent")
        assert row == await summary(counter, agent=agent)
    days = rows(path, "FROM kpi_daily")
    assert sum(day["total_sessions"] for day in days) == kpis["total_sessions"] == 11
    for day in days:
        start = day.pop("day")
        assert day == await summary(counter, since=f"{start}T00:00:00Z", until=f"{start}T23:59:59.999999Z")
    for what in ("tables", "views", "columns"):
        bare = rows(path, f"FROM duckdb_{what}() WHERE NOT internal AND coalesce(comment, '') = ''")
        assert bare == [], what
    names = {row["view_name"] for row in rows(path, "FROM duckdb_views() WHERE NOT internal")}
    assert names == {view.name for view in views(set(EXPORTED))} > {view.name for view in KPI_VIEWS}
    assert rows(path, "SELECT org_id, since FROM crewkit_export") == [
        {"org_id": counter.house.ours.org_id, "since": None}
    ]


async def test_rows_since_a_moment_are_those_since_its_quarter_of_an_hour(counter: Counter, tmp_path: Path) -> None:
    """Usage is summed by quarters, so that calls of a part of one would be without their sums."""
    busy = (
        "SELECT time_bucket(INTERVAL '15 minutes', called_at) AS slot, max(called_at) AS since FROM fact_llm_call"
        " WHERE counts GROUP BY slot HAVING count(DISTINCT called_at) > 1 ORDER BY slot DESC LIMIT 1"
    )
    (found,) = rows(await counter.database(tmp_path), busy)
    since = f"{found['since'].isoformat()}Z"
    path = await counter.database(tmp_path, since=since)
    (sums,) = rows(path, "SELECT sum(calls) AS calls, min(slot_at) AS slot FROM agg_usage")
    (calls,) = rows(path, "SELECT count(*) AS calls, min(called_at) AS first FROM fact_llm_call WHERE counts")
    assert sums["calls"] == calls["calls"] > 1
    assert sums["slot"] == found["slot"] <= calls["first"] < found["since"]
    assert rows(path, "SELECT since FROM crewkit_export") == [{"since": found["slot"]}]
    assert rows(path, "FROM kpi_summary") == [await summary(counter, since=since)]


async def test_a_file_is_fetched_from_any_byte_and_proves_itself(counter: Counter) -> None:
    told = await counter.made(format="csv")
    whole = await counter.fetch(told)
    assert whole.status_code == 200
    digest = hashlib.sha256(whole.content).hexdigest()
    assert (told["sha256"], told["size_bytes"]) == (digest, len(whole.content))
    assert whole.headers["etag"] == f'"{digest}"'
    assert b64decode(whole.headers["repr-digest"].removeprefix("sha-256=:").removesuffix(":")).hex() == digest
    size, etag = len(whole.content), whole.headers["etag"]
    for sent, start, end in (("bytes=10-19", 10, 20), ("bytes=100-", 100, size), ("bytes=-7", size - 7, size)):
        part = await counter.fetch(told, headers={"Range": sent, "If-Range": etag})
        assert part.status_code == 206, sent
        assert part.content == whole.content[start:end], sent
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    for headers in (
        {"Range": "bytes=10-19", "If-Range": '"other"'},
        {"Range": "bytes=0-1,5-6"},
        {"Range": "lines=1-2"},
    ):
        assert (await counter.fetch(told, headers=headers)).content == whole.content, headers
    beyond = await counter.fetch(told, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert (await counter.fetch(told, headers={"If-None-Match": etag})).status_code == 304


async def test_wishes_that_make_no_sense_are_refused_by_the_field(counter: Counter) -> None:
    other = await counter.ask(format="csv")
    for field, wishes in (
        ("tables", {"tables": ["fact_secret"]}),
        ("partition", {"format": "duckdb", "partition": "day"}),
        ("base", {"format": "duckdb", "base": other["export_id"]}),
        ("base", {"format": "parquet", "base": other["export_id"]}),
        ("base", {"format": "csv", "base": "00000000-0000-4000-8000-000000000000"}),
    ):
        told = await counter.ask(status=422, wishes=wishes)
        assert told["error"]["code"] == "validation_failed"
        assert told["error"]["details"]["field"] == field, wishes
    for wishes in ({"format": "xlsx"}, {"surprise": 1}, {"since": "yesterday"}):
        await counter.ask(status=400, wishes=wishes)


async def test_who_may_and_nobody_else(counter: Counter) -> None:
    told = await counter.made()
    theirs = counter.house.theirs
    for tail in ("", "/download"):
        path = f"{theirs.base}/exports/{told['export_id']}{tail}"
        assert (await counter.http.get(path, headers=theirs.headers("read"))).status_code == 404
    gone = await counter.http.delete(f"{theirs.base}/exports/{told['export_id']}", headers=theirs.headers("all"))
    assert gone.status_code == 404
    await counter.ask(status=403, key="ingest")
    assert (await counter.fetch(told)).status_code == 200


async def test_asking_twice_with_one_key_asks_once_and_what_is_kept_is_bounded(counter: Counter) -> None:
    path, headers = f"{counter.house.ours.base}/exports", counter.house.ours.headers("read")
    keyed = {**headers, "Idempotency-Key": "nightly"}
    first = await counter.http.post(path, json={"format": "csv"}, headers=keyed)
    again = await counter.http.post(path, json={"format": "csv"}, headers=keyed)
    assert first.json()["export_id"] == again.json()["export_id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert (await counter.http.post(path, json={"format": "parquet"}, headers=keyed)).status_code == 409
    for _ in range(7):
        await counter.ask()
    refused = await counter.ask(status=409)
    assert refused["error"]["code"] == "conflict"
    gone = await counter.http.delete(first.json()["_links"]["self"], headers=headers)
    assert (gone.status_code, int(gone.headers["crewkit-position"])) == (204, await counter.house.store.head())
    await counter.ask()
    await counter.house.project()
    listed = (await counter.http.get(path, headers=headers)).json()["items"]
    assert len(listed) == 9
    assert [one["reason"] for one in listed if one["status"] == "expired"] == ["cancelled"]
    assert set(EXPORTED) >= {"fact_llm_call", "dim_model"}


async def test_what_is_given_up_is_gone_from_the_store(counter: Counter, settings: Settings) -> None:
    told = await counter.made(format="parquet")
    stored = Path(settings.data_dir) / "objects" / "exports" / str(counter.house.ours.org_id) / told["export_id"]
    assert {path.name for path in stored.iterdir()} == {"crewkit-parquet.zip", "manifest.json"}
    headers = counter.house.ours.headers("read")
    for _ in range(2):
        assert (await counter.http.delete(told["_links"]["self"], headers=headers)).status_code == 204
    assert list(stored.iterdir()) == []
    assert (await counter.fetch(told)).status_code == 404
    early = await counter.ask()
    answer = await counter.http.get(f"{early['_links']['self']}/download", headers=headers)
    assert answer.status_code in {200, 409}
