"""What recorded and imagined sessions say, channel by channel."""

from __future__ import annotations

from typing import Any

import pytest

from domain.pricing import price
from domain.sessions.events import TelemetryRecorded
from domain.sessions.observations import (
    Compacted,
    Counted,
    LinesChanged,
    ModelCalled,
    ModelFailed,
    ModelSwitched,
    PermissionDecided,
    ProcessMeasured,
    PromptSubmitted,
    RunStarted,
    SourceSeen,
    SubagentEnded,
    SubagentStarted,
    TitleGiven,
    Tokens,
    ToolCalled,
    TotalsStated,
    TurnEnded,
    Unknown,
)
from domain.sessions.reading import observe
from projections.prices import price_book
from schemas.ingest import HookEnvelope
from schemas.otlp import OtlpRecord
from tests.domain.recorded import CLAUDE, lines, logs, metrics, session_id, spans, subagents
from tests.domain.told import NOW, SESSION, hook, item, items, log, people, seen, telemetry, totals

from commands.sessions.hooks import hook_fact  # isort: skip

# Cost in pico-dollars and requests, from the lab's README: the CLI's own totals.
TRUTH = {
    "claude-0447534f": (82_936_000_000, 10),
    "claude-840b8813": (25_160_000_000, 2),
    "claude-d9f5b624": (20_348_000_000, 1),
    "claude-ebe32a83": (20_348_000_000, 1),
}


def recorded_hooks(name: str) -> list[Any]:
    if name == "codex":
        envelopes = [HookEnvelope(payload=line, agent="codex", at=NOW) for line in lines("codex/hooks.jsonl")]
    else:
        envelopes = [HookEnvelope(**line) for line in lines(f"{name}/hooks.jsonl")]
    return [hook_fact(envelope, people(), NOW, None)[0] for envelope in envelopes]


def recorded_logs(name: str, session: str) -> list[Any]:
    found = [record for record in logs(name) if session in record.attributes.values()]
    return [telemetry(record) for record in found]


def recorded_items(name: str) -> list[Any]:
    session = session_id(name)
    facts = items(lines(f"{name}/transcript.jsonl"), session=session)
    for agent_id, (own, _) in subagents(name).items():
        facts += items(own, subagent_id=agent_id, session=session)
    return facts


@pytest.mark.parametrize("name", CLAUDE)
def test_telemetry_and_transcript_tell_the_same_usage_and_the_clis_own_cost(name: str) -> None:
    cost, requests = TRUTH[name]
    telemetry_says, transcript_says = totals(recorded_logs(name, session_id(name))), totals(recorded_items(name))

    assert (telemetry_says["cost"], telemetry_says["calls"]) == (cost, requests)
    for what in ("calls", "input", "output", "cache_read", "cache_write", "models", "prompts"):
        assert telemetry_says[what] == transcript_says[what], what
    stated = [one for one in seen(*recorded_items(name)) if isinstance(one, TotalsStated)]
    assert [one.cost_pico_usd for one in stated] == [cost]


@pytest.mark.parametrize("name", CLAUDE)
def test_our_price_of_every_request_is_the_vendors_to_the_last_digit(name: str) -> None:
    book = price_book()
    calls = [one for one in seen(*recorded_logs(name, session_id(name))) if isinstance(one, ModelCalled)]

    assert calls
    for call in calls:
        ours = price(book, call.model, call.tokens, call.at, speed=call.speed, service_tier=call.service_tier)
        assert ours.pico_usd == call.reported_pico_usd


@pytest.mark.parametrize("name", CLAUDE)
def test_metrics_add_up_to_the_same_cost(name: str) -> None:
    session = session_id(name)
    points = [telemetry(point) for point in metrics(name) if point.attributes.get("session.id") == session]
    counted = [one for one in seen(*points) if isinstance(one, Counted) and one.what == "metric_cost_pico_usd"]

    assert sum(one.amount for one in counted) == TRUTH[name][0]


def test_the_demo_session_read_from_its_hooks() -> None:
    found = totals(recorded_hooks("claude-0447534f"))

    assert found["runs"] == found["prompts"] == found["turns"] == found["subagents"] == 1
    assert found["tools"] == 9  # seven ran, two more only PostToolBatch shows: they are disabled in this session
    assert found["failed"] == 3  # `exit 3`, and the two calls of disabled tools
    assert found["lines"] == (2, 2)
    assert found["calls"] == 0  # a hook tells no tokens


def test_the_demo_session_read_from_its_transcript() -> None:
    found = totals(recorded_items("claude-0447534f"))

    assert (found["tools"], found["failed"], found["lines"], found["subagents"]) == (9, 3, (2, 2), 1)
    assert (found["input"], found["output"]) == (149, 471)


