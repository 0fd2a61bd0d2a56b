"""The lab's recorded sessions, told by three channels in any order, give the same rows and the lab's truth."""

from __future__ import annotations

import random
from typing import Any

import pytest

from domain.sessions.reading import observe
from projections.base import Rows
from projections.sessions import PROJECTION, list_price
from projections.sessions.fold import build
from projections.sessions.reconcile import cost_of, lines_of
from projections.sessions.tables import LLM_SESSION, PROMPT, SESSION, SUBAGENT, TALLY, TOOL_CALL
from projections.sessions.totals import totals_of
from tests.projections.session_facts import (
    Keyed,
    codex_rollout,
    fold_all,
    hooks_of,
    open_plain,
    otlp_of,
    recorded,
    snapshot,
    transcript_of,
)

# Session, micro-USD, API requests (lab/README.md); distinct tool calls, input and output tokens.
# The lab's index says 14 tool calls of claude-0447534f, one of them failing: the records of 7 PreToolUse hooks and 7 OTLP results, which
# are the same 7 calls.  The session page says 9 and 3 failures, because the transcript also holds TaskCreate and TaskUpdate, which are
# switched off and failed before any hook.
TRUTH = [
    ("claude-0447534f", 82_936, 10, 9, 149, 471),
    ("claude-840b8813", 25_160, 2, 1, 25, 63),
    ("claude-d9f5b624", 20_348, 1, 0, 12, 15),
    ("claude-ebe32a83", 20_348, 1, 0, 12, 15),
]
NAMES = [row[0] for row in TRUTH]
READ = build(observe, list_price, open_plain)


def told(name: str) -> dict[str, list[Keyed]]:
    return {"h": hooks_of(name), "o": otlp_of(name), "t": transcript_of(name)}


def interleaved(channels: dict[str, list[Keyed]], seed: int) -> list[Keyed]:
    facts = [fact for channel in channels.values() for fact in channel]
    random.Random(seed).shuffle(facts)
    return facts


def llm_of(rows: Rows, name: str) -> Any:
    return next(row for row in rows.all(LLM_SESSION) if row.llm_session_id.startswith(name.removeprefix("claude-")))


@pytest.mark.parametrize(("name", "cost", "requests", "tools", "tokens_in", "tokens_out"), TRUTH)
def test_a_recorded_session_reconciles_to_the_last_digit(
    name: str, cost: int, requests: int, tools: int, tokens_in: int, tokens_out: int
) -> None:
    channels = told(name)
    rows = fold_all(READ, recorded(channels["h"] + channels["o"] + channels["t"]))
    llm = llm_of(rows, name)
    sums = totals_of(rows, llm.llm_session_id)
    shown = cost_of(llm, sums)

    assert shown.cost_usd_micros == cost
    assert shown.source == "telemetry"
    assert shown.complete
    assert shown.sources.telemetry_usd_micros == cost
    assert shown.sources.transcript_usd_micros == cost
    assert shown.sources.priced_usd_micros == cost
    assert shown.sources.metric_usd_micros == cost
    assert shown.reconciliation.verdict == "agrees"
    assert shown.reconciliation.metric_agrees
    assert sum(s.calls for s in sums) == requests
    assert (sum(s.input for s in sums), sum(s.output for s in sums)) == (tokens_in, tokens_out)
    assert (llm.tool_calls, llm.prompts, llm.turns, llm.runs) == (tools, 1, 1, 1)
    session = rows.get(SESSION, (llm.org_id, llm.llm_session_id))
    assert session is not None
    assert (session.status, session.outcome) == ("ended", "completed")
    assert session.outcome_rule == "session_end:other after stop"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channel", ["o", "t"])
def test_one_channel_alone_tells_the_same_cost(name: str, channel: str) -> None:
    rows = fold_all(READ, recorded(told(name)[channel]))
    llm = llm_of(rows, name)
    shown = cost_of(llm, totals_of(rows, llm.llm_session_id))
    assert shown.cost_usd_micros == next(row[1] for row in TRUTH if row[0] == name)
    assert shown.reconciliation.verdict == "agrees"  # our prices and the channel's own word


def test_hooks_alone_tell_no_cost() -> None:
    rows = fold_all(READ, recorded(hooks_of(NAMES[0])))
    llm = llm_of(rows, NAMES[0])
    shown = cost_of(llm, totals_of(rows, llm.llm_session_id))
    assert shown.cost_usd_micros is None
    assert shown.reconciliation.verdict == "none"


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_channels_does_not_matter(name: str) -> None:
    channels = told(name)
    first = snapshot(fold_all(READ, recorded(channels["h"] + channels["o"] + channels["t"])))
    for order in ("hto", "oht", "oth", "tho", "toh"):
        facts = [fact for letter in order for fact in channels[letter]]
        assert snapshot(fold_all(READ, recorded(facts))) == first, order


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("batch", [1, 7, 10**9])
def test_interleaving_batches_and_repetition_do_not_matter(seed: int, batch: int) -> None:
    name = NAMES[0]
    channels = told(name)
    first = snapshot(fold_all(READ, recorded(channels["h"] + channels["o"] + channels["t"])))
    events = recorded(interleaved(channels, seed))
    assert snapshot(fold_all(READ, events, batch=batch, twice=seed % 2 == 1)) == first


