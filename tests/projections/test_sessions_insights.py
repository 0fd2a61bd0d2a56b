"""Insights: numbers by their formulas, rules that speak only when there is enough to speak of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from projections.sessions.insights import RULES, insights
from schemas.insights import Efficiency, Insights
from schemas.sessions import Happenings, SessionDetail

SUMMARY = {
    "id": "s1",
    "kind": "cli",
    "agent": "claude",
    "status": "ended",
    "status_rule": "r",
    "outcome": "completed",
    "outcome_rule": "r",
    "title": "my secret plan",
    "person_id": None,
    "repo": None,
    "branch": None,
    "commit": None,
    "project": None,
    "models": [],
    "started_at": None,
    "last_activity_at": None,
    "duration_ms": 125_000,
    "tokens": {},
    "cost_usd_micros": None,
    "cost_source": None,
    "cost_complete": True,
    "cost_verdict": "agrees",
    "lines": {},
    "llm_sessions": 1,
}
LLM = dict.fromkeys(("agent_version", "entrypoint", "permission_mode", "model", "team", "forked_from")) | dict.fromkeys(
    ("outcome", "outcome_rule", "person_id", "repo", "branch", "commit", "project")
)
LLM |= dict.fromkeys(("started_at", "ended_at", "last_activity_at")) | {
    "id": "l1",
    "session_id": "s1",
    "agent": "claude",
    "models": [],
    "status": "ended",
    "status_rule": "r",
    "counts": {},
    "tokens": {},
    "cost": {},
    "lines": {},
    "by_model": [],
    "facts": {},
    "unknown_kinds": {},
    "clock_skew_ms": 0,
}
SUBAGENT = {
    "agent_id": "a1",
    "agent_type": "Explore",
    "status": "completed",
    "background": False,
    "parent_tool_use_id": None,
    "model": None,
    "started_at": None,
    "ended_at": None,
    "duration_ms": None,
    "model_calls": 2,
    "tool_calls": 0,
    "tool_failures": 0,
    "tokens": {},
}


def told(model_ms: int | None = None, **given: Any) -> Insights:
    """The insights of a session with these counts; `tools`, `subagent_costs`, `unpriced` and fields of the summary too."""
    tools = given.pop("tools", [])
    subagents = [{**SUBAGENT, "cost_usd_micros": cost} for cost in given.pop("subagent_costs", [])]
    unpriced = given.pop("unpriced", 0)
    counts = {name: given.pop(name) for name in Happenings.__struct_fields__ if name in given}
    detail = {
        "session": {**SUMMARY, **given, "counts": counts},
        "cost": {"sources": {"unpriced_calls": unpriced, "unpriced_models": ["m"] * bool(unpriced)}},
        "llm_sessions": [{**LLM, "tools": tools, "subagents": subagents}],
    }
    return insights(msgspec.convert(detail, SessionDetail), model_ms)


def test_numbers_follow_their_formulas() -> None:
    tokens = {"input": 100, "output": 40, "cache_read": 600, "cache_write_5m": 200, "cache_write_1h": 100}
    found = told(
        4_000,
        tokens=tokens,
        turns=4,
        prompts=5,
        model_calls=8,
        model_failures=2,
        tool_calls=10,
        tool_failures=1,
        tool_denials=2,
        permission_requests=3,
        failed_turns=1,
        cost_usd_micros=1_000,
        subagent_costs=[100, 150],
        tools=[{"name": "Bash", "calls": 10, "duration_ms": 6_000}],
    ).efficiency
    values = {name: getattr(found, name).value for name in Efficiency.__struct_fields__}
    assert values == {
        "cache_hit_rate": 0.6,
        "tokens_per_turn": 260,
        "context_per_model_call": 125,
        "cost_per_turn_usd_micros": 250,
        "failures_per_tool_call": 0.1,
        "denials_per_tool_call": 0.2,
        "permission_requests_per_tool_call": 0.3,
        "retry_rate": 0.2,
        "failed_turn_rate": 0.25,
        "subagent_cost_share": 0.25,
        "tool_time_share": 0.6,
    }


def test_what_is_not_known_is_null_and_never_a_number() -> None:
    found = told(subagent_costs=[None], cost_usd_micros=10)
    numbers = found.efficiency
    assert {getattr(numbers, name).value for name in Efficiency.__struct_fields__} == {None}
    assert (found.recommendations, found.tips, found.ai, found.generated_by) == ([], [], None, "rules")


def test_prompts_stand_in_for_turns_without_an_end() -> None:
    assert told(prompts=2, cost_usd_micros=10).efficiency.cost_per_turn_usd_micros.value == 5


FAILING = [{"name": "Read", "calls": 6}, {"name": "Bash", "calls": 4, "failed": 3}]


@pytest.mark.parametrize(
    ("code", "loud", "quiet"),
    [
        ("low_cache_hits", {"tokens": {"input": 50_000}}, {"tokens": {"input": 49_999}}),
        ("low_cache_hits", {"tokens": {"input": 50_000}}, {"tokens": {"input": 50_000, "cache_read": 50_000}}),
        (
            "large_context",
            {"tokens": {"cache_read": 600_005}, "model_calls": 5},
            {"tokens": {"cache_read": 600_000}, "model_calls": 5},
        ),
        ("failing_tools", {"tool_calls": 10, "tool_failures": 3}, {"tool_calls": 10, "tool_failures": 2}),
        ("failing_tools", {"tool_calls": 5, "tool_failures": 2}, {"tool_calls": 4, "tool_failures": 2}),
        ("denied_tools", {"tool_calls": 10, "tool_denials": 3}, {"tool_calls": 10, "tool_denials": 2}),
        ("permission_waits", {"tool_calls": 9, "permission_requests": 3}, {"tool_calls": 2, "permission_requests": 2}),
        ("model_retries", {"model_calls": 5, "model_failures": 2}, {"model_calls": 5, "model_failures": 1}),
        ("failed_turns", {"turns": 2, "failed_turns": 1}, {"turns": 4, "failed_turns": 1}),
        (
            "costly_subagents",
            {"cost_usd_micros": 100_000, "subagent_costs": [60_001]},
            {"cost_usd_micros": 99_999, "subagent_costs": [90_000]},
        ),
        (
            "slow_tools",
            {"model_ms": 10_000, "tools": [{"name": "Bash", "calls": 1, "duration_ms": 110_000}]},
            {"model_ms": None, "tools": [{"name": "Bash", "calls": 1, "duration_ms": 110_000}]},
        ),
        ("unpriced_calls", {"unpriced": 1}, {"unpriced": 0}),
    ],
)
def test_a_rule_speaks_beyond_its_threshold_and_only_then(code: str, loud: Any, quiet: Any) -> None:
    spoken = {one.code: one for one in told(**loud).recommendations}
    assert code in spoken
    assert code not in {one.code for one in told(**quiet).recommendations}
    assert spoken[code].text.endswith(".")
    assert spoken[code].evidence


def test_every_rule_measures_something_and_is_documented() -> None:
    assert {rule.metric for rule in RULES} <= set(Efficiency.__struct_fields__)
    text = (Path(__file__).parents[2] / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    for rule in RULES:
        assert f"{'<' if rule.below else '>'} {rule.threshold:,g} " in rows[rule.code], rule.code


def test_evidence_names_the_tool_that_weighs_most() -> None:
    (one,) = told(tool_calls=10, tool_failures=3, tools=FAILING).recommendations
    assert one.evidence == {"value": 0.3, "part": 3, "whole": 10, "tool": "Bash", "tool_calls": 4, "tool_part": 3}


def test_tips_follow_from_recommendations_and_counts_each_once() -> None:
    found = told(
        tool_calls=60,
        tool_failures=30,
        compactions=1,
        model_calls=5,
        tokens={"cache_read": 10**6},
        lines={"added": 300, "removed": 100},
    )
    assert [tip.code for tip in found.tips] == [
        "one_goal_per_session",
        "teach_the_repository",
        "delegate_searches",
        "commit_small_steps",
    ]
    assert [tip.code for tip in told(compactions=2).tips] == ["one_goal_per_session"]


def test_the_summary_is_a_sentence_of_numbers_without_anybodys_words() -> None:
    tokens = {"input": 500, "cache_read": 1_500}
    found = told(
        turns=1, model_calls=2, tool_calls=3, tool_failures=1, subagents=1, tokens=tokens, cost_usd_micros=1_020_300
    )
    assert found.summary == (
        "Completed after 1 turn in 2 min, 2 model calls, 3 tool calls (1 failed), 2,000 tokens, 1 subagent,"
        " 75% read from cache, 1.020300 USD."
    )
    assert "secret" not in found.summary
    assert told(status="active", cost_complete=False).summary.startswith("Under way after 0 turns in 2 min")
    assert "at least 0.000005 USD" in told(cost_usd_micros=5, cost_complete=False).summary
    assert told().summary.endswith("cost unknown.")
