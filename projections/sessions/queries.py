"""Questions about sessions.  `connection` comes from `eventstore.database.tenant`; every query names the organization too.

Titles are first prompts, shown only while their author has not been erased.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from projections.sessions.assemble import Parts, detail, live, summary, tree, tree_of
from projections.sessions.tables import LlmSessionRow, SessionRow, SubagentRow
from projections.sessions.totals import COUNTED, SWITCHES, TOTALS, micros, several_models, sums_of, whole
from schemas.sessions import (
    OrganizationLive,
    SessionDetail,
    SessionLive,
    SessionPage,
    TokenTotals,
    TreeNode,
)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

PAGE_SESSIONS_MAX = 200
MATCHES_MAX = 20_000  # sessions that one text search may find
WORDS_MAX = 16  # words of one text search that are looked at
STALE_MAX = 1_000  # stale sessions found at once
LIVE_TOOLS_MAX = 20
TITLE_CHARS_MAX = 200


class SessionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions to list; None means any.  `since` and `until` bound the time of activity (until: exclusive).

    `text` is looked for in prompts (words, the last may be a beginning), repository, branch, project and id.
    """

    kind: str | None = None
    status: str | None = None
    outcome: str | None = None
    person_id: UUID | None = None
    agent: str | None = None
    project: str | None = None
    repo: str | None = None
    branch: str | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None


class CursorError(ValueError):
    """The cursor is not one of ours."""


class _Mark(msgspec.Struct, array_like=True):
    at: datetime
    id: str


def encode_cursor(at: datetime, ident: str) -> str:
    """An opaque mark of the place after this session."""
    return urlsafe_b64encode(msgspec.json.encode(_Mark(at, ident))).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """The place a cursor marks.

    Raises:
        CursorError: the text is not a cursor of ours.
    """
    try:
        mark = msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=_Mark)
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise CursorError("cursor: expected a value that an earlier answer gave as next_cursor") from error
    if mark.at.tzinfo is None:
        raise CursorError("cursor: expected a value that an earlier answer gave as next_cursor")
    return mark.at, mark.id


def _conditions(filters: SessionFilter, values: list[Any]) -> list[str]:
    """The WHERE parts of a list; `values` grows by their parameters."""
    found: list[str] = []
    for name in ("kind", "status", "outcome", "person_id", "agent", "project", "repo", "branch"):
        if (wanted := getattr(filters, name)) is not None:
            values.append(wanted)
            found.append(f"s.{name} = ${len(values)}")
    if filters.since is not None:
        values.append(filters.since)
        found.append(f"s.last_activity_at >= ${len(values)} AND s.active_slot >= {_slot(len(values))}")
    if filters.until is not None:
        values.append(filters.until)
        found.append(f"s.first_activity_at < ${len(values)}")
    if filters.model is not None:
        values.append(filters.model)
        found.append(
            "EXISTS (SELECT FROM crewkit.model_call c JOIN crewkit.llm_session l"
            " ON l.org_id = c.org_id AND l.llm_session_id = c.llm_session_id"
            f" WHERE c.org_id = s.org_id AND l.session_id = s.session_id AND c.model = ${len(values)})"
        )
    if filters.text is not None and filters.text.strip():
        values += [like(filters.text), words(filters.text), MATCHES_MAX]
        n = len(values)
        found.append(f"s.session_id = ANY (ARRAY(SELECT crewkit.sessions_matching(${n - 2}, ${n - 1}, ${n})))")
    return found


def _slot(parameter: int) -> str:
    """The ten minutes of a moment, as column `active_slot` has them: lists are indexed by them."""
    return f"date_bin('10 minutes', ${parameter}::timestamptz, timestamptz '2000-01-01 00:00:00+00')"


def words(text: str) -> str:
    """A text-search query: all words must occur, the last may be the beginning of one."""
    found = re.findall(r"\w+", text.replace("\x00", " "))[:WORDS_MAX]
    return " & ".join([*found[:-1], f"{found[-1]}:*"]) if found else ""


