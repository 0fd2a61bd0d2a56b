"""What a conversation cost, told by every source that is present, and whether they tell the same.

Sources (reference/agent-telemetry.md 0.7, 2.2 d, 3): telemetry = the sum of `api_request.cost_usd`; transcript = the newest
`cost-state` total, cumulative over the session, with auxiliary calls and subagents; priced = our price table times the tokens
of the merged calls.  The cost metric is a fourth check.  A price we do not know makes `priced` a lower bound, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from domain.words import counted
from projections.sessions.tables import LlmSessionRow
from projections.sessions.totals import CallTotals, micros, plus
from schemas.sessions import Cause, Cost, CostSources, Difference, Lines, Reconciliation

TELEMETRY, TRANSCRIPT, PRICED = "telemetry", "transcript", "priced"
NO_MODEL = "(not named)"
VERDICTS = ("none", "agrees", "partial", "differs")  # from best to worst, for what adds up several conversations


def cost_of(llm: LlmSessionRow, totals: Sequence[CallTotals]) -> Cost:
    """The cost of one conversation with its sources and their verdict."""
    sources = _sources(llm, totals)
    headline, source, reason, complete = _headline(llm, totals, sources)
    return Cost(
        cost_usd_micros=headline,
        source=source,
        reason=reason,
        complete=complete,
        sources=sources,
        reconciliation=_reconcile(llm, totals, sources),
    )


def _sources(llm: LlmSessionRow, totals: Sequence[CallTotals]) -> CostSources:
    reported: int | None = None
    priced: int | None = None
    for sums in totals:
        reported, priced = plus(reported, sums.reported), plus(priced, sums.priced)
    unpriced = sum(sums.unpriced for sums in totals)
    return CostSources(
        telemetry_usd_micros=micros(reported),
        transcript_usd_micros=micros(llm.stated_cost_pico_usd),
        priced_usd_micros=micros(priced),
        metric_usd_micros=micros(llm.metric_cost_pico_usd),
        priced_complete=unpriced == 0,
        unpriced_calls=unpriced,
        unpriced_models=sorted({sums.model or NO_MODEL for sums in totals if sums.unpriced}),
        price_versions=sorted({sums.price_version for sums in totals if sums.price_version}),
    )


def _headline(
    llm: LlmSessionRow, totals: Sequence[CallTotals], sources: CostSources
) -> tuple[int | None, str | None, str, bool]:
    """Which source to show, why, and whether it is the whole cost."""
    unreported = sum(sums.unreported for sums in totals)
    told, priced = sources.telemetry_usd_micros, sources.priced_usd_micros
    stated = None if _inherited(llm, totals) else sources.transcript_usd_micros
    if told is not None and unreported == 0 and (stated is None or told >= stated):
        return told, TELEMETRY, "telemetry reports every known call, and no other source more", True
    if stated is not None and stated >= max(told or 0, priced or 0):
        complete = not llm.stated_unknown_model
        return stated, TRANSCRIPT, "the agent's own total covers auxiliary calls that other sources miss", complete
    if priced is not None and sources.priced_complete:
        return priced, PRICED, "our prices cover every known call; telemetry does not report all of them", True
    known = [
        (value, name)
        for value, name in ((told, TELEMETRY), (stated, TRANSCRIPT), (priced, PRICED))
        if value is not None
    ]
    if not known:
        return None, None, "no source tells a cost", False
    value, name = max(known)
    return value, name, "the largest of incomplete sources: a lower bound", False


def _inherited(llm: LlmSessionRow, totals: Sequence[CallTotals]) -> bool:
    """Whether the agent's own total holds what other sessions count: a fork goes on from its parent's total.

    Not where the parent is unknown here, so that the copied calls count in the fork.
    """
    return llm.forked_from is not None and not any(sums.borrowed for sums in totals)


def _reconcile(llm: LlmSessionRow, totals: Sequence[CallTotals], sources: CostSources) -> Reconciliation:
    inherited = _inherited(llm, totals)
    values = {
        name: value
        for name, value in (
            (TELEMETRY, sources.telemetry_usd_micros),
            (TRANSCRIPT, None if inherited else sources.transcript_usd_micros),
            (PRICED, sources.priced_usd_micros),
        )
        if value is not None
    }
    differences = [
        Difference(left, right, values[left] - values[right])
        for left, right in combinations(values, 2)
        if values[left] != values[right]
    ]
    # A price we do not know is a difference we cannot measure, so it is never agreement.
    if not values:
        verdict = "none"
    elif differences or (len(values) > 1 and PRICED in values and not sources.priced_complete):
        verdict = "differs"
    elif sources.unpriced_calls:
        verdict = "partial"
    else:
        verdict = "agrees" if len(values) > 1 else "partial"
    metric = sources.metric_usd_micros
    first = next(iter(values.values()), None)
    causes = _causes(llm, totals, sources) if verdict != "agrees" else []
    if inherited and sources.transcript_usd_micros is not None:
        text = "the agent's own total goes on from that of the session it was forked from: shown, not compared"
        causes = [Cause("inherited_total", text), *causes]
    return Reconciliation(
        verdict=verdict,
        sources=list(values),
        differences=differences,
        causes=causes,
        metric_agrees=None if metric is None or first is None else metric == first,
    )


def _causes(llm: LlmSessionRow, totals: Sequence[CallTotals], sources: CostSources) -> list[Cause]:
    found: list[Cause] = []
    calls = sum(sums.calls for sums in totals)
    unreported = sum(sums.unreported for sums in totals)
    told, priced = sources.telemetry_usd_micros, sources.priced_usd_micros
    stated = None if _inherited(llm, totals) else sources.transcript_usd_micros
    if sources.unpriced_calls:
        names = ", ".join(sources.unpriced_models)
        found.append(
            Cause("unpriced_models", f"no price is known for {counted(sources.unpriced_calls, 'call')}: {names}")
        )
    if told is None and stated is None and calls and llm.agent != "claude":
        found.append(Cause("agent_tells_no_cost", f"{llm.agent} tells tokens but no cost: only our prices say one"))
        return found
    if told is None and calls:
        found.append(
            Cause("no_telemetry", "no telemetry tells a cost; auxiliary calls are missing in transcript lines")
        )
    elif unreported:
        found.append(
            Cause("missing_telemetry", f"telemetry tells no cost for {unreported} of {counted(calls, 'call')}")
        )
    if stated is not None and stated > max(told or 0, priced or 0):
        found.append(
            Cause("calls_not_seen", "the agent's own total covers calls that neither telemetry nor lines tell")
        )
    if stated is not None and stated < max(told or 0, priced or 0):
        text = "the agent's own total lacks calls: a run was killed before it stated one, or calls came after it"
        found.append(Cause("stale_total", text))
    if sources.transcript_usd_micros is None and calls:
        found.append(Cause("no_transcript_total", "the transcript's cost-state has not arrived"))
    if llm.stated_unknown_model:
        found.append(Cause("agent_unpriced", "the agent itself had no price for a model"))
    if llm.forked_from is not None:
        found.append(Cause("copied_calls", "calls copied from another session count there"))
    return found


def add_costs(costs: Sequence[Cost]) -> Cost:
    """The cost of several conversations: the sum of what each shows; one unknown makes it incomplete."""
    if len(costs) == 1:
        return costs[0]
    known = [cost.cost_usd_micros for cost in costs if cost.cost_usd_micros is not None]
    names = {cost.source for cost in costs if cost.source is not None}
    parts = [cost.sources for cost in costs]
    verdict = max((cost.reconciliation.verdict for cost in costs), key=VERDICTS.index, default="none")
    return Cost(
        cost_usd_micros=sum(known) if known else None,
        source=names.pop() if len(names) == 1 else "mixed" if names else None,
        reason="the sum of the conversations' costs",
        complete=bool(costs) and all(cost.complete for cost in costs),
        sources=CostSources(
            telemetry_usd_micros=_sum([part.telemetry_usd_micros for part in parts]),
            transcript_usd_micros=_sum([part.transcript_usd_micros for part in parts]),
            priced_usd_micros=_sum([part.priced_usd_micros for part in parts]),
            metric_usd_micros=_sum([part.metric_usd_micros for part in parts]),
            priced_complete=all(part.priced_complete for part in parts),
            unpriced_calls=sum(part.unpriced_calls for part in parts),
            unpriced_models=sorted({model for part in parts for model in part.unpriced_models}),
            price_versions=sorted({version for part in parts for version in part.price_versions}),
        ),
        reconciliation=Reconciliation(
            verdict=verdict,
            sources=sorted({name for cost in costs for name in cost.reconciliation.sources}),
            causes=[cause for cost in costs for cause in cost.reconciliation.causes],
        ),
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def lines_of(llm: LlmSessionRow) -> Lines:
    """Lines changed: the agent's own total, else the metric, else what tool results tell."""
    # A fork's own total goes on from its parent's, so there it is no answer to what was changed here.
    if llm.forked_from is None and (llm.stated_lines_added is not None or llm.stated_lines_removed is not None):
        return Lines(llm.stated_lines_added or 0, llm.stated_lines_removed or 0, "cost-state")
    if llm.metric_lines_told:
        return Lines(llm.metric_lines_added, llm.metric_lines_removed, "metric")
    if llm.tool_lines_added or llm.tool_lines_removed:
        return Lines(llm.tool_lines_added, llm.tool_lines_removed, "tools")
    return Lines()


def add_lines(parts: Sequence[Lines]) -> Lines:
    """Lines of several conversations."""
    names = {part.source for part in parts if part.source is not None}
    source = names.pop() if len(names) == 1 else "mixed" if names else None
    return Lines(sum(part.added for part in parts), sum(part.removed for part in parts), source)