def test_folding_the_whole_log_again_changes_nothing() -> None:
    events = recorded([fact for name in NAMES for fact in interleaved(told(name), 1)])
    rows = fold_all(READ, events, batch=50)
    before = snapshot(rows)
    again = fold_all(READ, events, batch=13, rows=rows)
    assert snapshot(again) == before
    assert snapshot(fold_all(READ, events, batch=999)) == before


def test_touches_names_every_row_that_fold_may_get() -> None:
    class Watched(Rows):
        asked: set[tuple[str, Any]]

        def get(self, table: Any, key: Any) -> Any:
            self.asked.add((table.name, key))
            return super().get(table, key)

    rows = Watched()
    for name in NAMES:
        for event in recorded(interleaved(told(name), 3)):
            named = {(table.name, key) for table, key in READ.touches(event)}
            rows.asked = set()
            READ.fold(rows, event)
            assert rows.asked <= named, event


def test_the_tree_of_the_demo_session() -> None:
    channels = told(NAMES[0])
    rows = fold_all(READ, recorded(interleaved(channels, 5)))
    llm = llm_of(rows, NAMES[0])
    tools = list(rows.all(TOOL_CALL))
    assert sorted((t.name, t.status) for t in tools) == [
        ("Agent", "succeeded"),
        ("Bash", "failed"),
        ("Bash", "succeeded"),
        ("Bash", "succeeded"),
        ("Edit", "succeeded"),
        ("Read", "succeeded"),
        ("TaskCreate", "failed"),  # unknown tools: only PostToolBatch and the transcript show them
        ("TaskUpdate", "failed"),
        ("Write", "succeeded"),
    ]
    (subagent,) = rows.all(SUBAGENT)
    assert (subagent.agent_type, subagent.status, subagent.real) == ("general-purpose", "completed", True)
    assert subagent.parent_tool_use_id == next(t.tool_use_id for t in tools if t.name == "Agent")
    own = [s for s in totals_of(rows, llm.llm_session_id) if s.agent_id == subagent.agent_id]
    assert (sum(s.calls for s in own), sum(s.reported or 0 for s in own)) == (2, 25_060_000_000)
    assert [t.name for t in tools if t.agent_id == subagent.agent_id] == ["Bash"]
    lines = lines_of(llm)
    assert (lines.added, lines.removed, lines.source) == (2, 2, "cost-state")
    assert (llm.agent_version, llm.branch, llm.model) == ("2.1.329", "master", "claude-opus-5-5")


def test_a_refused_tool_is_denied_and_the_question_counted() -> None:
    rows = fold_all(READ, recorded(interleaved(told(NAMES[1]), 2)))
    llm = llm_of(rows, NAMES[1])
    assert (llm.tool_calls, llm.tool_denials, llm.tool_failures) == (1, 1, 0)
    assert [(t.name, t.n) for t in rows.all(TALLY) if t.name.startswith("permission")] == [("permission_request", 1)]


def test_a_slash_command_is_one_prompt() -> None:
    rows = fold_all(READ, recorded(interleaved(told(NAMES[2]), 2)))
    (prompt,) = [row for row in rows.all(PROMPT) if row.submitted_at is not None]
    assert (prompt.command, prompt.text) == ("hi", "/hi bob")


def test_unbound_the_projection_opens_nothing() -> None:
    rows = fold_all(PROJECTION, recorded(told(NAMES[0])["h"]))
    assert [prompt.text for prompt in rows.all(PROMPT)] == [None]


def test_codex_counts_each_response_once_and_prices_it() -> None:
    hooks, otlp, lines = hooks_of("codex", agent="codex"), otlp_of("codex", agent="codex"), codex_rollout()
    shown = []
    for facts in (hooks + otlp + lines, lines + otlp + hooks, otlp + lines + hooks, lines):
        rows = fold_all(READ, recorded(facts), batch=3)
        (llm,) = rows.all(LLM_SESSION)
        sums = totals_of(rows, llm.llm_session_id)
        cost = cost_of(llm, sums)
        assert cost.sources.telemetry_usd_micros is None  # Codex reports no cost
        assert cost.source == "priced"
        assert cost.reconciliation.verdict == "partial"
        shown.append(
            (sum(s.calls for s in sums), sum(s.input for s in sums), sum(s.output for s in sums), cost.cost_usd_micros)
        )
    assert len(set(shown)) == 1
    assert shown[0][0] > 0
    assert shown[0][3]


def test_codex_telemetry_alone_still_counts() -> None:
    rows = fold_all(READ, recorded(otlp_of("codex", agent="codex")))
    full = fold_all(READ, recorded(codex_rollout()))
    (llm,) = rows.all(LLM_SESSION)
    assert sum(s.input for s in totals_of(rows, llm.llm_session_id)) == sum(
        s.input for s in totals_of(full, llm.llm_session_id)
    )


def test_bound_to_the_runtime_titles_are_opened_and_stay_dark_for_erased_people() -> None:
    class Ring:
        def __init__(self, *, erased: bool) -> None:
            self.erased = erased

        def open_text(self, record: Any, sealed: Any) -> str | None:
            return None if self.erased else sealed.text

    events = recorded(told(NAMES[0])["h"])
    texts = [
        [prompt.text for prompt in fold_all(PROJECTION.bound(Ring(erased=erased)), events).all(PROMPT)]
        for erased in (False, True)
    ]
    assert texts == [["CREWKIT-DEMO with tasks"], [None]]
