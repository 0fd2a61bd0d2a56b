"""The same thing told twice has one key; two things have two."""

from __future__ import annotations

from typing import Any

import pytest

from domain.sessions.keys import hook_key, item_key, telemetry_key
from domain.sessions.split import reduce
from schemas.otlp import OtlpRecord
from tests.domain.recorded import CLAUDE, lines, logs, metrics, session_id, spans, subagents


def hook(kind: str, **fields: Any) -> dict[str, Any]:
    return {"session_id": "s", "hook_event_name": kind, "prompt_id": "p1", **fields}


def log(name: str, **attributes: Any) -> OtlpRecord:
    told = {key.replace("__", "."): value for key, value in attributes.items()}
    return OtlpRecord(signal="log", name=name, attributes={"session.id": "s", **told}, resource={})


@pytest.mark.parametrize("name", CLAUDE)
def test_every_recorded_hook_event_has_its_own_key(name: str) -> None:
    envelopes = lines(f"{name}/hooks.jsonl")
    keys = [hook_key(envelope["payload"], envelope["captured_at"]) for envelope in envelopes]

    assert len(set(keys)) == len(keys)


def test_every_recorded_codex_hook_and_line_has_its_own_key() -> None:
    hooks = [hook_key(payload) for payload in lines("codex/hooks.jsonl")]
    rollout = [item_key(line, "codex") for line in lines("codex/rollout.jsonl")]

    assert len(set(hooks)) == len(hooks)
    assert len(set(rollout)) == len(rollout)


@pytest.mark.parametrize("name", [*CLAUDE, "codex"])
def test_every_recorded_log_record_of_a_session_has_its_own_key(name: str) -> None:
    own = [record for record in logs(name) if session_id(name) in record.attributes.values()]

    assert len({telemetry_key(record) for record in own}) == len(own)


def test_every_recorded_point_and_span_has_its_own_key() -> None:
    records = [*metrics("claude-0447534f"), *spans("claude-0447534f")]

    assert len({telemetry_key(record) for record in records}) == len(records)


def test_every_recorded_line_with_a_uuid_has_its_own_key() -> None:
    own = lines("claude-0447534f/transcript.jsonl")
    for more, _ in subagents("claude-0447534f").values():
        own += more
    named = [line for line in own if "uuid" in line]

    assert len({item_key(line) for line in named}) == len(named)


@pytest.mark.parametrize("name", CLAUDE)
def test_command_and_http_deliveries_of_one_event_have_one_key(name: str) -> None:
    for envelope in lines(f"{name}/hooks.jsonl"):
        payload = envelope["payload"]
        if payload["hook_event_name"] not in {"SessionStart", "InstructionsLoaded", "Setup"}:
            other = dict(reversed(payload.items()))  # equal JSON, another order of fields, no stamp
            assert hook_key(payload, envelope["captured_at"]) == hook_key(other)


def test_a_permission_request_is_told_apart_by_tool_and_input() -> None:
    first = hook("PermissionRequest", tool_name="Bash", tool_input={"command": "a"}, permission_suggestions=[1])

    assert hook_key(first) == hook_key({**first, "permission_suggestions": [], "permission_mode": "plan"})
    assert hook_key(first) != hook_key({**first, "tool_input": {"command": "b"}})
    assert hook_key(first) != hook_key({**first, "prompt_id": "p2"})


def test_repeatable_events_are_told_apart_by_the_moment_of_capture() -> None:
    for kind in ("SessionStart", "InstructionsLoaded", "CwdChanged", "Notification", "NeverHeardOf"):
        assert hook_key(hook(kind), "capture-1") == hook_key(hook(kind), "capture-1")
        assert hook_key(hook(kind), "capture-1") != hook_key(hook(kind), "capture-2")


def test_two_automatic_compactions_in_one_prompt_are_two() -> None:
    one = hook("PostCompact", trigger="auto", compact_summary="first half")

    assert hook_key(one, 1) == hook_key(one, 2)
    assert hook_key(one) != hook_key({**one, "compact_summary": "second half"})


def test_a_subagents_tool_call_and_chunks_of_a_message_have_their_own_keys() -> None:
    assert hook_key(hook("PreToolUse", tool_use_id="t")) != hook_key(hook("PostToolUse", tool_use_id="t"))
    assert hook_key(hook("SubagentStop", agent_id="a")) != hook_key(hook("SubagentStop", agent_id="b"))
    assert hook_key(hook("MessageDisplay", message_id="m", index=0)) != hook_key(
        hook("MessageDisplay", message_id="m", index=1)
    )


def test_a_batch_of_tools_is_its_tools() -> None:
    def calls(*ids: str) -> list[dict[str, str]]:
        return [{"tool_use_id": own} for own in ids]

    assert hook_key(hook("PostToolBatch", tool_calls=calls("a", "b"))) != hook_key(
        hook("PostToolBatch", tool_calls=calls("a"))
    )


def test_a_reduced_record_keeps_its_key_where_ids_make_it() -> None:
    for name in CLAUDE:
        for envelope in lines(f"{name}/hooks.jsonl"):
            payload, stamp = envelope["payload"], envelope["captured_at"]
            reduced = reduce(payload, "hook", "claude", "counts")
            assert hook_key(reduced, stamp) == hook_key(reduced, stamp)
            if "tool_use_id" in payload or payload["hook_event_name"] in {"Stop", "UserPromptSubmit", "SubagentStop"}:
                assert hook_key(reduced) == hook_key(payload)
        for line in lines(f"{name}/transcript.jsonl"):
            if "uuid" in line:
                assert item_key(reduce(line, "transcript", "claude", "counts")) == item_key(line)


def test_a_resumed_process_restarts_its_sequence_and_loses_nothing() -> None:
    first = log("user_prompt", event__timestamp="2026-11-20T21:00:00.000Z", event__sequence=3)
    again = log("user_prompt", event__timestamp="2026-11-20T22:00:00.000Z", event__sequence=3)

    assert telemetry_key(first) != telemetry_key(again)
    assert telemetry_key(first) == telemetry_key(first)


def test_a_request_is_named_by_its_request_id_and_a_tool_by_its_call() -> None:
    assert telemetry_key(log("api_request", request_id="r", event__sequence=1)) == telemetry_key(
        log("claude_code.api_request", request_id="r", event__sequence=9)
    )
    assert telemetry_key(log("tool_result", tool_use_id="t")) != telemetry_key(log("tool_decision", tool_use_id="t"))
    assert telemetry_key(log("codex.tool_result", call_id="c")) == telemetry_key(
        log("codex.tool_result", call_id="c", x=1)
    )


def test_lines_without_a_uuid_are_named_by_their_hash() -> None:
    assert item_key({"type": "mode", "mode": "a"}) == item_key({"mode": "a", "type": "mode"})
    assert item_key({"type": "mode", "mode": "a"}) != item_key({"type": "mode", "mode": "b"})


def test_codex_usage_is_named_by_its_response() -> None:
    line = {"type": "token_usage_record", "ordinal": 10, "timestamp": "x", "payload": {"response_id": "resp_1"}}

    assert item_key(line, "codex") == item_key({**line, "ordinal": 99}, "codex")
