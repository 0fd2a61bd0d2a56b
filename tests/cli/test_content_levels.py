"""The page that lists what leaves at each level is made of the whitelists, and nothing else leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.capture.leave import leave
from domain.sessions.whitelist import AGENT_RESULT, DERIVED, HOOK, LEAF, NAMES, TRANSCRIPT, USAGE, Each
from tests.cli.conftest import RECORDINGS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "content-levels.md"
SHORT = {"`usage.…`": USAGE, "`tool_response.…`": AGENT_RESULT}
ROOT = {"hook": (HOOK, ("session_id", "hook_event_name")), "transcript": (TRANSCRIPT, ())}
HEAD = """# Content levels

What the flusher and `crewkit import` send, field by field. [Privacy](../explanation/privacy.md) says how a level is chosen and what telemetry,
which agents send themselves, holds. A field leaves only while its value is a number, a flag, or a short printable text; at both levels
texts are searched for secrets. `a.b` is field `b` of object `a`, `a[].b` of each object in list `a`, `a.*.b` of each object in `a`, whose keys are models.

Level `full` sends the agent's whole record, without secrets and without the vendor's system prompts.

## With every record

| Level | Fields |
|---|---|
| `counts` | `id`, `at`, `agent`, `content_level`; of transcripts `llm_session_id`, `subagent_id`; in `crewkit.derived`, computed on the laptop: {derived} |
| `structure` | also `repo`, `branch`, `commit`, `project`, `user.email`, `user.name` |
"""


def fields(rule: Any, prefix: str = "") -> Iterator[str]:
    """Paths of all leaves of a whitelist."""
    if rule is LEAF:
        yield prefix
    elif isinstance(rule, tuple):
        yield from fields(rule[0], f"{prefix}[]")
    elif isinstance(rule, Each):
        yield from fields(rule.rule, f"{prefix}.*")
    else:
        for key, inner in rule.items():
            yield from fields(inner, f"{prefix}.{key}" if prefix else key)


def named(path: str) -> bool:
    """Whether level `counts` leaves a field out."""
    return any(part.removesuffix("[]") in NAMES for part in path.split("."))


def page() -> str:
    text = HEAD.format(derived=", ".join(f"`{path}`" for path in sorted(fields(DERIVED))))
    for channel, title in (("hook", "Hook payloads"), ("transcript", "Transcript lines")):
        whitelist, own = ROOT[channel]
        paths = sorted({*fields(whitelist), *own})
        told = {
            "`counts`": [path for path in paths if not named(path)],
            "`structure`": [path for path in paths if named(path)],
        }
        text += f"\n## {title}\n\n| Level | Fields |\n|---|---|\n"
        for level, those in told.items():
            text += f"| {level} | {'also ' * (level == '`structure`')}{', '.join(f'`{path}`' for path in those)} |\n"
        text += "\nAt `counts` the type of an agent (`agent_type`, `agentType`) only says that there was one.\n"
    return text


def test_the_page_is_made_of_the_whitelists() -> None:
    """UPDATE_DOCS=1 writes it."""
    if os.environ.get("UPDATE_DOCS") == "1":
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


def leaving(value: Any, prefix: str = "") -> Iterator[str]:
    """Paths of everything in a record that left."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            name = "*" if prefix == "modelUsage" else key
            yield from leaving(inner, f"{prefix}.{name}" if prefix else name)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from leaving(inner, f"{prefix}[]")
    else:
        yield prefix


def records(channel: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(RECORDINGS.rglob("*.jsonl")):
        agent = "codex" if path.parent.name == "codex" else "claude"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        if channel == "hook" and path.name == "hooks.jsonl":
            yield from ((agent, line.get("payload", line)) for line in lines)
        if channel == "transcript" and path.name.startswith(("transcript", "rollout", "agent-")):
            yield from ((agent, line) for line in lines)


@pytest.mark.parametrize("level", ["counts", "structure"])
@pytest.mark.parametrize("channel", ["hook", "transcript"])
def test_nothing_leaves_that_the_page_does_not_list(channel: str, level: str) -> None:
    whitelist, own = ROOT[channel]
    listed = {*fields(whitelist), *own, *(f"crewkit.derived.{path}" for path in fields(DERIVED))}
    allowed = {path for path in listed if level == "structure" or not named(path)}
    objects = {
        path.rpartition(".")[0].removesuffix("[]") for path in allowed
    }  # nothing was left of such an object or list
    left = {path for agent, record in records(channel) for path in leaving(leave(record, channel, agent, level))}
    assert len(left) > 20
    assert {path.removesuffix("[]") for path in left} <= {path.removesuffix("[]") for path in allowed} | objects
