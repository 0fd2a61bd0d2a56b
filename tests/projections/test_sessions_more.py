"""More sessions of the real Claude Code CLI (2.1.329): forked, compacted, with background and orphaned subagents, stopped by a
limit of turns.  The truth is what the CLI printed (`total_cost_usd`) and what the fake of its model API counted.
"""

from __future__ import annotations

import itertools
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.sessions.events import ChannelFact
from domain.sessions.keys import item_key
from domain.sessions.reading import observe
from projections.base import Rows
from projections.sessions import list_price
from projections.sessions.assemble import Parts, happenings, subagent
from projections.sessions.fold import build
from projections.sessions.reconcile import cost_of
from projections.sessions.tables import LLM_SESSION, SUBAGENT, TALLY, LlmSessionRow
from projections.sessions.totals import totals_of
from schemas.sessions import Cost, Happenings
from tests.domain.told import items
from tests.projections.session_facts import (
    PERSON,
    RECEIVED,
    Keyed,
    fold_all,
    hooks_of,
    open_plain,
    otlp_of,
    recorded,
    snapshot,
)

FOLDER = Path(__file__).parents[1] / "recordings_more"
READ = build(observe, list_price, open_plain)
ORDERS = ["".join(order) for order in itertools.permutations("hot")]

# Recording and conversation; cost in micro-USD, API requests; prompts, turns, tool calls, failures, subagents, compactions, runs.
TRUTH = [
    ("fork", "454fc603", 71_308, 8, (1, 1, 7, 1, 1, 0, 1)),
    ("fork", "b2cb25ac", 20_348, 1, (1, 1, 0, 0, 0, 0, 1)),
    ("compact", "555b3b59", 100_912, 11, (2, 2, 7, 1, 1, 1, 3)),
    ("bg", "aef7bfd5", 54_476, 5, (2, 2, 2, 0, 1, 0, 1)),
    ("orphan", "798c956c", 46_148, 3, (1, 1, 2, 0, 1, 0, 1)),
    ("turns", "b6bc1b7e", 25_460, 2, (1, 1, 2, 0, 0, 0, 1)),
]


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def facts_of(lines: list[dict[str, Any]], session: str, subagent_id: str | None = None) -> list[ChannelFact]:
    facts = items(lines, subagent_id=subagent_id, session=session, received_at=RECEIVED)
    return [msgspec.structs.replace(fact, person_id=PERSON) for fact in facts]


def transcripts_of(name: str) -> list[Keyed]:
    """Every transcript of a recording, taken as the API takes it."""
    found: list[Keyed] = []
    first = ""
    for path in sorted((FOLDER / name).glob("transcript*.jsonl")):  # a fork's first: "-2" comes before "."
        lines = objects(path)
        first = next(line["sessionId"] for line in lines if "sessionId" in line)
        found += [(item_key(line), fact) for line, fact in zip(lines, facts_of(lines, first), strict=True)]
    for path in sorted((FOLDER / name).glob("subagents/*.jsonl")):
        lines = objects(path)
        facts = facts_of(lines, first, path.stem.removeprefix("agent-"))
        found += [(item_key(line), fact) for line, fact in zip(lines, facts, strict=True)]
    return found


def told(name: str) -> dict[str, list[Keyed]]:
    other = f"../recordings_more/{name}"
    return {"h": hooks_of(other), "o": otlp_of(other), "t": transcripts_of(name)}


def fold(name: str, order: str) -> Rows:
    channels = told(name)
    return fold_all(READ, recorded([fact for letter in order for fact in channels[letter]]))


def llm_of(rows: Rows, start: str) -> LlmSessionRow:
    return next(row for row in rows.all(LLM_SESSION) if row.llm_session_id.startswith(start))


def shown(rows: Rows, start: str) -> tuple[Cost, Happenings]:
    llm = llm_of(rows, start)
    ident = llm.llm_session_id
    tallies: dict[str, int] = {}
    for row in rows.all(TALLY):
        if row.llm_session_id == ident:
            tallies[row.name] = max(tallies.get(row.name, 0), row.n)
    sums = totals_of(rows, ident)
    return cost_of(llm, sums), happenings(llm, Parts(totals={ident: sums}, tallies={ident: tallies}))


@pytest.mark.parametrize(("name", "start", "micros", "requests", "counts"), TRUTH)
def test_totals_are_the_agents_own(name: str, start: str, micros: int, requests: int, counts: tuple[int, ...]) -> None:
    cost, n = shown(fold(name, "hot"), start)
    assert (cost.cost_usd_micros, cost.source, cost.complete) == (micros, "telemetry", True)
    assert (cost.sources.telemetry_usd_micros, cost.sources.priced_usd_micros) == (micros, micros)
    assert cost.reconciliation.verdict == "agrees"
    assert n.model_calls == requests
    assert (
        n.prompts, n.turns, n.tool_calls, n.tool_failures, n.subagents, n.compactions, n.runs,
    ) == counts  # fmt: skip


@pytest.mark.parametrize("name", sorted({row[0] for row in TRUTH}))
def test_the_order_of_channels_does_not_matter(name: str) -> None:
    first, *others = (snapshot(fold(name, order)) for order in ORDERS)
    for order, other in zip(ORDERS[1:], others, strict=True):
        assert other == first, order


def test_telemetry_alone_tells_runs_and_no_builtin_command_as_a_prompt() -> None:
    _, n = shown(fold("compact", "o"), "555b3b59")
    assert (n.runs, n.prompts, n.compactions) == (3, 2, 1)


@pytest.mark.parametrize(
    ("name", "start", "micros", "turns"),
    [("fork", "454fc603", 71_308, 1), ("fork", "b2cb25ac", 20_348, 1), ("bg", "aef7bfd5", 54_476, 2)],
)
def test_transcripts_alone_tell_what_was_paid_and_the_turns(name: str, start: str, micros: int, turns: int) -> None:
    cost, n = shown(fold(name, "t"), start)
    assert (cost.cost_usd_micros, n.turns) == (micros, turns)


def test_a_fork_shows_its_parents_total_as_inherited() -> None:
    rows = fold("fork", "hot")
    cost, _ = shown(rows, "b2cb25ac")
    assert llm_of(rows, "b2cb25ac").forked_from == llm_of(rows, "454fc603").llm_session_id
    assert cost.sources.transcript_usd_micros == 91_656
    assert [cause.code for cause in cost.reconciliation.causes] == ["inherited_total"]


def test_a_limit_of_turns_is_why_the_session_failed() -> None:
    llm = llm_of(fold("turns", "hot"), "b6bc1b7e")
    assert (llm.status, llm.outcome, llm.outcome_rule) == ("ended", "failed", "stop_failure:max_turns_reached")


@pytest.mark.parametrize(
    ("name", "status", "over"), [("bg", "completed", "completed"), ("orphan", "running", "unfinished")]
)
@pytest.mark.parametrize("order", ["hot", "t"])
def test_background_subagents(name: str, status: str, over: str, order: str) -> None:
    rows = fold(name, order)
    (row,) = [row for row in rows.all(SUBAGENT) if row.real]
    assert (row.status, row.background) == (status, True)
    assert subagent(row, "timed_out", Parts()).status == over
    assert isinstance(row.started_at, datetime)
