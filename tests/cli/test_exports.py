"""`crewkit export` against the real application and a real worker: whole, interrupted, brought up to date."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cli._folder import STATE
from tests.api.conftest import app, house, live, master_key_file, postgres_url
from tests.api.house import House
from tests.api.test_exports import counter, settings, told, worker
from tests.api.test_exports_content import tell_of_canaries
from tests.cli.conftest import paths
from tests.cli.test_sessions import Desk, desk
from tests.workers.exports_house import Counter, rows

__all__ = [
    "app",
    "counter",
    "desk",
    "house",
    "http",
    "live",
    "master_key_file",
    "paths",
    "postgres_url",
    "settings",
    "told",
    "worker",
]  # fixtures
pytestmark = pytest.mark.integration


@pytest.fixture
async def http(live: Any) -> Any:
    import httpx  # noqa: PLC0415

    async with httpx.AsyncClient(base_url=live.url, timeout=20) as client:
        yield client


@pytest.fixture(autouse=True)
async def projector(told: House) -> AsyncIterator[None]:
    """Read models follow while the program waits for them."""

    async def follow() -> None:
        while True:
            await told.project()
            await asyncio.sleep(0.05)

    task = asyncio.create_task(follow())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def counts(folder: Path, table: str, column: str) -> dict[str, int]:
    """Rows by a column, read as an analyst would."""
    connection = duckdb.connect()
    files = f"read_parquet('{folder}/{table}/**/*.parquet', hive_partitioning = true)"
    return dict(connection.execute(f"SELECT {column}, count(*) FROM {files} GROUP BY ALL").fetchall())


async def listed(desk: Desk) -> list[dict[str, Any]]:
    await desk.house.project()
    text = (await desk.run("export", "list", "--json")).stdout
    return [json.loads(line) for line in text.splitlines()]


async def test_a_database_is_written_whole_and_does_not_stay_with_the_service(
    desk: Desk, counter: Counter, tmp_path: Path
) -> None:
    file = tmp_path / "new" / "rows.duckdb"
    done = await desk.run("export", "--output", str(file))
    assert "up to position" in done.stdout
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert rows(file, "SELECT total_sessions FROM kpi_summary") == [{"total_sessions": 11}]
    assert [one["status"] for one in await listed(desk)] == ["expired"]
    done = await desk.run("export", "--tables", "fact_llm_call, dim_model", "--output", str(file))
    tables = {row["table_name"] for row in rows(file, "FROM duckdb_tables()")}
    assert tables == {"fact_llm_call", "dim_model", "crewkit_export"}
    done = await desk.run("export", "--tables", "nothing", "--output", str(file), check=1)
    assert "there is no 'nothing'" in done.stderr
    await desk.run("export", "--since", "yesterday", check=2)
    await desk.run("export", "--append", "--output", str(file), check=2)


async def test_an_interrupted_download_goes_on_and_what_was_changed_is_noticed(
    desk: Desk, counter: Counter, tmp_path: Path
) -> None:
    view = await counter.made(format="duckdb")
    content = (await counter.fetch(view)).content
    file = tmp_path / "rows.duckdb"
    note = {
        "place": f"{desk.live.url}/api/v1/default/exports",
        "wishes": {"format": "duckdb", "partition": "none", "tables": [], "since": None},
        "base": None,
        "path": view["_links"]["self"],
    }
    part, told = tmp_path / "rows.duckdb.part", tmp_path / "rows.duckdb.part.json"
    told.write_text(json.dumps(note))
    part.write_bytes(b"x" + content[1 : len(content) // 2])
    done = await desk.run("export", "--output", str(file), check=1)
    assert "differs from what the service wrote" in done.stderr
    assert not file.exists()
    part.write_bytes(content[: len(content) // 2])
    await desk.run("export", "--output", str(file))
    assert file.read_bytes() == content
    assert len(await listed(desk)) == 1, "no other export was asked for"
    assert not part.exists()
    assert not told.exists()


async def test_a_folder_is_brought_up_to_date_and_late_facts_replace_rows(
    desk: Desk, counter: Counter, tmp_path: Path
) -> None:
    folder = tmp_path / "parquet"
    export = ("export", "--format", "parquet", "--output", str(folder))
    await desk.run(*export)
    first = json.loads((folder / STATE).read_text())
    before = counts(folder, "fact_llm_call", "call_key")
    assert set(before.values()) == {1}
    done = await desk.run(*export, check=1)
    assert "--append" in done.stderr
    # Nothing happened: nothing travels.
    done = await desk.run("export", "--append", "--output", str(folder))
    assert f"{folder}: 0 changed rows" in done.stdout
    # A late channel tells more about what is there, and there is a new session.
    await tell_of_canaries(counter, counter.house.ours, "own")
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    done = await desk.run("export", "--since", "last", "--output", str(folder))
    second = json.loads((folder / STATE).read_text())
    assert second["position"] > first["position"]
    after = counts(folder, "fact_llm_call", "call_key")
    assert set(after.values()) == {1}
    assert set(before) < set(after)
    assert any(path.exists() and path.stat().st_mtime_ns == at for path, at in kept.items()), "other days stay"
    # What a whole export says is what the folder says.
    whole = tmp_path / "whole"
    await desk.run("export", "--format", "parquet", "--output", str(whole))
    manifests = [json.loads((place / "manifest.json").read_text())["tables"] for place in (folder, whole)]
    shown = [
        {table: {part: told["digest"] for part, told in parts.items()} for table, parts in one.items()}
        for one in manifests
    ]
    assert shown[0] == shown[1]
    files = [
        sorted(path.relative_to(place).as_posix() for path in place.rglob("*.parquet")) for place in (folder, whole)
    ]
    assert files[0] == files[1]
    # A folder that lost a file gets everything again.
    next(folder.rglob("fact_session/**/*.parquet")).unlink()
    done = await desk.run("export", "--append", "--output", str(folder))
    assert "changed" not in done.stdout
    assert counts(folder, "fact_session", "session_id") == counts(whole, "fact_session", "session_id")
    done = await desk.run("export", "--append", "--tables", "dim_model", "--output", str(folder), check=2)
    assert "choose another --output" in done.stderr
    assert [one["status"] for one in await listed(desk)].count("ready") == 2, "earlier exports were given up"


async def test_an_export_is_cancelled(desk: Desk, counter: Counter) -> None:
    view = await counter.made()
    await desk.run("export", "cancel", view["export_id"])
    assert [(one["export_id"], one["status"]) for one in await listed(desk)] == [(view["export_id"], "expired")]
