"""The hook as agents run it: a shell script that keeps what it is given, whatever happens around it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cli.capture import spool
from cli.capture.config import Config
from cli.capture.hook_script import hook_command, hook_text
from cli.capture.paths import ClientDir
from cli.capture.spool import Intake, scan, segments
from tests.cli.conftest import call_hook

SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox") if shutil.which(shell)]


def payload(number: int, **more: Any) -> bytes:
    return json.dumps({"session_id": "s", "hook_event_name": "Stop", "prompt_id": f"p{number}", **more}).encode()


def stored(paths: ClientDir) -> list[bytes]:
    return [(paths.incoming / entry.name).read_bytes() for entry in scan(paths)]


@pytest.mark.parametrize("shell", [s for s in SHELLS if s != "busybox"])
def test_a_payload_is_kept_as_it_is_and_nothing_is_said(paths: ClientDir, shell: str) -> None:
    data = b' {"a": "\xc3\xa4 \\n $HOME `id` \\\\", "session_id": "x"}\n'
    done = call_hook(paths, data, shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert stored(paths) == [data]
    mode = (paths.incoming / scan(paths)[0].name).stat().st_mode & 0o777
    assert mode == 0o600


def test_the_script_can_also_be_run_directly_and_knows_the_agent(paths: ClientDir) -> None:
    subprocess.run(["sh", str(paths.hook), "codex"], input=payload(1), check=True, timeout=30)
    subprocess.run([str(paths.hook)], input=payload(2), check=True, timeout=30)
    call_hook(paths, payload(3), agent="codex")
    assert sorted(entry.agent for entry in scan(paths)) == ["claude", "codex", "codex"]


@pytest.mark.parametrize("shell", [s for s in SHELLS if s != "busybox"])
def test_two_hundred_hooks_at_once_lose_nothing(paths: ClientDir, shell: str) -> None:
    with ThreadPoolExecutor(24) as pool:
        done = list(pool.map(lambda n: call_hook(paths, payload(n), shell), range(200)))
    assert {(one.returncode, one.stdout, one.stderr) for one in done} == {(0, b"", b"")}
    assert sorted(stored(paths)) == sorted(payload(n) for n in range(200))


def test_payloads_of_megabytes_stay_whole(paths: ClientDir) -> None:
    big = [payload(n, text=chr(97 + n) * 3_000_000) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda data: call_hook(paths, data), big))
    assert sorted(stored(paths)) == sorted(big)


def test_a_name_that_is_taken_is_never_written_to(paths: ClientDir, tmp_path: Path) -> None:
    """Process ids come again: a hook whose name is taken takes the next one."""
    script = tmp_path / "again.sh"
    script.write_text(f'i=0; while [ $i -lt 3 ]; do ( . "{paths.hook}" ) <"{tmp_path}/in"; i=$((i + 1)); done\n')
    (tmp_path / "in").write_bytes(payload(7))
    subprocess.run(["sh", str(script)], check=True, timeout=30)
    assert stored(paths) == [payload(7)] * 3


def test_without_its_folder_it_makes_one_and_without_rights_it_is_silent(paths: ClientDir, tmp_path: Path) -> None:
    shutil.rmtree(paths.incoming)
    assert call_hook(paths, payload(1)).returncode == 0
    assert stored(paths) == [payload(1)]
    shutil.rmtree(paths.incoming)
    paths.incoming.write_text("a file where the folder should be")
    done = call_hook(paths, payload(2) * 100_000)  # more than a pipe holds: the agent must not see a broken pipe
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_on_a_full_disk_it_is_silent_and_reads_to_the_end(paths: ClientDir, tmp_path: Path) -> None:
    full = tmp_path / "hook-full.sh"
    full.write_text(hook_text(paths).replace("f=$s/incoming/$a.$$ n=0", "f=/dev/full n=0").replace("set -C", ":", 1))
    text = full.read_text().replace('while [ -e "$f" ]', 'while [ -e "$f.x" ]')
    full.write_text(text)
    read, write = os.pipe()
    process = subprocess.Popen(["sh", str(full)], stdin=read, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        pipe.write(b"x" * 1_000_000)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.parametrize("shell", [shutil.which(s) for s in SHELLS if s != "busybox"])
def test_where_no_other_program_is_found_the_shell_keeps_it_alone(
    paths: ClientDir, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    big = payload(1, text="a \\ b  c" * 20_000)
    done = call_hook(paths, big, shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert [json.loads(data) for data in stored(paths)] == [json.loads(big)]
    shutil.rmtree(paths.incoming)  # nothing can make it again: the agent must not see a broken pipe
    done = call_hook(paths, big, shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_where_the_script_is_gone_the_command_does_nothing(paths: ClientDir) -> None:
    paths.hook.unlink()
    for shell in SHELLS:
        if shell != "busybox":
            done = call_hook(paths, payload(1), shell)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_killed_in_the_middle_it_harms_no_neighbour_and_is_reported(
    paths: ClientDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_hook(paths, payload(1))
    process = subprocess.Popen(
        ["sh", "-c", hook_command(paths, "claude", shared=False)], stdin=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    process.stdin.write(payload(2)[:20])
    process.stdin.flush()
    deadline = time.monotonic() + 20
    while sum(entry.size == 20 for entry in scan(paths)) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    call_hook(paths, payload(3))
    intake = Intake(paths)
    assert intake.take(Config(identity=False), scan(paths)) == 2  # the one being written is left alone
    os.killpg(process.pid, signal.SIGKILL)
    process.stdin.close()
    process.wait(timeout=30)
    monkeypatch.setattr(spool, "IN_FLIGHT_S", 0.0)
    assert intake.take(Config(identity=False), scan(paths)) == 1
    assert scan(paths) == []
    told = [json.loads(line) for path in segments(paths) for line in path.read_bytes().splitlines()]
    assert [event["payload"]["prompt_id"] for event in told] == ["p1", "p3"]
    kept = [json.loads(line) for path in paths.rejected.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert len(kept) == 1
    assert "incomplete" in kept[0]["reason"]
    assert [path.read_bytes() for path in paths.rejected.glob("*.capture")] == [payload(2)[:20]]


def test_nothing_of_the_environment_is_recorded(paths: ClientDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_SECRET_TOKEN", "must-not-appear")
    call_hook(paths, payload(1))
    for path in paths.home.rglob("*"):
        if path.is_file():
            assert b"must-not-appear" not in path.read_bytes()


def test_a_hook_starts_one_flusher_and_none_while_one_lives(paths: ClientDir, tmp_path: Path) -> None:
    log = tmp_path / "started"
    fake = tmp_path / "flusher.sh"
    fake.write_text(f'#!/bin/sh\necho started >>"{log}"\nsleep 1\n')
    fake.chmod(0o755)
    text = hook_text(paths)
    line = next(line for line in text.splitlines() if line.strip().startswith("exec nohup"))
    program = line.split("nohup ", 1)[1].split(" flush")[0]
    paths.hook.write_text(text.replace(program, f"'{fake}'"))
    call_hook(paths, payload(0))  # the beat file says that one lives
    assert not log.exists()
    paths.beat.unlink()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: call_hook(paths, payload(n)), range(1, 60)))
    deadline = time.monotonic() + 20
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert log.read_text().count("started") == 1
    paths.starting.unlink()
    paths.beat.write_text("999999999\n")  # a flusher that was killed
    call_hook(paths, payload(99))
    while log.read_text().count("started") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_id_that_came_again_does_not_pass_for_a_flusher(paths: ClientDir, tmp_path: Path) -> None:
    log = tmp_path / "started"
    text = hook_text(paths)
    line = next(line for line in text.splitlines() if line.strip().startswith("exec nohup"))
    program = line.split("nohup ", 1)[1].split(" flush")[0]
    fake = tmp_path / "flusher.sh"
    fake.write_text(f'#!/bin/sh\necho started >>"{log}"\n')
    fake.chmod(0o755)
    paths.hook.write_text(text.replace(program, f"'{fake}'"))
    paths.beat.write_text(f"{os.getpid()}\n")  # lives, but is no flusher any more: its time is over
    os.utime(paths.beat, (1_000_000_000, 1_000_000_000))
    call_hook(paths, payload(1))
    deadline = time.monotonic() + 20
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
