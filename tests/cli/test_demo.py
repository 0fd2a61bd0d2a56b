"""`crewkit demo`: what a newcomer sees first, on a real instance."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("machine")]
PROGRAM = [sys.executable, "-I", str(Path(__file__).resolve().parents[2] / "crewkit.py")]
DEMO_MAX_S = 180
MONEY = re.compile(r"^(?:Cost|  \w+) +(\$\S+|not told)$", re.MULTILINE)


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[str, str]]:
    """What two demos on the same data directory print."""
    root = Path(tempfile.mkdtemp(prefix="crewkit-demo-test-"))
    root.chmod(0o711)  # servers under another account may enter
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CREWKIT_", "CLAUDE"))}
    words = [*PROGRAM, "demo", "--once", "--data-dir", str(root / "data"), "--port", "8650"]
    try:
        said = [
            subprocess.run(words, capture_output=True, text=True, check=False, timeout=DEMO_MAX_S, env=clean)
            for _ in range(2)
        ]
        assert [one.returncode for one in said] == [0, 0], said
        yield said[0].stdout, said[1].stdout
    finally:
        subprocess.run([*PROGRAM, "down", "--data-dir", str(root / "data")], check=False, env=clean)
        shutil.rmtree(root, ignore_errors=True)


def test_the_demo_shows_sessions_that_took_as_long_as_the_recorded_ones(told: tuple[str, str]) -> None:
    took = re.findall(r"took ([\d.]+) (s|min|h)", told[0])
    assert len(took) == 5
    assert all(unit == "s" and 0 < float(number) < 30 for number, unit in took), took


def test_the_demo_reconciles(told: tuple[str, str]) -> None:
    assert told[0].count("Reconciliation: agrees (telemetry, transcript, priced)") == 4
    assert MONEY.findall(told[0])[:5] == ["$0.082936"] * 5
    flowing = " ".join(re.sub("[│├└─]", " ", told[0]).split())  # a narrow terminal breaks lines
    counts = (
        "1 prompt, 1 turn, 10 model calls, 0 permission requests, 0 compactions, 0 model switches, 1 subagent, 1 run"
    )
    assert f"{counts} " in flowing


def test_a_second_demo_counts_nothing_twice(told: tuple[str, str]) -> None:
    assert "are here already" in told[1]
    assert MONEY.findall(told[1]) == MONEY.findall(told[0])
