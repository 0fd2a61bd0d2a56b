"""The developer's side: what a hook costs the agent, and how fast old transcripts come in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from tests.benchmarks import hooks, machine, transcripts
from tests.benchmarks.bench import Bench
from tests.benchmarks.peers.install import CCUSAGE_VERSION, ccusage
from tests.benchmarks.system import System
from tests.benchmarks.table import Hold, Result, Row, median, percentile

HOOK_EVENT = "PreToolUse"
WARMUP_CALLS = 20
FLUSH_MAX_S = 120.0
IMPORT_MAX_S = 1_800.0
PIPE_BYTES = 60_000  # a payload fits into the pipe, so writing it never waits for the child


def client_environment(system: System) -> dict[str, str]:
    """A developer's machine: a home of its own and the address of the service."""
    instance = system.instance
    return system.environment() | {
        "CREWKIT_URL": instance.url,
        "CREWKIT_API_KEY": instance.api_key,
        "CREWKIT_ORGANIZATION": instance.organization,
    }


def crewkit(system: System, *words: str | Path, timeout_s: float = FLUSH_MAX_S) -> str:
    """Run the program as a developer does.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-I", machine.ROOT / "crewkit.py", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        cwd=system.client_home,
        env=client_environment(system),
    )
    if done.returncode != 0:
        raise RuntimeError(f"crewkit {' '.join(map(str, words))} ended with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout


def installed_command(system: System) -> str:
    """The hook command that `crewkit init` wrote into the agent's settings."""
    system.client_home.mkdir(parents=True, exist_ok=True)
    crewkit(system, "init", "--agent", "claude", "--scope", "user")
    settings = json.loads((system.client_home / ".claude" / "settings.json").read_text())
    return str(settings["hooks"][HOOK_EVENT][0]["hooks"][0]["command"])


def call(command: str, payload: bytes, environment: dict[str, str]) -> float:
    """Run a hook as an agent does: `sh -c <command>`, payload on standard input.  Returns milliseconds until it ended."""
    assert len(payload) < PIPE_BYTES
    reader, writer = os.pipe()
    os.write(writer, payload)
    os.close(writer)
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    try:
        started = time.perf_counter()
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", command], environment, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        took = (time.perf_counter() - started) * 1000
    finally:
        os.close(reader)
        os.close(null)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"a hook must always exit 0; {command!r} gave {status}")
    return took


def stop_flusher(system: System) -> None:
    """The first hook started a flusher that detached itself; it must not outlive the bench."""
    try:
        flusher = psutil.Process(int((system.client_home / "spool" / "flusher").read_text().split()[0]))
        if "flush" in flusher.cmdline():
            flusher.terminate()
            flusher.wait(machine.STOP_MAX_S)
    except (OSError, ValueError, IndexError, psutil.Error):
        return  # there is none, or it has ended


def hook(bench: Bench) -> Result:
    """Row 7: spawn to exit, alternating call by call, the flusher at work beside it."""
    system = System(bench, "hook")
    bench.cleanup.callback(stop_flusher, system)
    system.start()
    command = installed_command(system)
    environment = client_environment(system)
    peer = f"cat >> {system.client_home / 'peer.log'}"
    calls = 200 if bench.quick else 500
    script = hooks.script()
    before = system.stored()
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(WARMUP_CALLS + calls):
        text = script[2 + number % (len(script) - 3)]
        payload = hooks.fill(text.encode(), 1 + number // 1_000, number, int(time.time()))
        mine, other = call(command, payload, environment), call(peer, payload, environment)
        if number >= WARMUP_CALLS:
            ours.append(mine)
            theirs.append(other)
    crewkit(system, "flush")
    system.verify(before, WARMUP_CALLS + calls)
    stop_flusher(system)
    system.stop()
    ours.sort()
    theirs.sort()
    return Result(
        value=percentile(ours, 0.5),
        unit="ms",
        peer=percentile(theirs, 0.5),
        p50_ms=percentile(ours, 0.5),
        p99_ms=percentile(ours, 0.99),
        note=f"{calls} calls each, alternating; the command `crewkit init` installed, run by `sh -c` with the payload on "
        "standard input, timed from posix_spawn to exit (the spawn itself is in both). Every call was later found in "
        f"Postgres. The peer keeps no file per call, no time, no id and ships nothing (its p99 {percentile(theirs, 0.99):.1f} ms).",
    )


def scan(command: list[str], corpus: transcripts.Corpus) -> tuple[float, dict[str, int]]:
    """Seconds ccusage needs for the corpus, and the token totals it found."""
    environment = machine.clean_environment(CLAUDE_CONFIG_DIR=str(corpus.folder))
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "claude", "monthly", "--offline", "--json"], capture_output=True, check=True, env=environment
    )
    took = time.perf_counter() - started
    totals: dict[str, Any] = machine.only_json(done.stdout)["totals"]
    names = {
        "input": "inputTokens",
        "output": "outputTokens",
        "read": "cacheReadTokens",
        "write": "cacheCreationTokens",
    }
    return took, {ours: int(totals[theirs]) for ours, theirs in names.items()}


