"""Exports of analytics rows: ask, look, fetch (again from any byte), give up."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.params import FromPath
from litestar.response import Stream

from api.answers import body_of, json_answer, no_content
from api.auth import base_path, principal_of
from api.bodies import read_json
from api.errors import ApiError, not_found, unavailable
from api.fresh import wait_until_fresh
from api.idempotency import once_of
from api.ranges import Part, chosen_part
from api.services import services_of
from commands import exports as commands
from commands.exports import FILE_NAMES, Found, key_of
from domain.exports import decide
from domain.exports.events import Wishes
from eventstore.objects import ObjectRefusedError, Objects, ObjectsUnavailableError, open_objects
from eventstore.port import Status
from eventstore.settings import Settings
from projections import exports
from projections.analytics.exported import EXPORTED
from projections.exports import ExportRow, Progress
from schemas.exports import ExportPage, ExportProgress, ExportView, ExportWish

MEDIA_TYPES = {"duckdb": "application/vnd.duckdb", "parquet": "application/zip", "csv": "application/zip"}
DEFAULT_PARTITION = {"duckdb": "none", "parquet": "day", "csv": "none"}
_T = "/api/v1/{organization_id:str}/exports"
_wish = msgspec.json.Decoder(ExportWish)


@lru_cache(maxsize=4)
def _objects(settings: Settings) -> Objects:
    return open_objects(settings)


def _links(base: str, export_id: UUID, *, ready: bool) -> dict[str, str]:
    path = f"{base}/exports/{export_id}"
    return {"self": path, "download": f"{path}/download"} if ready else {"self": path}


def _progress(found: Progress | None) -> ExportProgress | None:
    if found is None:
        return None
    return ExportProgress(stage=found.stage, done=found.done, total=found.total, rows=found.rows, tries=found.tries)


def state_view(found: Found, base: str, progress: Progress | None = None) -> ExportView:
    """An export as its own stream tells it."""
    asked = found.request
    done = found.completed if isinstance(found, decide.Ready) else None
    reason = None
    if isinstance(found, decide.Failed):
        reason = found.failed.reason
    elif isinstance(found, decide.Gone):
        reason = found.expired.reason
    return ExportView(
        export_id=asked.export_id,
        status=commands.status_of(found),
        reason=reason,
        format=asked.wishes.format,
        partition=asked.wishes.partition,
        tables=asked.wishes.tables,
        since=asked.wishes.since,
        base=asked.wishes.base,
        requested_by=asked.requested_by,
        requested_at=asked.requested_at,
        progress=_progress(progress) if isinstance(found, decide.Waiting) else None,
        position=done.position if done else None,
        rows=done.rows if done else None,
        files=done.files if done else None,
        partial=done.partial if done else False,
        size_bytes=done.size_bytes if done else None,
        sha256=done.sha256 if done else None,
        completed_at=done.completed_at if done else None,
        expires_at=done.expires_at if done else None,
        links=_links(base, asked.export_id, ready=done is not None),
    )


def _row_view(row: ExportRow, base: str) -> ExportView:
    return ExportView(
        export_id=row.export_id,
        status=row.status,
        reason=row.reason,
        format=row.format,
        partition=row.partition,
        tables=row.tables,
        since=row.since,
        base=row.base,
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        progress=None,
        position=row.position,
        rows=row.rows,
        files=row.files,
        partial=row.partial,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        completed_at=row.completed_at,
        expires_at=row.expires_at,
        links=_links(base, row.export_id, ready=row.status == "ready"),
    )


def _wishes(data: ExportWish) -> Wishes:
    unknown = sorted(set(data.tables) - set(EXPORTED))
    if unknown:
        expected = f"some of {', '.join(EXPORTED)}"
        raise ApiError(
            422,
            f"tables: there is no {unknown[0]!r}; expected {expected}",
            details={"field": "tables", "expected": expected},
        )
    since = data.since
    if since is not None:
        since = since.replace(tzinfo=UTC) if since.tzinfo is None else since.astimezone(UTC)
    return Wishes(
        format=data.format,
        partition=data.partition or DEFAULT_PARTITION[data.format],
        tables=[name for name in EXPORTED if name in data.tables],
        since=since,
        base=data.base,
    )


@post(_T, summary="Export analytics rows", operation_class=body_of(ExportWish))
async def ask(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
) -> Response[ExportView]:
    """A worker writes the file in the background, with every event up to now; 409 while too many are kept."""
    services, principal = services_of(request), principal_of(request)
    body = await read_json(request, _wish)
    once = once_of(request, "exports.request", body)
    export_id, outcome = await commands.request_file(services.store, principal, _wishes(body), once=once)
    found = await commands.find_file(services.store, principal.org_id, export_id)
    view = state_view(found, base_path(request))
    again = {"Idempotency-Replayed": "true"} if outcome and outcome.status is Status.DUPLICATE else {}
    position = outcome.position if outcome else None
    return json_answer(view, 202, position=position, headers={"Location": view.links["self"], **again})


@get(_T, summary="Exports of analytics rows")
async def list_exports(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
) -> Response[ExportPage]:
    """Newest first."""
    base = base_path(request)
    await wait_until_fresh(request, exports.PROJECTION.name)
    rows = await exports.exports(services_of(request).pool, principal_of(request).org_id)
    return json_answer(
        ExportPage(items=[_row_view(row, base) for row in rows], links={"self": f"{base}/exports"}),
    )


@get(f"{_T}/{{export_id:uuid}}", summary="One export")
async def one(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    export_id: FromPath[UUID],
) -> Response[ExportView]:
    """Its `status` says whether it can be fetched, its `progress` how far a worker is."""
    services, org_id = services_of(request), principal_of(request).org_id
    found = await commands.find_file(services.store, org_id, export_id)
    progress = None
    if isinstance(found, decide.Waiting):
        progress = await exports.progress(services.pool, org_id, export_id)
    return json_answer(state_view(found, base_path(request), progress))


@get(f"{_T}/{{export_id:uuid}}/download", summary="Fetch an export's file")
async def download(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    export_id: FromPath[UUID],
) -> Response[Any] | Stream:
    """The file, or with `Range` the rest of it; `ETag` and `Repr-Digest` are its SHA-256.

    409 while it is written; 404 once it expired, or somebody was erased whom it shows.
    """
    services, org_id = services_of(request), principal_of(request).org_id
    found = await commands.find_file(services.store, org_id, export_id)
    ready = decide.fetchable(found, datetime.now(UTC))
    await wait_until_fresh(request, exports.PROJECTION.name)
    if await exports.erased_after(services.pool, org_id, ready.completed.position):
        raise not_found("export")
    kind, size = ready.request.wishes.format, ready.completed.size_bytes
    digest = ready.completed.sha256
    headers = {
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{b64encode(bytes.fromhex(digest)).decode()}:",
        "Cache-Control": "private, no-store",
        "Content-Disposition": f'attachment; filename="{FILE_NAMES[kind]}"',
    }
    part = chosen_part(request.headers, size, headers["ETag"])
    if part.status == 304:
        return Response(None, status_code=304, headers=headers)
    if part.status == 416:
        raise ApiError(
            416,
            f"Range: expected bytes of a file of {size}",
            code="validation_failed",
            details={"field": "Range"},
            headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"},
        )
    objects = _objects(services.settings)
    key = key_of(org_id, export_id, FILE_NAMES[kind])
    try:
        stored = await objects.size(key)
    except (ObjectsUnavailableError, ObjectRefusedError) as error:
        raise unavailable("the object store cannot be read now") from error
    if stored != size:
        raise not_found("export")
    headers["Content-Length"] = str(part.length)
    if part.status == 206:
        headers["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{size}"
    return Stream(_bytes(objects, key, part), status_code=part.status, media_type=MEDIA_TYPES[kind], headers=headers)


async def _bytes(objects: Objects, key: str, part: Part) -> AsyncIterator[bytes]:
    left = part.length
    async for chunk in objects.read(key, start=part.start):
        yield chunk[:left]
        left -= min(left, len(chunk))
        if not left:
            return


@delete(f"{_T}/{{export_id:uuid}}", status_code=204, summary="Give an export up")
async def withdraw(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    export_id: FromPath[UUID],
) -> Response[None]:
    """Cancels one that is being written, deletes the file of one that is ready.  Giving it up twice is no error."""
    services, principal = services_of(request), principal_of(request)
    try:
        outcome = await commands.expire_file(
            services.store,
            _objects(services.settings),
            principal.org_id,
            export_id,
            reason="cancelled",
            meta=principal.meta(),
        )
    except (ObjectsUnavailableError, ObjectRefusedError) as error:
        raise unavailable("the object store cannot be reached now") from error
    return no_content(outcome)


ROUTER = Router("/", route_handlers=[ask, list_exports, one, download, withdraw], tags=["analytics"])
