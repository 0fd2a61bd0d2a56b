"""Facts, sums and dimensions, column by column."""

from __future__ import annotations

from projections.analytics.kpis import SESSION_PARTS, USAGE_PARTS
from projections.analytics.schema.base import Column, Table

SLOT_MINUTES = 15  # every time zone of today differs from UTC by a multiple of this


def _columns(*lines: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*line) for line in lines)


def _hash(*key: str) -> Column:
    return Column(
        "row_hash", "UBIGINT", "hash of the key, by which a correction finds the row", f"hash({', '.join(key)})"
    )


_ORG = ("org_id", "UUID", "organization")
_LLM = ("llm_session_id", "VARCHAR", "agent conversation")
_SESSION = ("session_id", "VARCHAR", "session: the piece of work")
_PERSON = ("person_id", "UUID", "who worked, as an id; NULL: erased or not known")
_TOKENS = _columns(
    ("input_tokens", "BIGINT", "tokens sent, without those read from or written to the cache"),
    ("output_tokens", "BIGINT", "tokens answered, reasoning included"),
    ("cache_read_tokens", "BIGINT", "tokens read from the prompt cache"),
    ("cache_write_5m_tokens", "BIGINT", "tokens written to the prompt cache for 5 minutes"),
    ("cache_write_1h_tokens", "BIGINT", "tokens written to the prompt cache for an hour"),
    ("reasoning_tokens", "BIGINT", "tokens of reasoning, a part of output_tokens"),
)
PLACE = _columns(
    ("repo", "VARCHAR", "repository, as the developer's machine names it"),
    ("branch", "VARCHAR", "branch at the newest record"),
    ("commit_hash", "VARCHAR", "commit at the newest record"),
    ("project", "VARCHAR", "project"),
)
_STATE = _columns(
    ("status", "VARCHAR", "active, ended or timed_out"),
    ("status_rule", "VARCHAR", "the rule that decided the status"),
    ("outcome", "VARCHAR", "completed, failed, abandoned or unknown; NULL while active"),
    ("outcome_rule", "VARCHAR", "the rule that decided the outcome"),
)
_COUNTS = _columns(
    ("prompts", "BIGINT", "prompts submitted"),
    ("turns", "BIGINT", "prompts that got their end"),
    ("failed_turns", "BIGINT", "turns that ended with an error"),
    ("tool_calls", "BIGINT", "tool calls"),
    ("tool_failures", "BIGINT", "tool calls that ran and failed"),
    ("tool_denials", "BIGINT", "tool calls that were not allowed to run"),
    ("model_calls", "BIGINT", "model calls that count"),
    ("model_failures", "BIGINT", "requests to a model that failed"),
    ("permission_requests", "BIGINT", "times the agent asked for permission"),
    ("compactions", "BIGINT", "times the context was compacted"),
    ("model_switches", "BIGINT", "changes of model between calls of the main thread"),
    ("subagents", "BIGINT", "subagents started"),
    ("runs", "BIGINT", "processes of the agent"),
    ("commits", "BIGINT", "commits made"),
    ("pull_requests", "BIGINT", "pull requests opened"),
    ("active_ms", "BIGINT", "time the agent or its user was active, milliseconds"),
)
_LINES = _columns(
    ("lines_added", "BIGINT", "lines of code added"),
    ("lines_removed", "BIGINT", "lines of code removed"),
    ("lines_source", "VARCHAR", "who says so: cost-state, metric, tools or mixed; NULL: nobody"),
)
_COST = _columns(
    ("cost_usd_micros", "BIGINT", "cost, micro-USD; NULL: no source tells one"),
    ("cost_source", "VARCHAR", "telemetry, transcript, priced or mixed: where the cost is from"),
    ("cost_complete", "BOOLEAN", "false: the cost is a lower bound"),
    ("cost_verdict", "VARCHAR", "whether the sources agree: agrees, partial, differs or none"),
)
_SOURCES = _columns(
    ("telemetry_usd_micros", "BIGINT", "sum of what telemetry reports per call, micro-USD"),
    ("transcript_usd_micros", "BIGINT", "the agent's own newest total, micro-USD"),
    ("priced_usd_micros", "BIGINT", "our price table times the tokens, micro-USD"),
    ("unpriced_calls", "BIGINT", "calls without a price of ours"),
    ("price_versions", "VARCHAR", "price tables asked, separated by commas"),
)

