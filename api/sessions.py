"""Sessions to look at: list, detail, tree, items, live numbers, subagents."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, get
from litestar.params import FromPath, QueryParameter

from api.answers import json_answer
from api.auth import base_path, principal_of
from api.choices import one_of
from api.errors import bad_cursor, not_found
from api.fresh import wait_until_fresh
from api.named import person_named
from api.paging import cursor_links
from api.paths import items_path
from api.services import Services, services_of
from domain.sessions.decide import KINDS
from eventstore.database import tenant
from projections import subagents
from projections.consolidation import with_stream_status
from projections.feedback import feedback_rows, open_feedback
from projections.sessions import queries
from projections.sessions.queries import CursorError, SessionFilter
from projections.subagents import SubagentFound
from projections.worktrees import open_worktree, worktree_row
from schemas.linked import (
    LiveAnswer,
    OrganizationLiveAnswer,
    SessionAnswer,
    SessionLine,
    SessionList,
    SubagentLine,
    SubagentList,
    TreeAnswer,
    linked,
)
from schemas.sessions import SessionDetail, SessionSummary, TokenTotals

READ_MODEL = "sessions"
LIMIT_DEFAULT = 50
CURSOR_CHARS_MAX = 400
STATUSES = ("active", "ended", "timed_out")
OUTCOMES = ("completed", "failed", "abandoned", "unknown")

AnyRequest = Request[Any, Any, Any]
Limit = Annotated[int, QueryParameter(ge=1, le=queries.PAGE_SESSIONS_MAX)]
Cursor = Annotated[
    str | None, QueryParameter(description="`next_cursor` of an earlier answer", max_length=CURSOR_CHARS_MAX)
]
Text = Annotated[str | None, QueryParameter(max_length=400)]
Tenant = FromPath[str | None]
_T = "/api/v1/{organization_id:str}"


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _session_links(base: str, session_id: str) -> dict[str, str]:
    path = f"{base}/sessions/{quote(session_id, safe='')}"
    return {
        "self": path,
        "hierarchy": f"{path}/hierarchy",
        "insights": f"{path}/insights",
        "live": f"{path}/live",
        "stream": f"{path}/events/stream",
        "history": f"{base}/events?stream={quote(f'Session:{session_id}', safe='')}",
    }


def _line(summary: SessionSummary, base: str) -> SessionLine:
    return linked(SessionLine, summary, _session_links(base, summary.id))


@get(
    [f"{_T}/sessions", f"{_T}/dashboard/sessions/history", "/api/v2/dashboard/sessions/history"],
    summary="List sessions",
)
async def list_sessions(
    request: AnyRequest,
    organization_id: Tenant = None,  # noqa: ARG001  checked by the guard
    status: Annotated[str | None, QueryParameter(description="`active`, `ended` or `timed_out`")] = None,
    kind: Annotated[str | None, QueryParameter(description="`cli`, `dashboard`, `kickoff` or `workflow`")] = None,
    outcome: Annotated[
        str | None, QueryParameter(description="`completed`, `failed`, `abandoned` or `unknown`")
    ] = None,
    user: Annotated[str | None, QueryParameter(description="a person's id or e-mail address")] = None,
    agent: Text = None,
    project: Text = None,
    repo: Text = None,
    branch: Text = None,
    model: Text = None,
    since: Annotated[datetime | None, QueryParameter(description="active at or after")] = None,
    until: Annotated[datetime | None, QueryParameter(description="active before")] = None,
    text: Annotated[
        str | None, QueryParameter(description="words in prompts, repository, branch, project or id", max_length=400)
    ] = None,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response[SessionList]:
    """Latest activity first."""
    services, principal, base = services_of(request), principal_of(request), base_path(request)
    filters = SessionFilter(
        kind=one_of("kind", kind, KINDS),
        status=one_of("status", status, STATUSES),
        outcome=one_of("outcome", outcome, OUTCOMES),
        person_id=person_named(services, principal.org_id, user),
        agent=agent,
        project=project,
        repo=repo,
        branch=branch,
        model=model,
        since=_utc(since),
        until=_utc(until),
        text=text,
    )
    await wait_until_fresh(request, READ_MODEL)
    try:
        async with tenant(services.pool, principal.org_id) as connection:
            page = await queries.list_sessions(connection, principal.org_id, filters, cursor=cursor, limit=limit)
    except CursorError as error:
        raise bad_cursor(error) from error
    links = cursor_links(request, f"{base}/sessions", page.next_cursor)
    links |= {"stream": f"{base}/events/stream", "live": f"{base}/sessions/live"}
    return json_answer(
        SessionList(items=[_line(item, base) for item in page.items], next_cursor=page.next_cursor, links=links)
    )


@get([f"{_T}/dashboard/session/current", "/api/v2/dashboard/session/current"], summary="The caller's dashboard session")
async def current_session(
    request: AnyRequest,
    organization_id: Tenant = None,  # noqa: ARG001
) -> Response[SessionLine]:
    """The caller's own active session of kind `dashboard` with the latest activity; 404 where there is none."""
    services, principal = services_of(request), principal_of(request)
    mine = SessionFilter(kind="dashboard", status="active", person_id=principal.person_id)
    await wait_until_fresh(request, READ_MODEL)
    async with tenant(services.pool, principal.org_id) as connection:
        page = await queries.list_sessions(connection, principal.org_id, mine, limit=1)
    if not page.items:
        raise not_found("active dashboard session")
    return json_answer(_line(page.items[0], base_path(request)))


