"""Codex: its hooks.json and the `[otel]` table of its config.toml."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import tomlkit
from tomlkit.exceptions import TOMLKitError

EVENTS = (
    "SessionStart",
    "SessionEnd",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PermissionRequest",
    "Stop",
    "StopFailure",
    "SubagentStart",
    "SubagentStop",
    "PreCompact",
    "PostCompact",
    "Interrupt",
)
TIMEOUT_S = 3  # Codex allows no more for SessionEnd and Interrupt
_EXPORTERS = (("exporter", "logs"), ("metrics_exporter", "metrics"), ("trace_exporter", "traces"))
_KEY_VARIABLE = "CREWKIT_API_KEY"

TRUST = (
    "Codex runs hooks only after you have trusted them, and is silent until then.  Start `codex` in a terminal once; it shows "
    "the new hooks: review and trust them (`/hooks`).  After every change of the hook command they must be trusted again.  "
    "In CI use `codex exec --dangerously-bypass-hook-trust`."
)


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """`$CODEX_HOME`, else `~/.codex`."""
    chosen = environ.get("CODEX_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".codex"


def folder(scope: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the files of a scope are."""
    return home(environ) if scope == "user" else Path.cwd() / ".codex"


def hook(command: str) -> dict[str, Any]:
    """One hook entry.  Codex has no asynchronous hooks; ours takes a few milliseconds."""
    return {"type": "command", "command": command, "timeout": TIMEOUT_S}


def _load(path: Path, text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise click.ClickException(
            f"{path} is not valid TOML ({error}); nothing was changed.  Repair it and try again."
        ) from error


def with_otel(path: Path, text: str, endpoint: str, api_key: str | None) -> str:
    """config.toml with our exporters; an `[otel]` table that names others is left alone.

    Codex takes header values only from this file, so the key stands here: `api_key` is None where the file may be shared.

    Raises:
        click.ClickException: the file is not valid TOML, or exporters of somebody else stand there.
    """
    document = _load(path, text)
    otel = document.get("otel")
    if otel is None:
        otel = tomlkit.table()
        document["otel"] = otel
    for name, signal in _EXPORTERS:
        before = otel.get(name)
        if before is not None and before != "none" and not _is_ours(before):
            raise click.ClickException(
                f"{path}: [otel] {name} is set already; crewkit does not replace it.  Remove it, or give --no-otel."
            )
        target = tomlkit.inline_table()
        target["endpoint"] = f"{endpoint}/v1/{signal}"
        target["protocol"] = "binary"
        headers = tomlkit.inline_table()
        headers["X-Crewkit-Client"] = "codex"
        if api_key:
            headers["X-API-Key"] = api_key
        target["headers"] = headers
        exporter = tomlkit.inline_table()
        exporter["otlp-http"] = target
        if before != exporter:
            otel[name] = exporter
    return tomlkit.dumps(document)


def without_otel(path: Path, text: str) -> str:
    """config.toml without our exporters.

    Raises:
        click.ClickException: the file is not valid TOML.
    """
    document = _load(path, text)
    otel = document.get("otel")
    if otel is None:
        return text
    for name, _ in _EXPORTERS:
        if _is_ours(otel.get(name)):
            del otel[name]
    if not otel:
        del document["otel"]
    return tomlkit.dumps(document)


def _is_ours(exporter: Any) -> bool:
    try:
        return "X-Crewkit-Client" in exporter["otlp-http"]["headers"]
    except (KeyError, TypeError):
        return False