def test_the_demo_session_over_all_channels_counts_everything_once() -> None:
    name = "claude-0447534f"
    facts = [*recorded_hooks(name), *recorded_logs(name, session_id(name)), *recorded_items(name)]

    found, again = totals(facts), totals([*reversed(facts), *facts])

    assert found["calls"] == 10
    assert (found["prompts"], found["tools"], found["failed"], found["subagents"]) == (1, 9, 3, 1)
    assert {**again, "runs": 1, "cost": 0} == {**found, "runs": 1, "cost": 0}  # runs are told apart by their key


def test_a_permission_request_that_was_refused() -> None:
    name = "claude-840b8813"
    found = totals([*recorded_hooks(name), *recorded_logs(name, session_id(name))])

    assert (found["permission_requests"], found["tools"], found["denied"]) == (1, 1, 1)


def test_a_slash_command_is_one_prompt_over_all_channels() -> None:
    name = "claude-d9f5b624"
    facts = [*recorded_hooks(name), *recorded_logs(name, session_id(name)), *recorded_items(name)]

    assert totals(facts)["prompts"] == 1
    assert "hi" in {one.command for one in seen(*facts) if isinstance(one, PromptSubmitted)}


def test_spans_of_claude_count_nothing_because_logs_told_it() -> None:
    assert not [one for span in spans("claude-0447534f") for one in observe(telemetry(span))]


@pytest.mark.parametrize("name", CLAUDE)
def test_nothing_recorded_is_unknown(name: str) -> None:
    facts = [*recorded_hooks(name), *recorded_logs(name, session_id(name)), *recorded_items(name)]

    assert not [one for one in seen(*facts) if isinstance(one, Unknown)]


def test_a_codex_session_read_from_rollout_hooks_and_telemetry() -> None:
    session = session_id("codex")
    rollout = items(lines("codex/rollout.jsonl"), "codex", session=session)
    told = [telemetry(record) for record in logs("codex") if session in record.attributes.values()]
    found = totals([*recorded_hooks("codex"), *rollout, *told])

    assert (found["prompts"], found["turns"], found["runs"]) == (1, 1, 1)
    assert (found["tools"], found["failed"]) == (2, 1)  # `exit 3` looks like a success in hook and telemetry
    assert (found["calls"], found["models"]) == (3, ["gpt-5.5"])
    assert (found["input"], found["cache_read"], found["output"]) == (17_100 - 8_192, 8_192, 360)
    assert not [one for one in seen(*rollout, *told) if isinstance(one, Unknown)]


def test_codex_telemetry_stands_in_for_a_rollout_that_never_arrives() -> None:
    session = session_id("codex")
    told = [telemetry(record) for record in logs("codex") if session in record.attributes.values()]
    calls = [one for one in seen(*told) if isinstance(one, ModelCalled)]

    assert all(call.stand_in for call in calls)
    assert len({call.request_id for call in calls}) == 3
    assert sum(call.tokens.input + call.tokens.cache_read for call in calls) == 17_100
    assert {one.stand_in for one in seen(*told) if isinstance(one, PromptSubmitted | RunStarted)} == {True}


def test_codex_names_a_shell_call_alike_on_every_channel() -> None:
    session = session_id("codex")
    rollout = items(lines("codex/rollout.jsonl"), "codex", session=session)
    told = [telemetry(record) for record in logs("codex") if session in record.attributes.values()]
    names = {one.name for one in seen(*recorded_hooks("codex"), *rollout, *told) if isinstance(one, ToolCalled)}

    assert names - {None} == {"Bash"}


# -- imagined sessions -------------------------------------------------------------------------------------------------


def test_a_resumed_session_has_two_runs() -> None:
    facts = [
        hook("SessionStart", source="startup"),
        hook("SessionEnd", reason="other"),
        hook("SessionStart", source="resume", model="claude-opus-5-5"),
    ]

    assert [one.source for one in seen(*facts) if isinstance(one, RunStarted)] == ["startup", "resume"]


def test_one_compaction_told_by_hooks_boundary_and_telemetry_is_one() -> None:
    boundary = {
        "type": "system",
        "subtype": "compact_boundary",
        "uuid": "u1",
        "sessionId": SESSION,
        "timestamp": "2026-11-20T22:00:00.000Z",
        "compactMetadata": {"trigger": "auto", "preTokens": 150_000, "postTokens": 9_000},
    }
    facts = [
        hook("PreCompact", trigger="auto", custom_instructions="secret"),
        hook("PostCompact", trigger="auto", compact_summary="what we did"),
        item(boundary),
        log("compaction", pre_tokens="150000", post_tokens=9000, trigger="auto"),
    ]

    assert totals(facts)["compactions"] == 1
    assert {(one.phase, one.pre_tokens) for one in seen(*facts) if isinstance(one, Compacted)} == {
        ("pre", None), ("post", None), ("boundary", 150_000), ("telemetry", 150_000),
    }  # fmt: skip
    assert [one for one in seen(*facts) if isinstance(one, TitleGiven)]


