"""Insights of a session by rules: numbers, what they call for, and a sentence.  Pure but for `model_time`, one query.

Every rule is a row of `RULES`: a measure, the threshold it must pass, and how much must have happened before it may speak,
so that two tool calls with one failure do not make a habit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from domain.words import counted
from projections.sessions.queries import Connection
from projections.sessions.totals import COUNTED
from schemas.insights import Efficiency, Insights, Measure, Recommendation, Tip
from schemas.sessions import SessionDetail, SubagentDetail, ToolTotals

RULES_NAME = "rules"
DIGITS = 4
DELEGATE_TOOL_CALLS = 50  # that many calls by the main thread alone fill its context
UNCOMMITTED_LINES = 400
MINUTE_MS = 60_000

_MODEL_TIME = f"""
SELECT sum(duration_ms)::bigint FROM ({COUNTED} AND c.llm_session_id = ANY ($2)) AS told WHERE counts
"""  # noqa: S608  both texts are ours


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Speaks when the measure `metric` is beyond `threshold` (below it where `below`) and its `sample` is at least `enough`.

    `sample` names the count: `part` or `whole` of the measure.  `tip` is the habit that prevents it, as (code, text).
    """

    code: str
    metric: str
    threshold: float
    text: str
    enough: int
    sample: str = "whole"
    below: bool = False
    worst: Callable[[ToolTotals], int] | None = None
    tip: tuple[str, str] | None = None


def _failed(tool: ToolTotals) -> int:
    return tool.failed


def _denied(tool: ToolTotals) -> int:
    return tool.denied


def _duration(tool: ToolTotals) -> int:
    return tool.duration_ms


RULES = (
    Rule(
        code="low_cache_hits",
        metric="cache_hit_rate",
        threshold=0.5,
        below=True,
        enough=50_000,
        text="Less than half of what the model read came from its cache: keep instructions and tools unchanged within a"
        " session, and avoid pauses longer than the cache lives.",
    ),
    Rule(
        code="large_context",
        metric="context_per_model_call",
        threshold=120_000,
        enough=5,
        text="Each call carried a very large context: compact earlier, or let subagents read what only they need.",
        tip=(
            "one_goal_per_session",
            "Start a new session for a new goal; what was read for the old one is paid again.",
        ),
    ),
    Rule(
        code="failing_tools",
        metric="failures_per_tool_call",
        threshold=0.2,
        enough=5,
        worst=_failed,
        text="Many tool calls failed: write down for the agent how this repository is built, tested and searched.",
        tip=(
            "teach_the_repository",
            "Put the commands that work into the project's instructions; failed tries cost turns.",
        ),
    ),
    Rule(
        code="denied_tools",
        metric="denials_per_tool_call",
        threshold=0.1,
        enough=3,
        sample="part",
        worst=_denied,
        text="Tool calls were refused again and again: say in the instructions what is off limits, or deny it by rule.",
    ),
    Rule(
        code="permission_waits",
        metric="permission_requests_per_tool_call",
        threshold=0.3,
        enough=3,
        sample="part",
        text="The agent often stopped to ask for permission: allow the harmless commands by rule.",
        tip=("allow_by_rule", "Allow reading, searching and testing once for the project; keep asking for the rest."),
    ),
    Rule(
        code="model_retries",
        metric="retry_rate",
        threshold=0.1,
        enough=2,
        sample="part",
        text="Requests to the model failed and were repeated: check rate limits and the connection.",
    ),
    Rule(
        code="failed_turns",
        metric="failed_turn_rate",
        threshold=0.25,
        enough=2,
        text="Many turns ended with an error instead of an answer: look at the last records of those turns.",
    ),
    Rule(
        code="costly_subagents",
        metric="subagent_cost_share",
        threshold=0.6,
        enough=100_000,
        text="Most of the cost was spent in subagents: give them smaller tasks or a smaller model.",
    ),
    Rule(
        code="slow_tools",
        metric="tool_time_share",
        threshold=0.7,
        enough=2 * MINUTE_MS,
        worst=_duration,
        text="Most of the time went by in tools: make the slowest one faster, or run it in the background.",
        tip=("narrow_commands", "Let the agent run the one test it needs; the whole suite can wait for the end."),
    ),
)


async def model_time(connection: Connection, org_id: UUID, detail: SessionDetail) -> int | None:
    """Milliseconds that counted model calls took; None where no channel told a duration."""
    found: int | None = await connection.fetchval(_MODEL_TIME, org_id, [llm.id for llm in detail.llm_sessions])
    return found


def measure(part: int | None, whole: int | None) -> Measure:
    """`part` per `whole`."""
    return Measure(round(part / whole, DIGITS) if part is not None and whole else None, part, whole)


def efficiency(detail: SessionDetail, model_ms: int | None) -> Efficiency:
    """The numbers; formulas stand at `schemas.insights.Efficiency`.  Subagents' calls are in all of them."""
    counts, tokens, cost = detail.session.counts, detail.session.tokens, detail.session.cost_usd_micros
    turns = counts.turns or counts.prompts
    context = tokens.input + tokens.cache_read + tokens.cache_write_5m + tokens.cache_write_1h
    tool_ms = sum(tool.duration_ms for tool in tools(detail))
    return Efficiency(
        cache_hit_rate=measure(tokens.cache_read, context),
        tokens_per_turn=measure(context + tokens.output, turns),
        context_per_model_call=measure(context, counts.model_calls),
        cost_per_turn_usd_micros=measure(cost, turns),
        failures_per_tool_call=measure(counts.tool_failures, counts.tool_calls),
        denials_per_tool_call=measure(counts.tool_denials, counts.tool_calls),
        permission_requests_per_tool_call=measure(counts.permission_requests, counts.tool_calls),
        retry_rate=measure(counts.model_failures, counts.model_calls + counts.model_failures),
        failed_turn_rate=measure(counts.failed_turns, turns),
        subagent_cost_share=measure(_subagent_cost(subagents(detail)), cost),
        tool_time_share=measure(tool_ms, None if model_ms is None else tool_ms + model_ms),
    )


