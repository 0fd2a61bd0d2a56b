"""Projects of an organization: begin, list, look at, change, delete, and find the one of a repository."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, patch, post
from litestar.params import FromPath, QueryParameter

from api.answers import POSITION, body_of, json_answer
from api.auth import base_path, principal_of
from api.bodies import read_json
from api.errors import ApiError, not_found
from api.fresh import wait_until_fresh
from api.idempotency import idempotency_key, once_of
from api.moments import AsOf, position_as_of
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, SortBy, SortDir, page_links, paging_of
from api.paths import checked_id
from api.services import services_of
from api.tenants import Confirm, WantedSlug, confirmed, slug_from
from commands import projects as commands
from commands.tenants import check_slug
from domain.projects.decide import ProjectChanges, stacks_of
from domain.projects.remotes import normalized
from domain.projects.stacks import FILES_MAX, MANIFEST_CHARS_MAX, MANIFESTS_MAX, STACKS, detect
from eventstore.port import Outcome, Status
from projections import projects
from projections.projects import PROJECTION, ProjectFound
from projections.tenants import name_taken
from schemas.projects import NewProject, ProjectPage, ProjectPatch, ProjectView, Resolve, Resolved
from schemas.tenants import SlugAnswer

AnyRequest = Request[Any, Any, Any]
WantedStack = Annotated[str | None, QueryParameter(max_length=63, description="slug of a framework stack")]

PATH = "/api/v1/{organization_id:str}/projects"
ONE = f"{PATH}/{{project_id:str}}"
OLD_ONE = "/orgs/{organization_id:str}/projects/{project_id:str}"
_new = msgspec.json.Decoder(NewProject)
_patch = msgspec.json.Decoder(ProjectPatch)
_resolve = msgspec.json.Decoder(Resolve)


def view(found: ProjectFound, base: str) -> ProjectView:
    """The project with its links."""
    row, path = found.row, f"{base}/projects/{found.row.slug}"
    source = "manual" if row.manual_stacks is not None else "detected" if row.detected_at is not None else None
    return ProjectView(
        project_id=row.project_id,
        organization_id=row.org_id,
        org_id=row.org_id,
        slug=row.slug,
        name=row.name,
        description=found.description,
        git_remotes=row.git_remotes,
        default_branch=row.default_branch,
        stacks=projects.stacks_of(row),
        stacks_source=source,
        detected_stacks=row.detected_stacks,
        manual_stacks=row.manual_stacks,
        created_at=row.created_at,
        updated_at=row.updated_at,
        links={
            "self": path,
            "organization": f"/api/v1/organizations/{base.rpartition('/')[2]}",
            "sessions": f"{base}/sessions?project={row.slug}",
            "history": f"{base}/events?stream=Project:{row.project_id}",
        },
    )


async def _id(request: AnyRequest, named: str) -> UUID:
    """The id behind a slug or an id in the path."""
    wanted = checked_id(named, "project_id")
    found = await projects.project_id_of(services_of(request).pool, principal_of(request).org_id, wanted)
    if found is None:
        raise not_found("project")
    return found


async def _told(
    request: AnyRequest, project_id: UUID, outcome: Outcome | None, status: int = 200
) -> Response[ProjectView]:
    services, position = services_of(request), outcome.position if outcome else None
    org_id = principal_of(request).org_id
    found = await projects.project_at(services.store, services.keyring, org_id, project_id, position)
    if found is None:
        raise not_found("project")
    again = {"Idempotency-Replayed": "true"} if outcome and outcome.status is Status.DUPLICATE else {}
    return json_answer(view(found, base_path(request)), status, position=position, headers=again)


@post([PATH, "/orgs/{organization_id:str}/projects"], summary="Begin a project", operation_class=body_of(NewProject))
async def create(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
) -> Response[ProjectView]:
    """A slug and a repository belong to one project of the organization."""
    body = await read_json(request, _new)
    project_id, outcome = await commands.create_project(
        services_of(request).store,
        principal_of(request),
        slug=body.slug if body.slug is not None else slug_from(body.name),
        name=body.name,
        description=body.description,
        git_remotes=body.git_remotes,
        default_branch=body.default_branch,
        stacks=body.stacks,
        once=once_of(request, "projects.create", body),
    )
    return await _told(request, project_id, outcome, 201)


@get(PATH, summary="List projects")
async def list_projects(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    stack: WantedStack = None,
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    sort_by: SortBy = None,
    sort_dir: SortDir = "asc",
    as_of: AsOf = None,
) -> Response[ProjectPage]:
    """Sorted by `name`, `slug`, `created_at` or `updated_at`."""
    services, org_id, base = services_of(request), principal_of(request).org_id, base_path(request)
    if stack is not None and stack not in STACKS:
        raise ApiError(400, f"stack: there is no framework stack {stack!r}", details={"field": "stack"})
    paging = paging_of(page, page_size, sort_by, sort_dir, columns=projects.SORTS, tie=projects.TIE)
    until = await position_as_of(services, as_of)
    if until is None:
        await wait_until_fresh(request, PROJECTION.name)
        found, total = await projects.projects(services.pool, services.keyring, org_id, paging, stack=stack)
    else:
        found, total = await projects.projects_at(
            services.store, services.pool, services.keyring, org_id, paging, until, stack=stack
        )
    items = [view(one, base) for one in found]
    links = page_links(request, f"{base}/projects", paging, total)
    return json_answer(ProjectPage(items=items, page=page, page_size=page_size, total=total, links=links))


@get(f"{PATH}/slug-available", summary="Is a project slug free?")
async def slug_available(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    slug: WantedSlug,
) -> Response[SlugAnswer]:
    """In this organization.  A deleted project keeps its slug until it is purged."""
    base, reason = base_path(request), check_slug(slug)
    claim = commands.slug_claim(principal_of(request).org_id, slug)
    if reason is None and await name_taken(services_of(request).pool, claim.scope, claim.key):
        reason = "this slug is taken"
    links = {"projects": f"{base}/projects"}
    return json_answer(SlugAnswer(slug=slug, available=reason is None, reason=reason, links=links))


@get([ONE, OLD_ONE], summary="One project")
async def show(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    project_id: FromPath[str],
    as_of: AsOf = None,
) -> Response[ProjectView]:
    """By slug or id; `as_of` shows it as it was."""
    services, org_id = services_of(request), principal_of(request).org_id
    until = await position_as_of(services, as_of)
    if until is None:
        await wait_until_fresh(request, PROJECTION.name)
        named = checked_id(project_id, "project_id")
        found = await projects.project(services.pool, services.keyring, org_id, named)
    else:
        known = await _id(request, project_id)
        found = await projects.project_at(services.store, services.keyring, org_id, known, until)
    if found is None:
        raise not_found("project")
    return json_answer(view(found, base_path(request)))


@patch(ONE, summary="Change a project", operation_class=body_of(ProjectPatch))
async def update(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    project_id: FromPath[str],
) -> Response[ProjectView]:
    """What is not sent stays.  `stacks` override what is detected, until they are null."""
    body, principal = await read_json(request, _patch), principal_of(request)
    changes = ProjectChanges(
        name=body.name,
        slug=body.slug,
        description=commands.description_of(principal, body.description),
        git_remotes=body.git_remotes,
        default_branch=body.default_branch,
        stacks=body.stacks if isinstance(body.stacks, list) else None,
        no_override=body.stacks is None,
    )
    known = await _id(request, project_id)
    return await _told(
        request, known, await commands.update_project(services_of(request).store, principal, known, changes)
    )


@delete(ONE, status_code=204, summary="Delete a project")
async def remove(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    project_id: FromPath[str],
    confirm: Confirm = None,
) -> Response[None]:
    """Hides it, for 90 days.  `confirm` (query or body) must be its slug."""
    typed, known = await confirmed(request, confirm), await _id(request, project_id)
    outcome = await commands.delete_project(services_of(request).store, principal_of(request), known, typed)
    return Response(None, status_code=204, headers={POSITION: str(outcome.position)} if outcome else {})


def seen_stacks(body: Resolve) -> list[str] | None:
    """What the caller detected, or what their signs show; None: they say nothing about it.

    Raises:
        ApiError: 400, there are too many signs.
        InvalidFieldError: a stack is not known.
    """
    if body.stacks is not None:
        return stacks_of(body.stacks)
    if body.files is None and body.manifests is None:
        return None
    files, manifests = body.files or [], body.manifests or {}
    for name, size, most in (
        ("files", len(files), FILES_MAX),
        ("manifests", len(manifests), MANIFESTS_MAX),
        ("manifests", max(map(len, manifests.values()), default=0), MANIFEST_CHARS_MAX),
    ):
        if size > most:
            raise ApiError(400, f"$.{name}: expected at most {most}, got {size}", details={"field": f"$.{name}"})
    return detect(files, manifests)


@post(
    ["/api/v1/projects/resolve", "/projects/resolve"],
    status_code=200,
    summary="The project of a repository",
    operation_class=body_of(Resolve),
)
async def resolve(request: AnyRequest) -> Response[Resolved]:
    """By its git remote, however it is spelt.  Where the caller may send sessions, news of its stacks is put on record."""
    idempotency_key(request)  # repeating it is harmless: known stacks are no news
    body = await read_json(request, _resolve)
    services, principal, base = services_of(request), principal_of(request), base_path(request)
    remote, seen = normalized(body.git_remote), seen_stacks(body)
    await wait_until_fresh(request, PROJECTION.name)
    found = await projects.project_of_remote(services.pool, services.keyring, principal.org_id, remote)
    if found is None:
        raise ApiError(404, "no project has this repository", details={"git_remote": remote})
    outcome = None
    if seen is not None and "ingest" in principal.scopes:
        outcome = await commands.record_stacks(services.store, principal, found.row.project_id, seen)
        if outcome is not None:
            now = await projects.project_at(
                services.store, services.keyring, principal.org_id, found.row.project_id, outcome.position
            )
            found = now or found
    project = view(found, base)
    answer = Resolved(
        project=project,
        git_remote=remote,
        stacks=project.stacks,
        stacks_source=project.stacks_source,
        recorded=outcome is not None,
        playbooks=[],
        conventions=[],
        links={"project": project.links["self"], "effective_role": f"{base}/effective-role"},
    )
    return json_answer(answer, position=outcome.position if outcome else None)


ROUTER = Router(
    "/",
    route_handlers=[create, list_projects, slug_available, show, update, remove, resolve],
    tags=["projects"],
)
