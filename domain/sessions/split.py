"""Split an agent's record into structure (kept readable) and content (sealed), and reduce it before it leaves a laptop.

`split_*` returns `(attrs, content)`.  `attrs` without its `derived` plus `content` is the record again (`rebuild`); what we
do not know is content.  The name of the record and its session stand in the fact itself.

A client may reduce a record first.  Totals (prompts, turns, tool calls, failures, subagents, lines, tokens, cost) are the
same at every level, because numbers computed from text travel with it in `crewkit.derived`:

| level       | leaves the laptop                                                                                         |
|-------------|-----------------------------------------------------------------------------------------------------------|
| `counts`    | ids, kinds, times, numbers and flags, models, token usage, cost, versions; no names of tools, agents,     |
|             | commands, servers or branches                                                                             |
| `structure` | all of `attrs`: the above and those names; no free text, no paths                                         |
| `full`      | the record                                                                                                |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import msgspec

from domain.sessions import derive
from domain.sessions.coerce import TEXT_CHARS_MAX, part, parts
from domain.sessions.whitelist import ATTRIBUTES, DERIVED, HOOK, LEAF, NAMES, RESOURCE, TRANSCRIPT, Each, Whitelist

CONTENT_BYTES_MAX = 64 * 1024  # larger content is cut, marked and hashed
LIST_ITEMS_MAX = 512  # a longer list is content, whatever it holds
DEPTH_MAX = 24  # levels shortened when content is cut; deeper ones are dropped
LEVELS = ("counts", "structure", "full")
MARK = "crewkit"  # the field in which a client says how it reduced a record
CUT_MARK = "crewkit_cut"  # the field in which cut content says so

Parts = tuple[dict[str, Any], dict[str, Any]]


class TelemetryLike(Protocol):
    """One OTLP record (`schemas.otlp.OtlpRecord`), as far as the domain looks at it."""

    @property
    def signal(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def attributes(self) -> dict[str, Any]: ...
    @property
    def resource(self) -> dict[str, Any]: ...
    @property
    def time_unix_nano(self) -> int: ...
    @property
    def start_unix_nano(self) -> int: ...
    @property
    def trace_id(self) -> str: ...
    @property
    def span_id(self) -> str: ...
    @property
    def parent_span_id(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def status_code(self) -> int: ...
    @property
    def scope(self) -> str: ...
    @property
    def body(self) -> Any: ...
    @property
    def value(self) -> float | int | None: ...
    @property
    def temporality(self) -> str: ...
    @property
    def unit(self) -> str: ...


def partition(record: Mapping[str, Any], allowed: Whitelist) -> Parts:
    """Divide an object by a whitelist; `merge` puts it together again."""
    clear: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    rule_of = allowed.get
    for key, value in record.items():
        rule = rule_of(key)
        if rule is LEAF:  # `is_structure`, spelled out: this line runs for every field of every record
            kind = type(value)
            if (
                (len(value) <= TEXT_CHARS_MAX and value.isprintable())
                if kind is str
                else (kind is int or kind is bool or kind is float or value is None)
            ):
                clear[key] = value
            else:
                rest[key] = value
        elif rule is None:
            rest[key] = value
        else:
            _divide(key, value, rule, clear, rest)
    return clear, rest


def is_structure(value: Any) -> bool:
    """Whether a value can be an identifier, an enumeration value, a number or a flag."""
    if type(value) is str:
        return len(value) <= TEXT_CHARS_MAX and value.isprintable()
    return value is None or type(value) in {int, bool, float}


def _divide(key: str, value: Any, rule: Any, clear: dict[str, Any], rest: dict[str, Any]) -> None:
    if type(rule) is Each and type(value) is dict:
        rule = {name: rule.rule for name in cast("dict[str, Any]", value) if is_structure(name)}
    if type(rule) is dict and type(value) is dict:
        inner, left = partition(cast("dict[str, Any]", value), cast("Whitelist", rule))
        if inner or not left:
            clear[key] = inner
        if left:
            rest[key] = left
    elif type(rule) is tuple and type(value) is list and len(value) <= LIST_ITEMS_MAX:
        _divide_list(key, value, cast("tuple[Any]", rule)[0], clear, rest)
    else:
        rest[key] = value


def _divide_list(key: str, items: list[Any], rule: Any, clear: dict[str, Any], rest: dict[str, Any]) -> None:
    if rule is LEAF:
        (clear if all(map(is_structure, items)) else rest)[key] = items
        return
    inner: list[Any] = []
    left: list[Any] = []
    for item in items:
        known, other = partition(cast("dict[str, Any]", item), rule) if type(item) is dict else ({}, item)
        inner.append(known)
        left.append(other)
    if any(inner) or not items:
        clear[key] = inner
        if any(other != {} for other in left):
            rest[key] = left
    else:
        rest[key] = items


def merge(clear: Any, rest: Any) -> Any:
    """Put together what `partition` divided."""
    if type(clear) is dict and type(rest) is dict:
        known, left = cast("dict[str, Any]", clear), cast("dict[str, Any]", rest)
        return {
            key: merge(known[key], left[key]) if key in known and key in left else known.get(key, left.get(key))
            for key in (*known, *(key for key in left if key not in known))
        }
    if type(clear) is list and type(rest) is list:
        return [merge(*pair) for pair in zip(clear, rest, strict=True)]
    return rest


def rebuild(attrs: Mapping[str, Any], content: Mapping[str, Any] | None) -> dict[str, Any]:
    """The record a fact was made from, without the names that the fact itself carries."""
    clear = {key: value for key, value in attrs.items() if key != "derived"}
    return cast("dict[str, Any]", merge(clear, dict(content))) if content else clear


# -- the three channels ------------------------------------------------------------------------------------------------


def split_hook(payload: dict[str, Any], agent: str = "claude") -> Parts:  # noqa: ARG001 - one whitelist serves all agents
    """Divide a hook's payload; `session_id` and `hook_event_name` go into the fact's own fields."""
    clear, rest = partition(payload, HOOK)
    kind = payload.get("hook_event_name")
    for key in ("session_id", "hook_event_name"):
        rest.pop(key, None)
    if kind == "StopFailure" and (error := derive.kind_of(rest.get("error"))):
        clear["error"] = error
        del rest["error"]
    return _with_derived(clear, rest, _derive_hook(str(kind), rest))


def _derive_hook(kind: str, rest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if type(prompt := rest.get("prompt")) is str:
        found["prompt_chars"] = len(prompt)
    if type(answer := rest.get("last_assistant_message")) is str:
        found["answer_chars"] = len(answer)
    if "session_title" in rest or "compact_summary" in rest:
        found["titled"] = True
    if kind in _DERIVERS:
        _DERIVERS[kind](rest, found)
    return found


def _derive_edit(rest: dict[str, Any], found: dict[str, Any]) -> None:
    tool_input, response = part(rest.get("tool_input")), part(rest.get("tool_response"))
    if derive.is_edit(tool_input, response):
        found["lines_added"], found["lines_removed"] = derive.lines_changed(tool_input, response)


def _derive_failure(rest: dict[str, Any], found: dict[str, Any]) -> None:
    if (code := derive.exit_code(rest.get("error"))) is not None:
        found["exit_code"] = code


def _derive_after_tool(rest: dict[str, Any], found: dict[str, Any]) -> None:
    if (code := derive.exit_code(part(rest.get("tool_response")).get("llmContent"))) is not None:
        found["exit_code"] = code


def _derive_batch(rest: dict[str, Any], found: dict[str, Any]) -> None:
    if failed := [index for index, call in enumerate(parts(rest.get("tool_calls"))) if _failed(call)]:
        found["failed"] = failed


_DERIVERS: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "PostToolUse": _derive_edit,
    "PostToolUseFailure": _derive_failure,
    "PostToolBatch": _derive_batch,
    "AfterTool": _derive_after_tool,
}


def _failed(call: dict[str, Any]) -> bool:
    return derive.is_tool_error(call.get("tool_response"))


def split_item(line: dict[str, Any], agent: str = "claude") -> Parts:  # noqa: ARG001 - as above
    """Divide one line of a transcript."""
    clear, rest = partition(line, TRANSCRIPT)
    return _with_derived(clear, rest, _derive_codex(clear, rest) if "payload" in line else _derive_line(clear, rest))


def _derive_line(clear: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kind = clear.get("type")
    if kind == "user":
        body = part(rest.get("message")).get("content", rest.get("content"))
        if (chars := derive.text_chars(body)) is not None:
            found["prompt_chars"] = chars
            first = body if type(body) is str else next((b["text"] for b in parts(body) if "text" in b), None)
            if derive.is_local(first):
                found["local"] = True
        result = part(rest.get("toolUseResult"))
        if "structuredPatch" in result or "newString" in result:
            found["lines_added"], found["lines_removed"] = derive.lines_changed({}, result)
        for block in parts(body):
            if (code := derive.exit_code(block.get("content"))) is not None:
                found["exit_code"] = code
    elif clear.get("isApiErrorMessage") is True:
        found["error_kind"] = derive.kind_of(rest.get("error")) or "api_error"
    elif kind in {"summary", "ai-title", "custom-title"}:
        found["titled"] = True
    return found


def _derive_codex(clear: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    body, inner = part(rest.get("payload")), part(clear.get("payload"))
    kind = inner.get("type")
    if kind == "user_message" and type(text := body.get("message")) is str:
        found["prompt_chars"] = len(text)
    elif kind == "item_completed" and part(inner.get("item")).get("type") == "UserMessage":
        if (chars := derive.text_chars(part(body.get("item")).get("content"))) is not None:
            found["prompt_chars"] = chars
    elif (code := derive.exit_code(body.get("output"))) is not None:
        found["exit_code"] = code
    return found


def split_telemetry(record: TelemetryLike) -> Parts:
    """Divide an OTLP record.  Attributes that are structure stand flat in `attrs`, beside the few fields of the record."""
    clear, rest = partition(record.attributes, ATTRIBUTES)
    resource, hidden = partition(record.resource, RESOURCE)
    code = derive.exit_code(rest.get("output"))
    clear["resource"] = resource
    for key in ("start_unix_nano", "trace_id", "span_id", "parent_span_id", "temporality", "unit"):
        if value := getattr(record, key):
            clear[key] = value
    if record.status_code:
        clear["span_status"] = record.status_code
    clear["time_unix_nano"] = record.time_unix_nano
    if record.value is not None:
        clear["value"] = record.value
    content: dict[str, Any] = {}
    if rest:
        content["attributes"] = rest
    if hidden:
        content["resource"] = hidden
    aside = {"body": record.body, "scope": record.scope, "severity": record.severity}
    content |= {key: value for key, value in aside.items() if value}
    if code is not None:
        clear["derived"] = {"exit_code": code}
    return clear, content


def _with_derived(clear: dict[str, Any], rest: dict[str, Any], found: dict[str, Any]) -> Parts:
    """Add what was computed here, or what a client that reduced the record computed there (then it wins)."""
    if MARK in rest:
        told, unknown = partition(part(part(rest[MARK]).get("derived")), DERIVED)
        found |= told
        if unknown or not told:
            rest[MARK] = {"derived": unknown} if told else rest[MARK]
        else:
            del rest[MARK]
    if found:
        clear["derived"] = found
    return clear, rest


# -- before anything leaves the laptop ---------------------------------------------------------------------------------


def reduce(payload: dict[str, Any], channel: str, agent: str, level: str) -> dict[str, Any]:
    """What may leave the laptop of a `hook` payload or a `transcript` line, at a content level.  Reducing twice is once.

    Raises:
        ValueError: the level or the channel is not one of ours.
    """
    if level not in LEVELS:
        raise ValueError(f"content level must be one of {', '.join(LEVELS)}, got {level!r}")
    splitters: dict[str, Callable[[dict[str, Any], str], Parts]] = {"hook": split_hook, "transcript": split_item}
    if channel not in splitters:
        raise ValueError(f"channel must be hook or transcript, got {channel!r}")
    if level == "full":
        return payload
    attrs, _ = splitters[channel](payload, agent)
    derived = {**attrs.pop("derived", {}), "level": level}
    kept = _without_names(attrs) if level == "counts" else attrs
    for key in ("session_id", "hook_event_name"):
        if channel == "hook" and is_structure(payload.get(key)):
            kept[key] = payload[key]
    return {**kept, MARK: {"derived": derived}}


def _without_names(value: Any) -> Any:
    """Leave out every named thing, at any depth; an agent's type only says whether there was one."""
    if type(value) is dict:
        found: dict[str, Any] = {}
        for key, inner in cast("dict[str, Any]", value).items():
            if key in {"agent_type", "agentType"}:
                found[key] = "agent" if inner else inner
            elif key not in NAMES:
                found[key] = _without_names(inner)
        return found
    if type(value) is list:
        return [_without_names(item) for item in value]
    return value


