"""`crewkit init`: connect an agent on this machine."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import click
import msgspec

from cli.capture import config as client_config
from cli.capture import hook_script
from cli.capture.paths import ClientDir, here, write_atomically
from cli.client import Connection, UnreachableError, resolve
from cli.init import claude, codex, edit
from domain.sessions.split import LEVELS
from eventstore.settings import default_data_dir

DEFAULT_URL = "http://127.0.0.1:8000"
_HELPER = "otelHeadersHelper"


class Change(msgspec.Struct):
    """A file to write: its text now and then; `new` None removes it.  `memory` is kept for `--remove` (None: forget)."""

    path: Path
    old: str
    new: str | None
    memory: edit.Before | None = None
    secret: str = ""


@click.command()
@click.option(
    "--agent", type=click.Choice(["claude", "codex"]), default="claude", show_default=True, help="Which agent."
)
@click.option(
    "--scope",
    type=click.Choice(["user", "project", "local"]),
    default="user",
    show_default=True,
    help="user: all your sessions; project: this folder, file may be committed; local: this folder, only you.",
)
@click.option("--content", type=click.Choice(LEVELS), help="How much content leaves this machine (default: structure).")
@click.option("--no-otel", is_flag=True, help="Only hooks: leave the telemetry variables alone.")
@click.option("--remove", is_flag=True, help="Take everything of ours out of the settings again.")
@click.option("--dry-run", is_flag=True, help="Show the changes and stop.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def init(agent: str, scope: str, content: str | None, no_otel: bool, remove: bool, dry_run: bool, yes: bool) -> None:
    """Connect an agent: install the capture hook and set telemetry, in place, keeping what is not ours.

    Shows a diff first and asks, on a terminal.  Run it again after the service moved; nothing changes when all is as it
    should be.  --remove gives the files back as they were.  The API key is never written to a settings file of Claude Code;
    Codex reads header values only from its own config.toml, so with --scope user it is written there (mode 0600); with other
    scopes it is not written, and Codex' telemetry works only where the service asks for no key.  With --scope project or local, --content is
    for this folder, else it is the default for everything.  Exit codes: 0 ok, 1 refused (a file that is not valid, or you
    said no), 2 wrong command line.
    """
    paths = here()
    connection = _connection()
    plan = _claude if agent == "claude" else _codex
    changes = [change for change in plan(paths, scope, connection, no_otel, remove) if change.new != change.old]
    for change in changes:
        shown = edit.diff(change.path, change.old, change.new or "")
        click.echo(shown.replace(change.secret, "***") if change.secret else shown, nl=False)
    if dry_run:
        click.echo("Nothing was changed (--dry-run)." if changes else "Nothing to change.")
        return
    if changes and not yes and sys.stdin.isatty() and not click.confirm("Make these changes?", default=True):
        raise click.ClickException("nothing was changed")
    if not remove:
        _prepare(paths, scope, content, connection)
    for change in changes:
        edit.write(change.path, change.new)
        if change.secret and change.new is not None:
            change.path.chmod(0o600)
        _remember(paths, change)
    _say(agent, scope, changes, connection, remove=remove)


def _connection() -> Connection:
    try:
        return resolve()
    except UnreachableError:
        return Connection(DEFAULT_URL, "", "default", "nothing yet")


def _prepare(paths: ClientDir, scope: str, content: str | None, connection: Connection) -> None:
    """Write the scripts, the content level, and the connection if the environment gave it."""
    paths.make()
    data_dir = default_data_dir().absolute()
    hook_script.install(paths, data_dir)
    try:
        config = client_config.load(paths)
    except client_config.ConfigError as error:
        raise click.ClickException(str(error)) from error
    if os.environ.get("CREWKIT_DATA_DIR") or config.data_dir is None:
        config.data_dir = str(data_dir)
    if content is not None:
        client_config.set_level(config, content, None if scope == "user" else Path.cwd())
    client_config.save(paths, config)
    if os.environ.get("CREWKIT_URL"):
        told = {"url": connection.url, "api_key": connection.api_key, "organization": connection.organization}
        write_atomically(paths.connection, json.dumps(told, indent=2).encode() + b"\n")
    elif os.environ.get("CREWKIT_DATA_DIR"):
        paths.connection.unlink(missing_ok=True)  # the folder named now takes the place of an older connection


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeError) as error:
        raise click.ClickException(f"{path} cannot be read: {error}") from error


def _claude(paths: ClientDir, scope: str, connection: Connection, no_otel: bool, remove: bool) -> list[Change]:
    path = claude.settings_path(scope)
    old = _text(path)
    settings = edit.parse(path, old)
    known = _memory(paths).get(str(path))
    env = claude.variables(connection.url)
    helper = shlex.quote(str(paths.headers_helper))  # agents run it through a shell
    if remove:
        if known is not None and old == known.after:
            return [Change(path, old, known.text if known.existed else None)]
        edit.remove_hooks(settings, claude.MARK)
        values = known.values if known is not None else {}
        if known is not None or settings.get(_HELPER) == helper:
            ours = [name for name, value in env.items() if _still_ours(settings, name, value)]
            edit.unset_values(settings, ours, "env", values)
            if settings.get(_HELPER) == helper:
                edit.unset_values(settings, [_HELPER], "", values)
        empty = not settings and known is not None and not known.existed
        new = None if empty else edit.render(settings, old)
        return [Change(path, old, new if settings != edit.parse(path, old) else old)]
    before = edit.before(known, path, old, ours=edit.has_ours(settings, claude.MARK))
    command = hook_script.hook_command(paths, "claude", shared=scope == "project")
    edit.add_hooks(settings, {event: claude.hook(event, command) for event in claude.EVENTS}, claude.MARK, path)
    if not no_otel:
        replaced = edit.set_values(settings, env, "env", path) | edit.set_values(settings, {_HELPER: helper}, "", path)
        before.values = {**replaced, **before.values} if known is None or before is not known else before.values
    new = old if settings == edit.parse(path, old) else edit.render(settings, old)
    before.after = new if before.after or not old else ""
    return [Change(path, old, new, before)]


def _still_ours(settings: edit.Json, name: str, value: str) -> bool:
    """Whether a variable is as we set it; the address may have been another one then."""
    found = (settings.get("env") or {}).get(name)
    return found == value or name == "OTEL_EXPORTER_OTLP_ENDPOINT"


def _codex(paths: ClientDir, scope: str, connection: Connection, no_otel: bool, remove: bool) -> list[Change]:
    folder = codex.folder(scope)
    hooks, toml = folder / "hooks.json", folder / "config.toml"
    memory = _memory(paths)
    old_hooks, old_toml = _text(hooks), _text(toml)
    told = edit.parse(hooks, old_hooks)
    changes: list[Change] = []
    if remove:
        for path, old in ((hooks, old_hooks), (toml, old_toml)):
            before = memory.get(str(path))
            if before is not None and old == before.after:
                changes.append(Change(path, old, before.text if before.existed else None))
                continue
            if path == hooks:
                edit.remove_hooks(told, claude.MARK)
                new = edit.render(told, old) if told != edit.parse(path, old) else old
            else:
                new = codex.without_otel(path, old)
            changes.append(Change(path, old, new))
        return changes
    command = hook_script.hook_command(paths, "codex", shared=scope == "project")
    edit.add_hooks(told, {event: codex.hook(command) for event in codex.EVENTS}, claude.MARK, hooks)
    new_hooks = old_hooks if told == edit.parse(hooks, old_hooks) else edit.render(told, old_hooks)
    ours = edit.has_ours(edit.parse(hooks, old_hooks), claude.MARK)
    before = edit.before(memory.get(str(hooks)), hooks, old_hooks, ours=ours)
    before.after = new_hooks if before.after or not old_hooks else ""
    changes.append(Change(hooks, old_hooks, new_hooks, before))
    if not no_otel:
        key = connection.api_key if scope == "user" else ""
        new_toml = codex.with_otel(toml, old_toml, connection.url, key or None)
        ours = codex.without_otel(toml, old_toml) != old_toml
        before = edit.before(memory.get(str(toml)), toml, old_toml, ours=ours)
        before.after = new_toml if before.after or not old_toml else ""
        changes.append(Change(toml, old_toml, new_toml, before, secret=key))
    return changes


def _memory(paths: ClientDir) -> dict[str, edit.Before]:
    try:
        return msgspec.json.decode((paths.home / "init.json").read_bytes(), type=dict[str, edit.Before])
    except (OSError, msgspec.MsgspecError):
        return {}


def _remember(paths: ClientDir, change: Change) -> None:
    memory = _memory(paths)
    if change.memory is None:
        memory.pop(str(change.path), None)
    else:
        memory[str(change.path)] = change.memory
    paths.make()
    write_atomically(paths.home / "init.json", msgspec.json.encode(memory))


def _say(agent: str, scope: str, changes: list[Change], connection: Connection, *, remove: bool) -> None:
    if remove:
        click.echo(f"crewkit is out of {agent}'s settings." if changes else "There was nothing of crewkit's to remove.")
        return
    click.echo("Connected." if changes else "All is as it should be; nothing was changed.")
    click.echo(f"Events go to {connection.url} (organization {connection.organization}), found in {connection.source}.")
    if connection.source == "nothing yet":
        click.echo("No service is known yet: start one with `crewkit up`.  Until then events wait in the local spool.")
    if agent == "codex":
        click.echo(codex.TRUST)
    elif scope != "user":
        click.echo(claude.PROJECT_TELEMETRY)
    if agent == "claude" and scope == "project":
        click.echo("This file may be committed: colleagues without crewkit are not affected, and no key is in it.")
