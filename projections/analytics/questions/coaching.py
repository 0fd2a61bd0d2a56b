"""What coaching mode does: sessions with it beside sessions without, and how people get on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from projections.analytics.kpis import BY_NAME, How, Kpi, computed
from projections.analytics.questions import base
from projections.analytics.questions.base import Cursor, Question, QuestionError, Scope

PEOPLE_MAX = 200
_KPIS = tuple(
    BY_NAME[name]
    for name in (
        "total_sessions",
        "finished_sessions",
        "completed_sessions",
        "success_rate",
        "average_duration_ms",
        "average_cost_usd_micros",
        "tool_failure_rate",
    )
)
_TIME = Kpi(
    "time_ms",
    "milliseconds",
    "sessions",
    "mean duration of completed sessions",
    How("round(avg(duration_ms) FILTER (WHERE outcome = 'completed'))::BIGINT"),
)
_NONE: dict[str, Any] = {kpi.name: None if "rate" in kpi.name or kpi.name.startswith("average") else 0 for kpi in _KPIS}


class CoachingParams(msgspec.Struct, frozen=True, kw_only=True):
    """`scope` needs both ends."""

    scope: Scope


def coaching(cursor: Cursor, org_id: UUID, params: CoachingParams) -> dict[str, Any]:
    """KPIs with coaching, without, and where the role is not known; success per coached person early and late."""
    scope = params.scope
    if scope.since is None or scope.until is None:
        raise QuestionError("since", "since and until: expected both ends of the range")
    where = base.sessions(org_id, scope)
    found = {
        row.pop("coached"): row
        for row in base.rows(
            cursor,
            computed((*_KPIS, _TIME), f"fact_session WHERE {where.sql}", "coached"),
            where.values,
        )
    }
    times = {key: row.pop("time_ms") for key, row in found.items()}
    coached, uncoached = found.get(True, _NONE), found.get(False, _NONE)
    rates = (coached["success_rate"], uncoached["success_rate"])
    middle = base.utc(scope.since) + timedelta(seconds=(scope.until - scope.since).total_seconds() / 2)
    share = "count(*) FILTER (WHERE outcome = 'completed' AND {0})::DOUBLE / nullif(count(*) FILTER (WHERE status <> 'active' AND {0}), 0)"
    people = base.rows(
        cursor,
        "SELECT CAST(person_id AS VARCHAR) AS person_id, count(*) FILTER (WHERE coached) AS coached_sessions,"  # noqa: S608
        " count(*) FILTER (WHERE NOT coached) AS uncoached_sessions,"
        f" {share.format('started_at < ?')} AS earlier_success_rate, {share.format('started_at >= ?')} AS later_success_rate"
        f" FROM fact_session WHERE {where.sql} AND person_id IS NOT NULL GROUP BY person_id"
        f" HAVING count(*) FILTER (WHERE coached) > 0 ORDER BY coached_sessions DESC, person_id LIMIT {PEOPLE_MAX}",
        [middle, middle, middle, middle, *where.values],
    )
    for row in people:
        early, late = row["earlier_success_rate"], row["later_success_rate"]
        row["change"] = None if early is None or late is None else late - early
    return {
        "coached": coached,
        "uncoached": uncoached,
        "unknown": found.get(None, _NONE),
        "success_rate_difference": None if None in rates else rates[0] - rates[1],
        "coached_time_to_completion_ms": times.get(True),
        "uncoached_time_to_completion_ms": times.get(False),
        "people": people,
    }


COACHING = Question("coaching", CoachingParams, coaching)