def like(text: str) -> str:
    """A LIKE pattern for text that occurs anywhere."""
    plain = text.strip().replace("\x00", "").replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{plain}%"


_COLUMNS = ", ".join(f"s.{name}" for name in SessionRow.__struct_fields__)


async def list_sessions(
    connection: Connection, org_id: UUID, filters: SessionFilter, *, cursor: str | None = None, limit: int = 50
) -> SessionPage:
    """A page of sessions, latest activity first; at most `PAGE_SESSIONS_MAX`.

    Pages hang together by (last activity, id), so sessions that arrive meanwhile neither repeat nor hide others.

    Raises:
        CursorError: the cursor is not one of ours.
    """
    limit = max(1, min(limit, PAGE_SESSIONS_MAX))
    values: list[Any] = [org_id]
    conditions = _conditions(filters, values)
    if cursor is not None:
        values += decode_cursor(cursor)
        at, ident = len(values) - 1, len(values)
        conditions.append(f"(s.active_slot, s.last_activity_at, s.session_id) < ({_slot(at)}, ${at}, ${ident})")
    where = "".join(f" AND {condition}" for condition in conditions)
    values.append(limit + 1)
    found = await connection.fetch(
        f"SELECT {_COLUMNS} FROM crewkit.session s WHERE s.org_id = $1 AND s.visible{where}"  # noqa: S608  our own texts
        f" ORDER BY s.active_slot DESC, s.last_activity_at DESC, s.session_id DESC LIMIT ${len(values)}",
        *values,
    )
    sessions = [SessionRow(*record) for record in found[:limit]]
    parts = await parts_of(connection, org_id, [session.session_id for session in sessions], with_tools=False)
    items = [summary(session, parts) for session in sessions]
    last = sessions[-1] if len(found) > limit else None
    more = encode_cursor(last.last_activity_at, last.session_id) if last and last.last_activity_at else None
    return SessionPage(items, more)


async def find_session(connection: Connection, org_id: UUID, session_id: str) -> SessionRow | None:
    """The session of that id, or the one that the agent's session of that id belongs to."""
    record = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM crewkit.session s WHERE s.org_id = $1 AND s.visible AND s.session_id = coalesce("  # noqa: S608
        "(SELECT v.session_id FROM crewkit.session v WHERE v.org_id = $1 AND v.session_id = $2 AND v.visible),"
        "(SELECT l.session_id FROM crewkit.llm_session l WHERE l.org_id = $1 AND l.llm_session_id = $2))",
        org_id,
        session_id,
    )
    return SessionRow(*record) if record else None


async def session_detail(connection: Connection, org_id: UUID, session_id: str) -> SessionDetail | None:
    """Everything about one session; None where there is none.  The id may be the agent's own."""
    session = await find_session(connection, org_id, session_id)
    if session is None:
        return None
    return detail(session, await parts_of(connection, org_id, [session.session_id], with_tools=True))


async def session_with_tree(
    connection: Connection, org_id: UUID, session_id: str
) -> tuple[SessionDetail, TreeNode] | None:
    """`session_detail` and `session_hierarchy` from the same rows, read once."""
    session = await find_session(connection, org_id, session_id)
    if session is None:
        return None
    parts = await parts_of(connection, org_id, [session.session_id], with_tools=True)
    shown = detail(session, parts)
    return shown, tree_of(shown, parts)


async def session_hierarchy(connection: Connection, org_id: UUID, session_id: str) -> TreeNode | None:
    """The tree: session, its conversations, their subagents (below the subagent that started them)."""
    session = await find_session(connection, org_id, session_id)
    if session is None:
        return None
    return tree(session, await parts_of(connection, org_id, [session.session_id], with_tools=True))


