"""Proofs: checkpoints, one event's inclusion, consistency of two checkpoints, and the export that proves itself."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, Router, get
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from api.answers import json_answer
from api.auth import base_path, principal_of
from api.errors import ApiError, not_found, unavailable
from api.paging import cursor_links
from api.services import services_of
from domain.proof.note import parse_key
from projections import proof
from projections.proof import INCLUDED_MAX, LIST_MAX, NoSuchCheckpointError, NothingSealedError
from schemas.proof import CheckpointPage, CheckpointView, ConsistencyView, InclusionView

EXPORT_TYPE = "application/jsonl"
NUMBER_MAX = 2**53
DIGITS_MAX = 15
RETRY_S = 10

Number = Annotated[int, QueryParameter(ge=1, le=NUMBER_MAX)]


def _view(sealed: proof.Sealed, base: str) -> CheckpointView:
    found = sealed.checkpoint
    return CheckpointView(
        number=found.number,
        size=found.size,
        root=found.root.hex(),
        organizations=found.organizations,
        organizations_root=found.organizations_root.hex(),
        sealed_at=found.at,
        note=sealed.note,
        public_key=sealed.public_key,
        fingerprint=parse_key(sealed.public_key).fingerprint,
        links={"self": f"{base}/audit/checkpoints/{found.number}"},
    )


@get("/api/v1/{organization_id:str}/audit/checkpoints", summary="Signed checkpoints of the log")
async def list_checkpoints(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    before: Annotated[int | None, QueryParameter(ge=1, le=NUMBER_MAX, description="only with a lower number")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=LIST_MAX)] = 50,
) -> Response[CheckpointPage]:
    """Newest first.  They cover the whole installation's log; hashes and counts are all they tell of it."""
    base = base_path(request)
    found = await proof.checkpoints(services_of(request).pool, before=before, limit=limit)
    more = len(found) == limit and found[-1].checkpoint.number > 1
    following = found[-1].checkpoint.number if more else None
    links = cursor_links(request, f"{base}/audit/checkpoints", following, name="before")
    page = CheckpointPage(
        items=[_view(one, base) for one in found],
        next_before=following,
        links=links,
    )
    return json_answer(page)


@get("/api/v1/{organization_id:str}/audit/checkpoints/{number:str}", summary="One checkpoint")
async def one_checkpoint(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    number: FromPath[str],
) -> Response[CheckpointView]:
    """Its note holds what was signed."""
    known = number.isascii() and number.isdigit() and len(number) <= DIGITS_MAX
    found = await proof.checkpoint(services_of(request).pool, int(number)) if known else None
    if found is None:
        raise not_found("checkpoint")
    return json_answer(_view(found, base_path(request)))


@get("/api/v1/{organization_id:str}/audit/consistency", summary="Proof that a checkpoint only added to another")
async def consistency(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    first: Number,
    second: Number,
) -> Response[ConsistencyView]:
    """A consistency proof as RFC 6962 defines it."""
    base = base_path(request)
    try:
        found = await proof.consistency(services_of(request).pool, first, second)
    except NoSuchCheckpointError as error:
        raise _no_such("first, second") from error
    answer = ConsistencyView(
        first=_view(found.first, base),
        second=_view(found.second, base),
        path=found.path,
        links={"self": f"{base}/audit/consistency?first={first}&second={second}"},
    )
    return json_answer(answer)


@get("/api/v1/{organization_id:str}/audit/events/{event_id:uuid}/proof", summary="Proof that an event is in the log")
async def inclusion(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    event_id: FromPath[UUID],
) -> Response[InclusionView]:
    """An inclusion proof as RFC 6962 defines it, against the newest checkpoint."""
    base = base_path(request)
    try:
        found = await proof.inclusion(services_of(request).pool, principal_of(request).org_id, event_id)
    except NothingSealedError as error:
        raise unavailable("no checkpoint covers this event yet", retry_after_s=RETRY_S) from error
    if found is None:
        raise not_found("event")
    answer = InclusionView(
        event_id=event_id,
        index=found.position - 1,
        leaf=found.leaf,
        path=found.path,
        checkpoint=_view(found.sealed, base),
        links={"self": f"{base}/audit/events/{event_id}/proof", "event": f"{base}/events/{event_id}"},
    )
    return json_answer(answer)


@get(
    "/api/v1/{organization_id:str}/audit/export",
    summary="The organization's history as a file that proves itself",
    media_type=EXPORT_TYPE,
)
async def export(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    after: Annotated[int, QueryParameter(ge=0, le=NUMBER_MAX, description="only what came after this checkpoint")] = 0,
    until: Annotated[
        int | None, QueryParameter(ge=1, le=NUMBER_MAX, description="up to this checkpoint; the newest")
    ] = None,
    include: Annotated[
        list[int] | None, QueryParameter(description="checkpoints that shall be met on the way", max_items=INCLUDED_MAX)
    ] = None,
) -> Stream:
    """Every event as stored, sealed values closed, with the hashes that prove it complete and unchanged.

    JSON lines, written while they are read; `crewkit audit verify` checks them offline.
    """
    try:
        found = await proof.open_export(
            services_of(request).pool,
            principal_of(request).org_id,
            after=after,
            until=until,
            include=include or (),
        )
    except NothingSealedError as error:
        raise unavailable("no checkpoint covers this organization yet", retry_after_s=RETRY_S) from error
    except NoSuchCheckpointError as error:
        raise _no_such("after, until, include") from error
    name = f"audit-{principal_of(request).org_id}-{found.last.number}.jsonl"
    return Stream(
        found.chunks(),
        media_type=EXPORT_TYPE,
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


def _no_such(fields: str) -> ApiError:
    message = f"{fields}: expected numbers of checkpoints that exist, in rising order"
    return ApiError(400, message, details={"field": fields, "expected": "checkpoint numbers"})


ROUTER = Router("/", route_handlers=[list_checkpoints, one_checkpoint, consistency, inclusion, export], tags=["audit"])
