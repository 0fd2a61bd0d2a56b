"""Peers that are installed for the bench only, below build/peers, through the ordinary package clients."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.machine import ROOT
from tests.benchmarks.table import NotMeasuredError

PEERS = ROOT / "build" / "peers"
LIBRARY = ["eventsourcing==9.5.6", "psycopg[binary,pool]>=3.2"]
ARROW = ["duckdb>=2", "pyarrow>=20"]
CCUSAGE_VERSION = "20.0.24"  # the version of the figures in docs/explanation/performance.md
INSTALL_MAX_S = 300.0


def library_python() -> Path:
    """An interpreter with the `eventsourcing` library and psycopg's binary build.

    Raises:
        NotMeasuredError: it cannot be installed.
    """
    place = PEERS / "eventsourcing"
    python = place / "bin" / "python"
    stamp = place / ".complete"
    if not stamp.exists():
        _run([sys.executable, "-m", "venv", place])
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *LIBRARY])
        stamp.touch()
    return python


def arrow_python() -> Path:
    """An interpreter with DuckDB and pyarrow.

    Raises:
        NotMeasuredError: they cannot be installed.
    """
    place = PEERS / "arrow"
    python = place / "bin" / "python"
    stamp = place / ".complete"
    if not stamp.exists():
        _run([sys.executable, "-m", "venv", place])
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *ARROW])
        stamp.touch()
    return python


def ccusage() -> list[str]:
    """The command of ccusage: $CCUSAGE, on PATH, or installed by npm.

    Raises:
        NotMeasuredError: none of the three.
    """
    if chosen := os.environ.get("CCUSAGE"):
        return chosen.split()
    if found := shutil.which("ccusage"):
        return [found]
    program = PEERS / "ccusage" / "node_modules" / ".bin" / "ccusage"
    if not program.exists() or not _answers(program):
        if (npm := shutil.which("npm")) is None:
            raise NotMeasuredError("ccusage is neither in $CCUSAGE nor on PATH, and there is no npm to install it")
        native = f"@ccusage/ccusage-{_platform()}@{CCUSAGE_VERSION}"
        # Named explicitly: some npm configurations leave optional dependencies out, and the program is in one of them.
        _run(
            [
                npm,
                "install",
                "--no-audit",
                "--no-fund",
                "--prefix",
                PEERS / "ccusage",
                f"ccusage@{CCUSAGE_VERSION}",
                native,
            ]
        )
    if not _answers(program):
        raise NotMeasuredError("npm installed ccusage, but it does not start")
    return [str(program)]


def _platform() -> str:
    system = {"linux": "linux", "darwin": "darwin"}.get(sys.platform, sys.platform)
    return f"{system}-{'arm64' if os.uname().machine in {'arm64', 'aarch64'} else 'x64'}"


def _answers(program: Path) -> bool:
    return subprocess.run([program, "--version"], capture_output=True, check=False, timeout=60).returncode == 0


def _run(command: list[str | Path]) -> None:
    PEERS.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run([str(word) for word in command], capture_output=True, check=True, timeout=INSTALL_MAX_S)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-300:]
        raise NotMeasuredError(f"{Path(str(command[0])).name} could not install the peer: {said}") from error
    except subprocess.TimeoutExpired as error:
        raise NotMeasuredError(f"installing the peer took longer than {INSTALL_MAX_S:.0f} s") from error
