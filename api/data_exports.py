"""Exports of everything we hold about a person: ask, look, fetch, give up."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from api.answers import json_answer, no_content
from api.auth import base_path, principal_of
from api.errors import not_found
from api.fresh import wait_until_fresh
from api.idempotency import once_of
from api.services import Services, services_of
from api.users import A, traces_of, user_id_of
from commands import data_exports as commands
from commands.data_exports import Found
from commands.erasure import subjects_of_user
from commands.sessions.facts import person_id_of
from domain.data_exports import decide
from domain.erasure.events import Subject
from domain.kernel import PLATFORM
from eventstore.exports import Archive
from projections import data_exports
from projections.data_exports import DataExportRow
from schemas.data_exports import DataExportPage, DataExportView

ZIP = "application/zip"
RETRY_S = 5


def state_view(found: Found, path: str) -> DataExportView:
    """An export as its own stream tells it; `path` is where it is asked after."""
    asked = found.request
    completed = found.completed if isinstance(found, decide.Ready) else None
    links = {"self": path}
    if completed is not None:
        links["download"] = f"{path}/download"
    return DataExportView(
        export_id=asked.export_id,
        person_id=asked.person_id,
        status=commands.status_of(found),
        requested_by=asked.requested_by,
        requested_at=asked.requested_at,
        events=completed.events if completed else None,
        completed_at=completed.completed_at if completed else None,
        expires_at=completed.expires_at if completed else None,
        links=links,
    )


def _row_view(row: DataExportRow, base: str) -> DataExportView:
    path = f"{base}/data_exports/{row.export_id}"
    links = {"self": path}
    if row.status == "ready":
        links["download"] = f"{path}/download"
    return DataExportView(
        export_id=row.export_id,
        person_id=row.person_id,
        status=row.status,
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        events=row.events if row.completed_at else None,
        completed_at=row.completed_at,
        expires_at=row.expires_at,
        links=links,
    )


def _zip(services: Services, opened: Archive, person_id: UUID) -> Stream:
    return Stream(
        data_exports.archive(services.pool, opened, person_id),
        media_type=ZIP,
        headers={
            "Content-Disposition": f'attachment; filename="crewkit-export-{opened.export_id}.zip"',
            "Cache-Control": "no-store",
        },
    )


@post("/api/v1/{organization_id:str}/people/{person_id:uuid}/export", summary="Export everything about a person")
async def ask(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    person_id: FromPath[UUID],
) -> Response[DataExportView]:
    """Writes an archive in the background; 409 while there is one of this person that has not expired."""
    services, principal = services_of(request), principal_of(request)
    once = once_of(request, f"people.export {person_id}")
    export_id, outcome = await commands.request_person_export(
        services.store, services.pool, principal, person_id, once=once
    )
    found = await commands.find_export(services.store, principal.org_id, export_id)
    path = f"{base_path(request)}/data_exports/{export_id}"
    return json_answer(
        state_view(found, path), 202, position=outcome.position if outcome else None, headers={"Location": path}
    )


@get("/api/v1/{organization_id:str}/data_exports", summary="Exports of personal data")
async def list_exports(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    person_id: Annotated[UUID | None, QueryParameter(description="of this person only")] = None,
) -> Response[DataExportPage]:
    """Newest first."""
    base = base_path(request)
    await wait_until_fresh(request, data_exports.PROJECTION.name)
    rows = await data_exports.exports(services_of(request).pool, principal_of(request).org_id, person_id)
    return json_answer(
        DataExportPage(items=[_row_view(row, base) for row in rows], links={"self": f"{base}/data_exports"})
    )


@get("/api/v1/{organization_id:str}/data_exports/{export_id:uuid}", summary="One export")
async def one(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    export_id: FromPath[UUID],
) -> Response[DataExportView]:
    """Its `status` says whether it can be fetched."""
    found = await commands.find_export(services_of(request).store, principal_of(request).org_id, export_id)
    return json_answer(state_view(found, f"{base_path(request)}/data_exports/{export_id}"))


@get(
    "/api/v1/{organization_id:str}/data_exports/{export_id:uuid}/download",
    summary="Fetch an export's archive",
    media_type=ZIP,
)
async def download(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    export_id: FromPath[UUID],
) -> Stream:
    """A zip file; 409 while it is being written, 404 once it expired or the person was erased.  Each fetch is an event."""
    services, principal = services_of(request), principal_of(request)
    found = await commands.find_export(services.store, principal.org_id, export_id)
    opened = await commands.open_archive(services.store, services.keyring, principal, export_id)
    return _zip(services, opened, found.request.person_id)


@delete(
    "/api/v1/{organization_id:str}/data_exports/{export_id:uuid}", status_code=204, summary="Give an export up early"
)
async def withdraw(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    export_id: FromPath[UUID],
) -> Response[None]:
    """The archive can no longer be fetched, and is deleted soon.  Giving it up twice is no error."""
    outcome = await commands.withdraw_export(services_of(request).store, principal_of(request), export_id)
    return no_content(outcome)


@post(f"{A}/me/export", summary="Export everything about oneself")
async def ask_mine(request: Request[Any, Any, Any]) -> Response[DataExportView]:
    """Of the account, and of every organization one is or was a member of.  409 while there is one that has not expired."""
    services, principal = services_of(request), principal_of(request)
    user_id = user_id_of(principal)
    emails, organizations = await traces_of(request, user_id)
    subjects = subjects_of_user(user_id, emails=emails, organizations=organizations, secret=services.person_secret)
    # Attempts to sign in are counted by the hash of the address: nothing is sealed for it, but it stands for the user.
    subjects += [Subject(PLATFORM, person_id_of(services.person_secret, PLATFORM, email)) for email in emails]
    mine = msgspec.structs.replace(principal, org_id=PLATFORM)
    export_id, outcome = await commands.request_export(
        services.store, mine, user_id, subjects, once=once_of(request, "users.export")
    )
    found = await commands.find_export(services.store, PLATFORM, export_id)
    path = f"{A}/me/export/{export_id}"
    return json_answer(
        _mine(found, path), 202, position=outcome.position if outcome else None, headers={"Location": path}
    )


@get(f"{A}/me/export/{{export_id:uuid}}", summary="Fetch one's export")
async def fetch_mine(request: Request[Any, Any, Any], export_id: FromPath[UUID]) -> Response[Any] | Stream:
    """The zip file when it is ready; 202 and its status before; 404 once it expired."""
    services, principal = services_of(request), principal_of(request)
    user_id = user_id_of(principal)
    found = await commands.find_export(services.store, PLATFORM, export_id)
    if isinstance(found, decide.Gone) or found.request.person_id != user_id:
        raise not_found("export")  # whose it is, if somebody else's, is nobody's business
    if isinstance(found, decide.Writing):
        path = f"{A}/me/export/{export_id}"
        return json_answer(_mine(found, path), 202, headers={"Retry-After": str(RETRY_S)})
    opened = await commands.open_archive(
        services.store, services.keyring, msgspec.structs.replace(principal, org_id=PLATFORM), export_id
    )
    return _zip(services, opened, user_id)


def _mine(found: Found, path: str) -> DataExportView:
    """For its user the archive itself is where its status is asked after."""
    view = state_view(found, path)
    return msgspec.structs.replace(view, links={"self": path})


ROUTER = Router("/", route_handlers=[ask, list_exports, one, download, withdraw, ask_mine, fetch_mine], tags=["people"])
