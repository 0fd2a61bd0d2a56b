"""The transcript of an ended session arrives whole, though agents write its last line after they said it was over."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cli.capture.config import Config, save
from cli.capture.paths import ClientDir
from cli.capture.sweep import LATE_S, QUIET_S, SETTLE_MAX_S, Sweep, Sweeps, settled
from cli.capture.transcripts import total_is_told
from tests.cli.conftest import PROGRAM, Service, crewkit

SESSION = "0f0e0d0c-0b0a-4908-8706-050403020100"
LINE = {"type": "user", "uuid": "u1", "sessionId": SESSION, "timestamp": "2026-11-20T21:00:00Z", "cwd": "/x"}
TOTAL = {
    "type": "cost-state",
    "sessionId": SESSION,
    "totalCostUSD": 0.25,
    "totalDuration": 5,
    "startTime": 1_795_209_184_028,
}


@pytest.fixture
def env(paths: ClientDir, service: Service, monkeypatch: pytest.MonkeyPatch) -> ClientDir:
    connection = service.connection()
    for name in ("url", "api_key", "organization"):
        monkeypatch.setenv(f"CREWKIT_{name.upper()}", getattr(connection, name))
    paths.beat.unlink()
    save(paths, Config(identity=False))
    return paths


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    path = tmp_path / "projects" / f"{SESSION}.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(LINE) + "\n")
    return path


def tell(env: ClientDir, transcript: Path, kind: str, number: int = 1) -> None:
    """A hook's capture, made at once."""
    told = {
        "session_id": SESSION,
        "hook_event_name": kind,
        "transcript_path": str(transcript),
        "prompt_id": str(number),
    }
    fresh = env.home / "fresh"
    fresh.write_text(json.dumps(told))
    fresh.rename(env.incoming / f"claude.{4_000_000 + number}")


def append(transcript: Path, record: dict[str, Any]) -> None:
    with transcript.open("a") as file:
        file.write(json.dumps(record) + "\n")


def kinds(service: Service) -> list[str]:
    return [item["type"] for item in service.items.get(SESSION, [])]


def test_a_flush_waits_for_the_last_line_of_an_ended_session(
    env: ClientDir, service: Service, transcript: Path
) -> None:
    tell(env, transcript, "SessionEnd")
    late = threading.Timer(QUIET_S / 2, append, (transcript, TOTAL))
    late.start()
    crewkit("flush", "--once")
    late.join()
    assert kinds(service) == ["user", "cost-state"]
    assert Sweeps(env).waiting() is False


def test_a_flush_waits_for_the_flusher_in_the_background_to_read_it(
    env: ClientDir, service: Service, transcript: Path
) -> None:
    process = subprocess.Popen([*PROGRAM, "flush", "--background"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while not env.beat.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        tell(env, transcript, "SessionEnd")
        while not service.acknowledged:  # the capture is gone; all that is left is the transcript
            assert time.monotonic() < deadline
            time.sleep(0.02)
        late = threading.Timer(QUIET_S / 2, append, (transcript, TOTAL))
        late.start()
        assert "background" in crewkit("flush", "--once").stdout
        late.join()
        assert kinds(service) == ["user", "cost-state"]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_when_the_flusher_in_the_background_dies_the_waiting_one_takes_over(
    env: ClientDir, service: Service, transcript: Path
) -> None:
    process = subprocess.Popen([*PROGRAM, "flush", "--background"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not env.beat.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    tell(env, transcript, "SessionEnd")
    while not service.acknowledged:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    waiting = subprocess.Popen([*PROGRAM, "flush", "--once"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not env.wake.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=30)
    append(transcript, TOTAL)
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert b"sent" in out
    assert kinds(service) == ["user", "cost-state"]


def test_an_agent_without_a_total_is_read_when_it_is_quiet_and_once_more_later(
    env: ClientDir, service: Service, transcript: Path
) -> None:
    tell(env, transcript, "SessionEnd")
    crewkit("flush", "--once")
    assert kinds(service) == ["user"]
    assert Sweeps(env).waiting()  # a second look is planned, and no flush waits for it
    assert not Sweeps(env).unsettled()


def test_sweeps_that_are_switched_off_are_not_waited_for(env: ClientDir, service: Service, transcript: Path) -> None:
    save(env, Config(identity=False, sweep="off"))
    tell(env, transcript, "SessionEnd")
    crewkit("flush", "--once")
    assert kinds(service) == []


def test_when_a_transcript_has_settled(transcript: Path) -> None:
    ended = 1_000_000.0
    sweep = Sweep(str(transcript), "claude", ended, ended, ended - 60, ended)

    def written(at: float) -> None:
        os.utime(transcript, (at, at))

    written(ended + 1)
    assert not settled(sweep, ended + QUIET_S)
    assert settled(sweep, ended + QUIET_S + 1)
    written(ended + SETTLE_MAX_S)
    assert settled(sweep, ended + SETTLE_MAX_S)  # nobody waits for ever
    append(transcript, TOTAL)
    written(ended + 1)
    assert settled(sweep, ended + 1)
    written(ended - 100)  # the total of an earlier run
    assert not settled(sweep, ended + 1)
    assert settled(Sweep(str(transcript), "claude", due=1.0), 2.0)  # killed: nothing more will come
    assert settled(Sweep("/nowhere", "claude", ended, ended, ended, ended), ended)
    assert LATE_S > SETTLE_MAX_S


def test_only_the_last_line_tells_the_total(transcript: Path) -> None:
    assert not total_is_told(str(transcript))
    append(transcript, TOTAL)
    assert total_is_told(str(transcript))
    append(transcript, LINE)
    assert not total_is_told(str(transcript))
    assert not total_is_told(str(transcript.with_name("missing")))