async def session_live(connection: Connection, org_id: UUID, session_id: str) -> SessionLive | None:
    """What a session is doing now."""
    session = await find_session(connection, org_id, session_id)
    if session is None:
        return None
    parts = await parts_of(connection, org_id, [session.session_id], with_tools=True)
    ids = [llm.llm_session_id for llm in parts.llms.get(session.session_id, [])]
    running = await connection.fetch(
        "SELECT coalesce(name, '?') AS name FROM crewkit.tool_call WHERE org_id = $1 AND llm_session_id = ANY ($2)"
        " AND status = 'requested' ORDER BY at DESC LIMIT $3",
        org_id,
        ids,
        LIVE_TOOLS_MAX,
    )
    names = [record["name"] for record in running] if session.status == "active" else []
    return live(session, parts, names)


async def organization_live(connection: Connection, org_id: UUID) -> OrganizationLive:
    """An organization's active sessions and people, and what models did since 00:00 UTC."""
    now = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE status = 'active') AS sessions,"
        " count(DISTINCT person_id) FILTER (WHERE status = 'active') AS people,"
        " count(*) FILTER (WHERE last_activity_at >= date_trunc('day', now(), 'UTC')) AS today"
        " FROM crewkit.session WHERE org_id = $1 AND visible"
        " AND (status = 'active' OR active_slot >= date_trunc('day', now(), 'UTC'))",  # a day begins with a slot
        org_id,
    )
    calls = await connection.fetchrow(
        "SELECT count(*) AS calls, sum(input_tokens)::bigint AS input, sum(output_tokens)::bigint AS output,"  # noqa: S608
        " sum(cache_read_tokens)::bigint AS cache_read, sum(cache_write_5m_tokens)::bigint AS minutes,"
        " sum(cache_write_1h_tokens)::bigint AS hour, sum(reasoning_tokens)::bigint AS reasoning,"
        " sum(coalesce(reported_pico_usd, priced_pico_usd)) AS cost,"
        " count(*) FILTER (WHERE reported_pico_usd IS NULL AND priced_pico_usd IS NULL) AS unpriced"
        f" FROM ({COUNTED} AND c.at >= date_trunc('day', now(), 'UTC')) AS told WHERE counts",
        org_id,
    )
    names = ("input", "output", "cache_read", "minutes", "hour", "reasoning")
    told = dict(calls) if calls else {}
    return OrganizationLive(
        active_sessions=now["sessions"] if now else 0,
        active_people=now["people"] if now else 0,
        today_sessions=now["today"] if now else 0,
        today_model_calls=told.get("calls") or 0,
        today_tokens=TokenTotals(*(told.get(name) or 0 for name in names)),
        today_cost_usd_micros=micros(whole(told.get("cost"))),
        today_unpriced_calls=told.get("unpriced") or 0,
    )


class Stale(msgspec.Struct, frozen=True):
    """An active session of which nothing has been heard."""

    org_id: UUID
    session_id: str
    last_activity_at: datetime


async def stale_sessions(connection: Connection, heard_before: datetime, limit: int = STALE_MAX) -> list[Stale]:
    """Active sessions of every organization of which the server heard nothing since `heard_before`, oldest first.

    For the scheduled time-out, as crewkit_worker.  The server's clock decides, so a wrong client clock times nobody out.
    """
    found = await connection.fetch(
        "SELECT org_id, session_id, last_activity_at FROM crewkit.session"
        " WHERE status = 'active' AND visible AND last_recorded_at < $1 ORDER BY last_recorded_at LIMIT $2",
        heard_before,
        min(limit, STALE_MAX),
    )
    return [Stale(*record) for record in found]


