"""What is structure, what is sealed, and what may leave a laptop."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.sessions.coerce import count, flag, moment, pico_usd
from domain.sessions.derive import lines_changed
from domain.sessions.events import HookRecorded, TelemetryRecorded, TranscriptRecorded
from domain.sessions.keys import hook_key, item_key, telemetry_key
from domain.sessions.reading import observe
from domain.sessions.split import (
    CONTENT_BYTES_MAX,
    CUT_MARK,
    LEVELS,
    content_text,
    rebuild,
    reduce,
    split_hook,
    split_item,
    split_telemetry,
)
from schemas.ingest import HookEnvelope
from schemas.otlp import OtlpRecord
from tests.domain.recorded import CLAUDE, lines, logs, metrics, spans, subagents
from tests.domain.told import NOW, SESSION, items, people, totals

from commands.sessions.hooks import hook_fact  # isort: skip

HOOKS = [line["payload"] for name in CLAUDE for line in lines(f"{name}/hooks.jsonl")] + lines("codex/hooks.jsonl")
LINES = [line for name in CLAUDE for line in lines(f"{name}/transcript.jsonl")]
LINES += [line for own, _ in subagents("claude-0447534f").values() for line in own]
ROLLOUT = lines("codex/rollout.jsonl")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def told_by_hooks(payloads: list[dict[str, Any]]) -> dict[str, Any]:
    facts = [hook_fact(HookEnvelope(payload=payload, at=NOW), people(), NOW, None)[0] for payload in payloads]
    return totals(facts)


# -- nothing is lost, nothing is leaked --------------------------------------------------------------------------------


def test_attrs_and_content_are_the_record() -> None:
    for payload in HOOKS:
        attrs, content = split_hook(payload)
        own = {key: value for key, value in payload.items() if key not in {"session_id", "hook_event_name"}}
        assert rebuild(attrs, content) == own
    for line in LINES + ROLLOUT:
        assert rebuild(*split_item(line, "codex")) == line


def test_text_paths_and_people_are_never_structure() -> None:
    for payload in HOOKS:
        clear = json.dumps(split_hook(payload)[0])
        for secret in ("/home/dev", "CREWKIT", "hello", "echo", "exit 3", "All done", "bob", "example.invalid"):
            assert secret not in clear, payload["hook_event_name"]
    for line in LINES + ROLLOUT:
        clear = json.dumps(split_item(line)[0])
        for secret in ("/home/dev", "CREWKIT", "hello", "echo ", "exit 3", "All done", "system-reminder", "elided"):
            assert secret not in clear, line["type"]
    for name in (*CLAUDE, "codex"):
        for record in logs(name):
            clear = msgspec.json.encode(split_telemetry(record)[0]).decode()
            for secret in ("/home/dev", "7f6396ba65a6", "say hello", "echo", "REDACTED", "exited with"):
                assert secret not in clear, record.name


def test_an_unknown_field_is_sealed_and_a_known_one_with_a_long_value_too() -> None:
    attrs, content = split_hook({"hook_event_name": "Stop", "session_id": "s", "novel": 7, "reason": "x" * 500})

    assert attrs == {}
    assert content == {"novel": 7, "reason": "x" * 500}


def test_a_vendors_own_field_named_derived_is_content() -> None:
    attrs, content = split_hook({"hook_event_name": "Stop", "session_id": "s", "derived": {"prompt_chars": 9}})

    assert attrs == {}
    assert content == {"derived": {"prompt_chars": 9}}


def test_control_characters_are_sealed_because_jsonb_cannot_hold_them() -> None:
    attrs, content = split_hook({"hook_event_name": "Stop", "session_id": "s", "reason": "a\x00b"})

    assert "reason" not in attrs
    assert content["reason"] == "a\x00b"


@given(st.dictionaries(st.text(max_size=12) | st.sampled_from(["tool_calls", "tool_response", "crewkit"]), JSON))
def test_any_payload_can_be_put_together_again(payload: dict[str, Any]) -> None:
    own = {key: value for key, value in payload.items() if key not in {"session_id", "hook_event_name", "crewkit"}}
    rebuilt = rebuild(*split_hook(payload))
    rebuilt.pop("crewkit", None)
    assert rebuilt == own


@given(st.dictionaries(st.text(max_size=12) | st.sampled_from(["message", "payload", "modelUsage", "usage"]), JSON))
def test_any_line_can_be_put_together_again(line: dict[str, Any]) -> None:
    own = {key: value for key, value in line.items() if key != "crewkit"}
    rebuilt = rebuild(*split_item(line))
    rebuilt.pop("crewkit", None)
    assert rebuilt == own


# -- reading is total --------------------------------------------------------------------------------------------------

KINDS = sorted({payload["hook_event_name"] for payload in HOOKS} | {"PostModelSwitch", "PostCompact", "AfterTool", "x"})
TYPES = sorted({line["type"] for line in LINES + ROLLOUT} | {"summary", "result", "subagent", "gemini"})
NAMES = sorted({record.name for name in (*CLAUDE, "codex") for record in logs(name)} | {"gemini_cli.api_response"})
METRICS = sorted({point.name for name in CLAUDE for point in metrics(name)})
FIELDS = st.sampled_from(
    [
        "tool_use_id",
        "tool_calls",
        "tool_response",
        "tool_name",
        "duration_ms",
        "message",
        "usage",
        "content",
        "payload",
        "item",
        "info",
        "derived",
        "agent_id",
        "prompt_id",
        "value",
        "temporality",
        "input_tokens",
        "cost_usd",
        "success",
        "decision",
        "resource",
        "background_tasks",
        "type",
        "id",
        "toolUseResult",
        "permissionDecision",
        "compactMetadata",
        "forkedFrom",
        "isSidechain",
        "agentId",
        "timestamp",
        "tokens",
        "model",
        "attachment",
    ]
)
AGENTS = st.sampled_from(["claude", "codex", "gemini", "other"])


@settings(max_examples=300, deadline=None)
@given(
    AGENTS, st.sampled_from(KINDS + TYPES + NAMES + METRICS), st.dictionaries(FIELDS, JSON, max_size=6), st.booleans()
)
def test_observe_never_raises(agent: str, kind: str, attrs: dict[str, Any], nested: bool) -> None:
    if nested:
        attrs = {**attrs, "message": attrs, "payload": attrs, "item": attrs, "tool_response": attrs, "derived": attrs}
    common: dict[str, Any] = {
        "agent": agent, "llm_session_id": SESSION, "kind": kind, "occurred_at": NOW, "person_id": people().of(None),
    }  # fmt: skip
    facts = [
        HookRecorded(**common, attrs=attrs),
        TranscriptRecorded(**common, attrs=attrs),
        TranscriptRecorded(**{**common, "kind": f"event_msg.{kind}"}, attrs=attrs),
        *(TelemetryRecorded(**common, attrs=attrs, signal=signal) for signal in ("log", "metric", "span")),
    ]
    for fact in facts:
        for one in observe(fact):
            assert msgspec.convert(msgspec.to_builtins(one), type(one)) == one  # every field has the type it declares


@settings(max_examples=200, deadline=None)
@given(AGENTS, st.dictionaries(FIELDS, JSON, max_size=6), st.sampled_from(TYPES))
def test_splitting_and_keys_never_raise(agent: str, record: dict[str, Any], kind: str) -> None:
    record = {**record, "type": kind}
    split_hook({**record, "hook_event_name": "PostToolUse"}, agent)
    split_item(record, agent)
    item_key(record, agent)
    hook_key(record)
    otlp = OtlpRecord(signal="log", name="x", attributes=record, resource=record)
    split_telemetry(otlp)
    telemetry_key(otlp)


# -- levels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CLAUDE)
def test_totals_are_the_same_at_every_level(name: str, level: str) -> None:
    payloads = [line["payload"] for line in lines(f"{name}/hooks.jsonl")]
    transcript = lines(f"{name}/transcript.jsonl")
    reduced = [reduce(payload, "hook", "claude", level) for payload in payloads]
    fewer = [reduce(line, "transcript", "claude", level) for line in transcript]

    assert told_by_hooks(reduced) == told_by_hooks(payloads)
    assert totals(items(fewer)) == totals(items(transcript))


@pytest.mark.parametrize("level", LEVELS)
def test_totals_of_codex_are_the_same_at_every_level(level: str) -> None:
    reduced = [reduce(line, "transcript", "codex", level) for line in ROLLOUT]

    assert totals(items(reduced, "codex")) == totals(items(ROLLOUT, "codex"))


def test_structure_carries_no_text_and_counts_no_names() -> None:
    for payload in HOOKS:
        structure = json.dumps(reduce(payload, "hook", "claude", "structure"))
        counts = json.dumps(reduce(payload, "hook", "claude", "counts"))
        assert "/home/dev" not in structure
        assert "hello" not in structure
        for tool in ("Bash", "Write", "Edit", "TaskCreate", "general-purpose"):
            assert tool not in counts
    for line in LINES + ROLLOUT:
        counts = json.dumps(reduce(line, "transcript", "codex", "counts"))
        for word in ("/home/dev", "hello", "Bash", "exec_command", "master", "general-purpose"):
            assert word not in counts


def test_reducing_twice_is_reducing_once() -> None:
    for level in ("counts", "structure"):
        for payload in HOOKS:
            once = reduce(payload, "hook", "claude", level)
            assert reduce(once, "hook", "claude", level) == once
        for line in LINES:
            once = reduce(line, "transcript", "claude", level)
            assert reduce(once, "transcript", "claude", level) == once


def test_an_unknown_level_or_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="content level must be one of counts, structure, full, got 'some'"):
        reduce({}, "hook", "claude", "some")
    with pytest.raises(ValueError, match="channel must be hook or transcript"):
        reduce({}, "otlp", "claude", "full")


# -- cutting -----------------------------------------------------------------------------------------------------------


def test_content_over_the_limit_is_cut_marked_and_hashed() -> None:
    whole = {"tool_input": {"file_path": "/a/b.py", "content": "x" * 200_000}}
    cut = content_text(whole)
    kept = json.loads(cut.text)

    assert len(cut.text.encode()) <= CONTENT_BYTES_MAX
    assert cut.cut_bytes == len(msgspec.json.encode(whole))
    assert kept[CUT_MARK] == {"bytes": cut.cut_bytes, "sha256": cut.sha256}
    assert kept["tool_input"]["file_path"] == "/a/b.py"  # short neighbours of a long text survive
    assert kept["tool_input"]["content"].endswith("…[cut 183616 characters]")


def test_content_of_very_many_parts_is_cut_too() -> None:
    for whole in ({"list": list(range(100_000))}, {str(n): "\x00\\" * 50 for n in range(2_000)}, {"e": "é" * 90_000}):
        cut = content_text(whole)
        assert len(cut.text.encode()) <= CONTENT_BYTES_MAX
        assert json.loads(cut.text)[CUT_MARK]["bytes"] == cut.cut_bytes


def test_content_within_the_limit_is_untouched() -> None:
    assert content_text({"a": 1}).text == '{"a":1}'
    assert content_text({"a": 1}).cut_bytes == 0


# -- small things ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("41", 41),
        (41.6, 42),
        (-1, None),
        ("x", None),
        (True, None),
        (None, None),
        (2**60, None),
        ("1e3", 1000),
        ("", None),
    ],
)
def test_counts(told: Any, meant: int | None) -> None:
    assert count(told) == meant


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (0.004671999999999999, 4_672_000_000),
        (0.08293600000000001, 82_936_000_000),
        ("0.021988", 21_988_000_000),
        (0, 0),
        (-1, None),
        (float("inf"), None),
        (float("nan"), None),
        ("NaN", None),
        (True, None),
    ],
)
def test_money(told: Any, meant: int | None) -> None:
    assert pico_usd(told) == meant


def test_flags_and_moments() -> None:
    assert [flag(value) for value in ("true", "False", True, "maybe", 1)] == [True, False, True, None, None]
    assert moment("2026-11-20T23:00:00.000Z") == moment(NOW.timestamp()) == moment(NOW.timestamp() * 1000) == NOW
    assert [moment(value) for value in ("yesterday!!", None, [], float("inf"), -5)] == [None] * 5


@pytest.mark.parametrize(
    ("tool_input", "response", "changed"),
    [
        ({"file_path": "a", "content": "1\n2\n"}, {}, (2, 0)),
        ({"file_path": "a", "old_string": "a\nb\nc", "new_string": "a\nX\nY\nc"}, {}, (2, 1)),
        ({"edits": [{"old_string": "a", "new_string": "b"}, {"old_string": "", "new_string": "c"}]}, {}, (2, 1)),
        ({}, {"structuredPatch": [{"lines": ["-a", "+b", " c", 7]}, "odd"]}, (1, 1)),
        ({"file_path": "a", "content": "1\n2\n"}, {"structuredPatch": [], "originalFile": "1\n"}, (1, 0)),
        ({"command": "ls"}, {"stdout": "+x"}, (0, 0)),
    ],
)
def test_lines_changed(tool_input: dict[str, Any], response: dict[str, Any], changed: tuple[int, int]) -> None:
    assert lines_changed(tool_input, response) == changed


def test_every_span_and_metric_splits() -> None:
    for record in [*spans("claude-0447534f"), *metrics("claude-0447534f")]:
        attrs, _ = split_telemetry(record)
        assert attrs["resource"]["service.name"] == "claude-code"