def test_a_background_subagent_has_only_been_launched() -> None:
    response = {"status": "async_launched", "agentId": "a1", "isAsync": True, "description": "secret"}
    found = seen(hook("PostToolUse", tool_name="Agent", tool_use_id="t1", tool_response=response))

    started = [one for one in found if isinstance(one, SubagentStarted)]
    assert [(one.agent_id, one.parent_tool_use_id, one.background) for one in started] == [("a1", "t1", True)]
    assert not [one for one in found if isinstance(one, SubagentEnded)]


def test_an_orphaned_stop_has_no_agent_type() -> None:
    (ended,) = seen(hook("SubagentStop", agent_id="a9", agent_type="", stop_hook_active=False))

    assert isinstance(ended, SubagentEnded)
    assert ended.agent_type is None
    assert totals([hook("SubagentStop", agent_id="a9", agent_type="")])["subagents"] == 0


def test_a_model_switch_counts_when_it_happened_not_when_it_was_asked_for() -> None:
    fields = {"from_model": "claude-opus-5-5", "to_model": "claude-haiku-5-5", "source": "command"}
    found = seen(hook("PreModelSwitch", **fields), hook("PostModelSwitch", **fields))

    assert [(one.from_model, one.to_model) for one in found if isinstance(one, ModelSwitched)] == [
        ("claude-opus-5-5", "claude-haiku-5-5")
    ]


def test_api_errors_end_the_turn_and_are_no_calls() -> None:
    line = {
        "type": "assistant",
        "isApiErrorMessage": True,
        "error": "rate_limit",
        "uuid": "u1",
        "sessionId": SESSION,
        "message": {"id": "m1", "model": "<synthetic>", "usage": {"input_tokens": 0}, "content": [{"type": "text"}]},
    }
    found = seen(
        hook("StopFailure", error="rate_limit", error_details="429 for dev@example.com", prompt_id="p1"),
        log("api_error", error="429 Too many", status_code="429", model="claude-opus-5-5", attempt=10),
        item(line),
    )

    assert [(one.error, one.stand_in) for one in found if isinstance(one, TurnEnded)] == [
        ("rate_limit", False),
        ("rate_limit", True),  # the transcript's, for sessions that no hook tells of
    ]
    assert [(one.error, one.stand_in) for one in found if isinstance(one, ModelFailed)] == [
        ("429", False), ("rate_limit", True),
    ]  # fmt: skip
    assert not [one for one in found if isinstance(one, ModelCalled)]


def test_numbers_told_as_text_are_numbers() -> None:
    (called, _) = observe(
        log(
            "api_request", model="m", request_id="r1", input_tokens="12", output_tokens="97.0", cost_usd="0.021988",
            cache_creation_tokens="4000", cache_creation_1h_tokens="1000", duration_ms="41", ttft_ms="nonsense",
        )
    )  # fmt: skip

    assert isinstance(called, ModelCalled)
    assert called.tokens == Tokens(input=12, output=97, cache_write_5m=3000, cache_write_1h=1000)
    assert (called.reported_pico_usd, called.duration_ms, called.ttft_ms) == (21_988_000_000, 41, None)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"cpu_percent": 37.5, "memory_bytes": 4096}, (375, 4096)),
        ({"cpu_percent": 400}, (4000, None)),
        ({"memory_bytes": 4096.4}, (None, 4096)),
        ({"cpu_percent": -1, "memory_bytes": 1}, (None, 1)),
    ],
)
def test_a_process_is_measured_by_what_is_told(told: dict[str, Any], expected: tuple[int | None, int | None]) -> None:
    for agent in ("claude", "codex", "gemini", "other"):
        [one] = seen(hook("ProcessMetrics", agent=agent, pid=7, **told))
        assert isinstance(one, ProcessMeasured)
        assert (one.cpu_millicores, one.memory_bytes) == expected


@pytest.mark.parametrize("cpu", [None, "a lot", True, float("inf"), float("nan"), 1e300, [1]])
def test_a_measurement_that_says_nothing_counts_nothing(cpu: Any) -> None:
    assert seen(hook("ProcessMetrics", cpu_percent=cpu)) == []


