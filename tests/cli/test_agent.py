"""The real Claude Code CLI, against a loopback fake of its model API: what `crewkit init` wrote is what it runs.

Needs `CLAUDE` (path of the CLI) and `CREWKIT_LAB` (folder with run_claude.sh); skipped without them.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from cli.capture.paths import ClientDir
from tests.cli.conftest import Service, crewkit

CLAUDE, LAB = os.environ.get("CLAUDE", ""), os.environ.get("CREWKIT_LAB", "")

pytestmark = [
    pytest.mark.agent,
    pytest.mark.skipif(
        not (CLAUDE and Path(CLAUDE).exists() and LAB and (Path(LAB) / "run_claude.sh").exists()),
        reason="CLAUDE and CREWKIT_LAB do not name the agent and its lab",
    ),
]


def test_hooks_transcript_and_end_of_a_real_session_arrive(
    paths: ClientDir, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = service.connection()
    for name in ("url", "api_key", "organization"):
        monkeypatch.setenv(f"CREWKIT_{name.upper()}", getattr(connection, name))
    project = tmp_path / "project"
    project.mkdir()
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    monkeypatch.chdir(project)
    crewkit("init", "--scope", "local", "--yes")
    for name in ("URL", "API_KEY", "ORGANIZATION"):  # hooks get their connection from the client folder
        monkeypatch.delenv(f"CREWKIT_{name}")
    monkeypatch.delenv("CREWKIT_DATA_DIR")
    monkeypatch.setenv("CLAUDE", CLAUDE)
    done = subprocess.run(
        ["bash", str(Path(LAB) / "run_claude.sh"), str(project), str(tmp_path / "claude"), "CREWKIT-DEMO"],
        capture_output=True, text=True, check=True, timeout=150,
    )  # fmt: skip
    told = json.loads(done.stdout)
    time.sleep(2)  # the agent writes the last line of its transcript after SessionEnd
    crewkit("flush")
    kinds = [event["payload"]["hook_event_name"] for event in service.acknowledged]
    assert (kinds[0], kinds[-1]) == ("SessionStart", "SessionEnd")
    assert kinds.count("PostToolUse") + kinds.count("PostToolUseFailure") >= 6
    assert {"SubagentStart", "SubagentStop", "Stop", "UserPromptSubmit"} <= set(kinds)
    crewkit("import", str(tmp_path / "claude" / "projects"))
    totals = [item for item in service.items[told["session_id"]] if item["type"] == "cost-state"]
    assert totals[-1]["totalCostUSD"] == pytest.approx(told["total_cost_usd"])
    assert done.stderr == "" or "crewkit" not in done.stderr