async def parts_of(connection: Connection, org_id: UUID, session_ids: Sequence[str], *, with_tools: bool) -> Parts:
    """Everything below some sessions, in one query per table."""
    parts = Parts()
    if not session_ids:
        return parts
    columns = ", ".join(LlmSessionRow.__struct_fields__)
    for record in await connection.fetch(
        f"SELECT {columns} FROM crewkit.llm_session WHERE org_id = $1 AND session_id = ANY ($2)"  # noqa: S608
        " ORDER BY coalesce(acted_first_at, seen_first_at), llm_session_id",
        org_id,
        list(session_ids),
    ):
        llm = LlmSessionRow(*record)
        parts.llms.setdefault(llm.session_id, []).append(llm)
        parts.ids.append(llm.llm_session_id)
    if not parts.ids:
        return parts
    for record in await connection.fetch(TOTALS, org_id, parts.ids):
        parts.totals.setdefault(record["llm_session_id"], []).append(sums_of(record))
    if switching := [ident for ident, sums in parts.totals.items() if several_models(sums)]:
        for record in await connection.fetch(SWITCHES, org_id, switching):
            parts.switches[record["llm_session_id"]] = record["n"]
    for record in await connection.fetch(_TALLIES, org_id, parts.ids):
        parts.tallies.setdefault(record["llm_session_id"], {})[record["name"]] = int(record["n"])
    for record in await connection.fetch(_TITLES, org_id, parts.ids, TITLE_CHARS_MAX):
        parts.titles[record["llm_session_id"]] = record["title"]
    if with_tools:
        await _tools_and_subagents(connection, org_id, parts)
    return parts


async def _tools_and_subagents(connection: Connection, org_id: UUID, parts: Parts) -> None:
    for record in await connection.fetch(_TOOLS, org_id, parts.ids):
        parts.tools.setdefault(record["llm_session_id"], []).append(dict(record))
    columns = ", ".join(SubagentRow.__struct_fields__)
    for record in await connection.fetch(
        f"SELECT {columns} FROM crewkit.subagent_session WHERE org_id = $1 AND llm_session_id = ANY ($2) AND real"  # noqa: S608
        " ORDER BY started_at, agent_id",
        org_id,
        parts.ids,
    ):
        row = SubagentRow(*record)
        parts.subagents.setdefault(row.llm_session_id, []).append(row)
    if not any(row.parent_tool_use_id for rows in parts.subagents.values() for row in rows):
        return
    for record in await connection.fetch(_PARENTS, org_id, parts.ids):
        parts.parents[record["llm_session_id"], record["agent_id"]] = record["parent"]


_TALLIES = """
SELECT llm_session_id, name, max(n) AS n FROM crewkit.tally
 WHERE org_id = $1 AND llm_session_id = ANY ($2) GROUP BY llm_session_id, name
"""
_TITLES = """
SELECT DISTINCT ON (p.llm_session_id) p.llm_session_id, left(p.text, $3) AS title
  FROM crewkit.prompt p
  LEFT JOIN crewkit.person e ON e.org_id = p.org_id AND e.person_id = p.person_id
 WHERE p.org_id = $1 AND p.llm_session_id = ANY ($2) AND p.text IS NOT NULL AND p.submitted_at IS NOT NULL
   AND e.shredded_at IS NULL
 ORDER BY p.llm_session_id, p.submitted_at, p.prompt_id
"""
_TOOLS = """
SELECT t.llm_session_id, t.agent_id, coalesce(t.name, '(not named)') AS name, max(t.mcp_server) AS mcp_server,
       count(*) AS calls,
       count(*) FILTER (WHERE t.status = 'failed') AS failed,
       count(*) FILTER (WHERE t.status = 'denied') AS denied,
       count(*) FILTER (WHERE t.status IS NULL OR t.status = 'requested') AS unfinished,
       coalesce(sum(t.duration_ms), 0)::bigint AS duration_ms
  FROM (SELECT c.*, bool_or(NOT c.stand_in) OVER (PARTITION BY c.llm_session_id) AS told
          FROM crewkit.tool_call c WHERE c.org_id = $1 AND c.llm_session_id = ANY ($2)) AS t
 WHERE NOT (t.stand_in AND t.told)
 GROUP BY t.llm_session_id, t.agent_id, coalesce(t.name, '(not named)')
 ORDER BY calls DESC, name
"""
_PARENTS = """
SELECT s.llm_session_id, s.agent_id, t.agent_id AS parent
  FROM crewkit.subagent_session s
  JOIN crewkit.tool_call t ON t.org_id = s.org_id AND t.llm_session_id = s.llm_session_id
                          AND t.tool_use_id = s.parent_tool_use_id
 WHERE s.org_id = $1 AND s.llm_session_id = ANY ($2) AND s.real AND t.agent_id IS NOT NULL
"""
