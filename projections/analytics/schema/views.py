"""Views over the tables, with the meaning of each column."""

from __future__ import annotations

from projections.analytics.schema.base import HASHES, Column, View
from projections.analytics.schema.tables import FACT_LLM_CALL, FACT_TOOL_CALL, PLACE

# What a call cost by the source its conversation's cost is from; the rest of the conversation's cost is in agg_usage.
CALL_COST = (
    "CASE l.cost_source WHEN 'telemetry' THEN c.reported_pico_usd WHEN 'priced' THEN c.priced_pico_usd"
    " ELSE coalesce(c.reported_pico_usd, c.priced_pico_usd) END"
)
_CALL_VIEW = (
    *(column for column in FACT_LLM_CALL.columns if column.name not in HASHES),
    Column("session_id", "VARCHAR", "session: the piece of work"),
    Column("agent", "VARCHAR", "agent"),
    Column("person_id", "UUID", "who worked, as an id; NULL: erased or not known"),
    *(column for column in PLACE if column.name != "commit_hash"),
)

_CALL_NAMES = ", ".join(f"c.{column.name}" for column in FACT_LLM_CALL.columns if column.name not in HASHES)
_CALL_SQL = (
    f"SELECT {_CALL_NAMES}, l.session_id, l.agent, l.person_id, l.repo, l.branch, l.project, {CALL_COST} AS cost_pico_usd"  # noqa: S608
    " FROM fact_llm_call c JOIN fact_llm_session l USING (org_id, llm_session_id) WHERE c.counts"
)

VIEWS = (
    View(
        "llm_call",
        "Model calls that count, with what they cost and whose they are",
        _CALL_SQL,
        (
            *((column.name, column.comment) for column in _CALL_VIEW),
            ("cost_pico_usd", "cost by the source the conversation's cost is from, pico-USD"),
        ),
    ),
    View(
        "fact_permission_decision",
        "One row per permission decision about a tool call",
        "SELECT org_id, llm_session_id, tool_use_id, called_at, name, decision, decision_source, agent_id"
        " FROM fact_tool_call WHERE decision IS NOT NULL",
        tuple(
            (column.name, column.comment)
            for name in (
                "org_id",
                "llm_session_id",
                "tool_use_id",
                "called_at",
                "name",
                "decision",
                "decision_source",
                "agent_id",
            )
            for column in FACT_TOOL_CALL.columns
            if column.name == name
        ),
    ),
    View(
        "dim_user",
        "People who worked, as ids",
        "SELECT org_id, person_id, min(started_at) AS first_seen_at, max(last_activity_at) AS last_seen_at,"
        " count(*) AS sessions FROM fact_session WHERE person_id IS NOT NULL GROUP BY org_id, person_id",
        (
            ("org_id", "organization"),
            ("person_id", "person, as an id"),
            ("first_seen_at", "first activity, UTC"),
            ("last_seen_at", "last activity, UTC"),
            ("sessions", "sessions"),
        ),
    ),
    View(
        "dim_agent",
        "Agents and their versions",
        "SELECT DISTINCT org_id, agent, agent_version FROM fact_llm_session",
        (("org_id", "organization"), ("agent", "agent"), ("agent_version", "version")),
    ),
    View(
        "dim_project",
        "Projects",
        "SELECT DISTINCT org_id, project FROM fact_session WHERE project IS NOT NULL",
        (("org_id", "organization"), ("project", "project")),
    ),
    View(
        "dim_repo",
        "Repositories and branches",
        "SELECT DISTINCT org_id, repo, branch FROM fact_llm_session WHERE repo IS NOT NULL",
        (("org_id", "organization"), ("repo", "repository"), ("branch", "branch")),
    ),
    View(
        "dim_day",
        "Days (UTC) on which something happened",
        "SELECT DISTINCT org_id, CAST(slot_at AS DATE) AS day, isodow(slot_at) AS weekday FROM agg_usage",
        (("org_id", "organization"), ("day", "day, UTC"), ("weekday", "1: Monday … 7: Sunday")),
    ),
)