# -- content on its way to be sealed -----------------------------------------------------------------------------------


class Cut(msgspec.Struct, frozen=True):
    """Content as JSON text of at most `CONTENT_BYTES_MAX`.  `cut_bytes` > 0: it was this long, and hashed to `sha256`."""

    text: str
    cut_bytes: int = 0
    sha256: str | None = None


def content_text(content: dict[str, Any]) -> Cut:
    """The JSON text to seal.  Content that is too long keeps its shape: long strings lose their ends, and it says so."""
    whole = msgspec.json.encode(content)
    if len(whole) <= CONTENT_BYTES_MAX:
        return Cut(whole.decode())
    digest = hashlib.sha256(whole).hexdigest()
    mark = {CUT_MARK: {"bytes": len(whole), "sha256": digest}}
    for longest in (16_384, 4_096, 512, 64):
        shorter = msgspec.json.encode({**_shorten(content, longest, DEPTH_MAX), **mark})
        if len(shorter) <= CONTENT_BYTES_MAX:
            return Cut(shorter.decode(), len(whole), digest)
    head = whole[: CONTENT_BYTES_MAX // 4].decode(errors="ignore")  # a fourth: escaping can double it, twice
    return Cut(msgspec.json.encode({**mark, "head": head}).decode(), len(whole), digest)


def _shorten(value: Any, longest: int, depth: int) -> Any:
    if depth == 0:
        return None
    if type(value) is str and len(value) > longest:
        return f"{value[:longest]}…[cut {len(value) - longest} characters]"
    if type(value) is dict:
        return {key: _shorten(inner, longest, depth - 1) for key, inner in cast("dict[str, Any]", value).items()}
    if type(value) is list:
        return [_shorten(inner, longest, depth - 1) for inner in value]
    return value
