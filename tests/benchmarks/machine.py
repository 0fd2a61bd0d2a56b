"""Processes of the bench: started so that they cannot outlive it, and how much memory a tree of them takes."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from workers.local.process import die_with_parent

STOP_MAX_S = 30.0
ROOT = Path(__file__).resolve().parents[2]


def clean_environment(**extra: str) -> dict[str, str]:
    """The caller's environment without settings that would change what is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CREWKIT_", "PG", "PYTHON"))}
    return kept | {"PYTHONPATH": str(ROOT)} | extra


def spawn(command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process in its own session that ends (SIGTERM) when the bench ends, however the bench ends."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=dict(env) if env is not None else clean_environment(),
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509  it only calls prctl
        )


def stop(process: subprocess.Popen[bytes], wait_s: float = STOP_MAX_S) -> float:
    """SIGTERM, wait, then SIGKILL its whole group.  Returns the seconds it took."""
    started = time.perf_counter()
    children = descendants(process.pid) if process.poll() is None else []
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for child in children:  # what a killed parent left behind; psutil checks that the pid was not reused
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    return time.perf_counter() - started


def run_json(command: Sequence[str | Path], plan: str, *, timeout_s: float) -> bytes:
    """Run a helper program to its end and return the last line it printed.

    The plan goes to its standard input: it may hold a key, and command lines are visible to everybody.

    Raises:
        RuntimeError: it failed; the message ends with what it said.
    """
    words = [str(word) for word in command]
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=clean_environment(),
        start_new_session=True,
        preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509  it only calls prctl
    )
    try:
        out, err = process.communicate(plan.encode(), timeout=timeout_s)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    if process.returncode != 0:
        said = (err or out).decode(errors="replace")[-1500:]
        raise RuntimeError(f"{' '.join(words[:3])} ended with {process.returncode}: {said}")
    return out.strip().splitlines()[-1]


def run_module(module: str, plan: str, *, timeout_s: float) -> bytes:
    """`python -m module < plan`, answering with a JSON line."""
    return run_json([sys.executable, "-m", module], plan, timeout_s=timeout_s)


def descendants(pid: int) -> list[psutil.Process]:
    """The process and everything below it."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Memory:
    """PSS (shared pages divided among their users: adds up) and RSS (counts them each time) of processes, in MB."""

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        self.pss_mb = self.rss_mb = 0.0
        self.by_name: dict[str, float] = {}
        for process in processes:
            with contextlib.suppress(OSError, psutil.Error):
                fields = dict(
                    line.split(":", 1)
                    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
                )
                pss, rss = (int(fields[name].split()[0]) / 1024 for name in ("Pss", "Rss"))
                self.pss_mb += pss
                self.rss_mb += rss
                name = part_of(process)
                self.by_name[name] = self.by_name.get(name, 0) + pss

    def __str__(self) -> str:
        parts = sorted(self.by_name.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {size:.0f}" for name, size in parts)


def part_of(process: psutil.Process) -> str:
    """What a process of `crewkit up` is: `api`, `postgres`, `worker relay` and so on."""
    words = process.cmdline()
    name = process.name()
    if name.startswith("postgres"):
        return "postgres"
    if "crewkit" in " ".join(words):
        at = next((i for i, word in enumerate(words) if word.endswith("crewkit")), 0)
        plain = [word for word in words[at + 1 :] if word.isalpha()]
        return " ".join(plain[:2]) or name
    return name


def answers(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def describe() -> str:
    """The machine in a line."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def commit() -> str:
    """The checkout that is measured, with a mark when it has uncommitted changes outside the bench."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()

    head = git("rev-parse", "--short", "HEAD") or "unknown"
    return head + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def only_json(text: bytes) -> Any:
    """The JSON value that starts at the first bracket of a program's output."""
    import msgspec  # noqa: PLC0415  used by one row

    at = min((i for i in (text.find(b"{"), text.find(b"[")) if i >= 0), default=0)
    return msgspec.json.decode(text[at:])
