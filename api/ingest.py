"""What agents and their hooks send: hook events, transcript lines, sessions opened and ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec
from litestar import MediaType, Request, Response, Router, post
from litestar.params import FromPath

from api.answers import INGEST_HEADERS, INGESTED, POSITION, accepted, body_of, json_answer
from api.auth import base_path, principal_of
from api.bodies import read_body, read_json
from api.errors import ApiError
from api.idempotency import idempotency_key
from api.paths import checked_id
from api.reading import bare, hook_batch
from api.services import services_of
from commands import sessions
from domain.sessions.events import Context
from eventstore.batches import PostgresBatches
from schemas.ingest import HookBatch, IngestAnswer
from schemas.lifecycle import EndSession, SessionChanged, StartSession

_start = msgspec.json.Decoder(StartSession)
_end = msgspec.json.Decoder(EndSession)
AnyRequest = Request[Any, Any, Any]


def _command_id(request: AnyRequest) -> str | None:
    """`Idempotency-Key`, bound to the route, so that one key used twice for different wishes cannot mix them up."""
    key = idempotency_key(request)
    return None if key is None else f"{request.method} {request.url.path} {key}"


async def ingest(request: AnyRequest, session_id: str | None) -> IngestAnswer:
    """Store the hook events in the body; `session_id` is the crewkit session the caller posted to."""
    found = hook_batch(await read_body(request))
    services = services_of(request)
    return await sessions.ingest_hooks(
        services.store,
        principal_of(request),
        found.events,
        received_at=datetime.now(UTC),
        session_id=session_id,
        person_secret=services.person_secret,
        batch_id=found.batch_id,
        names=PostgresBatches(services.pool),
    )


@post(
    "/api/v1/{organization_id:str}/observability/events",
    status_code=202,
    summary="Send hook events",
    operation_class=body_of(HookBatch),
    responses=INGESTED,
    response_headers=INGEST_HEADERS,
)
async def events(request: AnyRequest, organization_id: FromPath[str]) -> Response[bytes]:  # noqa: ARG001
    """Answered after the commit, with one result per event: accepted, duplicate, or rejected with the reason.

    Also taken: a bare list of events, one event, and hook payloads without an envelope.  Sending a batch again is safe.
    """
    return accepted(await ingest(request, None))


@post(
    [
        "/api/v1/{organization_id:str}/observability/sessions/{session_id:str}/events",
        "/observability/sessions/{session_id:str}/events",
    ],
    status_code=202,
    summary="Send hook events of one crewkit session",
    operation_class=body_of(HookBatch),
    responses=INGESTED,
    response_headers=INGEST_HEADERS,
)
async def session_events(
    request: AnyRequest,
    session_id: FromPath[str],
    organization_id: FromPath[str | None] = None,  # noqa: ARG001
) -> Response[bytes]:
    """As above; the events' agent sessions become part of crewkit session `session_id`."""
    return accepted(await ingest(request, checked_id(session_id, "session_id")))


@post("/hooks/{agent:str}", status_code=200, summary="One hook call, as the agent itself posts it")
async def bare_hook(request: AnyRequest, agent: FromPath[str]) -> Response[bytes]:
    """For agents that post hooks over HTTP.  The answer is an empty object: it decides nothing for the agent."""
    payload = bare(await read_body(request))
    services = services_of(request)
    answer = await sessions.ingest_bare_hook(
        services.store,
        principal_of(request),
        checked_id(agent, "agent"),
        payload,
        received_at=datetime.now(UTC),
        person_secret=services.person_secret,
    )
    if answer.rejected:
        reason = answer.results[0].reason or "the payload cannot be filed"
        raise ApiError(400, reason, details={"field": reason.partition(":")[0]})
    return Response(b"{}", status_code=200, media_type=MediaType.JSON, headers={POSITION: str(answer.position)})