@get([f"{_T}/sessions/{{session_id:str}}", "/api/v2/sessions/{session_id:str}"], summary="One session")
async def one_session(
    request: AnyRequest,
    session_id: FromPath[str],
    organization_id: Tenant = None,  # noqa: ARG001
) -> Response[SessionAnswer]:
    """With its conversations and the tree; the id may be the agent's own."""
    services, org_id = services_of(request), principal_of(request).org_id
    await wait_until_fresh(request, READ_MODEL)
    async with tenant(services.pool, org_id) as connection:
        known = await queries.session_with_tree(connection, org_id, session_id)
        if known is None:
            raise not_found("session")
        found, tree = known
        found = await with_stream_status(connection, org_id, found)
        worktree = await worktree_row(connection, org_id, found.session.id)
        feedback = await feedback_rows(connection, org_id, found.session.id)
    place = await open_worktree(services.keyring, org_id, worktree)
    said = await open_feedback(services.keyring, org_id, feedback)
    found = msgspec.structs.replace(found, worktree=place, feedback=said)
    base = base_path(request)
    links = _session_links(base, found.session.id)
    for llm in found.llm_sessions:
        links[f"items:{llm.id}"] = items_path(base, llm.id)
    return json_answer(linked(SessionAnswer, found, links, tree=tree))


@get(f"{_T}/sessions/{{session_id:str}}/hierarchy", summary="The tree of a session")
async def hierarchy(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001
    session_id: FromPath[str],
) -> Response[TreeAnswer]:
    """Session, conversations, subagents, each with its totals."""
    services, org_id = services_of(request), principal_of(request).org_id
    await wait_until_fresh(request, READ_MODEL)
    async with tenant(services.pool, org_id) as connection:
        found = await queries.session_hierarchy(connection, org_id, session_id)
    if found is None:
        raise not_found("session")
    return json_answer(linked(TreeAnswer, found, _session_links(base_path(request), found.id)))


@get(
    [
        f"{_T}/sessions/{{session_id:str}}/live",
        f"{_T}/observability/sessions/{{session_id:str}}/live",
        f"{_T}/sessions/{{session_id:str}}/status",
        "/sessions/{session_id:str}/live",
        "/api/v2/sessions/{session_id:str}/status",
    ],
    summary="A session now",
)
async def session_live(
    request: AnyRequest,
    session_id: FromPath[str],
    organization_id: Tenant = None,  # noqa: ARG001
) -> Response[LiveAnswer]:
    """Its status, totals, and the tools and subagents that run at this moment."""
    services, org_id = services_of(request), principal_of(request).org_id
    await wait_until_fresh(request, READ_MODEL)
    async with tenant(services.pool, org_id) as connection:
        found = await queries.session_live(connection, org_id, session_id)
    if found is None:
        raise not_found("session")
    return json_answer(linked(LiveAnswer, found, _session_links(base_path(request), found.id)))


