"""A peer that reads the same transcripts (ccusage, from npm) finds the same tokens in every recorded session of Claude Code.

Skipped, with the reason, where it cannot be installed.  What it counts and we do not, and the other way round, is written down here.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from domain.sessions.reading import observe
from projections.sessions import list_price
from projections.sessions.fold import build
from projections.sessions.tables import LLM_SESSION
from projections.sessions.totals import tokens_of, totals_of
from tests.benchmarks import machine
from tests.benchmarks.peers.install import ccusage
from tests.benchmarks.table import NotMeasuredError
from tests.projections import test_sessions_more as more
from tests.projections.session_facts import RECORDINGS, fold_all, open_plain, recorded, transcript_of

pytestmark = pytest.mark.agent
READ = build(observe, list_price, open_plain)
NAMES = ["claude-0447534f", "claude-840b8813", "claude-d9f5b624", "claude-ebe32a83"]
MORE = ["bg", "compact", "fork", "orphan", "turns"]


@pytest.fixture(scope="module")
def command() -> list[str]:
    try:
        return ccusage()
    except (NotMeasuredError, OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"ccusage is not here and cannot be installed: {error}")


def theirs(command: list[str], folder: Path) -> dict[str, int]:
    """Tokens of a folder of transcripts, as ccusage counts them."""
    done = subprocess.run(
        [*command, "claude", "monthly", "--offline", "--json"],
        capture_output=True,
        check=True,
        env=machine.clean_environment(CLAUDE_CONFIG_DIR=str(folder)),
    )
    totals: dict[str, Any] = machine.only_json(done.stdout)["totals"]
    names = {
        "input": "inputTokens",
        "output": "outputTokens",
        "read": "cacheReadTokens",
        "write": "cacheCreationTokens",
    }
    return {ours: int(totals[name]) for ours, name in names.items()}


def ours(name: str) -> dict[str, int]:
    """Tokens of the same transcripts, folded by us."""
    facts = transcript_of(name) if name in NAMES else more.transcripts_of(name)
    rows = fold_all(READ, recorded(facts))
    told = tokens_of(total for llm in rows.all(LLM_SESSION) for total in totals_of(rows, llm.llm_session_id))
    return {
        "input": told.input,
        "output": told.output,
        "read": told.cache_read,
        "write": told.cache_write_5m + told.cache_write_1h,
    }


def lay_out(name: str, folder: Path) -> None:
    """The recording as Claude Code keeps it: one file per session, subagents in a folder of their own."""
    source = RECORDINGS / name if name in NAMES else more.FOLDER / name
    project = folder / "projects" / "-work"
    project.mkdir(parents=True)
    first = ""
    for path in sorted(source.glob("transcript*.jsonl"), reverse=True):
        session = next(
            line["sessionId"] for line in map(json.loads, path.read_text().splitlines()) if "sessionId" in line
        )
        first = first or session
        copy(path, project / f"{session}-{path.stem}.jsonl")
    for path in sorted(source.glob("subagents/*.jsonl")):
        (project / first / "subagents").mkdir(parents=True, exist_ok=True)
        copy(path, project / first / "subagents" / path.name)


def copy(source: Path, target: Path) -> None:
    """Copy lines without the spaces our recordings have: Claude Code writes none, and ccusage counts on it."""
    lines = [json.dumps(json.loads(text), separators=(",", ":")) for text in source.read_text().splitlines()]
    target.write_text("\n".join([*lines, ""]))


@pytest.mark.parametrize("name", [*NAMES, *MORE])
def test_the_same_transcripts_hold_the_same_tokens(command: list[str], name: str, tmp_path: Path) -> None:
    lay_out(name, tmp_path)
    assert theirs(command, tmp_path) == ours(name)
