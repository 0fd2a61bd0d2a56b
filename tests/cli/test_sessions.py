"""`crewkit sessions` against the real application: recorded sessions in, tables and JSON out, exit codes as documented."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from cli.capture.paths import ClientDir
from commands.summaries import record_summary
from domain.kernel import Sealed
from schemas.insights import Action, Assessment, CoachingTip, Written
from tests.api.conftest import app, house, live, master_key_file, postgres_url, settings
from tests.api.house import House, Live, hook
from tests.cli.conftest import RECORDINGS, crewkit
from tests.domain.test_summaries import written

__all__ = ["app", "house", "live", "master_key_file", "postgres_url", "settings"]  # fixtures

SESSION = "0447534f-4168-45f3-a089-5808b6b5dc70"
RECORDING = RECORDINGS / "claude-0447534f"


class Desk:
    """A laptop connected to the application."""

    def __init__(self, house: House, live: Live) -> None:
        self.house = house
        self.live = live

    async def run(self, *arguments: str, check: int | None = 0) -> Any:
        return await asyncio.to_thread(crewkit, *arguments, check=check)

    async def send(self, path: str, content: bytes) -> None:
        async with httpx.AsyncClient(base_url=self.live.url, timeout=30) as http:
            place = f"{self.house.ours.base}/observability{path}"
            answer = await http.post(place, headers=self.house.ours.headers(), content=content)
            assert answer.status_code == 202, answer.text
        await self.house.project()


@pytest.fixture
async def desk(house: House, live: Live, paths: ClientDir, monkeypatch: pytest.MonkeyPatch) -> Desk:
    assert paths.home.is_dir()
    monkeypatch.setenv("CREWKIT_URL", live.url)
    monkeypatch.setenv("CREWKIT_API_KEY", house.ours.keys["all"])
    monkeypatch.setenv("CREWKIT_ORGANIZATION", "default")
    monkeypatch.setenv("TZ", "UTC")
    return Desk(house, live)


@pytest.fixture
async def recorded(desk: Desk) -> Desk:
    """One recorded session: its hooks, with where it happened, and its transcript."""
    told = [json.loads(line) for line in (RECORDING / "hooks.jsonl").read_text().splitlines()]
    events = [{**event, "repo": "acme/shop", "branch": "main", "project": "shop"} for event in told]
    await desk.send("/events", json.dumps({"events": events}).encode())
    lines = [json.loads(line) for line in (RECORDING / "transcript.jsonl").read_text().splitlines()]
    await desk.send(f"/llm_sessions/{SESSION}/items", json.dumps({"items": lines, "agent": "claude"}).encode())
    return desk


def total() -> float:
    """What the agent itself said that the session cost, in dollars."""
    lines = [json.loads(line) for line in (RECORDING / "transcript.jsonl").read_text().splitlines()]
    return float(next(line["totalCostUSD"] for line in reversed(lines) if line["type"] == "cost-state"))


async def test_list_shows_a_table_for_people_and_objects_for_programs(recorded: Desk) -> None:
    table = (await recorded.run("sessions", "list")).stdout
    head, row = table.splitlines()[:2]
    assert head.split() == [
        "session", "agent", "status", "activity", "took", "repository", "title", "turns", "tools", "tokens", "cost",
    ]  # fmt: skip
    assert SESSION in row
    assert "acme/shop (main)" in row
    assert f"${total():.6f}" in row
    told = [json.loads(line) for line in (await recorded.run("sessions", "list", "--json")).stdout.splitlines()]
    assert [(one["id"], one["repo"], one["branch"]) for one in told] == [(SESSION, "acme/shop", "main")]
    assert told[0]["cost_usd_micros"] == round(total() * 1_000_000)


async def test_list_filters_and_limits(recorded: Desk) -> None:
    events = [{"payload": hook(f"s{number}"), "id": f"s{number}", "repo": "acme/other"} for number in range(3)]
    await recorded.send("/events", json.dumps({"events": events}).encode())

    async def ids(*arguments: str) -> list[str]:
        done = await recorded.run("sessions", "list", "--json", *arguments)
        return [json.loads(line)["id"] for line in done.stdout.splitlines()]

    assert len(await ids()) == 4
    assert await ids("--repo", "acme/shop") == [SESSION]
    assert await ids("--branch", "main") == [SESSION]
    assert sorted(await ids("--repo", "acme/other")) == ["s0", "s1", "s2"]
    assert len(await ids("--limit", "2")) == 2
    assert await ids("--repo", "acme/nowhere") == []
    assert await ids("--until", "2020-01-01T00:00:00Z") == []
    assert "There are more" in (await recorded.run("sessions", "list", "--limit", "1")).stdout
    assert (await recorded.run("sessions", "list", "--repo", "acme/nowhere")).stdout == "No sessions.\n"


async def test_show_is_a_tree_with_every_source_of_cost(recorded: Desk) -> None:
    shown = (await recorded.run("sessions", "show", SESSION)).stdout
    for piece in (
        f"Session {SESSION}", "acme/shop, branch main", f"LlmSession {SESSION}", "SubagentSession ", "tokens: ", "tools: ",
        f"transcript  ${total():.6f}", "telemetry   not told", "Reconciliation: ",
    ):  # fmt: skip
        assert piece in shown, piece
    assert "items: streaming" in shown
    assert "process: " not in shown
    told = json.loads((await recorded.run("sessions", "show", SESSION, "--json")).stdout)
    assert told["session"]["id"] == SESSION
    assert told["cost"]["sources"]["transcript_usd_micros"] == round(total() * 1_000_000)
    assert told["cost"]["sources"]["telemetry_usd_micros"] is None
    assert len(told["llm_sessions"][0]["subagents"]) == 1


async def test_show_tells_the_worktree(desk: Desk) -> None:
    place = {"session_id": "s1", "worktree_path": "/work/s1", "worktree_branch": "crewkit/s1"}
    async with httpx.AsyncClient(base_url=desk.live.url) as http:
        path = f"{desk.house.ours.base}/observability/sessions"
        assert (await http.post(path, headers=desk.house.ours.headers(), json=place)).status_code == 201
    await desk.house.project()
    assert "worktree /work/s1, branch crewkit/s1, open" in (await desk.run("sessions", "show", "s1")).stdout


async def test_show_tells_what_the_process_used(desk: Desk) -> None:
    for number, (cpu, memory) in enumerate([(20.0, 100 * 2**20), (140.0, 300 * 2**20)]):
        payload = hook("s1", "ProcessMetrics", cpu_percent=cpu, memory_bytes=memory)
        await desk.send("/events", json.dumps([{"payload": payload, "id": f"m{number}"}]).encode())
    shown = (await desk.run("sessions", "show", "s1")).stdout
    assert "process: cpu 80 % (peak 140 %), memory 200 MiB (peak 300 MiB), 2 measurements" in shown
    assert "records of kinds" not in shown


async def test_show_tells_what_is_looked_for_also_where_there_was_none(desk: Desk) -> None:
    await desk.send("/events", json.dumps({"events": [{"payload": hook("s1", prompt="hi"), "id": "0"}]}).encode())
    shown = (await desk.run("sessions", "show", "s1")).stdout
    assert "1 prompt, 0 turns, 0 model calls, 0 permission requests, 0 compactions, 0 model switches, 1 run" in shown, (
        shown
    )
    assert "together" not in shown


async def test_show_adds_up_what_several_conversations_did(desk: Desk) -> None:
    events = [
        {"payload": hook(name, prompt="hi", prompt_id=f"{name}{number}"), "id": f"{name}{number}", "session_id": "work"}
        for name, count in (("s1", 1), ("s2", 2))
        for number in range(count)
    ]
    await desk.send("/events", json.dumps({"events": events}).encode())
    shown = (await desk.run("sessions", "show", "work")).stdout
    head, rest = shown.split("together, 2 conversations: ", 1)
    assert "LlmSession" not in head
    assert "3 prompts, 0 turns" in rest.split("LlmSession", 1)[0]
    assert rest.count("LlmSession") == 2


async def follow(desk: Desk, *arguments: str) -> str:
    """What `crewkit sessions tail` printed about events that were sent while it ran."""
    await desk.send("/events", json.dumps({"events": [{"payload": hook("going"), "id": "0"}]}).encode())
    following = asyncio.create_task(desk.run("sessions", "tail", *arguments))
    number = 0
    while not following.done():  # it follows from when it is connected; that moment cannot be seen from here
        number += 1
        await desk.send("/events", json.dumps({"events": [{"payload": hook("going"), "id": f"n{number}"}]}).encode())
        await asyncio.sleep(0.05)
    return (await following).stdout


@pytest.mark.parametrize("arguments", [("going", "--count", "1"), ("--count", "1"), ("going", "--count", "3")])
async def test_tail_tells_as_many_events_as_were_asked_for(desk: Desk, arguments: tuple[str, ...]) -> None:
    told = [json.loads(line) for line in (await follow(desk, *arguments, "--json")).splitlines()]
    assert [one["event"] for one in told] == ["open", *["notice"] * int(arguments[-1])]
    assert {one["data"]["session_id"] for one in told[1:]} == {"going"}


async def test_tail_for_people_names_what_happened(desk: Desk) -> None:
    opened, happened = (await follow(desk, "going", "--count", "1")).splitlines()
    assert opened.split()[1] == "open"
    assert happened.split()[1] == "notice"
    assert "session_id=going" in happened


async def test_exit_code_one_says_what_was_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    done = await desk.run("sessions", "show", "none", check=1)
    assert "404" in done.stderr
    assert "(request " in done.stderr
    assert done.stdout == ""
    monkeypatch.setenv("CREWKIT_API_KEY", desk.house.ours.keys["ingest"])
    assert "403" in (await desk.run("sessions", "list", check=1)).stderr
    monkeypatch.setenv("CREWKIT_API_KEY", "ck_wrong")
    assert "Is CREWKIT_API_KEY right?" in (await desk.run("sessions", "list", check=1)).stderr


async def test_another_organizations_sessions_are_not_there(recorded: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREWKIT_API_KEY", recorded.house.theirs.keys["all"])
    monkeypatch.setenv("CREWKIT_ORGANIZATION", "other")
    assert (await recorded.run("sessions", "list", "--json")).stdout == ""
    assert "404" in (await recorded.run("sessions", "show", SESSION, check=1)).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--limit", "0"),
        ("list", "--since", "soon"),
        ("list", "--nothing"),
        ("show",),
        ("tail", "x", "--count", "0"),
    ],
)
def test_exit_code_two_is_a_wrong_command_line(arguments: tuple[str, ...]) -> None:
    assert "Usage: " in crewkit("sessions", *arguments, check=2).stderr


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("show", "x"), ("tail",)])
def test_exit_code_three_is_a_service_that_cannot_be_reached(
    paths: ClientDir, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    assert not Path(paths.connection).exists()
    assert "No crewkit service is known" in crewkit("sessions", *arguments, check=3).stderr
    monkeypatch.setenv("CREWKIT_URL", "http://127.0.0.1:9")
    done = crewkit("sessions", *arguments, check=3)
    assert "Cannot reach crewkit at http://127.0.0.1:9" in done.stderr
    assert done.stdout == ""


async def test_show_tells_what_a_model_wrote(recorded: Desk) -> None:
    owner = recorded.house.ours.owner_id
    said = Written(
        summary="Quick and clean.",
        coaching_tips=[CoachingTip("Test first", "Run one test.")],
        recommendations=[Action("Name the commands", "Write them down.", "high")],
        efficiency=[Assessment("retry_rate", "good", "No retries.")],
    )
    event = msgspec.structs.replace(
        written(5, 1), session_id=SESSION, person_id=owner, text=Sealed(owner, msgspec.json.encode(said).decode())
    )
    await record_summary(recorded.house.store, recorded.house.ours.org_id, event, causation_id=owner)
    await recorded.house.project()
    shown = (await recorded.run("sessions", "show", SESSION)).stdout
    for text in (event.model, "Quick and clean.", "Tip: Test first.", "To do (high): Name", "retry_rate: good."):
        assert text in shown