FACT_SESSION = Table(
    "fact_session",
    "One row per session: a piece of work of one or more agent conversations",
    ("org_id", "session_id"),
    (
        *_columns(
            _ORG, _SESSION, ("kind", "VARCHAR", "how it was opened: cli or another kind"), ("agent", "VARCHAR", "agent")
        ),
        *_STATE,
        *_columns(_PERSON),
        *PLACE,
        *_columns(
            ("started_at", "TIMESTAMP", "first activity, UTC"),
            ("last_activity_at", "TIMESTAMP", "last activity, UTC"),
            ("duration_ms", "BIGINT", "first to last activity, milliseconds"),
            ("coached", "BOOLEAN", "whether coaching mode was on; NULL: not known"),
            ("llm_sessions", "BIGINT", "agent conversations"),
        ),
        *_COUNTS,
        *_TOKENS,
        *_COST,
        *_SOURCES,
        *_LINES,
        _hash("org_id", "session_id"),
    ),
)
FACT_LLM_SESSION = Table(
    "fact_llm_session",
    "One row per agent conversation",
    ("org_id", "llm_session_id"),
    (
        *_columns(
            _ORG,
            _LLM,
            _SESSION,
            ("agent", "VARCHAR", "agent"),
            ("agent_version", "VARCHAR", "newest version of the agent"),
            ("entrypoint", "VARCHAR", "how the agent was started"),
            ("permission_mode", "VARCHAR", "newest permission mode"),
            ("model", "VARCHAR", "newest model of the main thread"),
            ("team", "VARCHAR", "team, where telemetry names one"),
            ("forked_from", "VARCHAR", "conversation it was forked from"),
        ),
        *_STATE,
        *_columns(_PERSON),
        *PLACE,
        *_columns(
            ("started_at", "TIMESTAMP", "first activity, UTC"),
            ("ended_at", "TIMESTAMP", "end, UTC; NULL while it has none"),
            ("last_activity_at", "TIMESTAMP", "last activity, UTC"),
            ("clock_skew_ms", "BIGINT", "how far the client's clock ran ahead, milliseconds"),
            ("tools_stand_in", "BOOLEAN", "true: only records without shared ids tell of its tool calls"),
        ),
        *_COUNTS,
        *_TOKENS,
        *_COST,
        *_SOURCES,
        *_columns(("metric_usd_micros", "BIGINT", "sum of the cost metric, a further check, micro-USD")),
        *_LINES,
        _hash("org_id", "llm_session_id"),
    ),
)
FACT_LLM_CALL = Table(
    "fact_llm_call",
    "One row per answered request to a model, whatever number of channels told of it",
    ("org_id", "call_key"),
    (
        *_columns(
            _ORG,
            ("call_key", "VARCHAR", "request id, else message id"),
            _LLM,
            ("agent_id", "VARCHAR", "subagent that made it; NULL: the main thread"),
            ("prompt_id", "VARCHAR", "prompt it belongs to"),
            ("request_id", "VARCHAR", "the vendor's request id"),
            ("message_id", "VARCHAR", "the vendor's message id"),
            ("model", "VARCHAR", "model, as the agent names it"),
            ("called_at", "TIMESTAMP", "when, UTC"),
        ),
        *_TOKENS,
        *_columns(
            ("web_searches", "BIGINT", "web searches by the vendor"),
            ("reported_pico_usd", "BIGINT", "cost the agent reported, pico-USD"),
            ("priced_pico_usd", "BIGINT", "our price times its tokens, pico-USD; NULL: see unpriced_reason"),
            ("price_version", "VARCHAR", "price table that was asked, also where it knows no price"),
            ("unpriced_reason", "VARCHAR", "why no price is known"),
            ("counts", "BOOLEAN", "false: a repeat of another call, kept and not counted"),
            ("telemetry", "BOOLEAN", "told by telemetry"),
            ("transcript", "BOOLEAN", "told by a transcript"),
            ("copied", "BOOLEAN", "also stands in another conversation's transcript"),
            ("duration_ms", "BIGINT", "from request to the end of the answer, milliseconds"),
            ("ttft_ms", "BIGINT", "from request to the first token, milliseconds"),
            ("query_source", "VARCHAR", "what asked: main thread, subagent, auxiliary"),
            ("speed", "VARCHAR", "speed asked for"),
            ("effort", "VARCHAR", "effort asked for"),
            ("service_tier", "VARCHAR", "service tier"),
            ("skill", "VARCHAR", "skill at work; NULL: none, or not told"),
        ),
        _hash("org_id", "call_key"),
        Column("message_hash", "UBIGINT", "hash of the message id, to find repeats", "hash(org_id, message_id)"),
    ),
)
FACT_TOOL_CALL = Table(
    "fact_tool_call",
    "One row per tool call",
    ("org_id", "llm_session_id", "tool_use_id"),
    (
        *_columns(
            _ORG,
            _LLM,
            ("tool_use_id", "VARCHAR", "the vendor's id of the call"),
            ("called_at", "TIMESTAMP", "when, UTC"),
            ("name", "VARCHAR", "tool"),
            ("status", "VARCHAR", "requested, succeeded, failed or denied; NULL: no fact says"),
            ("agent_id", "VARCHAR", "subagent that made it; NULL: the main thread"),
            ("prompt_id", "VARCHAR", "prompt it belongs to"),
            ("request_id", "VARCHAR", "model call that asked for it"),
            ("mcp_server", "VARCHAR", "MCP server of the tool; NULL: built in"),
            ("duration_ms", "BIGINT", "how long it ran, milliseconds"),
            ("lines_added", "BIGINT", "lines of code added"),
            ("lines_removed", "BIGINT", "lines of code removed"),
            ("decision", "VARCHAR", "permission decision: accept or reject; NULL: none was told"),
            ("decision_source", "VARCHAR", "who decided: user, configuration, hook"),
            ("stand_in", "BOOLEAN", "told without a shared id: counts only where nothing else tells of tools"),
        ),
        _hash("org_id", "llm_session_id", "tool_use_id"),
    ),
)
FACT_SUBAGENT = Table(
    "fact_subagent",
    "One row per subagent",
    ("org_id", "llm_session_id", "agent_id"),
    (
        *_columns(
            _ORG,
            _LLM,
            ("agent_id", "VARCHAR", "subagent"),
            _SESSION,
            ("agent_type", "VARCHAR", "kind of subagent"),
            ("status", "VARCHAR", "running, completed, stopped, failed or unfinished"),
            ("background", "BOOLEAN", "started into the background"),
            ("parent_tool_use_id", "VARCHAR", "tool call that started it"),
            ("model", "VARCHAR", "model"),
            ("started_at", "TIMESTAMP", "start, UTC"),
            ("ended_at", "TIMESTAMP", "end, UTC"),
            ("duration_ms", "BIGINT", "how long it worked, milliseconds"),
            ("model_calls", "BIGINT", "model calls that count"),
            ("tool_calls", "BIGINT", "tool calls"),
            ("tool_failures", "BIGINT", "tool calls that failed"),
        ),
        *_TOKENS,
        *_columns(("cost_usd_micros", "BIGINT", "cost of its calls, micro-USD; NULL: not known")),
        _hash("org_id", "llm_session_id", "agent_id"),
    ),
)
FACT_PROMPT = Table(
    "fact_prompt",
    "One row per prompt and the turn it began; never its text",
    ("org_id", "llm_session_id", "prompt_id"),
    (
        *_columns(
            _ORG,
            _LLM,
            ("prompt_id", "VARCHAR", "prompt"),
            _PERSON,
            ("submitted_at", "TIMESTAMP", "when it was submitted, UTC"),
            ("ended_at", "TIMESTAMP", "when its turn ended, UTC"),
            ("error", "VARCHAR", "error the turn ended with"),
            ("chars", "BIGINT", "length of the text, characters"),
            ("source", "VARCHAR", "where it came from"),
            ("stand_in", "BOOLEAN", "told without a shared id: counts only where nothing else tells of prompts"),
        ),
        _hash("org_id", "llm_session_id", "prompt_id"),
    ),
)
AGG_USAGE = Table(
    "agg_usage",
    "Model calls that count, summed per conversation, subagent, model, skill and quarter of an hour.  Kind `rest` holds what a "
    "conversation cost beyond its known calls, so that the rows of a conversation add up to its cost",
    ("org_id", "llm_session_id", "agent_id", "model", "skill", "slot_at", "kind"),
    (
        *_columns(
            _ORG,
            _LLM,
            _SESSION,
            ("slot_at", "TIMESTAMP", f"start of the {SLOT_MINUTES} minutes, UTC"),
            ("kind", "VARCHAR", "call: sums of calls; rest: cost that no known call accounts for"),
            ("agent_id", "VARCHAR", "subagent; NULL: the main thread"),
            ("agent_type", "VARCHAR", "kind of subagent"),
            ("model", "VARCHAR", "model, as the agent names it"),
            _PERSON,
            ("agent", "VARCHAR", "agent"),
            ("project", "VARCHAR", "project"),
            ("repo", "VARCHAR", "repository"),
            ("branch", "VARCHAR", "branch"),
            ("calls", "BIGINT", "model calls"),
        ),
        *_TOKENS,
        *_columns(
            ("web_searches", "BIGINT", "web searches by the vendor"),
            ("duration_ms", "BIGINT", "time of the requests, milliseconds"),
            ("reported_pico_usd", "BIGINT", "cost the agent reported, pico-USD"),
            ("priced_pico_usd", "BIGINT", "our prices times the tokens, pico-USD"),
            ("cost_pico_usd", "BIGINT", "cost by the source the conversation's cost is from, pico-USD"),
            ("unreported_calls", "BIGINT", "calls without a reported cost"),
            ("unpriced_calls", "BIGINT", "calls without a price of ours"),
            ("uncosted_calls", "BIGINT", "calls without a cost by the source that was chosen"),
            ("compared_reported_pico_usd", "BIGINT", "reported cost of calls that also have a price of ours, pico-USD"),
            ("compared_priced_pico_usd", "BIGINT", "our price of calls that also have a reported cost, pico-USD"),
            ("price_version", "VARCHAR", "newest price table asked"),
            ("cold_calls", "BIGINT", "calls of the main thread after a pause that found the cache cold"),
            ("cold_write_5m_tokens", "BIGINT", "tokens these wrote to the cache for 5 minutes"),
            ("cold_write_1h_tokens", "BIGINT", "tokens these wrote to the cache for an hour"),
            ("switch_calls", "BIGINT", "calls of the main thread that changed the model"),
            ("switch_write_5m_tokens", "BIGINT", "tokens these wrote to the cache for 5 minutes"),
            ("switch_write_1h_tokens", "BIGINT", "tokens these wrote to the cache for an hour"),
            ("skill", "VARCHAR", "skill at work; NULL: none, or not told"),
        ),
        Column(
            "row_hash",
            "UBIGINT",
            "hash of organization and conversation, by which a correction finds the rows",
            "hash(org_id, llm_session_id)",
        ),
    ),
)
# Sums that KPIs are made of, kept apart in coarser tables so that questions about a whole organization read few rows.
_USED = tuple(
    Column(part.name, "HUGEINT" if part.name.endswith("_pico_usd") else "BIGINT", f"{part.sql} of agg_usage")
    for part in USAGE_PARTS
)
_BEGUN = tuple(Column(part.name, "BIGINT", f"{part.sql} of fact_session") for part in SESSION_PARTS)
_SLOT = _columns(_ORG, ("slot_at", "TIMESTAMP", "start of the 15 minutes, UTC"))
DIMENSIONS = ("person_id", "agent", "project")  # of agg_day and agg_begun_day
_DAY = _columns(
    _ORG,
    ("day", "DATE", "day, UTC"),
    ("dimension", "VARCHAR", "person_id, agent or project"),
    ("value", "VARCHAR", "its value; NULL: not known"),
)
AGG_SLOT = Table("agg_slot", "agg_usage summed per quarter of an hour", ("org_id", "slot_at"), (*_SLOT, *_USED))
AGG_DAY = Table(
    "agg_day",
    "agg_usage summed per day and the values of one dimension: each row of usage is in once per dimension",
    ("org_id", "day", "dimension", "value"),
    (*_DAY, *_USED),
)
AGG_BEGUN = Table(
    "agg_begun",
    "fact_session summed per quarter of an hour in which sessions began",
    ("org_id", "slot_at"),
    (*_SLOT, *_BEGUN),
)
AGG_BEGUN_DAY = Table(
    "agg_begun_day",
    "fact_session summed per day on which sessions began and the values of one dimension: each session is in once per dimension",
    ("org_id", "day", "dimension", "value"),
    (*_DAY, *_BEGUN),
)
DIM_ORGANIZATION = Table(
    "dim_organization",
    "Organizations",
    ("org_id",),
    _columns(_ORG, ("slug", "VARCHAR", "name in addresses"), ("name", "VARCHAR", "name")),
)
DIM_MODEL = Table(
    "dim_model",
    "Models that were used, with the list prices of today",
    ("model",),
    _columns(
        ("model", "VARCHAR", "model, as the agent names it"),
        ("vendor", "VARCHAR", "who makes it, as far as its name tells"),
        ("price_name", "VARCHAR", "name in the price table; NULL: no price is known"),
        ("price_version", "VARCHAR", "price table"),
        ("input_pico_usd", "BIGINT", "list price of an input token, pico-USD"),
        ("output_pico_usd", "BIGINT", "list price of an output token, pico-USD"),
        ("cache_read_pico_usd", "BIGINT", "list price of a token read from the cache, pico-USD"),
        ("cache_write_5m_pico_usd", "BIGINT", "list price of a token cached for 5 minutes, pico-USD"),
        ("cache_write_1h_pico_usd", "BIGINT", "list price of a token cached for an hour, pico-USD"),
    ),
)
DIM_DISCOUNT = Table(
    "dim_discount",
    "Discounts that organizations have agreed with vendors",
    ("org_id", "discount_id"),
    _columns(
        _ORG,
        ("discount_id", "UUID", "discount"),
        ("pattern", "VARCHAR", "what it is for: vendor/model, with * for any text"),
        ("basis_points", "BIGINT", "hundredths of a percent off the cost"),
        ("valid_from", "DATE", "first day (UTC) it holds"),
        ("valid_until", "DATE", "first day (UTC) it no longer holds; NULL: it holds on"),
    ),
)

TABLES = (
    FACT_SESSION,
    FACT_LLM_SESSION,
    FACT_LLM_CALL,
    FACT_TOOL_CALL,
    FACT_SUBAGENT,
    FACT_PROMPT,
    AGG_USAGE,
    AGG_SLOT,
    AGG_DAY,
    AGG_BEGUN,
    AGG_BEGUN_DAY,
    DIM_ORGANIZATION,
    DIM_MODEL,
    DIM_DISCOUNT,
)
BY_NAME = {table.name: table for table in TABLES}
