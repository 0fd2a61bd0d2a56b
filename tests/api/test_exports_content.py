"""What an export may hold: one organization's rows, nobody who was erased, and files that every reader reads alike."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import polars as pl
import pytest

from projections.analytics.exported import EXPORTED
from tests.api.house import House, Place, body
from tests.api.test_exports import counter, settings, told, worker
from tests.workers.exports_house import Counter, rows

__all__ = ["counter", "settings", "told", "worker"]  # fixtures
pytestmark = pytest.mark.integration

RECORDING = Path(__file__).parents[1] / "recordings" / "claude-0447534f"
SESSION = "0447534f-4168-45f3-a089-5808b6b5dc70"
CANARY = "canary"


async def tell_of_canaries(counter: Counter, place: Place, mark: str, *, user: Any = None) -> None:
    """A recorded session under other ids, in which everything that has a name is called after `mark`."""
    session = f"{mark}-session"

    def marked(name: str) -> list[Any]:
        text = (RECORDING / name).read_text().replace(SESSION, session)
        text = re.sub(r'"(model|requestId|id|tool_use_id)": ?"([^"]+)"', rf'"\1":"{mark}-\2"', text)
        return [json.loads(line) for line in text.splitlines()]

    where = {"repo": f"{mark}/repo", "branch": f"{mark}-branch", "project": f"{mark}-project"}
    events = [{**event, **where, **({"user": user} if user else {})} for event in marked("hooks.jsonl")]
    for number, event in enumerate(events):
        event["id"] = f"{mark}-{number}"
    headers = place.headers("ingest")
    for path, content in (
        ("/observability/events", {"events": events}),
        (f"/observability/llm_sessions/{session}/items", {"items": marked("transcript.jsonl"), "agent": "claude"}),
    ):
        answer = await counter.http.post(f"{place.base}{path}", content=body(content), headers=headers)
        assert answer.status_code == 202, answer.text
        assert answer.json()["rejected"] == 0
    await counter.house.project()


def cells(path: Path) -> list[str]:
    """Everything that stands in a database, as text."""
    found: list[str] = []
    for table in rows(path, "SELECT table_name FROM duckdb_tables()"):
        for row in rows(path, f"FROM {table['table_name']}"):
            found += [str(value) for value in row.values()]
    return found


def texts(file: zipfile.ZipFile) -> dict[str, str]:
    """What the CSV files of an archive hold, without the page that explains them."""
    return {name: file.read(name).decode() for name in file.namelist() if name.endswith((".csv", ".json"))}


async def people_of(house: House, place: Place) -> set[str]:
    pool: Any = house.store.pool
    found = await pool.fetch("SELECT subject FROM crewkit.subject_key WHERE org_id = $1", place.org_id)
    return {str(row[0]) for row in found}


async def test_an_export_holds_one_organizations_rows_and_nothing_of_anothers(counter: Counter, tmp_path: Path) -> None:
    house = counter.house
    await tell_of_canaries(counter, house.theirs, CANARY, user={"email": "eve@example.com", "name": "Eve"})
    await tell_of_canaries(counter, house.ours, "own", user={"email": "ada@example.com", "name": "Ada"})
    strange = {CANARY, str(house.theirs.org_id), *(await people_of(house, house.theirs))}
    strange -= await people_of(house, house.ours)
    # Every name was taken over: what is looked for below stands in the other organization's own export.
    (tmp_path / "theirs").mkdir()
    theirs = cells(await counter.database(tmp_path / "theirs", house.theirs))
    for name in ("session", "branch", "project", "claude"):
        assert any(f"{CANARY}-{name}" in cell for cell in theirs), name
    assert {cell for cell in theirs if str(house.ours.org_id) in cell or "own-" in cell} == set()

    path = await counter.database(tmp_path)
    ours = cells(path)
    assert any("own-claude" in cell for cell in ours), "model names are there"
    assert [cell for cell in ours if any(word in cell for word in strange)] == []
    assert not any(word.encode() in path.read_bytes() for word in strange)
    _, file = await counter.archive(format="csv")
    found = texts(file)
    assert set(EXPORTED) <= {name.partition("/")[0] for name in found}
    assert [name for name, text in found.items() if any(word in text for word in strange)] == []
    _, file = await counter.archive(format="parquet")
    for name in file.namelist():
        if name.endswith(".parquet"):
            shown = pl.read_parquet(io.BytesIO(file.read(name))).write_csv()
            assert not any(word in shown for word in strange), name


async def test_whoever_was_erased_is_in_no_new_export_and_old_ones_are_withdrawn(
    counter: Counter, tmp_path: Path
) -> None:
    house, ours = counter.house, counter.house.ours
    await tell_of_canaries(counter, ours, "own", user={"email": "ada@example.com", "name": "Ada"})
    before = await counter.database(tmp_path)
    (person,) = {row["person_id"] for row in rows(before, "FROM fact_session WHERE session_id = 'own-session'")}
    assert isinstance(person, UUID)
    old = await counter.made(format="csv")
    answer = await counter.http.post(
        f"{ours.base}/people/{person}/erase",
        json={"reason": "subject_request", "confirm": str(person)},
        headers=ours.headers("admin"),
    )
    assert answer.status_code == 200, answer.text
    await house.project()
    assert (await counter.fetch(old)).status_code == 404
    (tmp_path / "after").mkdir()
    after = await counter.database(tmp_path / "after")
    assert any(str(person) in cell for cell in cells(before))
    assert not any(str(person) in cell for cell in cells(after))
    for table in ("fact_session", "fact_llm_call", "agg_usage"):
        count = f"SELECT count(*) FROM {table}"
        assert rows(after, count) == rows(before, count), "the work stays, its person goes"


async def test_parquet_is_read_alike_by_duckdb_pandas_and_polars(counter: Counter, tmp_path: Path) -> None:
    await tell_of_canaries(counter, counter.house.ours, "own")
    path = await counter.database(tmp_path)
    for partition in ("day", "month", "none"):
        folder = tmp_path / partition
        _, file = await counter.archive(format="parquet", partition=partition)
        file.extractall(folder)
        for name, source in EXPORTED.items():
            files = f"{folder}/{name}/**/*.parquet"
            (told,) = rows(path, f"SELECT count(*) AS n FROM {name}")
            pattern = f"read_parquet('{files}', hive_partitioning = true)"
            assert rows(path, f"SELECT count(*) AS n FROM {pattern}") == [told], name
            names = [column.name for column in source.columns]
            typed = ", ".join(f"CAST({column.name} AS {column.type})" for column in source.columns)
            differing = f"(SELECT {source.names} FROM {name} EXCEPT ALL SELECT {typed} FROM {pattern})"
            assert rows(path, f"SELECT count(*) AS n FROM {differing}") == [{"n": 0}], name
            frame: Any = pd.read_parquet(folder / name, engine="pyarrow")
            assert len(frame) == told["n"], name
            scanned: Any = pl.scan_parquet(files, hive_partitioning=True).collect()
            assert scanned.height == told["n"], name
            if source.moment and partition != "none":
                names.append(partition)
            assert sorted(frame.columns) == sorted(scanned.columns) == sorted(names)
            if name == "fact_llm_call":
                (total,) = rows(path, "SELECT sum(output_tokens)::BIGINT AS n FROM fact_llm_call")
                assert int(frame["output_tokens"].sum()) == int(scanned["output_tokens"].sum()) == total["n"]


async def test_csv_is_rfc_4180_and_no_cell_is_a_formula(counter: Counter, tmp_path: Path) -> None:
    mark = "=HYPERLINK(1)\n"
    await tell_of_canaries(counter, counter.house.ours, "own")
    events = [
        {"payload": {"session_id": session, "hook_event_name": "UserPromptSubmit", "cwd": "/w"}, "id": session,
         "repo": repo, "branch": 'a "quoted", branch'}
        for session, repo in (("s1", mark), ("s2", "-1+1"), ("s3", "'mine"), ("s4", "@x"), ("s5", "plain"))
    ]  # fmt: skip
    answer = await counter.http.post(
        f"{counter.house.ours.base}/observability/events",
        json={"events": events},
        headers=counter.house.ours.headers("ingest"),
    )
    assert answer.json()["rejected"] == 0, answer.text
    await counter.house.project()
    path = await counter.database(tmp_path)
    _, file = await counter.archive(format="csv")
    for name, source in EXPORTED.items():
        raw = file.read(f"{name}/data_0.csv").decode("utf-8")
        outside = "".join(raw.split('"')[::2])
        assert outside.count("\n") == outside.count("\r\n") == len(list(csv.reader(io.StringIO(raw, newline="")))), name
        reader = csv.DictReader(io.StringIO(raw, newline=""))
        assert reader.fieldnames == [column.name for column in source.columns]
        read = list(reader)
        told = rows(path, f"FROM {name}")
        assert len(read) == len(told)
        for column in source.columns:
            values = {row[column.name] for row in read}
            if column.type == "VARCHAR":
                assert not any(re.match(r"[=+\-@\t\r\n]", value) for value in values), column.name
                plain = {value.removeprefix("'") for value in values}
                assert plain == {"" if row[column.name] is None else row[column.name] for row in told}
            if column.type == "TIMESTAMP":
                moments = {datetime.fromisoformat(value) for value in values if value}
                assert moments == {row[column.name].replace(tzinfo=UTC) for row in told if row[column.name]}
    repos = {
        row["repo"] for row in csv.DictReader(io.StringIO(file.read("fact_session/data_0.csv").decode(), newline=""))
    }
    assert {f"'{mark}", "'-1+1", "''mine", "'@x", "plain"} <= repos
