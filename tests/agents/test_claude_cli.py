"""The real Claude Code CLI, headless against a fake of its model API, with what `crewkit init` installed.

Found as $CLAUDE, as `claude` on PATH, or in the PyPI wheel `claude-agent-sdk` where that is installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.agents.fake_anthropic import fake_anthropic

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-I", str(ROOT / "crewkit.py")]
STEP_TIMEOUT_S = 120


def _claude() -> str | None:
    if chosen := os.environ.get("CLAUDE") or shutil.which("claude"):
        return chosen
    sdk = importlib.util.find_spec("claude_agent_sdk")
    bundled = Path(sdk.origin).parent / "_bundled" / "claude" if sdk and sdk.origin else None
    return str(bundled) if bundled and bundled.exists() else None


CLAUDE = _claude()
pytestmark = [
    pytest.mark.agent,
    pytest.mark.skipif(CLAUDE is None, reason="no Claude Code CLI: set $CLAUDE, or put `claude` on PATH"),
]


def crewkit(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [*PROGRAM, *arguments], check=False, capture_output=True, text=True, env=env, timeout=STEP_TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def home(service_folder: Path) -> Path:
    folder = service_folder / f"laptop-{uuid4().hex[:8]}"
    folder.mkdir(mode=0o711)
    return folder


@pytest.fixture
def env(home: Path) -> Iterator[dict[str, str]]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CREWKIT_", "CLAUDE", "OTEL_", "ANTHROPIC"))}
    env = {
        **kept,
        "HOME": str(home),
        "CREWKIT_DATA_DIR": str(home / "data"),
        "CREWKIT_HOME": str(home / "crewkit"),
        "CLAUDE_CONFIG_DIR": str(home / "claude"),
    }
    crewkit(env, "up", "--detach", "--port", "8700", "--next-free-port")
    yield env
    crewkit(env, "down")


def run_claude(env: dict[str, str], project: Path, prompt: str, *more: str) -> dict[str, Any]:
    """One headless run; its own JSON result."""
    with fake_anthropic() as url:
        agent = {
            **env,
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "dummy",
            "IS_SANDBOX": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_LOGS_EXPORT_INTERVAL": "500",
        }
        done = subprocess.run(
            [str(CLAUDE), "-p", prompt, "--output-format", "json", "--dangerously-skip-permissions", *more],
            check=False,
            capture_output=True,
            text=True,
            cwd=project,
            env=agent,
            stdin=subprocess.DEVNULL,
            timeout=STEP_TIMEOUT_S,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def detail(env: dict[str, str], session: str) -> dict[str, Any]:
    instance = json.loads((Path(env["CREWKIT_DATA_DIR"]) / "crewkit.json").read_text())
    answer = httpx.get(
        f"{instance['url']}/api/v1/{instance['organization']}/sessions/{session}",
        headers={"X-API-Key": instance["api_key"]},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def project(home: Path) -> Path:
    folder = home / "project"
    folder.mkdir()
    for command in (
        ["init", "-q", "-b", "main"],
        ["remote", "add", "origin", "https://example.invalid/acme/shop.git"],
        ["-c", "user.name=Dev", "-c", "user.email=dev@example.com", "commit", "-q", "--allow-empty", "-m", "start"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def test_a_real_session_costs_what_the_agent_says_it_cost(env: dict[str, str], project: Path) -> None:
    crewkit(env, "init", "--scope", "user", "--content", "full", "--yes")
    result = run_claude(env, project, "CREWKIT-DEMO please")
    crewkit(env, "flush", "--once")

    session = detail(env, result["session_id"])
    truth = int((Decimal(str(result["total_cost_usd"])) * 1_000_000).to_integral_value())

    assert truth > 0
    assert session["cost"]["sources"]["telemetry_usd_micros"] == truth
    assert session["cost"]["sources"]["transcript_usd_micros"] == truth
    assert session["cost"]["sources"]["priced_usd_micros"] == truth
    assert session["cost"]["reconciliation"]["verdict"] == "agrees"
    assert session["session"]["repo"] == "acme/shop"
    assert session["session"]["branch"] == "main"
    assert session["session"]["tokens"]["output"] == sum(used["outputTokens"] for used in result["modelUsage"].values())
    assert len(session["llm_sessions"][0]["subagents"]) == 1


def test_a_resumed_session_continues_its_totals(env: dict[str, str], project: Path) -> None:
    crewkit(env, "init", "--scope", "user", "--yes")
    first = run_claude(env, project, "CREWKIT-SHORT first")
    second = run_claude(env, project, "CREWKIT-SHORT second", "--resume", first["session_id"])
    crewkit(env, "flush", "--once")

    assert second["session_id"] == first["session_id"]
    session = detail(env, first["session_id"])
    truth = int((Decimal(str(second["total_cost_usd"])) * 1_000_000).to_integral_value())
    assert session["cost"]["sources"]["telemetry_usd_micros"] == truth
    assert session["session"]["counts"]["runs"] == 2
