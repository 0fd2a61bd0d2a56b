"""`crewkit up` on a real machine: one start, every kind of death, no process left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from workers.local.instance import Instance, read_instance, supervisor_of, write_instance
from workers.local.nats import Nats
from workers.serve import health

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("machine")]

LAUNCHER = str(Path(__file__).parents[2] / "crewkit.py")
START_S = 120


def crewkit(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CREWKIT_")}
    return subprocess.run(
        [sys.executable, "-I", LAUNCHER, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=START_S,
        env=clean | env,
        cwd="/",
    )


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process that belongs to the data directory: named on its command line, in its environment, or a child of one."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            mine = str(folder) in words or process.environ().get("CREWKIT_DATA_DIR") == str(folder)
            if mine and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                for each in (process, *process.children(recursive=True)):
                    found[each.pid] = each
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return list(found.values())


def until(condition: Callable[[], object], what: str, wait_s: float = 60) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def well(folder: Path, pids_differ_from: dict[str, int] | None = None) -> Instance | None:
    """The instance, when every process runs and the service says that its parts answer."""
    found = read_instance(folder)
    if found is None or len(found.pids) < 7 or not all(psutil.pid_exists(pid) for pid in found.pids.values()):
        return None
    if pids_differ_from is not None and any(found.pids[name] == pid for name, pid in pids_differ_from.items()):
        return None
    report = health("127.0.0.1", int(found.url.rpartition(":")[2])) or {}
    parts: dict[str, Any] = report.get("components", {})
    return found if all(parts.get(name, {}).get("status") == "ok" for name in ("database", "nats")) else None


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A data directory that servers under another account may enter; what still runs on it at the end is killed."""
    root = Path(tempfile.mkdtemp(prefix="crewkit-up-"))
    root.chmod(0o711)
    yield root / "data"
    for process in processes_of(root / "data"):
        process.kill()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def running(folder: Path) -> Instance:
    if supervisor_of(folder) is None:
        done = crewkit("up", "--data-dir", str(folder), "--port", "0", "--detach")
        assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: well(folder), "not well")
    found = read_instance(folder)
    assert found is not None
    return found


def test_up_says_where_it_is_and_keeps_its_secrets(folder: Path, running: Instance) -> None:
    assert running.organization == "default"
    assert running.api_key.startswith("ck_")
    assert set(running.pids) == {
        "supervisor",
        "postgres",
        "nats",
        "api",
        "relay",
        "projector",
        "scheduler",
        "sealer",
        "reactor",
        "analytics",
    }
    for file in (folder / "crewkit.json", *(folder / "keys").iterdir()):
        assert file.stat().st_mode & 0o777 == 0o600, file
    assert "crewkit:" not in running.database_url
    logs = "".join(log.read_text(errors="replace") for log in (folder / "logs").iterdir())
    assert running.api_key not in logs
    assert (folder / "keys" / "postgres.password").read_text().strip() not in logs


def test_a_second_up_says_where_the_first_one_is(folder: Path, running: Instance) -> None:
    done = crewkit("up", "--data-dir", str(folder))
    assert done.returncode == 1
    assert running.url in done.stderr
    assert str(running.pids["supervisor"]) in done.stderr


def test_status_and_doctor_see_it(folder: Path, running: Instance) -> None:
    shown = crewkit("status", "--json", "--data-dir", str(folder))
    found = json.loads(shown.stdout)
    assert found["url"] == running.url
    assert {one["name"] for one in found["processes"]} == set(running.pids)
    assert running.api_key not in shown.stdout
    looked = json.loads(crewkit("doctor", "--json", "--data-dir", str(folder)).stdout)
    port = next(one["message"] for one in looked if one["check"] == "port")
    assert port == f"{running.url.removeprefix('http://')}, the instance's own"
    problems = [one for one in looked if one["status"] == "problem" and not one["check"].startswith("projection")]
    assert problems == []
    assert crewkit("migrate", "--data-dir", str(folder)).stdout == "the schema is up to date\n"
    listed = crewkit("projections", "status", "--json", "--data-dir", str(folder))
    assert "sessions" in {one["name"] for one in json.loads(listed.stdout)}
    assert crewkit("rebuild", "nonsense", "--data-dir", str(folder)).returncode == 1


def test_shells_reach_the_servers_behind_their_passwords(folder: Path, running: Instance) -> None:
    asked = crewkit("db-shell", "--data-dir", str(folder), "-At", "-c", "SELECT current_database()")
    assert (asked.returncode, asked.stdout) == (0, "crewkit\n"), asked.stderr
    assert running.database_url  # what is shown to people holds no password, so the shells must find it elsewhere
    words = [sys.executable, "-I", LAUNCHER, "nats-shell", "--data-dir", str(folder), "--count", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd="/") as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("JetStream: 1 stream, ")
        hook = {"hook_event_name": "Stop", "session_id": "watched"}
        answer = httpx.post(f"{running.url}/hooks/claude", json=hook, headers={"X-API-Key": running.api_key})
        assert answer.status_code == 200
        assert watching.stdout.readline().startswith("crewkit.")
        assert watching.wait(START_S) == 0