@get(f"{_T}/sessions/live", summary="The organization now")
async def organization_live(request: AnyRequest, organization_id: FromPath[str]) -> Response[OrganizationLiveAnswer]:  # noqa: ARG001
    """Sessions and people at work, and what models did since 00:00 UTC."""
    services, org_id, base = services_of(request), principal_of(request).org_id, base_path(request)
    await wait_until_fresh(request, READ_MODEL)
    async with tenant(services.pool, org_id) as connection:
        found = await queries.organization_live(connection, org_id)
    links = {"self": f"{base}/sessions/live", "stream": f"{base}/events/stream", "sessions": f"{base}/sessions"}
    return json_answer(linked(OrganizationLiveAnswer, found, links))


def _subagent(found: SubagentFound, detail: SessionDetail | None, base: str) -> SubagentLine:
    """`detail` is the session the subagent belongs to; its totals are there."""
    told = next(
        (
            one
            for llm in (detail.llm_sessions if detail else [])
            if llm.id == found.llm_session_id
            for one in llm.subagents
            if one.agent_id == found.agent_id
        ),
        None,
    )
    ident = quote(found.agent_id, safe="")
    return SubagentLine(
        agent_id=found.agent_id,
        llm_session_id=found.llm_session_id,
        session_id=found.session_id,
        agent_type=found.agent_type,
        status=told.status if told else found.status,
        background=found.background,
        model=found.model,
        started_at=found.started_at,
        ended_at=found.ended_at,
        model_calls=told.model_calls if told else 0,
        tool_calls=told.tool_calls if told else 0,
        tokens=told.tokens if told else TokenTotals(),
        cost_usd_micros=told.cost_usd_micros if told else None,
        links={
            "self": f"{base}/subagents/{ident}",
            "items": f"{base}/observability/subagent_sessions/{ident}/items",
            "session": f"{base}/sessions/{quote(found.session_id, safe='')}",
        },
    )


async def _details(services: Services, org_id: UUID, session_ids: set[str]) -> dict[str, SessionDetail | None]:
    async with tenant(services.pool, org_id) as connection:
        return {one: await queries.session_detail(connection, org_id, one) for one in sorted(session_ids)}


@get([f"{_T}/subagents/active", "/api/v2/subagents/active"], summary="Subagents at work")
async def active_subagents(request: AnyRequest, organization_id: Tenant = None) -> Response[SubagentList]:  # noqa: ARG001
    """Latest start first."""
    services, org_id, base = services_of(request), principal_of(request).org_id, base_path(request)
    await wait_until_fresh(request, READ_MODEL)
    found = await subagents.active(services.pool, org_id)
    details = await _details(services, org_id, {one.session_id for one in found})
    lines = [_subagent(one, details[one.session_id], base) for one in found]
    return json_answer(SubagentList(items=lines, links={"self": f"{base}/subagents/active"}))


@get([f"{_T}/subagents/{{subagent_id:str}}", "/api/v2/subagents/{subagent_id:str}"], summary="One subagent")
async def one_subagent(
    request: AnyRequest,
    subagent_id: FromPath[str],
    organization_id: Tenant = None,  # noqa: ARG001
) -> Response[SubagentLine]:
    """With its own totals."""
    services, org_id = services_of(request), principal_of(request).org_id
    await wait_until_fresh(request, READ_MODEL)
    found = await subagents.find(services.pool, org_id, subagent_id)
    if found is None:
        raise not_found("subagent")
    details = await _details(services, org_id, {found.session_id})
    return json_answer(_subagent(found, details[found.session_id], base_path(request)))


ROUTER = Router(
    "/",
    route_handlers=[
        list_sessions,
        current_session,
        one_session,
        hierarchy,
        session_live,
        organization_live,
        active_subagents,
        one_subagent,
    ],
    tags=["sessions"],
)
