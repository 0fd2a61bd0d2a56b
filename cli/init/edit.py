"""Edit JSON settings of others: add what is ours, take it away again, and leave everything else as it was.

What was there before one of our values took its place is remembered in the client folder, so that removing restores it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import click
import msgspec

from cli.capture.paths import write_atomically

FILE_MODE = 0o644
Json = dict[str, Any]


class Before(msgspec.Struct, omit_defaults=True):
    """How a settings file was before us: whether it existed, its exact text, and the values that ours replaced.

    `after` is the text we left; as long as the file still has it, removing gives back `text` byte for byte.  It is empty once
    somebody else has written to the file: then only what is ours is taken out.
    """

    existed: bool = False
    text: str = ""
    after: str = ""
    values: dict[str, Any] = msgspec.field(default_factory=dict)


def before(known: Before | None, path: Path, old: str, *, ours: bool) -> Before:
    """What to remember about a file that has the text `old` now; `ours`: something of ours is in it."""
    if known is None:
        return Before(path.exists(), old, after="" if ours else old)
    if known.after != old:
        known.after = ""
        if not ours:  # we had been taken out by hand: begin anew
            return Before(path.exists(), old, after=old)
    return known


def parse(path: Path, text: str) -> Json:
    """Read a settings file.

    Raises:
        click.ClickException: it is not valid JSON, or no object; it is not touched then.
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.ClickException(
            f"{path} is not valid JSON ({error}); nothing was changed.  Repair it and try again."
        ) from error
    if not isinstance(value, dict):
        raise click.ClickException(
            f"{path} must hold a JSON object, found {type(value).__name__}; nothing was changed."
        )
    return cast("Json", value)


def render(value: Json, like: str) -> str:
    """JSON text with the indentation and the last newline of `like`."""
    found = re.search(r"\n([ \t]+)\S", like)
    indent: str | int = found.group(1) if found else 2
    if like.strip() and "\n" not in like.strip() and like.strip() != "{}":
        indent_arg: str | int | None = None  # was written on one line
    else:
        indent_arg = indent
    end = "\n" if not like.strip() or like.endswith("\n") else ""
    return json.dumps(value, indent=indent_arg, ensure_ascii=False) + end


def is_ours(entry: Any, mark: str) -> bool:
    """Whether a hook entry runs our script (also one in another client folder, or written by an earlier version)."""
    if not isinstance(entry, dict):
        return False
    command = cast("Json", entry).get("command")
    return isinstance(command, str) and mark in command and "[ -r " in command


def _object(parent: Json, key: str, path: Path) -> Json:
    value = parent.setdefault(key, {})
    if not isinstance(value, dict):
        raise click.ClickException(
            f"{path}: {key!r} must be an object, found {type(value).__name__}; nothing was changed."
        )
    return cast("Json", value)


def add_hooks(settings: Json, events: Mapping[str, Json], mark: str, path: Path) -> None:
    """Have each event run our entry, exactly once, in a group of its own behind the others.

    Raises:
        click.ClickException: `hooks` has a shape that is not Claude's.
    """
    hooks = _object(settings, "hooks", path)
    for event, entry in events.items():
        groups = hooks.setdefault(event, [])
        if not isinstance(groups, list):
            raise click.ClickException(
                f"{path}: hooks.{event} must be a list, found {type(groups).__name__}; nothing was changed."
            )
        places = [(group, i) for group in groups for i, own in enumerate(_entries(group)) if is_ours(own, mark)]
        if places:
            first, index = places[0]
            _entries(first)[index] = entry
            _drop(groups, mark, keep=entry)
        else:
            groups.append({"hooks": [entry]})


def _entries(group: Any) -> list[Any]:
    found = cast("Json", group).get("hooks") if isinstance(group, dict) else None
    return found if isinstance(found, list) else []


def _drop(groups: list[Any], mark: str, keep: Json | None = None) -> None:
    kept = False
    for group in list(groups):
        entries = _entries(group)
        ours = [entry for entry in entries if is_ours(entry, mark)]
        for entry in ours:
            if keep is not None and entry is keep and not kept:
                kept = True
                continue
            position = next(i for i, own in enumerate(entries) if own is entry)
            del entries[position]
        if ours and not entries:
            groups.remove(group)


def has_ours(settings: Json, mark: str) -> bool:
    """Whether any event runs our script."""
    hooks = settings.get("hooks")
    lists = list(cast("Json", hooks).values()) if isinstance(hooks, dict) else []
    return any(
        is_ours(entry, mark)
        for groups in lists
        if isinstance(groups, list)
        for group in groups
        for entry in _entries(group)
    )


def remove_hooks(settings: Json, mark: str) -> None:
    """Take our entries away, and what is empty without them."""
    hooks = settings.get("hooks")
    if not isinstance(hooks, dict):
        return
    table = cast("Json", hooks)
    had = bool(table)
    for event in list(table):
        groups = table[event]
        if isinstance(groups, list) and any(is_ours(entry, mark) for group in groups for entry in _entries(group)):
            _drop(groups, mark)
            if not groups:
                del table[event]
    if had and not table:
        del settings["hooks"]


def set_values(settings: Json, values: Mapping[str, str], section: str, path: Path) -> dict[str, Any]:
    """Set `settings[section][name]` for each value (section "" is the top); what they replaced, by `section.name`."""
    target = _object(settings, section, path) if section else settings
    replaced: dict[str, Any] = {}
    for name, value in values.items():
        if name in target and target[name] != value:
            replaced[f"{section}.{name}" if section else name] = target[name]
        target[name] = value
    return replaced


def unset_values(settings: Json, names: Sequence[str], section: str, before: Mapping[str, Any]) -> None:
    """Undo `set_values`: give back what was there, else remove."""
    target = settings.get(section) if section else settings
    if not isinstance(target, dict):
        return
    table = cast("Json", target)
    for name in names:
        key = f"{section}.{name}" if section else name
        if key in before:
            table[name] = before[key]
        else:
            table.pop(name, None)
    if section and not table:
        del settings[section]


def diff(path: Path, old: str, new: str) -> str:
    """What would change, as a unified diff."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), str(path), f"{path} (new)"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def write(path: Path, text: str | None) -> None:
    """Put the new text in place in one step, with the mode the file had; None removes the file."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    mode = path.stat().st_mode & 0o7777 if path.exists() else FILE_MODE
    write_atomically(path, text.encode(), mode)
