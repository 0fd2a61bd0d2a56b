"""Claude Code: which hooks and variables a settings file gets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Every hook event of Claude Code 2.1.329 but WorktreeCreate: a hook there replaces git's own behaviour and must answer.
EVENTS = (
    "SessionStart",
    "Setup",
    "UserPromptSubmit",
    "UserPromptExpansion",
    "PreToolUse",
    "PermissionRequest",
    "PermissionDenied",
    "PostToolUse",
    "PostToolUseFailure",
    "PostToolBatch",
    "Notification",
    "MessageDisplay",
    "SubagentStart",
    "SubagentStop",
    "TaskCreated",
    "TaskCompleted",
    "Stop",
    "StopFailure",
    "TeammateIdle",
    "InstructionsLoaded",
    "ConfigChange",
    "CwdChanged",
    "DirectoryAdded",
    "FileChanged",
    "WorktreeRemove",
    "PreCompact",
    "PostCompact",
    "PreModelSwitch",
    "PostModelSwitch",
    "Elicitation",
    "ElicitationResult",
    "SessionEnd",
)
# These are waited for (a few milliseconds): the session must be in the spool before anything else of it, and its end before
# the agent is gone, because a headless agent kills asynchronous hooks when it leaves.
WAITED_FOR = frozenset({"SessionStart", "SessionEnd"})
SESSION_END_TIMEOUT_S = 5
# Measured with 2.1.329: hooks and otelHeadersHelper work in every scope, OTEL_* of a project's file has no effect.
PROJECT_TELEMETRY = (
    "Hooks work from this file.  For telemetry Claude Code takes OTEL_* only from your own settings or the environment: also "
    "run `crewkit init --scope user`, or export the variables where the agent starts."
)
MARK = "hook.sh"


def settings_path(scope: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The settings file of a scope: `user`, `project` or `local` (both in the working directory)."""
    if scope == "user":
        chosen = environ.get("CLAUDE_CONFIG_DIR")
        return (Path(chosen).expanduser() if chosen else Path.home() / ".claude") / "settings.json"
    return Path.cwd() / ".claude" / ("settings.json" if scope == "project" else "settings.local.json")


def variables(endpoint: str) -> dict[str, str]:
    """The environment that makes Claude Code report by OTLP.  Never the key: a helper prints it when it is needed."""
    return {
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
        "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
    }


def hook(event: str, command: str) -> dict[str, Any]:
    """One hook entry."""
    if event == "SessionEnd":
        return {"type": "command", "command": command, "timeout": SESSION_END_TIMEOUT_S}
    if event in WAITED_FOR:
        return {"type": "command", "command": command}
    return {"type": "command", "command": command, "async": True}
