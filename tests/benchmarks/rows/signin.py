"""People: what signing in costs beyond comparing the password, and what a token costs beyond a key."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import Any

import httpx

from tests.benchmarks import load, machine
from tests.benchmarks.bench import Bench
from tests.benchmarks.system import System
from tests.benchmarks.table import Hold, Result, Row, median

SIGN_IN_CONNECTIONS = 24  # an answer never comes before a quarter of a second: so many keep both comparers busy
READ_CONNECTIONS = 16
PASSWORD = "correct horse battery staple"
LOGIN = "/api/v1/auth/login"
MARGIN_S = 60.0


def user(system: System, number: int) -> dict[str, str]:
    """An owner of the installation's organization, made by the operator's command; what they sign in with."""
    email = f"user{number}@example.com"
    command = [sys.executable, "-m", "crewkit", "users", "create", "--email", email, "--owner", "--password-stdin"]
    subprocess.run(
        [*command, "--data-dir", str(system.folder)],
        input=f"{PASSWORD}\n",
        text=True,
        env=system.environment(),
        cwd=machine.ROOT,
        check=True,
        capture_output=True,
        timeout=MARGIN_S,
    )
    return {"email": email, "password": PASSWORD}


def post(url: str, body: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """One request; its answer."""
    answer = httpx.post(url, json=body, headers=headers, timeout=MARGIN_S).raise_for_status()
    told: dict[str, Any] = answer.json()
    return told


def sign_in(bench: Bench) -> Result:
    """Row 13: logins with a password, all workers running; the peer has the machine for itself."""
    system = System(bench, "sign-in", CREWKIT_SIGN_INS_PER_MIN="0")
    seconds = bench.seconds(8, 4)
    system.start()
    posts = [json.dumps(user(system, number)) for number in range(SIGN_IN_CONNECTIONS)]
    system.stop()

    def ours() -> load.Report:
        system.start()
        plan = system.plan(
            path=LOGIN, headers={}, events=0, posts=posts, connections=SIGN_IN_CONNECTIONS, seconds=seconds
        )
        report = bench.load(plan)
        system.catch_up()
        system.stop()
        return report

    def theirs() -> float:
        program = [sys.executable, "-m", "tests.benchmarks.peers.argon", str(seconds)]
        done = subprocess.run(
            program, cwd=machine.ROOT, check=True, capture_output=True, text=True, timeout=seconds + MARGIN_S
        )
        return float(done.stdout)

    mine, peers = bench.alternate(ours, theirs)
    return Result(
        value=median(report.rate for report in mine),
        unit="logins/s",
        peer=median(peers),
        p50_ms=median(report.p50_ms for report in mine),
        p99_ms=median(report.p99_ms for report in mine),
        note=f"{SIGN_IN_CONNECTIONS} connections, one account each: the try is counted, the password compared (argon2id, two at "
        "once), the login and its token family are stored durably, both tokens made and signed; all workers running, and the "
        "load generator on the same cores. Peer: two threads that compare a password with its hash, nothing else.",
    )


def authorized_read(bench: Bench) -> Result:
    """Row 14: the same answer to a token and to a key, in turns, from the same running system."""
    system = System(bench, "authorized-read")
    seconds = bench.seconds(8, 4)
    system.start()
    instance = system.instance
    pair = post(f"{instance.url}{LOGIN}", user(system, 0))
    session_id = str(uuid.uuid4())
    told = {"session_id": session_id, "hook_event_name": "SessionStart", "cwd": "/work", "source": "startup"}
    base = f"/api/v1/{instance.organization}"
    post(f"{instance.url}{base}/observability/events", [told], {"X-API-Key": instance.api_key})
    system.catch_up()
    path = f"{base}/sessions/{session_id}"

    def run(headers: dict[str, str]) -> load.Report:
        plan = system.plan(path=path, headers=headers, events=0, connections=READ_CONNECTIONS, seconds=seconds)
        return bench.load(plan)

    mine, peers = bench.alternate(
        lambda: run({"Authorization": f"Bearer {pair['access_token']}"}), lambda: run({"X-API-Key": instance.api_key})
    )
    system.stop()
    return Result(
        value=median(report.rate for report in mine),
        unit="requests/s",
        peer=median(report.rate for report in peers),
        p50_ms=median(report.p50_ms for report in mine),
        p99_ms=median(report.p99_ms for report in mine),
        note=f"{READ_CONNECTIONS} connections, GET of one session. The token's signature, whether its login goes on and the user's "
        "permission in the organization are checked on every request, from answers at most 5 s old; the key's hash likewise "
        f"(p99 {median(report.p99_ms for report in peers):.0f} ms).",
    )


SIGN_IN = Row(
    order=13,
    name="sign-in",
    what="logins with a password through HTTP, stored durably, all workers running",
    against="argon2id comparing the same password in two threads, nothing else running",
    hold=Hold("ratio", least=0.5),
    run=sign_in,
)
AUTHORIZED_READ = Row(
    order=14,
    name="authorized-read",
    what="GET of a session with an access token",
    against="the same GET with an API key",
    hold=Hold("ratio", least=0.85),
    run=authorized_read,
)