def test_a_nats_server_that_does_not_answer_is_exit_code_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    nowhere = {"CREWKIT_NATS_URL": f"nats://127.0.0.1:{closed}", "CREWKIT_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    done = crewkit("nats-shell", "--data-dir", str(tmp_path), **nowhere)
    assert (done.returncode, done.stderr) == (3, "Error: NATS cannot be reached: no answer\n")


def test_analytics_files_are_closed_to_other_people(folder: Path, running: Instance) -> None:
    assert running.pids["analytics"]
    until((folder / "analytics").exists, "no analytics folder")
    assert (folder / "analytics").stat().st_mode & 0o077 == 0


@pytest.mark.crash
@pytest.mark.parametrize(
    "name", ["api", "relay", "projector", "scheduler", "sealer", "reactor", "analytics", "nats", "postgres"]
)
def test_a_killed_process_comes_back(folder: Path, running: Instance, name: str) -> None:
    os.kill(running.pids[name], signal.SIGKILL)
    until(lambda: well(folder, {name: running.pids[name]}), f"{name} did not come back")
    after = read_instance(folder)
    assert after is not None
    assert (after.url, after.api_key) == (running.url, running.api_key)


@pytest.mark.crash
def test_after_the_supervisor_is_killed_everything_starts_again(folder: Path, running: Instance) -> None:
    os.kill(running.pids["supervisor"], signal.SIGKILL)
    done = crewkit("up", "--data-dir", str(folder), "--port", running.url.rpartition(":")[2], "--detach")
    assert done.returncode == 0, done.stdout + done.stderr
    after = read_instance(folder)
    assert after is not None
    assert after.api_key == running.api_key
    assert after.pids["postgres"] != running.pids["postgres"]
    old = set(running.pids.values())
    assert not old & {process.pid for process in processes_of(folder)}


def test_a_lost_key_is_replaced(folder: Path, running: Instance) -> None:
    assert crewkit("down", "--data-dir", str(folder)).returncode == 0
    (folder / "crewkit.json").unlink()
    done = crewkit("up", "--data-dir", str(folder), "--port", "0", "--detach")
    assert done.returncode == 0, done.stdout + done.stderr
    after = read_instance(folder)
    assert after is not None
    assert after.api_key not in {"", running.api_key}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_process(folder: Path, running: Instance, how: signal.Signals) -> None:
    os.kill(running.pids["supervisor"], how)
    until(lambda: not processes_of(folder), "processes are left")
    after = read_instance(folder)
    assert after is not None
    assert after.pids == {}
    assert after.api_key == running.api_key
    assert crewkit("status", "--data-dir", str(folder)).returncode == 3


def test_down_stops_everything_and_may_be_repeated(folder: Path, running: Instance) -> None:
    done = crewkit("down", "--data-dir", str(folder))
    assert done.returncode == 0
    assert processes_of(folder) == []
    again = crewkit("down", "--data-dir", str(folder))
    assert (again.returncode, again.stdout) == (0, f"nothing runs on {folder}\n")


def test_a_busy_port_names_its_owner(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = crewkit("up", "--data-dir", str(folder), "--port", port)
    assert done.returncode == 1
    assert f"port {port} is taken by process {os.getpid()}" in done.stderr
    assert "--next-free-port" in done.stderr
    assert processes_of(folder) == []


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["", "detach"])
def test_a_start_that_is_refused_leaves_nothing_behind(tmp_path: Path, detach: list[str]) -> None:
    new = tmp_path / "new"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = crewkit("up", "--data-dir", str(new), "--port", str(taken.getsockname()[1]), *detach)
    nowhere = crewkit("up", "--data-dir", str(new), "--host", "nonsense.invalid", "--port", "0", *detach)
    assert (busy.returncode, nowhere.returncode) == (1, 1)
    assert "is taken by process" in busy.stderr
    assert nowhere.stderr.startswith("Error: cannot listen on nonsense.invalid:0: ")
    assert not new.exists()


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["", "detach"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, detach: list[str]) -> None:
    (tmp_path / "file").write_text("")
    done = crewkit("up", "--data-dir", str(tmp_path / "file" / "data"), "--port", "0", *detach)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: the data directory {tmp_path / 'file' / 'data'} cannot be used: ")


def test_the_doctor_looks_at_the_port_that_will_be_used(tmp_path: Path) -> None:
    def said(*words: str, **env: str) -> dict[str, str]:
        done = crewkit("doctor", "--json", "--data-dir", str(tmp_path / "new"), *words, **env)
        found: dict[str, str] = next(one for one in json.loads(done.stdout) if one["check"] == "port")
        return found

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for found in (said("--port", port), said(CREWKIT_PORT=port)):
            assert found["status"] == "warning"
            assert found["message"].startswith(f"{port} is taken by process {os.getpid()}")
    assert said("--port", port)["message"] == f"127.0.0.1:{port} is free"
    assert said("--host", "nonsense.invalid")["status"] == "problem"


def test_the_doctor_remembers_where_clients_were_sent(tmp_path: Path) -> None:
    write_instance(tmp_path, Instance(url="http://127.0.0.1:8123", api_key="ck_x", organization="default"))
    done = crewkit("doctor", "--data-dir", str(tmp_path), "--port", "0")
    assert "the last start on this data directory was at port 8123" in done.stdout
    assert "crewkit up --port 8123" in done.stdout


def test_without_a_database_commands_say_what_to_do(tmp_path: Path) -> None:
    for words in (("migrate",), ("projections", "status"), ("rebuild", "sessions")):
        done = crewkit(*words, "--data-dir", str(tmp_path / "none"))
        assert done.returncode == 3
        assert "set CREWKIT_DATABASE_URL, or start one with `crewkit up" in done.stderr


def test_a_database_that_does_not_answer_is_exit_code_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    done = crewkit("migrate", CREWKIT_DATABASE_URL=f"postgresql://me:hunter2@127.0.0.1:{closed}/x")
    assert done.returncode == 3
    assert "cannot be reached" in done.stderr
    assert "hunter2" not in done.stderr


def test_servers_of_ones_own_take_the_place_of_the_embedded_ones(
    service_folder: Path, tmp_path: Path, postgres_url: str
) -> None:
    """Given a Postgres and a NATS that is away, when crewkit starts, then it serves, and carries on when NATS is there."""
    data, server = tmp_path / "data", Nats(service_folder / "own-nats", "its-password")
    server.prepare()
    own = {"CREWKIT_DATABASE_URL": postgres_url, "CREWKIT_NATS_URL": server.url}
    done = crewkit("up", "--data-dir", str(data), "--port", "0", "--detach", **own)
    try:
        assert done.returncode == 0, done.stderr
        assert "NATS does not answer at nats://crewkit@127.0.0.1:" in done.stdout
        found = read_instance(data)
        assert found is not None
        assert not {"postgres", "nats"} & found.pids.keys()
        assert (found.embedded, (data / "postgres").exists(), (data / "nats").exists()) == ([], False, False)
        told = "".join(file.read_text(errors="replace") for file in data.rglob("*.json"))
        assert "test-password" not in told
        assert "its-password" not in told
        hook = {"hook_event_name": "Stop", "session_id": "without-nats"}
        answer = httpx.post(f"{found.url}/hooks/claude", json=hook, headers={"X-API-Key": found.api_key})
        assert answer.status_code == 200
        shown = f"{found.url}/api/v1/default/sessions/without-nats"
        head = {"X-API-Key": found.api_key, "Crewkit-After": answer.headers["Crewkit-Position"]}
        assert httpx.get(shown, headers=head, timeout=30).status_code == 200
        looked = {one["check"]: one for one in json.loads(crewkit("doctor", "--json", "--data-dir", str(data)).stdout)}
        assert looked["database"]["status"] == "ok"  # its password is not ours to know
        server.start(tmp_path / "nats.log")

        def carried() -> bool:
            parts = (health("127.0.0.1", int(found.url.rpartition(":")[2])) or {}).get("components", {})
            return parts["nats"]["status"] == "ok" and parts["relay"]["details"]["lag"] == 0

        until(carried, "what was stored without NATS was not published")
    finally:
        crewkit("down", "--data-dir", str(data))
        server.stop()
    assert processes_of(data) == []


def test_wrong_settings_and_words_are_named(tmp_path: Path) -> None:
    done = crewkit("status", CREWKIT_PORT="many", CREWKIT_DATA_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "CREWKIT_PORT" in done.stderr
    assert crewkit("nonsense").returncode == 2
    assert crewkit("up", "--port", "70000").returncode == 2
    shown = crewkit("--help")
    assert shown.returncode == 0
    assert all(
        f"\n  {name} " in shown.stdout for name in ("up", "down", "status", "doctor", "serve", "worker", "migrate")
    )
    assert "prepare" not in shown.stdout


def test_the_doctor_finds_secrets_that_others_can_read(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "master.key").write_text("x")
    (tmp_path / "keys" / "master.key").chmod(0o644)
    done = crewkit("doctor", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert f"chmod 600 {tmp_path / 'keys' / 'master.key'}" in done.stdout
