"""Projects: bring a deleted one back."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, post
from litestar.params import FromPath, QueryParameter

from api.admin.notes import BASE, AnyRequest, noted_deed, optional_body, reasoned, registered
from api.answers import json_answer
from api.auth import principal_of
from api.errors import ApiError, not_found
from api.idempotency import idempotency_key
from api.paths import checked_id
from api.projects import view
from api.services import services_of
from commands.admin import acting_in
from commands.projects import restore_project
from projections import projects
from projections.admin import register
from schemas.admin import Reason
from schemas.projects import ProjectView

Organization = Annotated[
    str | None,
    QueryParameter(
        min_length=1, max_length=100, description="its organization, where the project is named by its slug"
    ),
]

_reason = msgspec.json.Decoder(Reason)


@post(
    f"{BASE}/projects/{{project_id:str}}/restore",
    status_code=200,
    summary="Restore a deleted project",
    operation_class=reasoned(Reason),
)
async def restore(
    request: AnyRequest, project_id: FromPath[str], organization: Organization = None
) -> Response[ProjectView]:
    """By id, or by slug in `organization`, as it was.  One that is not deleted stays as it is; a purged one is gone.

    409 where one of its repositories belongs to another project by now.
    """
    idempotency_key(request)  # twice is once
    body, services = await optional_body(request, _reason, Reason()), services_of(request)
    row = await registered(request, organization or await _organization_of(request, project_id))
    known = await projects.project_id_of(services.pool, row.tenant_id, checked_id(project_id, "project_id"))
    if known is None:
        raise not_found("project")
    await noted_deed(request, "project.restore", body.reason, organization=row, target=f"Project:{known}")
    inside = acting_in(principal_of(request), row.tenant_id)
    outcome = await restore_project(services.store, inside, known)
    position = outcome.position if outcome else None
    found = await projects.project_at(services.store, services.keyring, row.tenant_id, known, position)
    if found is None:
        raise not_found("project")
    return json_answer(view(found, f"/api/v1/{row.slug}"), position=position)


async def _organization_of(request: AnyRequest, project_id: str) -> str:
    """Whose project that is.

    Raises:
        ApiError: 400, it is named by its slug; 404, there is no such project.
    """
    try:
        wanted = UUID(project_id)
    except ValueError as error:
        message = "organization: needed where the project is named by its slug"
        raise ApiError(400, message, details={"field": "organization"}) from error
    found = await register.find_project(services_of(request).pool, wanted)
    if found is None:
        raise not_found("project")
    return str(found.tenant_id)


HANDLERS = [restore]
