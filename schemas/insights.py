"""What can be learned from one session: measured numbers, rules applied to them, and words for people."""

from __future__ import annotations

from typing import Any

import msgspec


class Measure(msgspec.Struct, frozen=True):
    """`value` is `part` divided by `whole`, rounded to 4 digits; null where `whole` is 0 or one of them is unknown."""

    value: float | None
    part: int | None
    whole: int | None


class Efficiency(msgspec.Struct, frozen=True, kw_only=True):
    """How the session used its means: tokens, calls, milliseconds, millionths of a dollar.

    `turns` below are prompts that got their end, or prompts where no end was told.

    - `cache_hit_rate`: cache reads / (input + cache reads + cache writes)
    - `tokens_per_turn`: all tokens / turns
    - `context_per_model_call`: (input + cache reads + cache writes) / model calls
    - `cost_per_turn_usd_micros`: cost / turns
    - `failures_per_tool_call`: failed tool calls / tool calls
    - `denials_per_tool_call`: tool calls that were not allowed to run / tool calls
    - `permission_requests_per_tool_call`: times the agent stopped to ask / tool calls
    - `retry_rate`: failed requests to the model, which agents repeat / (model calls + those)
    - `failed_turn_rate`: turns that ended with an error / turns
    - `subagent_cost_share`: cost of subagents / cost of the session; null while one of them is unknown
    - `tool_time_share`: time in tools / (time in tools + time in models)
    """

    cache_hit_rate: Measure
    tokens_per_turn: Measure
    context_per_model_call: Measure
    cost_per_turn_usd_micros: Measure
    failures_per_tool_call: Measure
    denials_per_tool_call: Measure
    permission_requests_per_tool_call: Measure
    retry_rate: Measure
    failed_turn_rate: Measure
    subagent_cost_share: Measure
    tool_time_share: Measure


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """Something to change.  `metric` passed `threshold`; `evidence` holds the numbers; `code` is stable, `text` for people."""

    code: str
    text: str
    metric: str
    threshold: float
    evidence: dict[str, Any]


class Tip(msgspec.Struct, frozen=True):
    """A habit worth trying.  `because` names the recommendation or count that calls for it."""

    code: str
    text: str
    because: str


class Insights(msgspec.Struct, frozen=True, kw_only=True):
    """`generated_by` is `rules`: the same session always gives the same answer.  `ai` is null until a model wrote something."""

    session_id: str
    generated_by: str
    summary: str
    efficiency: Efficiency
    recommendations: list[Recommendation]
    tips: list[Tip]
    ai: dict[str, Any] | None = None


class InsightsAnswer(Insights, frozen=True, kw_only=True):
    """As the API gives it."""

    links: dict[str, str] = msgspec.field(name="_links")
