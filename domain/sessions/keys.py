"""The natural key of every record: the same thing told twice, over any road, has the same key inside its stream.

The stream is `LlmSession:<the agent's session id>`, so keys name a record within one agent conversation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from domain.sessions.coerce import part, parts, text
from domain.sessions.split import MARK, TelemetryLike

# Once per prompt (or once per subagent), whatever else the payload says.
_ONCE_PER_PROMPT = frozenset(
    {"UserPromptSubmit", "UserPromptExpansion", "Stop", "StopFailure", "SessionEnd", "BeforeAgent", "AfterAgent"}
)
_ONCE_PER_AGENT = frozenset({"SubagentStart", "SubagentStop"})
# No id of their own, but their payload tells them apart inside the prompt, the same over command and http hooks.  All
# others (SessionStart, InstructionsLoaded, CwdChanged, unknown kinds) may repeat: the moment of capture is part of them.
_BY_PAYLOAD = frozenset(
    {
        "PermissionRequest", "PreCompact", "PostCompact", "PreModelSwitch", "PostModelSwitch", "ConfigChange",
        "DirectoryAdded", "WorktreeCreate", "WorktreeRemove", "Elicitation", "ElicitationResult", "Setup", "TeammateIdle",
    }
)  # fmt: skip


def digest(value: Any) -> str:
    """16 hex digits that name a JSON value, whatever the order of its fields."""
    return hashlib.blake2b(msgspec.json.encode(value, order="sorted"), digest_size=8).hexdigest()


def hook_key(payload: Mapping[str, Any], occurrence: object = "") -> str:
    """The key of a hook event.

    `occurrence` is the id or time the client stamped at capture; "" when an agent posted the bare payload: then an exact
    repeat of a payload without ids is taken for the same event.
    """
    get = payload.get
    kind = get("hook_event_name")
    prompt = get("prompt_id") or get("turn_id") or ""
    head = f"h|{kind}|{prompt}|{get('agent_id') or ''}|"
    own = get("tool_use_id") or get("message_id") or get("task_id")
    if own:
        return f"{head}{own}|{get('index')}" if kind == "MessageDisplay" else f"{head}{own}"
    if calls := get("tool_calls"):
        return f"{head}{'+'.join(str(call.get('tool_use_id')) for call in parts(calls))}"
    if (kind in _ONCE_PER_PROMPT and prompt) or (kind in _ONCE_PER_AGENT and get("agent_id")):
        return head
    if MARK not in payload:  # else it was reduced: the text that told repeats apart is gone
        if kind == "PermissionRequest":
            return f"{head}{get('tool_name')}|{digest(get('tool_input'))}"
        if kind in _BY_PAYLOAD and prompt:
            return f"{head}{digest(payload)}"
    return f"{head}{digest(payload)}|{occurrence}"


def telemetry_key(record: TelemetryLike) -> str:
    """The key of an OTLP record.  A resumed session restarts its sequence, so the time is always a part of the key."""
    attributes = record.attributes
    if record.signal == "span":
        return f"s|{record.trace_id}|{record.span_id}"
    if record.signal == "metric":
        return f"m|{record.name}|{digest(attributes)}|{record.start_unix_nano}|{record.time_unix_nano}"
    name = record.name.removeprefix("claude_code.")
    if name == "api_request" and (request := text(attributes.get("request_id"))):
        return f"l|{name}|{request}"
    tool = text(attributes.get("tool_use_id")) or text(attributes.get("call_id"))
    if tool and "tool_" in name:
        return f"l|{name}|{tool}"
    moment = attributes.get("event.timestamp") or record.time_unix_nano
    sequence = attributes.get("event.sequence")
    if sequence is not None:
        return f"l|{name}|{moment}|{sequence}"
    return f"l|{name}|{moment}|{digest([record.time_unix_nano, attributes, record.body])}"


def item_key(line: Mapping[str, Any], agent: str = "claude") -> str:
    """The key of a transcript line: its uuid; Codex: the response it accounts for, or its ordinal; else its hash."""
    if own := text(line.get("uuid")):
        return f"t|{own}"
    payload = part(line.get("payload"))
    if payload and line.get("type") == "token_usage_record" and (response := text(payload.get("response_id"))):
        return f"t|usage|{response}"
    if agent == "codex" and type(line.get("ordinal")) is int and text(line.get("timestamp")):
        return f"t|{line['ordinal']}|{line['timestamp']}|{line.get('type')}"
    return f"t|#{digest(cast('Any', line))}"


def subagent_key(agent_id: str, meta: Mapping[str, Any]) -> str:
    """The key of what a client knows about a subagent beside its transcript; news about it is another fact."""
    return f"a|{agent_id}|{digest(cast('Any', meta))}"
