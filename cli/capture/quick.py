"""A short cut through `leave` for the lines an import is made of, at level `structure`: built, checked and written in C.

The shapes are made from the domain's own whitelist, so they cannot drift from it.  Whatever is unusual (a value that is no
structure, text from which something is derived, an escaped or non-ASCII character, a possible secret) is not decided here:
the answer is None, and the long way decides.  tests/cli/test_importer.py compares both ways on every recording.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from cli.capture.redact import is_plain
from domain.sessions import derive
from domain.sessions.coerce import TEXT_CHARS_MAX
from domain.sessions.split import LIST_ITEMS_MAX
from domain.sessions.whitelist import LEAF, TRANSCRIPT, Whitelist

FINE_MAX = 100_000
KINDS = frozenset({"assistant", "user"})
_Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
_Leaf = _Text | int | float | bool | None | UnsetType
_NOTHING = Raw()
# Text that must be looked at, though it does not leave: the block's own, and what tells of edited lines.
_WATCHED = {"content_block": ("content", "text"), "": ("crewkit", "payload", "error", "modelUsage")}
_TAIL = b',"crewkit":{"derived":{"level":"structure"}}}'
_RESULT = "toolUseResult"  # of any shape, and large: looked at only where it is an object


def _shape(name: str, allowed: Whitelist) -> Any:
    fields: list[tuple[str, Any, Any]] = []
    for key, rule in allowed.items():
        if rule is LEAF:
            fields.append((key, _Leaf, UNSET))
        elif isinstance(rule, tuple) and isinstance(rule[0], dict):
            inner: Any = _shape(f"{key}_block", rule[0])
            fields.append(
                (key, Annotated[list.__class_getitem__(inner), Meta(max_length=LIST_ITEMS_MAX)] | UnsetType, UNSET)
            )
        elif key == _RESULT:
            fields.append((key, Raw, _NOTHING))
        elif isinstance(rule, dict) and key != "payload":
            fields.append((key, _shape(key, rule) | None | UnsetType, UNSET))
    known = {field for field, _, _ in fields}
    fields += [(key, Raw, _NOTHING) for key in _WATCHED.get(name, ()) if key not in known]
    return msgspec.defstruct(f"Line_{name}", fields, omit_defaults=True)


_Line: Any = _shape("", TRANSCRIPT)
_Result: Any = _shape(f"{_RESULT}_object", TRANSCRIPT[_RESULT])
_decode_result = msgspec.json.Decoder(_Result).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode
_EMPTY = b":{}"  # an object of which nothing is left: the long way knows whether its name is
_fine: set[bytes] = set()
# Ids and times: no secrets, and too many to remember.
_unique = re.compile(
    rb"(?:(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z|(?:msg|req|toolu)_[0-9A-Za-z]{16,48})\n)*"
).fullmatch


class _UnusualError(Exception):
    """The long way has to decide."""


def structure(line: bytes) -> bytes | None:
    """An `assistant` line or a `user` line of tool results as it leaves at level `structure`; None: go the long way."""
    try:
        told = _decode(line)
        _check(told)
        user = told.type == "user"
        _blank_blocks(told.message.content, user=user)
        tail = _result(told, user=user)
    except (msgspec.MsgspecError, _UnusualError):
        return None
    out = _encode(told)
    if b"\\" in out or _EMPTY in out or not out.isascii() or not _clean(out):
        return None
    return out[:-1] + tail


def _check(told: Any) -> None:
    message = told.message
    if told.type not in KINDS or not told.timestamp:
        raise _UnusualError
    if message is UNSET or message is None or message.content is UNSET or told.isApiErrorMessage is True:
        raise _UnusualError
    if told.crewkit is not _NOTHING or told.payload is not _NOTHING or told.modelUsage is not _NOTHING:
        raise _UnusualError
    told.error = _NOTHING


def _blank_blocks(blocks: list[Any], *, user: bool) -> None:
    for block in blocks:
        if user and (block.type != "tool_result" or block.text is not _NOTHING or b"xit" in bytes(block.content)):
            raise _UnusualError
        block.content = block.text = _NOTHING


def _result(told: Any, *, user: bool) -> bytes:
    """Leave the structure of the tool's result, and return the end of the line: what is derived from it."""
    raw = bytes(told.toolUseResult)
    told.toolUseResult = _NOTHING
    if raw in {b"{}", b"null"}:
        raise _UnusualError
    if raw[:1] != b"{":
        return _TAIL
    kept = _encode(_decode_result(raw))
    if kept != b"{}":
        told.toolUseResult = Raw(kept)
    return _edited(raw) if user and (b'"structuredPatch"' in raw or b'"newString"' in raw) else _TAIL


def _edited(raw: bytes) -> bytes:
    """What is derived of a line that tells of an edit."""
    result = _decode_object(raw)
    if "structuredPatch" not in result and "newString" not in result:
        return _TAIL
    added, removed = derive.lines_changed({}, result)
    return b',"crewkit":{"derived":{"lines_added":%d,"lines_removed":%d,"level":"structure"}}}' % (added, removed)


def _clean(out: bytes) -> bool:
    """Whether no string in JSON without escapes could hold a secret."""
    new = set(out.split(b'"')[1::2]) - _fine
    if _unique(b"\n".join([*new, b""])):  # the usual line; JSON without escapes has no newline in a string
        return True
    if len(_fine) > FINE_MAX:
        _fine.clear()
    for text in new:
        if _unique(text + b"\n"):
            continue
        if not is_plain(text.decode()):
            return False
        _fine.add(text)
    return True
