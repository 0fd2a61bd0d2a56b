"""What can be learned from one session: measured numbers, rules applied to them, and words for people."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

ADVICE_MAX = 5
SUMMARY_CHARS_MAX = 2_000
TITLE_CHARS_MAX = 160
TEXT_CHARS_MAX = 800

Title: TypeAlias = Annotated[str, Meta(min_length=1, max_length=TITLE_CHARS_MAX)]
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
MeasureName: TypeAlias = Literal[
    "cache_hit_rate",
    "tokens_per_turn",
    "context_per_model_call",
    "cost_per_turn_usd_micros",
    "failures_per_tool_call",
    "denials_per_tool_call",
    "permission_requests_per_tool_call",
    "retry_rate",
    "failed_turn_rate",
    "subagent_cost_share",
    "tool_time_share",
]


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


class CoachingTip(msgspec.Struct, frozen=True):
    """A habit for the person who worked."""

    title: Title
    text: Text


class Action(msgspec.Struct, frozen=True):
    """Something to change, the most useful first."""

    title: Title
    text: Text
    priority: Literal["high", "medium", "low"]


class Assessment(msgspec.Struct, frozen=True):
    """What a measured number means; the number itself stands in `efficiency`."""

    metric: MeasureName
    verdict: Literal["good", "fair", "poor"]
    comment: Text


class Written(msgspec.Struct, frozen=True):
    """What the model is asked for, and what is kept of its answer."""

    summary: Annotated[str, Meta(min_length=1, max_length=SUMMARY_CHARS_MAX)]
    coaching_tips: Annotated[list[CoachingTip], Meta(max_length=ADVICE_MAX)]
    recommendations: Annotated[list[Action], Meta(max_length=ADVICE_MAX)]
    efficiency: Annotated[list[Assessment], Meta(max_length=11)]


class AiInsights(msgspec.Struct, frozen=True, kw_only=True):
    """What a model wrote, when, and what that cost in millionths of a dollar (null: no price is known).

    `written` is null and `erased` true once the person who worked was erased.  `current` is false when there was activity
    after it was written.
    """

    erased: bool
    current: bool
    written: Written | None
    model: str
    prompt_version: str
    summarized_at: datetime
    facts_position: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd_micros: int | None
    price_version: str | None


class Insights(msgspec.Struct, frozen=True, kw_only=True):
    """`generated_by` is `rules`: the same session always gives the same answer.  `ai` is null until a model wrote something."""

    session_id: str
    generated_by: str
    summary: str
    efficiency: Efficiency
    recommendations: list[Recommendation]
    tips: list[Tip]
    ai: AiInsights | None = None


class InsightsAnswer(Insights, frozen=True, kw_only=True):
    """As the API gives it."""

    links: dict[str, str] = msgspec.field(name="_links")
