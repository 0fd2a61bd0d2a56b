"""Processes are restarted with back-off, given up only while starting, and stopped for certain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from workers import supervisor as module
from workers.local.process import is_running
from workers.supervisor import Program, StartError, Supervisor

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


def program(name: str, code: str, tmp_path: Path, **more: object) -> Program:
    return Program(name=name, command=[sys.executable, "-I", "-c", code], env={}, cwd=tmp_path, **more)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    found = Supervisor(tmp_path, lambda: None)
    watching = asyncio.create_task(found.watch())
    yield found
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
    await found.stop()


async def test_a_killed_process_comes_back(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start([program("one", "import time; time.sleep(60)", tmp_path)])
    await supervisor.settle()
    first = supervisor.identities()["one"]
    os.kill(first.pid, signal.SIGKILL)
    await until(lambda: supervisor.identities().get("one", first) != first)
    assert supervisor.restarts() == {"one": 1}
    assert not is_running(first)


async def test_a_process_that_keeps_ending_while_starting_is_given_up(supervisor: Supervisor, tmp_path: Path) -> None:
    failing = program("bad", "raise SystemExit('no such thing')", tmp_path, is_ready=lambda: False)
    with pytest.raises(StartError, match=r"bad keeps ending \(code 1\)(.|\n)*no such thing"):
        await supervisor.start([failing])


async def test_after_the_start_a_process_is_never_given_up(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_MAX_S", 0.01)
    monkeypatch.setattr(module, "EARLY_ENDS_MAX", 1)
    marker = tmp_path / "go"
    code = f"import os, sys, time; os.path.exists({str(marker)!r}) or time.sleep(60); sys.exit(3)"
    await supervisor.start([program("flaky", code, tmp_path)])
    await supervisor.settle()
    marker.touch()
    os.kill(supervisor.identities()["flaky"].pid, signal.SIGKILL)
    await until(lambda: supervisor.restarts()["flaky"] > 3)


async def test_waiting_for_a_process_that_is_never_ready_ends(supervisor: Supervisor, tmp_path: Path) -> None:
    slow = program("slow", "import time; time.sleep(60)", tmp_path, is_ready=lambda: False, ready_max_s=0.1)
    with pytest.raises(StartError, match="slow was not ready after"):
        await supervisor.start([slow])


async def test_a_deaf_process_is_killed_in_the_end(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start([program("deaf", DEAF, tmp_path, stop_max_s=0.2)])
    await until(lambda: "deaf" in (tmp_path / "deaf.log").read_text())
    identity = supervisor.identities()["deaf"]
    await supervisor.stop()
    assert not is_running(identity)
    assert supervisor.identities() == {}


async def test_an_error_tells_nothing_of_earlier_runs(supervisor: Supervisor, tmp_path: Path) -> None:
    (tmp_path / "step.log").write_text("said in an earlier run\n")
    with pytest.raises(StartError) as told:
        await supervisor.run_once(program("step", "raise SystemExit('said now')", tmp_path), 20)
    assert str(told.value) == "said now"


async def test_a_step_that_fails_says_why(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.run_once(program("fine", "print('fine')", tmp_path), 20)
    with pytest.raises(StartError, match="the reason"):
        await supervisor.run_once(program("step", "raise SystemExit('the reason')", tmp_path), 20)
    with pytest.raises(StartError, match="longer than"):
        await supervisor.run_once(program("endless", "import time; time.sleep(60)", tmp_path), 0.1)
