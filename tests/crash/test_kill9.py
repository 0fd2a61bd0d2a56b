"""kill -9 of every part, at random points, under load: nothing acknowledged is lost, nothing is doubled, read models are right.

The system is a real `crewkit up`.  Writers repeat a batch until it is acknowledged, as the flusher does.  `CREWKIT_CRASH_ROUNDS`
(default 2) says how often each part is killed, `CREWKIT_CRASH_SEED` fixes the random points.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from eventstore.database import prepare_connection
from eventstore.settings import load
from tests.crash.truth import establish
from tests.eventstore.proof_truth import establish as establish_proof
from workers.local.instance import read_processes
from workers.local.places import complete
from workers.local.process import Identity

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-I", str(ROOT / "crewkit.py")]
ROUNDS = int(os.environ.get("CREWKIT_CRASH_ROUNDS", "2"))
SEED = int(os.environ.get("CREWKIT_CRASH_SEED", "20261120"))
STEP_TIMEOUT_S = 120
WRITERS = 4
SESSIONS = 6
BATCH_EVENTS = 10
HOOK_CALLS = 300
VICTIMS = ("api", "relay", "projector", "sealer", "reactor", "analytics", "scheduler", "nats", "postgres")

pytestmark = [pytest.mark.crash, pytest.mark.integration]


@pytest.fixture(scope="module")
def env(service_folder: Path) -> Iterator[dict[str, str]]:
    home = service_folder / "crash"
    home.mkdir(mode=0o711)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CREWKIT_", "CLAUDE"))}
    env = {**kept, "CREWKIT_DATA_DIR": str(home / "data"), "CREWKIT_HOME": str(home / "client"), "HOME": str(home)}
    env["CLAUDE_CONFIG_DIR"] = str(home / "claude")
    env["CREWKIT_SEAL_EVERY_S"] = "0.5"
    run(env, "up", "--detach", "--port", "8600", "--next-free-port")
    yield env
    run(env, "down")


def run(env: dict[str, str], *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*PROGRAM, *arguments], check=False, capture_output=True, text=True, env=env, timeout=STEP_TIMEOUT_S
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def instance(env: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(env["CREWKIT_DATA_DIR"]) / "crewkit.json").read_text())
    return found


def find(env: dict[str, str], victim: str) -> Identity | None:
    """The running process of this instance that plays the part, whatever its pid is by now."""
    return read_processes(Path(env["CREWKIT_DATA_DIR"])).running().get(victim)


async def settled(client: httpx.AsyncClient) -> None:
    """Wait until every part reports that it works again."""
    deadline = time.monotonic() + STEP_TIMEOUT_S
    last = ""
    while time.monotonic() < deadline:
        try:
            answer = await client.get("/health/ready")
            last = answer.text
            if answer.status_code == 200:
                return
        except httpx.HTTPError as error:
            last = repr(error)
        await asyncio.sleep(0.1)
    pytest.fail(f"did not recover: {last}")


def event(session: str, writer: int, number: int) -> dict[str, Any]:
    kind = ("UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolUseFailure")[number % 4]
    payload = {"session_id": session, "hook_event_name": kind, "cwd": "/home/dev/proj"}
    if kind == "UserPromptSubmit":
        payload |= {"prompt_id": f"{writer}-{number}", "prompt": f"do thing {number}"}
    else:
        payload |= {
            "prompt_id": f"{writer}-{number - number % 4}",
            "tool_use_id": f"toolu_{writer}_{number // 4}_{'f' if kind == 'PostToolUseFailure' else 'o'}",
            "tool_name": "Bash",
            "tool_input": {"command": "true"},
        }
    return {"payload": payload, "at": "2026-11-20T12:00:00Z", "id": f"{session}-{writer}-{number}"}


async def write(client: httpx.AsyncClient, path: str, writer: int, stop: asyncio.Event, acked: list[str]) -> None:
    """Send batches one after the other; each is repeated until it is acknowledged."""
    number = 0
    sessions = [f"5e55{writer:04d}-0000-4000-8000-{n:012d}" for n in range(SESSIONS)]
    while not stop.is_set():
        batch = [event(sessions[(number + n) // 40 % SESSIONS], writer, number + n) for n in range(BATCH_EVENTS)]
        number += BATCH_EVENTS
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while True:
            assert time.monotonic() < deadline, "a batch was never acknowledged"
            try:
                answer = await client.post(path, json={"events": batch})
                if answer.status_code == 202:
                    results = answer.json()["results"]
                    assert all(result["status"] in {"accepted", "duplicate"} for result in results), results
                    acked.extend(one["id"] for one in batch)
                    break
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.05)


async def test_nothing_acknowledged_is_lost_or_doubled(env: dict[str, str]) -> None:
    chance = random.Random(SEED)
    found = instance(env)
    acked: list[list[str]] = [[] for _ in range(WRITERS)]
    stop = asyncio.Event()
    headers = {"X-API-Key": found["api_key"]}
    async with httpx.AsyncClient(base_url=found["url"], headers=headers, timeout=10) as client:
        path = f"/api/v1/{found['organization']}/observability/events"
        writers = [asyncio.create_task(write(client, path, n, stop, acked[n])) for n in range(WRITERS)]
        killed: Counter[str] = Counter()
        for _ in range(ROUNDS):
            for victim in chance.sample(sorted(VICTIMS), len(VICTIMS)):
                await asyncio.sleep(chance.uniform(0.2, 1.0))
                process = find(env, victim)
                assert process is not None, f"no {victim} to kill"
                os.kill(process.pid, signal.SIGKILL)
                killed[victim] += 1
                await settled(client)
        stop.set()
        await asyncio.gather(*writers)
        assert killed == dict.fromkeys(VICTIMS, ROUNDS)

        told = sorted(one for some in acked for one in some)
        assert len(told) == len(set(told)) > 0
        await verify(env, client, told)


async def verify(env: dict[str, str], client: httpx.AsyncClient, told: list[str]) -> None:
    """The log is gapless and holds each fact once; the read models equal a fold of the log in this process."""
    found = instance(env)
    head = (await establish(env)).positions[-1]
    path = f"/api/v1/{found['organization']}/sessions"
    deadline = time.monotonic() + STEP_TIMEOUT_S
    while True:
        answer = await client.get(path, params={"limit": 100}, headers={"Crewkit-After": str(head)}, timeout=60)
        if answer.status_code != 503 or time.monotonic() > deadline:
            break
        await asyncio.sleep(float(answer.headers["Retry-After"]))
    assert answer.status_code == 200, answer.text
    await caught_up(client, head)

    truth = await establish(env)
    assert truth.positions == list(range(1, len(truth.positions) + 1))
    assert len(truth.ids) == len(set(truth.ids)), "an event stands twice in the log"
    for table, folded in truth.folded.items():
        assert truth.stored[table] == folded, f"{table} differs from an independent fold"
    assert await sealed(env) > 0
    numbers = [int(one.rsplit("-", 1)[1]) for one in told]
    assert len(truth.stored["prompt"]) == sum(1 for number in numbers if number % 4 == 0)
    assert len(truth.stored["tool_call"]) == len(
        {
            (one.rsplit("-", 1)[0], int(one.rsplit("-", 1)[1]) // 4, int(one.rsplit("-", 1)[1]) % 4 == 3)
            for one in told
            if int(one.rsplit("-", 1)[1]) % 4
        }
    )


async def caught_up(client: httpx.AsyncClient, head: int) -> None:
    """Every reader of the log, whatever it does with it, has come to `head` and nothing it began was given up."""
    deadline = time.monotonic() + STEP_TIMEOUT_S
    while True:
        parts = (await client.get("/health")).json()["components"]
        behind = {name for name, part in parts.items() if part.get("details", {}).get("position", head) < head}
        if not behind and {"relay", "sealer", "reactor", "analytics"} <= parts.keys():
            break
        assert time.monotonic() < deadline, f"not at {head}: {behind or parts.keys()}"
        await asyncio.sleep(0.1)
    assert {name: part for name, part in parts.items() if part["status"] != "ok"} == {}


async def sealed(env: dict[str, str]) -> int:
    """Every checkpoint says the truth about the log; how many events they cover."""
    connection = await asyncpg.connect(complete(load(env)).database_url)
    await prepare_connection(connection)
    try:
        return await establish_proof(connection)
    finally:
        await connection.close()


def kill_flusher(client_home: Path) -> bool:
    """Kill -9 of the flusher that a hook started, if one runs now."""
    try:
        os.kill(int((client_home / "spool" / "flusher").read_text()), signal.SIGKILL)
    except (OSError, ValueError):
        return False
    return True


def test_the_flusher_may_be_killed_at_any_point(env: dict[str, str]) -> None:
    chance = random.Random(SEED)
    run(env, "init", "--scope", "user", "--yes")
    client_home = Path(env["CREWKIT_HOME"])
    session, killed = str(uuid4()), 0
    for number in range(HOOK_CALLS):
        payload = {
            "session_id": session,
            "hook_event_name": "PreToolUse",
            "prompt_id": "p",
            "tool_name": "Bash",
            "tool_use_id": f"toolu_{number}",
            "tool_input": {"command": "true"},
        }
        hook = ["sh", str(client_home / "hook.sh"), "claude"]
        subprocess.run(hook, input=json.dumps(payload).encode(), env=env, check=True, timeout=STEP_TIMEOUT_S)
        if number % 30 == 29:
            time.sleep(chance.uniform(0.2, 0.9))
            killed += kill_flusher(client_home)
    kill_flusher(client_home)
    run(env, "flush", "--once")
    assert killed > 0
    found = instance(env)
    answer = httpx.get(
        f"{found['url']}/api/v1/{found['organization']}/sessions/{session}",
        headers={"X-API-Key": found["api_key"], "Crewkit-After": str(head(found))},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["session"]["counts"]["tool_calls"] == HOOK_CALLS
    kill_flusher(client_home)


def head(found: dict[str, Any]) -> int:
    answer = httpx.get(f"{found['url']}/health", timeout=30)
    position: int = answer.json()["components"]["database"]["details"]["head"]
    return position
