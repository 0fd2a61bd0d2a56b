"""`crewkit hook-handler`: the hook as a command of ours, for agents that cannot run the installed script."""

from __future__ import annotations

import contextlib
import sys

import click

from cli.capture.paths import here
from cli.capture.put import ensure_flusher, put

AGENTS = ("claude", "codex", "gemini")


@click.command("hook-handler", hidden=True, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--agent", default="claude", help="Which agent speaks: claude, codex or gemini.")
def hook_handler(agent: str) -> None:
    """Keep what an agent says on standard input in the spool.

    Prints nothing and always exits 0: a hook must never get into an agent's way.
    """
    with contextlib.suppress(Exception):
        if sys.stdin.isatty():
            return
        payload = sys.stdin.buffer.read()
        if payload.strip():
            paths = here().make()
            put(paths, payload, agent if agent in AGENTS else "claude")
            ensure_flusher(paths)