def test_unknown_things_are_unknown_and_nothing_more() -> None:
    assert seen(hook("SomethingNew", detail="x"), log("brand_new"), item({"type": "novelty", "uuid": "u"})) == [
        Unknown(at=NOW, kind="SomethingNew"),
        Unknown(at=NOW, kind="brand_new"),
        Unknown(at=NOW, kind="novelty"),
    ]


def assistant(**over: Any) -> dict[str, Any]:
    return {
        "type": "assistant",
        "uuid": "u2",
        "sessionId": SESSION,
        "requestId": "req_1",
        "version": "2.1.329",
        "gitBranch": "main",
        "message": {
            "id": "msg_1",
            "model": "claude-opus-5-5",
            "usage": {"input_tokens": 3, "output_tokens": 5, "server_tool_use": {"web_search_requests": 2}},
            "content": [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}],
        },
        **over,
    }


def test_a_forked_line_names_where_it_was_copied_from_and_calls_no_tool_again() -> None:
    for over in (
        {"forkedFrom": {"sessionId": "parent", "messageUuid": "u1"}},
        {"sessionId": "parent"},
        {"requestSessionId": "parent"},  # 2.1.329
    ):
        found = seen(item(assistant(**over)))
        assert [one.copied_from for one in found if isinstance(one, ModelCalled)] == ["parent"]
        assert not [one for one in found if isinstance(one, ToolCalled)]


def test_a_model_call_names_the_skill_at_work() -> None:
    (found,) = [one for one in seen(item(assistant(attributionSkill="pdf"))) if isinstance(one, ModelCalled)]
    assert found.skill == "pdf"


def test_results_of_a_forks_copied_tool_calls_are_copies_too() -> None:
    result = {
        "type": "user",
        "uuid": "u3",
        "sessionId": SESSION,
        "message": {"content": [{"type": "tool_result", "tool_use_id": "t1"}]},
        "toolUseResult": {"status": "completed", "agentId": "a1", "agentType": "Explore", "totalDurationMs": 5},
    }
    copied = seen(*items([assistant(requestSessionId="parent"), result]))
    own = seen(*items([assistant(requestSessionId=SESSION), result]))
    assert not [one for one in copied if isinstance(one, ToolCalled | SubagentStarted)]
    assert len([one for one in own if isinstance(one, ToolCalled | SubagentStarted)]) == 3


def test_a_final_answer_ends_the_turn_or_the_subagent_for_those_who_have_no_hooks() -> None:
    final = assistant(message={"id": "m9", "model": "claude-opus-5-5", "stop_reason": "end_turn", "content": []})
    (ended,) = [one for one in seen(item(final)) if isinstance(one, TurnEnded)]
    assert (ended.prompt_id, ended.error, ended.stand_in) == ("turn:m9", None, True)
    inner = {**final, "agentId": "a1", "isSidechain": True, "attributionAgent": "Explore"}
    (stopped,) = [one for one in seen(item(inner)) if isinstance(one, SubagentEnded)]
    assert (stopped.agent_id, stopped.agent_type, stopped.status) == ("a1", "Explore", "completed")
    assert not [one for one in seen(item(assistant())) if isinstance(one, TurnEnded)]


def test_a_limit_of_turns_ends_the_turn_with_an_error() -> None:
    note = {"type": "attachment", "uuid": "x", "sessionId": SESSION, "attachment": {"type": "max_turns_reached"}}
    assert [one.error for one in seen(item(note)) if isinstance(one, TurnEnded)] == ["max_turns_reached"]
    assert seen(item({**note, "attachment": {"type": "environment"}})) == []


def test_a_builtin_command_is_no_prompt_and_no_branch_is_none() -> None:
    told = log("user_prompt", prompt_length="8", command_name="compact", command_source="builtin")
    assert not [one for one in seen(told) if isinstance(one, PromptSubmitted)]
    assert [one.branch for one in seen(item(assistant(gitBranch="HEAD"))) if isinstance(one, SourceSeen)] == [None]


def test_a_sidechain_line_belongs_to_its_subagent_and_says_nothing_about_the_sessions_model() -> None:
    found = seen(item(assistant(isSidechain=True), subagent_id="a1"))

    call = next(one for one in found if isinstance(one, ModelCalled))
    assert (call.agent_id, call.sidechain, call.message_id, call.web_searches) == ("a1", True, "msg_1", 2)
    assert next(one for one in found if isinstance(one, SourceSeen)).model is None


