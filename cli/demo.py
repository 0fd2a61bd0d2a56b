"""`crewkit demo`: the main job on recorded sessions, through the same doors that a developer's machine uses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import httpx

from cli._recordings import Recording, recordings_in
from domain.words import counted

STEP_TIMEOUT_S = 120
FOUND = 200
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


def _replay(recording: Recording, begins: float, hook: Path, instance: dict[str, Any], env: dict[str, str]) -> int:
    """Do what the agent did, when it did it; `begins` is the Unix second at which the session starts.  The number of hook calls."""
    calls = 0
    with httpx.Client(base_url=instance["url"], headers={"X-API-Key": instance["api_key"]}, timeout=30) as client:
        for step in recording.steps(begins):
            time.sleep(max(0.0, begins + step.after_s - time.time()))  # the pace of the recording
            if step.door == "hook":
                words = ["sh", str(hook), recording.agent]
                subprocess.run(words, input=step.body, check=True, env=env, timeout=STEP_TIMEOUT_S)
                calls += 1
            else:
                answer = client.post(
                    f"/v1/{step.door}", content=step.body, headers={"Content-Type": "application/json"}
                )
                answer.raise_for_status()
    return calls


def _is_known(instance: dict[str, Any], session_id: str) -> bool:
    path = f"{instance['url']}/api/v1/{instance['organization']}/sessions/{session_id}"
    return httpx.get(path, headers={"X-API-Key": instance["api_key"]}, timeout=30).status_code == FOUND


def _stop_flusher(home: Path) -> None:
    """The hook started a flusher, as it does on a laptop; here its folder is about to go."""
    with suppress(OSError, ValueError):
        os.kill(int((home / "spool" / "flusher").read_text()), signal.SIGTERM)


def _send(recordings: Sequence[Recording], home: Path, instance: dict[str, Any], env: dict[str, str]) -> None:
    """All recordings side by side through hook command and OTLP, then their transcripts through import."""
    _crewkit("init", "--scope", "user", "--content", "full", "--yes", env=env)
    begins = time.time()
    click.echo(
        f"Replaying {counted(len(recordings), 'recorded session')} as if they happened now, at the pace they had "
        f"({max(one.ended - one.began for one in recordings):.0f} s) …"
    )
    with ThreadPoolExecutor(len(recordings)) as pool:
        tasks = [pool.submit(_replay, one, begins, home / "hook.sh", instance, env) for one in recordings]
        calls = sum(task.result() for task in tasks)
    _crewkit("flush", "--once", env=env)
    for agent, place in {one.agent: one.lay_out(home, begins) for one in recordings}.items():
        _crewkit("import", str(place), "--agent", agent, env=env)
    requests = sum(step.door != "hook" for one in recordings for step in one.steps(begins))
    click.echo(
        f"{counted(calls, 'hook call')}, {counted(requests, 'OTLP request')}, "
        f"{counted(len(recordings), 'transcript')} imported\n"
    )


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

    The recordings go through the installed hook command, OTLP and `crewkit import`, at the pace they had and with their times
    moved to now.  On an instance that has them already they are not sent again.  Without --once, and on a terminal, the
    instance stays up until a key is pressed.  Exit codes: 0 ok, 1 a step failed.
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
            found = recordings_in(recordings)
            if not found:
                raise click.ClickException(f"no recordings in {recordings}")
            if all(_is_known(instance, one.session_id) for one in found):
                click.echo("The recorded sessions are here already and are not sent again.\n")
            else:
                try:
                    _send(found, home, instance, env)
                finally:
                    _stop_flusher(home)
            for one in found:
                _crewkit("sessions", "show", one.session_id, env=env, quiet=False)
            _crewkit("sessions", "list", env=env, quiet=False)
            click.echo(f"\nAPI and docs: {instance['url']}/docs")
            click.echo(
                f"Sessions:     {instance['url']}/api/v1/{instance['organization']}/sessions  (header X-API-Key)"
            )
            if not once and sys.stdin.isatty() and sys.stdout.isatty():
                click.pause("\nPress any key to stop everything …")