def recommendations(detail: SessionDetail, numbers: Efficiency) -> list[Recommendation]:
    """What the rules say, in their order."""
    found: list[Recommendation] = []
    for rule in RULES:
        told: Measure = getattr(numbers, rule.metric)
        if told.part is None or not told.whole:
            continue
        exact = told.part / told.whole  # the value shown is rounded
        beyond = exact < rule.threshold if rule.below else exact > rule.threshold
        if not beyond or (getattr(told, rule.sample) or 0) < rule.enough:
            continue
        evidence: dict[str, Any] = {"value": told.value, "part": told.part, "whole": told.whole}
        if rule.worst is not None and (worst := max(tools(detail), key=rule.worst, default=None)) is not None:
            evidence |= {"tool": worst.name, "tool_calls": worst.calls, "tool_part": rule.worst(worst)}
        found.append(
            Recommendation(
                code=rule.code, text=rule.text, metric=rule.metric, threshold=rule.threshold, evidence=evidence
            )
        )
    if unpriced := detail.cost.sources.unpriced_calls:
        models = detail.cost.sources.unpriced_models
        evidence = {"calls": unpriced, "models": models}
        text = "Some calls have no known price, so the priced cost is a lower bound: update the price table."
        found.append(
            Recommendation(code="unpriced_calls", text=text, metric="unpriced_calls", threshold=0, evidence=evidence)
        )
    return found


def tips(detail: SessionDetail, found: list[Recommendation]) -> list[Tip]:
    """Habits that the recommendations and some counts call for; each once."""
    spoken = {one.code for one in found}
    told = [Tip(*rule.tip, rule.code) for rule in RULES if rule.tip is not None and rule.code in spoken]
    counts, lines = detail.session.counts, detail.session.lines
    if counts.compactions and "large_context" not in spoken:
        text = "The conversation outgrew the model's memory and was summarised: start a new session for a new goal."
        told.append(Tip("one_goal_per_session", text, "compactions"))
    if counts.tool_calls >= DELEGATE_TOOL_CALLS and not counts.subagents:
        text = "Let a subagent do the searching: its reading does not fill the conversation."
        told.append(Tip("delegate_searches", text, "tool_calls"))
    if lines.added + lines.removed >= UNCOMMITTED_LINES and not counts.commits:
        text = "Commit in small steps: a large change without a commit is hard to review and to undo."
        told.append(Tip("commit_small_steps", text, "lines"))
    return told


def summary(detail: SessionDetail, numbers: Efficiency) -> str:
    """One sentence for people; it holds numbers and states only, nothing anybody wrote."""
    top, counts = detail.session, detail.session.counts
    state = {"active": "Under way", "timed_out": "Silent"}.get(top.status, (top.outcome or "ended").capitalize())
    tokens = numbers.tokens_per_turn.part or 0
    parts = [
        f"{state} after {counted(counts.turns or counts.prompts, 'turn')} in {_time(top.duration_ms)}",
        counted(counts.model_calls, "model call"),
        f"{counted(counts.tool_calls, 'tool call')} ({counts.tool_failures} failed)",
        f"{tokens:,} tokens",
    ]
    if counts.subagents:
        parts.append(counted(counts.subagents, "subagent"))
    if numbers.cache_hit_rate.value is not None:
        parts.append(f"{numbers.cache_hit_rate.value:.0%} read from cache")
    cost = top.cost_usd_micros
    bound = "" if top.cost_complete else "at least "
    parts.append("cost unknown" if cost is None else f"{bound}{cost // 1_000_000}.{cost % 1_000_000:06} USD")
    return ", ".join(parts) + "."


def insights(detail: SessionDetail, model_ms: int | None) -> Insights:
    """Everything.  `model_ms` as `model_time` answers."""
    numbers = efficiency(detail, model_ms)
    found = recommendations(detail, numbers)
    return Insights(
        session_id=detail.session.id,
        generated_by=RULES_NAME,
        summary=summary(detail, numbers),
        efficiency=numbers,
        recommendations=found,
        tips=tips(detail, found),
    )


def tools(detail: SessionDetail) -> list[ToolTotals]:
    """Calls by tool, of each conversation."""
    return [tool for llm in detail.llm_sessions for tool in llm.tools]


def subagents(detail: SessionDetail) -> list[SubagentDetail]:
    """All subagents."""
    return [one for llm in detail.llm_sessions for one in llm.subagents]


def _subagent_cost(found: list[SubagentDetail]) -> int | None:
    costs = [one.cost_usd_micros for one in found if one.model_calls]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def _time(milliseconds: int) -> str:
    minutes, rest = divmod(milliseconds, MINUTE_MS)
    return f"{minutes} min" if minutes else f"{rest // 1000} s"