def test_local_commands_and_meta_lines_are_no_prompts() -> None:
    def user(content: str, **over: Any) -> dict[str, Any]:
        return {"type": "user", "uuid": content, "message": {"role": "user", "content": content}, **over}

    facts = items(
        [
            user("fix it"),
            user("<local-command-stdout>ok</local-command-stdout>"),
            user("Caveat", isMeta=True),
            user("so far", isCompactSummary=True),
        ]
    )

    assert [one.chars for one in seen(*facts) if isinstance(one, PromptSubmitted)] == [6]


def test_a_subagents_meta_file_names_type_and_parent() -> None:
    meta = {"type": "subagent", "agentId": "a1", "agentType": "Explore", "toolUseId": "t9", "finished": True}
    started, ended = seen(item(meta))

    assert isinstance(started, SubagentStarted)
    assert isinstance(ended, SubagentEnded)
    assert (started.agent_type, started.parent_tool_use_id, ended.agent_id) == ("Explore", "t9", "a1")


def test_metrics_are_deltas_or_nothing() -> None:
    def point(name: str, value: float, temporality: str = "delta", **attributes: Any) -> OtlpRecord:
        return OtlpRecord(
            signal="metric", name=f"claude_code.{name}", attributes={"session.id": SESSION, **attributes}, resource={},
            value=value, temporality=temporality, time_unix_nano=1_795_209_185_000_000_000,
        )  # fmt: skip

    found = seen(
        telemetry(point("commit.count", 2)),
        telemetry(point("active_time.total", 7.828)),
        telemetry(point("lines_of_code.count", 3, type="removed")),
        telemetry(point("cost.usage", 5.0, "cumulative")),
    )

    assert [(one.what, one.amount) for one in found if isinstance(one, Counted)] == [
        ("commits", 2),
        ("active_ms", 7828),
    ]
    assert [one.removed for one in found if isinstance(one, LinesChanged)] == [3]


def test_gemini_hooks_and_telemetry() -> None:
    stamp = "2026-11-20T22:00:00.000Z"
    hooks = [
        hook("SessionStart", "gemini", source="startup", timestamp=stamp),
        hook("BeforeAgent", "gemini", prompt="hello", timestamp=stamp),
        hook("BeforeTool", "gemini", tool_name="run_shell_command", tool_input={"command": "exit 3"}, timestamp=stamp),
        hook(
            "AfterTool", "gemini", tool_name="run_shell_command", tool_input={"command": "exit 3"}, timestamp=stamp,
            tool_response={"llmContent": "Output: (empty)\nExit Code: 3"},
        ),
        hook("PreCompress", "gemini", trigger="auto", timestamp=stamp),
        hook("AfterAgent", "gemini", prompt="hello", prompt_response="hi", timestamp=stamp),
    ]  # fmt: skip
    response = log(
        "gemini_cli.api_response", "gemini-cli", model="gemini-3-pro", input_token_count=100, output_token_count=20,
        cached_content_token_count=60, thoughts_token_count=5, tool_token_count=0, duration_ms=9,
    )  # fmt: skip
    found = totals(hooks)

    assert (found["runs"], found["prompts"], found["tools"], found["failed"], found["compactions"]) == (1, 1, 1, 1, 0)
    call = next(one for one in observe(response) if isinstance(one, ModelCalled))
    assert call.tokens == Tokens(input=40, output=25, cache_read=60, reasoning=5)
    assert call.stand_in


def test_another_vendors_hooks_and_spans_are_read_by_common_names() -> None:
    span = OtlpRecord(
        signal="span",
        name="chat some-model",
        attributes={
            "gen_ai.conversation.id": SESSION,
            "gen_ai.response.model": "some-model",
            "gen_ai.response.id": "resp_1",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 4,
        },
        resource={"service.name": "othercode"},
        time_unix_nano=1_795_209_185_000_000_000,
        span_id="ab",
    )
    told = telemetry(span)
    found = totals([hook("UserPromptSubmit", "othercode", prompt="hi", prompt_id="p"), told])

    assert isinstance(told, TelemetryRecorded)
    assert (told.agent, found["prompts"], found["calls"], found["input"], found["output"]) == ("othercode", 1, 1, 10, 4)
    assert seen(hook("MadeUpHook", "othercode")) == [Unknown(at=NOW, kind="MadeUpHook")]


def test_a_refused_tool_call_is_denied_in_the_transcript() -> None:
    line = {
        "type": "user",
        "uuid": "u3",
        "sessionId": SESSION,
        "message": {"content": [{"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": "no"}]},
        "permissionDecision": {"decision": "reject", "source": "user_reject"},
    }
    found = seen(item(line))

    assert [one.status for one in found if isinstance(one, ToolCalled)] == ["denied"]
    assert [one.decision for one in found if isinstance(one, PermissionDecided)] == ["reject"]
