"""The rules of the sessions fold, one by one, over hand-made observations."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.kernel import Sealed
from domain.pricing import Priced
from domain.sessions import observations as o
from domain.sessions.events import (
    ChannelFact,
    Context,
    HookRecorded,
    SessionEnded,
    SessionReset,
    SessionStarted,
    SessionTimedOut,
    TelemetryRecorded,
    TranscriptRecorded,
)
from domain.sessions.observations import Seen, Tokens
from projections.base import Rows
from projections.sessions.assemble import Parts, happenings, subagent
from projections.sessions.fold import build
from projections.sessions.merge import INT_MAX
from projections.sessions.process import use_of
from projections.sessions.reconcile import cost_of, lines_of
from projections.sessions.tables import (
    LLM_SESSION,
    MODEL_CALL,
    PROMPT,
    SESSION,
    SUBAGENT,
    TALLY,
    TOOL_CALL,
    LlmSessionRow,
    ModelCallRow,
    SessionRow,
    SubagentRow,
)
from projections.sessions.totals import CallTotals, micros, totals_of
from schemas.sessions import Cost, ProcessUse
from tests.projections.session_facts import ORG, PERSON, RECEIVED, Keyed, fold_all, recorded, snapshot

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
OBSERVED: dict[str, list[Seen]] = {}
NUMBER = itertools.count()
PICO = 10**6  # per micro-USD


def observe(fact: ChannelFact) -> list[Seen]:
    return OBSERVED[fact.kind]


def pricing(call: ModelCallRow) -> Priced:
    """Ten micro-dollars per output token of model `known`; nothing else has a price."""
    if call.model != "known":
        return Priced(None, reason="unknown_model")
    return Priced(call.output_tokens * 10 * PICO, "test")


READ = build(observe, pricing, lambda _: {"prompt": "hello"})


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def fact(cls: Any, seconds: float, *seen: Seen, llm: str = "A", work_id: str | None = None, **extra: Any) -> Keyed:
    kind = f"k{next(NUMBER)}"
    OBSERVED[kind] = list(seen)
    return kind, cls(
        agent="claude",
        llm_session_id=llm,
        kind=kind,
        occurred_at=at(seconds),
        person_id=PERSON,
        context=Context(work_id=work_id),
        **extra,
    )


def hook(seconds: float, *seen: Seen, **extra: Any) -> Keyed:
    return fact(HookRecorded, seconds, *seen, **extra)


def otlp(seconds: float, *seen: Seen, **extra: Any) -> Keyed:
    return fact(TelemetryRecorded, seconds, *seen, signal="log", **extra)


def line(seconds: float, *seen: Seen, **extra: Any) -> Keyed:
    return fact(TranscriptRecorded, seconds, *seen, **extra)


def called(seconds: float, channel: str = "telemetry", *, out: int = 10, **extra: Any) -> o.ModelCalled:
    values: dict[str, Any] = {"model": "known", "tokens": Tokens(input=1, output=out)} | extra
    if channel == "telemetry" and "reported_pico_usd" not in values:
        values["reported_pico_usd"] = out * 10 * PICO
    return o.ModelCalled(at=at(seconds), channel=channel, **values)


def turn(seconds: float, prompt: str = "p1", *, stop: float | None = None, error: str | None = None) -> list[Keyed]:
    found = [hook(seconds, o.PromptSubmitted(at=at(seconds), prompt_id=prompt))]
    if stop is not None:
        found.append(hook(stop, o.TurnEnded(at=at(stop), prompt_id=prompt, error=error)))
    return found


def start(seconds: float, source: str = "startup") -> Keyed:
    return hook(seconds, o.RunStarted(at=at(seconds), source=source))


def end(seconds: float, reason: str = "other") -> Keyed:
    return hook(seconds, o.RunEnded(at=at(seconds), reason=reason))


def fold(*facts: Any) -> Rows:
    """Fold in the order given; other orders, batches and repetitions must give the same rows."""
    events = recorded(facts)
    rows = fold_all(READ, events)
    first = snapshot(rows)
    assert snapshot(fold_all(READ, events, batch=1, twice=True)) == first
    return rows


def fold_any_order(*facts: Any) -> Rows:
    rows = fold(*facts)
    first = snapshot(rows)
    for seed in range(8):
        other = list(facts)
        random.Random(seed).shuffle(other)
        assert snapshot(fold_all(READ, recorded(other), batch=2)) == first, seed
    return rows


def llm_of(rows: Rows, llm: str = "A") -> LlmSessionRow:
    row = rows.get(LLM_SESSION, (ORG, llm))
    assert row
    return row


def session_of(rows: Rows, session: str = "A") -> SessionRow:
    row = rows.get(SESSION, (ORG, session))
    assert row
    return row


def cost(rows: Rows, llm: str = "A") -> Cost:
    return cost_of(llm_of(rows, llm), totals_of(rows, llm))


def calls(rows: Rows, llm: str = "A") -> int:
    return sum(total.calls for total in totals_of(rows, llm))


# -- status and outcome ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "status", "outcome", "rule"),
    [
        ([start(0), *turn(1, stop=5)], "active", None, None),
        ([start(0), *turn(1, stop=5), end(6)], "ended", "completed", "session_end:other after stop"),
        ([start(0), *turn(1, stop=5, error="rate_limit"), end(6)], "ended", "failed", "stop_failure:rate_limit"),
        ([start(0), *turn(1), end(6, "logout")], "ended", "abandoned", "session_end:logout without stop"),
        ([start(0), end(6)], "ended", "unknown", "session_end:other without prompt"),
        (
            [start(0), *turn(1), otlp(2, o.ModelFailed(at=at(2), error="529")), end(6)],
            "ended",
            "failed",
            "api_error:529",
        ),
        (
            [
                start(0),
                *turn(1),
                otlp(2, o.ModelFailed(at=at(2), error="529")),
                otlp(3, called(3, request_id="r")),
                end(6),
            ],
            "ended",
            "abandoned",
            "session_end:other without stop",
        ),
        ([start(0), *turn(1, stop=2), end(3), start(9, "resume")], "active", None, None),
    ],
)
def test_status_and_outcome_name_their_rule(
    facts: list[Keyed], status: str, outcome: str | None, rule: str | None
) -> None:
    row = session_of(fold_any_order(*facts))
    assert (row.status, row.outcome, row.outcome_rule) == (status, outcome, rule)


def test_a_silent_session_times_out_and_wakes_up_again() -> None:
    facts = [start(0), *turn(1, stop=5)]
    silent = SessionTimedOut(session_id="A", last_activity_at=at(5), timed_out_at=at(2000), limit_s=1800)
    row = session_of(fold(*facts, silent))
    assert (row.status, row.status_rule) == ("timed_out", "silent for 1800 s")
    assert (row.outcome, row.outcome_rule) == ("completed", "timeout after stop")
    awake = session_of(fold(*facts, silent, *turn(3000, "p2")))
    assert (awake.status, awake.outcome) == ("active", None)
    backfill = session_of(fold(*facts, silent, line(3, called(3, "transcript", message_id="m"))))
    assert backfill.status == "timed_out"  # an older record is no activity


def test_a_declared_end_counts_until_work_goes_on() -> None:
    opened = SessionStarted(session_id="A", kind="cli", person_id=PERSON, started_at=at(0))
    over = SessionEnded(session_id="A", outcome="failed", ended_at=at(10))
    row = session_of(fold(opened, *turn(1), over))
    assert (row.status, row.outcome, row.outcome_rule) == ("ended", "failed", "session.ended")
    assert session_of(fold(opened, *turn(1), over, *turn(20, "p2"))).status == "active"


def test_a_dashboard_session_is_active_again_after_a_reset() -> None:
    opened = SessionStarted(session_id="A", kind="dashboard", person_id=PERSON, started_at=at(0))
    over = SessionEnded(session_id="A", outcome="completed", ended_at=at(10))
    silent = SessionTimedOut(session_id="A", last_activity_at=at(0), timed_out_at=at(2000), limit_s=1800)
    again = SessionReset(session_id="A", reset_at=at(3000))
    for end_of_it in (over, silent):
        assert session_of(fold(opened, end_of_it)).status != "active"
        row = session_of(fold(opened, end_of_it, again))
        assert (row.status, row.outcome, row.last_activity_at) == ("active", None, at(3000))
    assert session_of(fold(opened, over, again, over)).status == "active"  # that end was before


def test_resume_keeps_the_session_and_counts_runs() -> None:
    rows = fold_any_order(start(0), *turn(1, stop=2), end(3), start(10, "resume"), *turn(11, "p2", stop=12), end(13))
    row = llm_of(rows)
    assert (row.runs, row.prompts, row.turns, row.status) == (2, 2, 2, "ended")
    assert row.ended_at == at(13)


# -- model calls -------------------------------------------------------------------------------------------------------


def test_lines_of_one_response_and_its_telemetry_are_one_call() -> None:
    rows = fold_any_order(
        *(line(n, called(n, "transcript", request_id="r1", message_id="m1", out=n)) for n in (1, 2, 3)),
        otlp(4, called(4, request_id="r1", out=7)),
    )
    (call,) = rows.all(MODEL_CALL)
    assert (call.output_tokens, call.at, call.telemetry, call.transcript) == (7, at(4), True, True)
    assert cost(rows).sources.priced_usd_micros == 70


def test_without_telemetry_the_largest_usage_of_a_response_counts() -> None:
    rows = fold_any_order(*(line(n, called(n, "transcript", message_id="m1", out=n)) for n in (1, 5, 3)))
    (total,) = totals_of(rows, "A")
    assert (total.calls, total.output) == (1, 5)


def test_a_sidechain_replay_does_not_count_and_the_parent_keeps_its_message() -> None:
    parent = line(1, called(1, "transcript", request_id="r1", message_id="m1"))
    replay = line(2, called(2, "transcript", request_id="r2", message_id="m1", sidechain=True, agent_id="s"))
    rows = fold_any_order(parent, replay)
    assert calls(rows) == 1
    assert [total.agent_id for total in totals_of(rows, "A")] == [None]


def test_a_sidechain_replay_with_the_same_request_stays_the_parents() -> None:
    parent = line(1, called(1, "transcript", request_id="r1", message_id="m1"))
    replay = line(2, called(2, "transcript", request_id="r1", message_id="m1", sidechain=True, agent_id="s"))
    assert [total.agent_id for total in totals_of(fold_any_order(parent, replay), "A")] == [None]


def test_a_fork_does_not_count_copied_calls_again() -> None:
    original = [otlp(1, called(1, request_id="r1")), line(1, called(1, "transcript", request_id="r1", message_id="m1"))]
    copied = called(1, "transcript", request_id="r1", message_id="m1", copied_from="A")
    fork = [line(1, copied, llm="B"), otlp(9, called(9, request_id="r9"), llm="B")]
    rows = fold_any_order(*original, *fork)
    assert (calls(rows, "A"), calls(rows, "B")) == (1, 1)
    assert llm_of(rows, "B").forked_from == "A"
    assert cost(rows, "B").cost_usd_micros == 100


def test_a_call_belongs_to_the_session_with_telemetry_of_it() -> None:
    rows = fold(
        line(1, called(1, "transcript", request_id="r1", message_id="m1"), llm="B"),
        otlp(1, called(1, request_id="r1")),
    )
    assert (calls(rows, "A"), calls(rows, "B")) == (1, 0)


def test_a_stand_in_counts_only_where_nothing_else_tells() -> None:
    stand_in = otlp(1, called(1, request_id="at:1", stand_in=True, reported_pico_usd=None))
    assert calls(fold(stand_in)) == 1
    assert calls(fold_any_order(stand_in, line(1, called(1, "transcript", message_id="resp1")))) == 1


# -- cost --------------------------------------------------------------------------------------------------------------


def stated(seconds: float, micro: int, **extra: Any) -> Keyed:
    return line(seconds, o.TotalsStated(at=at(seconds), cost_pico_usd=micro * PICO, **extra))


def test_sources_that_agree() -> None:
    shown = cost(fold_any_order(otlp(1, called(1, request_id="r1")), stated(2, 100)))
    assert (shown.cost_usd_micros, shown.source, shown.reconciliation.verdict) == (100, "telemetry", "agrees")


def test_the_newest_total_of_a_session_counts() -> None:
    shown = cost(fold_any_order(stated(1, 50), stated(5, 200), stated(3, 100)))
    assert (shown.cost_usd_micros, shown.source, shown.reconciliation.verdict) == (200, "transcript", "partial")


def test_auxiliary_calls_missing_in_lines_are_named() -> None:
    shown = cost(fold_any_order(line(1, called(1, "transcript", message_id="m1")), stated(2, 130)))
    assert (shown.cost_usd_micros, shown.source) == (130, "transcript")
    assert shown.reconciliation.verdict == "differs"
    assert [(d.left, d.right, d.usd_micros) for d in shown.reconciliation.differences] == [("transcript", "priced", 30)]
    assert {cause.code for cause in shown.reconciliation.causes} >= {"no_telemetry", "calls_not_seen"}


def test_a_fork_continues_its_parents_total_which_is_shown_and_not_compared() -> None:
    parent = [otlp(1, called(1, request_id="r1")), line(1, called(1, "transcript", request_id="r1", message_id="m1"))]
    copied = called(1, "transcript", request_id="r1", message_id="m1", copied_from="A")
    total = o.TotalsStated(at=at(9), cost_pico_usd=200 * PICO, lines_added=3)
    fork = [line(1, copied, llm="B"), otlp(9, called(9, request_id="r9"), llm="B"), line(9, total, llm="B")]
    rows = fold_any_order(*parent, *fork)
    shown = cost(rows, "B")
    assert (shown.cost_usd_micros, shown.source, shown.complete) == (100, "telemetry", True)
    assert (shown.sources.transcript_usd_micros, shown.reconciliation.verdict) == (200, "agrees")
    assert [cause.code for cause in shown.reconciliation.causes] == ["inherited_total"]
    assert lines_of(llm_of(rows, "B")).added == 0
    orphan = cost(fold_any_order(*fork), "B")  # its parent is not known here: the copied call counts, and the total too
    assert (orphan.cost_usd_micros, orphan.source) == (200, "transcript")


def test_two_sources_that_agree_on_a_model_without_a_price_of_ours_are_partial() -> None:
    shown = cost(fold_any_order(otlp(1, called(1, request_id="r1", model="mystery")), stated(2, 100)))
    assert (shown.cost_usd_micros, shown.sources.priced_usd_micros) == (100, None)
    assert shown.reconciliation.verdict == "partial"
    assert "unpriced_models" in {cause.code for cause in shown.reconciliation.causes}


def test_an_unknown_price_is_null_and_named_never_zero() -> None:
    rows = fold_any_order(
        line(1, called(1, "transcript", message_id="m1", model="mystery")),
        line(2, called(2, "transcript", message_id="m2")),
    )
    shown = cost(rows)
    assert shown.sources.unpriced_calls == 1
    assert shown.sources.unpriced_models == ["mystery"]
    assert not shown.sources.priced_complete
    assert (shown.cost_usd_micros, shown.complete) == (100, False)
    alone = cost(fold(line(1, called(1, "transcript", message_id="m1", model="mystery"))))
    assert alone.cost_usd_micros is None
    assert alone.sources.priced_usd_micros is None


def test_missing_telemetry_is_named() -> None:
    shown = cost(
        fold_any_order(
            otlp(1, called(1, request_id="r1")), line(2, called(2, "transcript", request_id="r2", message_id="m"))
        )
    )
    assert (shown.cost_usd_micros, shown.source) == (200, "priced")
    assert "missing_telemetry" in {cause.code for cause in shown.reconciliation.causes}


@pytest.mark.parametrize(
    ("pico", "expected"),
    [(None, None), (0, 0), (499_999, 0), (500_000, 0), (500_001, 1), (1_500_000, 2), (2_500_000, 2)],
)
def test_micro_dollars_round_half_to_even(pico: int | None, expected: int | None) -> None:
    assert micros(pico) == expected


def test_lines_come_from_the_best_source() -> None:
    edit = hook(1, o.ToolCalled(at=at(1), tool_use_id="t", channel="hook", lines_added=1, lines_removed=1))
    metric = otlp(2, o.LinesChanged(at=at(2), added=5))
    rows = [
        fold(edit),
        fold_any_order(edit, metric),
        fold_any_order(edit, metric, stated(3, 1, lines_added=7, lines_removed=2)),
    ]
    assert [(x.added, x.removed, x.source) for x in (lines_of(llm_of(r)) for r in rows)] == [
        (1, 1, "tools"),
        (5, 0, "metric"),
        (7, 2, "cost-state"),
    ]


# -- tools, prompts, subagents -----------------------------------------------------------------------------------------


def tool(channel: str, status: str | None, **extra: Any) -> o.ToolCalled:
    return o.ToolCalled(at=at(1), tool_use_id="t1", channel=channel, name="Bash", status=status, **extra)


def test_a_tool_call_is_one_whoever_tells_of_it() -> None:
    rows = fold_any_order(
        hook(1, tool("hook", "requested")),
        hook(2, tool("hook", "succeeded")),
        otlp(3, tool("telemetry", "failed")),
        line(4, tool("transcript", "requested")),
    )
    row = llm_of(rows)
    assert (row.tool_calls, row.tool_failures, row.tool_denials) == (1, 1, 0)


def test_a_denied_call_is_not_a_failed_one() -> None:
    rows = fold_any_order(
        hook(1, tool("hook", "requested")),
        line(2, tool("transcript", "failed")),
        otlp(3, o.PermissionDecided(at=at(3), tool_use_id="t1", decision="reject", source="config")),
    )
    row = llm_of(rows)
    assert (row.tool_calls, row.tool_failures, row.tool_denials) == (1, 0, 1)


def test_compaction_is_counted_once_over_its_phases() -> None:
    phases = ["pre", "post", "boundary", "telemetry"]
    told = [hook(n, o.Compacted(at=at(n), trigger="auto", phase=phase)) for n, phase in enumerate(phases * 2)]
    rows = fold_any_order(*told)
    tallies = {row.name: max(r.n for r in rows.all(TALLY) if r.name == row.name) for row in rows.all(TALLY)}
    assert happenings(llm_of(rows), Parts(tallies={"A": tallies})).compactions == 2


def test_what_a_process_used_is_peak_and_mean_in_whatever_order_it_is_told() -> None:
    used = [(250, 100), (1500, None), (None, 301)]
    told = [hook(n, o.ProcessMeasured(at=at(n), cpu_millicores=cpu, memory_bytes=m)) for n, (cpu, m) in enumerate(used)]
    rows = fold_any_order(*told)
    use = use_of({row.name: row.n for row in rows.all(TALLY)})
    assert use == ProcessUse(
        measurements=2, cpu_peak_percent=150.0, cpu_mean_percent=87.5, memory_peak_bytes=301, memory_mean_bytes=200
    )
    assert use_of({"compaction": 3}) is None


def test_a_model_switch_and_the_models_in_use() -> None:
    switch = o.ModelSwitched(at=at(2), from_model="known", to_model="other")
    rows = fold_any_order(
        otlp(1, called(1, request_id="r1")), hook(2, switch), otlp(3, called(3, request_id="r2", model="other"))
    )
    assert llm_of(rows).model == "other"
    assert {total.model for total in totals_of(rows, "A")} == {"known", "other"}
    assert [(row.name, row.n) for row in rows.all(TALLY)] == [("model_switch", 1)]


def test_a_skill_has_its_own_name_where_one_channel_hides_it() -> None:
    for hidden in ("custom_skill", "third-party"):
        rows = fold_any_order(
            otlp(0, called(0, request_id="r1", skill=hidden)),
            line(0, called(0, "transcript", request_id="r1", message_id="m1", skill="alpha")),
            otlp(1, called(1, request_id="r2", skill=hidden)),
            otlp(2, called(2, request_id="r3")),
        )
        assert [row.skill for row in sorted(rows.all(MODEL_CALL), key=lambda row: row.call_key)] == [
            "alpha",
            hidden,
            None,
        ]


def test_a_subagent_costs_what_the_source_of_its_conversation_says() -> None:
    rows = fold(
        otlp(0, called(0, request_id="r1", agent_id="a1", reported_pico_usd=7 * PICO)),
        line(1, called(1, "transcript", request_id="r2", message_id="m2")),  # no telemetry: our prices cover both
    )
    llm, sums = rows.get(LLM_SESSION, (ORG, "A")), totals_of(rows, "A")
    assert llm is not None
    assert cost_of(llm, sums).source == "priced"
    row = SubagentRow(ORG, "A", "a1")
    parts = Parts(totals={"A": sums})
    assert subagent(row, "active", parts, "priced").cost_usd_micros == 100
    assert subagent(row, "active", parts, "telemetry").cost_usd_micros == 7
    assert subagent(row, "active", parts, "transcript").cost_usd_micros == 7


def test_an_orphaned_stop_is_no_subagent() -> None:
    rows = fold_any_order(
        hook(1, o.SubagentEnded(at=at(1), agent_id="fork", agent_type=None)),
        otlp(1, called(1, request_id="r1", agent_id="fork", query_source="compact")),
    )
    assert llm_of(rows).subagents == 0
    assert [row.real for row in rows.all(SUBAGENT)] == [False]


def test_a_background_subagent_runs_until_it_stops_and_is_unfinished_after_the_end() -> None:
    begun = [
        start(0),
        hook(1, o.SubagentStarted(at=at(1), agent_id="bg", agent_type="Explore")),
        hook(
            2, o.SubagentStarted(at=at(2), agent_id="bg", agent_type="Explore", background=True, parent_tool_use_id="t")
        ),
        otlp(3, called(3, request_id="r1", agent_id="bg", query_source="agent:Explore")),
    ]
    rows = fold_any_order(*begun)
    (row,) = rows.all(SUBAGENT)
    assert (row.status, row.background, row.started_at, llm_of(rows).subagents) == ("running", True, at(1), 1)
    sums: list[CallTotals] = totals_of(rows, "A")
    assert subagent(row, "active", Parts(totals={"A": sums})).model_calls == 1
    assert subagent(row, "ended", Parts()).status == "unfinished"
    done = fold_any_order(*begun, hook(9, o.SubagentEnded(at=at(9), agent_id="bg", agent_type="Explore")))
    assert [row.status for row in done.all(SUBAGENT)] == ["completed"]


def test_an_api_error_is_counted_by_the_channel_that_tells_most() -> None:
    told = [otlp(n, o.ModelFailed(at=at(n), error="529")) for n in (1, 2)]
    rows = fold_any_order(*told, line(2, o.ModelFailed(at=at(2), error="overloaded", stand_in=True)))
    assert max(row.n for row in rows.all(TALLY)) == 2


# -- odd input ---------------------------------------------------------------------------------------------------------


def test_a_clock_that_runs_ahead_is_put_right_by_the_servers() -> None:
    ahead = RECEIVED + timedelta(days=400)
    kind, event = hook(0, o.PromptSubmitted(at=ahead, prompt_id="p"))
    OBSERVED[kind] = [o.PromptSubmitted(at=ahead, prompt_id="p")]
    wrong = HookRecorded(agent="claude", llm_session_id="A", kind=event.kind, occurred_at=ahead, person_id=PERSON)
    rows = fold((kind, wrong))
    assert session_of(rows).last_activity_at == RECEIVED
    assert llm_of(rows).clock_skew_ms == 400 * 86_400_000


def test_hostile_ids_and_numbers_stay_storable() -> None:
    huge = "x" * 5_000
    rows = fold_any_order(
        hook(1, o.ToolCalled(at=at(1), tool_use_id=huge, channel="hook", name="a\x00b" + huge)),
        hook(1, o.ToolCalled(at=at(1), tool_use_id=huge + "y", channel="hook", name="\ud800")),
        otlp(2, called(2, request_id="r\x00", out=2**70)),
        otlp(3, o.Unknown(at=at(3), kind=huge)),
    )
    tools = list(rows.all(TOOL_CALL))
    assert len(tools) == 2
    for row in tools:
        assert len(row.tool_use_id) <= 200
        assert "\x00" not in (row.name or "")
        (row.name or "").encode()
    (call,) = rows.all(MODEL_CALL)
    assert call.output_tokens == INT_MAX
    assert "\x00" not in call.call_key


def test_unknown_kinds_are_kept_and_named() -> None:
    rows = fold_any_order(*(hook(n, o.Unknown(at=at(n), kind="Brandnew")) for n in (1, 2)))
    assert [(row.name, row.n) for row in rows.all(TALLY)] == [("unknown:Brandnew", 2)]


def test_the_prompt_text_is_the_one_that_was_typed() -> None:
    sealed = Sealed(PERSON, "{}")
    rows = fold_any_order(
        hook(1, o.PromptSubmitted(at=at(1), prompt_id="p", chars=5), content=sealed),
        otlp(1, o.PromptSubmitted(at=at(1), prompt_id="p", chars=5)),
    )
    assert [(row.text, row.person_id) for row in rows.all(PROMPT)] == [("hello", PERSON)]


# -- grouping ----------------------------------------------------------------------------------------------------------


def test_a_work_id_groups_conversations_into_one_session() -> None:
    rows = fold(
        otlp(0, called(0, request_id="r0")),  # telemetry does not know the work
        hook(1, o.RunStarted(at=at(1), source="startup"), work_id="W"),
        hook(2, o.RunEnded(at=at(2), reason="other"), work_id="W"),
        hook(3, o.RunStarted(at=at(3), source="startup"), llm="B", work_id="W"),
    )
    work = session_of(rows, "W")
    assert (work.llm_sessions, work.active_llm_sessions, work.status) == (2, 1, "active")
    assert work.first_activity_at == at(0)
    assert not session_of(rows, "A").visible
    assert {row.session_id for row in rows.all(LLM_SESSION)} == {"W"}
    over = fold(
        hook(1, o.RunStarted(at=at(1), source="startup"), work_id="W"),
        hook(2, o.RunEnded(at=at(2), reason="other"), work_id="W"),
    )
    assert session_of(over, "W").status == "ended"