async def token_totals(connection: asyncpg.Connection[Any]) -> dict[str, int]:
    """What the read model says all sessions used."""
    row = await connection.fetchrow(TOKENS)
    assert row is not None
    return {name: int(row[name] or 0) for name in ("input", "output", "read", "write")}


TOKENS = """
SELECT sum(input_tokens) AS input, sum(output_tokens) AS output, sum(cache_read_tokens) AS read,
    sum(cache_write_5m_tokens + cache_write_1h_tokens) AS write FROM crewkit.model_call
"""


def transcripts_row(bench: Bench) -> Result:
    """Row 8: ours reads, redacts, posts, seals and stores every line; ccusage adds numbers up."""
    command = ccusage()
    system = System(bench, "import")
    system.start()
    system.client_home.mkdir(parents=True, exist_ok=True)
    files = 1_000 if bench.quick else 3_000
    rounds = 1 if bench.quick else bench.rounds
    ours: list[float] = []
    theirs: list[float] = []
    late: list[float] = []
    memory = 0.0
    facts = 0
    corpus: transcripts.Corpus | None = None
    for number in range(rounds):
        corpus = transcripts.write(bench.path("transcripts"), files, seed=number + 1)
        scan(command, corpus)  # both sides read from the page cache
        scans = [scan(command, corpus)[0] for _ in range(2)]
        before, stored = system.query(token_totals), system.stored()
        started = time.perf_counter()
        crewkit(system, "import", corpus.folder / "projects", timeout_s=IMPORT_MAX_S)
        ours.append(time.perf_counter() - started)
        memory = max(memory, system.memory().pss_mb)
        late.append(system.catch_up())
        took, expected = scan(command, corpus)
        theirs.append(median([*scans, took]))
        facts = system.stored() - stored
        after = system.query(token_totals)
        found = {name: after[name] - before[name] for name in after}
        if found != expected:
            raise RuntimeError(f"tokens differ: we found {found}, ccusage {expected}")
        bench.say(f"round {number + 1}/{rounds}: import {ours[-1]:.1f} s, ccusage {theirs[-1]:.2f} s")
        shutil.rmtree(corpus.folder)
    system.stop()
    assert corpus is not None
    value = median(ours)
    return Result(
        value=value,
        unit="s",
        peer=median(theirs),
        memory_mb=memory,
        note=f"{corpus.files} files, {corpus.lines:,} lines, {corpus.size / 1e6:.0f} MB"
        f"{' (--quick; the full row takes 3,000 files)' if bench.quick else ''}; {corpus.size / 1e6 / value:.1f} MB/s, "
        f"{corpus.lines / value:,.0f} lines/s until the last answer, {facts:,} facts stored, read models complete {median(late):.1f} s later; token "
        f"totals equal ccusage's to the last digit. Peer: ccusage {CCUSAGE_VERSION} scans the same files and adds up "
        "usage; it stores, redacts, encrypts and deduplicates nothing for later. Files without subagents.",
    )


HOOK = Row(
    order=7,
    name="hook",
    what="the crewkit hook command as the agent sees it",
    against="sh -c 'cat >> file'",
    hold=Hold("ratio", most=2.0),
    run=hook,
)
IMPORT = Row(
    order=8,
    name="import",
    what="import of 3,000 synthetic transcripts (240 MB)",
    against="ccusage (npm) scanning the same files",
    hold=Hold("ratio", most=12.0),
    run=transcripts_row,
)
