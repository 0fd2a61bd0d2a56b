"""Numbers computed from text that will be sealed: lengths, changed lines, exit codes."""

from __future__ import annotations

import re
from typing import Any, cast

from domain.sessions.coerce import part, parts

_EXIT_CODE = re.compile(r"(?:\AExit code |^Process exited with code |^Exit Code: )(-?\d{1,10})\b", re.MULTILINE)
_KIND = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_TOOL_ERROR = "<tool_use_error>"
_LOCAL = ("<local-command-", "<command-name>", "<bash-", "Caveat: The messages below")
_HEAD_CHARS_MAX = 4_000  # an exit code stands near the start


def exit_code(value: Any) -> int | None:
    """The exit code that a failure's text, or a shell tool's output, names."""
    if type(value) is not str:
        return None
    found = _EXIT_CODE.search(value[:_HEAD_CHARS_MAX])
    return int(found[1]) if found else None


def kind_of(value: Any) -> str | None:
    """An error's kind when it is an identifier, not a sentence."""
    if type(value) is dict:
        value = cast("dict[str, Any]", value).get("type")
    return value if type(value) is str and _KIND.fullmatch(value) else None


def is_tool_error(value: Any) -> bool:
    """Whether a tool's answer says that the tool could not be called at all."""
    if type(value) is list:
        first = part(value[0]) if value else {}
        value = first.get("text")
    return type(value) is str and value.startswith(_TOOL_ERROR)


def is_local(value: Any) -> bool:
    """Whether a user line is the agent's own note about a local command rather than a prompt."""
    return type(value) is str and value.startswith(_LOCAL)


def lines_changed(tool_input: dict[str, Any], tool_response: dict[str, Any]) -> tuple[int, int]:
    """Lines added and removed by an edit: from the agent's own patch where there is one, else from the input."""
    patch = tool_response.get("structuredPatch")
    if type(patch) is list and patch:
        added = removed = 0
        for hunk in parts(patch):
            for line in hunk["lines"] if type(hunk.get("lines")) is list else ():
                if type(line) is str:
                    added += line.startswith("+")
                    removed += line.startswith("-")
        return added, removed
    if edits := parts(tool_input.get("edits")):
        changes = [_replaced(edit.get("old_string"), edit.get("new_string")) for edit in edits]
        return sum(change[0] for change in changes), sum(change[1] for change in changes)
    if "new_string" in tool_input or "newString" in tool_response:
        return _replaced(
            tool_input.get("old_string", tool_response.get("oldString")),
            tool_input.get("new_string", tool_response.get("newString")),
        )
    written = tool_response.get("content", tool_input.get("content", tool_input.get("new_source")))
    if type(written) is str and ("file_path" in tool_input or "filePath" in tool_response):
        return _replaced(tool_response.get("originalFile") or "", written)
    return 0, 0


def is_edit(tool_input: dict[str, Any], tool_response: dict[str, Any]) -> bool:
    """Whether a tool call can have changed lines."""
    return (
        "structuredPatch" in tool_response
        or "new_string" in tool_input
        or "edits" in tool_input
        or "new_source" in tool_input
        or ("content" in tool_input and "file_path" in tool_input)
    )


def _replaced(old: Any, new: Any) -> tuple[int, int]:
    """Lines added and removed when `old` became `new`, not counting the lines both begin and end with."""
    before = old.splitlines() if type(old) is str else []
    after = new.splitlines() if type(new) is str else []
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    tail = 0
    while tail < min(len(before), len(after)) - same and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    return len(after) - same - tail, len(before) - same - tail


def text_chars(value: Any) -> int | None:
    """Characters of a text, or of the text blocks of a message; None where there is no text."""
    if type(value) is str:
        return len(value)
    texts = [block["text"] for block in parts(value) if type(block.get("text")) is str]
    return sum(map(len, texts)) if texts else None