@post(
    "/api/v1/{organization_id:str}/observability/sessions",
    status_code=201,
    summary="Open a session",
    operation_class=body_of(StartSession),
)
async def start(request: AnyRequest, organization_id: FromPath[str]) -> Response[SessionChanged]:  # noqa: ARG001
    """201 when it was opened, 200 when it was open already."""
    body = await read_json(request, _start)
    session_id = checked_id(body.session_id, "session_id") if body.session_id else str(uuid4())
    command_id = _command_id(request)
    if body.session_id is None and command_id is not None:
        # The repeat of a request must name the same session; its key is all that both have in common.
        session_id = str(_named_by(request, command_id))
    if (body.worktree_path is None) != (body.worktree_branch is None):
        missing = "worktree_path" if body.worktree_path is None else "worktree_branch"
        raise ApiError(400, f"{missing}: expected text, because the other is given", details={"field": missing})
    outcome = await sessions.start_session(
        services_of(request).store,
        principal_of(request),
        session_id,
        kind=body.kind,
        at=body.started_at or datetime.now(UTC),
        context=Context(body.repo, body.branch, body.commit, body.project),
        command_id=command_id,
    )
    placed = None
    if body.worktree_path is not None and body.worktree_branch is not None:
        placed = await sessions.create_worktree(
            services_of(request).store,
            principal_of(request),
            session_id,
            path=body.worktree_path,
            branch=body.worktree_branch,
            at=body.started_at or datetime.now(UTC),
        )
    last = placed or outcome
    return _changed(request, session_id, last.position if last else None, status=201 if outcome else 200)


@post(
    "/api/v1/{organization_id:str}/observability/sessions/{session_id:str}/end",
    status_code=200,
    summary="End a session",
    operation_class=body_of(EndSession),
)
async def end(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001
    session_id: FromPath[str],
) -> Response[SessionChanged]:
    """Ending it again with the same outcome changes nothing; with another one is a conflict."""
    body = await read_json(request, _end)
    resolved = None
    if body.worktree is not None:
        resolved = await sessions.resolve_worktree(
            services_of(request).store,
            principal_of(request),
            checked_id(session_id, "session_id"),
            resolution=body.worktree,
            at=body.ended_at or datetime.now(UTC),
        )
    outcome = await sessions.end_session(
        services_of(request).store,
        principal_of(request),
        checked_id(session_id, "session_id"),
        outcome=body.outcome,
        at=body.ended_at or datetime.now(UTC),
        command_id=_command_id(request),
    )
    told = outcome or resolved
    return _changed(request, session_id, told.position if told else None, status=200)


@post(
    [
        "/api/v1/{organization_id:str}/sessions/{session_id:str}/reset",
        "/api/v2/sessions/{session_id:str}/reset",
    ],
    status_code=200,
    summary="Use a dashboard session again",
)
async def reset(
    request: AnyRequest,
    session_id: FromPath[str],
    organization_id: FromPath[str | None] = None,  # noqa: ARG001
) -> Response[SessionChanged]:
    """An ended or timed-out session of kind `dashboard` becomes active; sessions of other kinds are over when they are over."""
    outcome = await sessions.reset_session(
        services_of(request).store,
        principal_of(request),
        checked_id(session_id, "session_id"),
        at=datetime.now(UTC),
        command_id=_command_id(request),
    )
    return _changed(request, session_id, outcome.position if outcome else None, status=200)


def _named_by(request: AnyRequest, command_id: str) -> UUID:
    return uuid5(principal_of(request).org_id, command_id)


def _changed(request: AnyRequest, session_id: str, position: int | None, *, status: int) -> Response[SessionChanged]:
    path = f"{base_path(request)}/sessions/{session_id}"
    answer = SessionChanged(
        session_id=session_id,
        changed=position is not None,
        position=position,
        links={"self": path, "live": f"{path}/live", "stream": f"{path}/events/stream"},
    )
    return json_answer(answer, status, position=position)


ROUTER = Router("/", route_handlers=[events, session_events, bare_hook, start, end, reset], tags=["ingestion"])
