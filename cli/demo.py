"""`crewkit demo`: the main job on recorded sessions, through the same doors that a developer's machine uses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import httpx

STEP_TIMEOUT_S = 120
RECORDINGS = Path(__file__).resolve().parent.parent / "tests" / "recordings"
PROGRAM = [sys.executable, "-I", str(Path(__file__).resolve().parent.parent / "crewkit.py")]


def _crewkit(*arguments: str, env: dict[str, str], quiet: bool = True) -> str:
    """Run our own program as a user would.

    Raises:
        click.ClickException: it failed; the message carries what it said.
    """
    done = subprocess.run(
        [*PROGRAM, *arguments], check=False, capture_output=True, text=True, env=env, timeout=STEP_TIMEOUT_S
    )
    if done.returncode:
        raise click.ClickException(f"crewkit {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    if not quiet:
        click.echo(done.stdout, nl=False)
    return done.stdout


@contextmanager
def _running(data_dir: Path, port: int, env: dict[str, str]) -> Generator[dict[str, Any]]:
    """The instance of `data_dir`: the one that runs already, else one that is started here and stopped at the end."""
    marker = data_dir / "crewkit.json"
    status = subprocess.run(
        [*PROGRAM, "status", "--data-dir", str(data_dir)],
        check=False,
        capture_output=True,
        env=env,
        timeout=STEP_TIMEOUT_S,
    )
    ours = status.returncode != 0
    if ours:
        _crewkit("up", "--data-dir", str(data_dir), "--port", str(port), "--next-free-port", "--detach", env=env)
    try:
        yield json.loads(marker.read_text())
    finally:
        if ours:
            _crewkit("down", "--data-dir", str(data_dir), env=env)


def _replay_hooks(folder: Path, agent: str, hook: Path, env: dict[str, str]) -> int:
    """Call the installed hook once for each recorded payload, as the agent did; the number of calls."""
    calls = 0
    for line in (folder / "hooks.jsonl").read_bytes().splitlines():
        record = json.loads(line)
        payload = json.dumps(record.get("payload", record)).encode()
        subprocess.run(["sh", str(hook), agent], input=payload, check=True, env=env, timeout=STEP_TIMEOUT_S)
        calls += 1
    return calls


def _send_otlp(folder: Path, instance: dict[str, Any]) -> int:
    """Post the recorded OTLP bodies to the same paths the agent posts them to; the number of requests."""
    sent = 0
    with httpx.Client(base_url=instance["url"], headers={"X-API-Key": instance["api_key"]}, timeout=30) as client:
        for signal in ("logs", "metrics", "traces"):
            path = folder / f"otlp_{signal}.jsonl"
            for body in path.read_bytes().splitlines() if path.exists() else []:
                answer = client.post(f"/v1/{signal}", content=body, headers={"Content-Type": "application/json"})
                answer.raise_for_status()
                sent += 1
    return sent


def _lay_out(folder: Path, home: Path) -> tuple[str, Path, str]:
    """Put a recording where its agent would have kept it; the agent, the place to import, and the session's id."""
    if (rollout := folder / "rollout.jsonl").exists():
        session = json.loads(rollout.read_bytes().splitlines()[0])["payload"]["id"]
        place = home / "codex" / "sessions" / "2026" / "11" / "20"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(rollout, place / f"rollout-2026-11-20T21-44-52-{session}.jsonl")
        return "codex", home / "codex" / "sessions", session
    first = next(line for line in (folder / "transcript.jsonl").read_bytes().splitlines() if b'"sessionId"' in line)
    session = json.loads(first)["sessionId"]
    place = home / "claude" / "projects" / "-home-dev-proj"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "transcript.jsonl", place / f"{session}.jsonl")
    if (folder / "subagents").is_dir():
        shutil.copytree(folder / "subagents", place / session / "subagents", dirs_exist_ok=True)
    return "claude", home / "claude" / "projects", session


def _stop_flusher(home: Path) -> None:
    """The hook started a flusher, as it does on a laptop; here its folder is about to go."""
    with suppress(OSError, ValueError):
        os.kill(int((home / "spool" / "flusher").read_text()), signal.SIGTERM)


def _send(recordings: Path, home: Path, instance: dict[str, Any], env: dict[str, str]) -> list[str]:
    """All recordings through hook command, OTLP and import; the ids of their sessions."""
    sessions, imports, calls, requests = [], dict[Path, str](), 0, 0
    _crewkit("init", "--scope", "user", "--content", "full", "--yes", env=env)
    for folder in sorted(path for path in recordings.iterdir() if (path / "hooks.jsonl").exists()):
        agent, place, session = _lay_out(folder, home)
        calls += _replay_hooks(folder, agent, home / "hook.sh", env)
        requests += _send_otlp(folder, instance)
        imports[place] = agent
        sessions.append(session)
    _crewkit("flush", "--once", env=env)
    for place, agent in imports.items():
        _crewkit("import", str(place), "--agent", agent, env=env)
    click.echo(
        f"{len(sessions)} recorded sessions: {calls} hook calls, {requests} OTLP requests, transcripts imported\n"
    )
    return sessions


@click.command()
@click.option("--once", is_flag=True, help="Stop after printing, instead of staying up.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the instance lives (default: a temporary folder)."
)
@click.option("--port", default=8000, show_default=True, help="Port of the API; the next free one if it is busy.")
@click.option(
    "--recordings", type=click.Path(exists=True, path_type=Path), default=RECORDINGS, help="Folder of recordings."
)
def demo(once: bool, data_dir: Path | None, port: int, recordings: Path) -> None:
    """Start everything, send recorded agent sessions, print what came out.

    The recordings go through the installed hook command, OTLP and `crewkit import`.  Without --once, and on a terminal, the
    instance stays up until Enter is pressed.  Exit codes: 0 ok, 1 a step failed.
    """
    with tempfile.TemporaryDirectory(prefix="crewkit-demo-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o755)  # embedded servers run as another user when we are root
        where = data_dir or home / "data"
        env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("CREWKIT_", "OTEL_", "CLAUDE"))},
            "CREWKIT_DATA_DIR": str(where),
            "CREWKIT_HOME": str(home),
            "CLAUDE_CONFIG_DIR": str(home / "claude"),
            "CODEX_HOME": str(home / "codex"),
        }
        with _running(where, port, env) as instance:
            click.echo(f"crewkit is up at {instance['url']}\n")
            try:
                sessions = _send(recordings, home, instance, env)
            finally:
                _stop_flusher(home)
            for session in sessions:
                _crewkit("sessions", "show", session, env=env, quiet=False)
            _crewkit("sessions", "list", env=env, quiet=False)
            click.echo(f"\nAPI and docs: {instance['url']}/docs")
            click.echo(
                f"Sessions:     {instance['url']}/api/v1/{instance['organization']}/sessions  (header X-API-Key)"
            )
            if not once and sys.stdin.isatty() and sys.stdout.isatty():
                click.pause("\nPress any key to stop everything …")
