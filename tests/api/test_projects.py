"""Projects over HTTP: begun, found by their repository, changed, deleted with confirmation, shown as they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from commands.projects import purge_project, restore_project
from domain.kernel import Event, Sealed
from domain.projects.decide import project_stream
from domain.projects.events import ProjectDeleted
from eventstore.database import API_ROLE, connect_pool, tenant
from eventstore.port import Append, NameTakenError, NewEvent
from projections.base import Rows
from projections.projects import PROJECTION, PROJECTS
from tests.api.house import House
from tests.api.signing_in import bearer, join, signed_in
from tests.domain import test_projects as told
from tests.projections.test_members import operator, recorded
from workers.tenancy import purge_projects

WISH = {
    "name": "The App",
    "description": "What it does",
    "git_remotes": ["git@github.com:Acme/App.git"],
    "default_branch": "main",
}


async def begun(http: httpx.AsyncClient, house: House, **more: Any) -> dict[str, Any]:
    made = await http.post(f"{house.ours.base}/projects", headers=house.ours.headers("all"), json={**WISH, **more})
    assert made.status_code == 201, made.text
    await house.project()
    found: dict[str, Any] = made.json()
    return found


async def test_a_project_begins_once_and_is_read_by_slug_id_and_alias(http: httpx.AsyncClient, house: House) -> None:
    path, headers = (
        f"{house.ours.base}/projects",
        house.ours.headers(
            "all",
        ),
    )
    once = {**headers, "Idempotency-Key": "app"}
    made = await http.post(path, headers=once, json=WISH)
    assert made.status_code == 201
    told = made.json()
    assert (told["slug"], told["git_remotes"], told["stacks"], told["stacks_source"]) == (
        "the-app", ["github.com/acme/app"], [], None,
    )  # fmt: skip
    again = await http.post(f"/orgs/{house.ours.org_id}/projects", headers=once, json=WISH)
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (201, told, "true")
    differs = await http.post(path, headers=once, json={**WISH, "name": "Other"})
    assert (differs.status_code, differs.json()["error"]["details"]["field"]) == (409, "Idempotency-Key")
    await house.project()
    for where in (
        told["_links"]["self"],
        f"{path}/{told['project_id']}",
        f"/orgs/default/projects/{told['project_id']}",
    ):
        assert (await http.get(where, headers=headers)).json() == told
    listed = (await http.get(path, headers=headers)).json()
    assert (listed["items"], listed["total"]) == ([told], 1)
    assert (await http.get(f"{house.theirs.base}/projects/the-app", headers=house.theirs.headers())).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"slug": "the-app", "git_remotes": []}, 409, "slug"),
        ({"slug": "other"}, 409, "slug"),  # one of the two names is taken; `fields` tells both
        ({"slug": "projects"}, 422, "slug"),
        ({"name": "   ", "slug": "x"}, 422, "name"),
        ({"name": "§§"}, 422, "slug"),
        ({"slug": "x", "git_remotes": ["/srv/x.git"]}, 422, "git_remote"),
        ({"slug": "x", "git_remotes": [], "stacks": ["cobol"]}, 422, "stacks"),
        ({"slug": "x", "git_remotes": [1]}, 400, "$.git_remotes[0]"),
        ({"slug": "x", "owner": "me"}, 400, "$.owner"),
    ],
)
async def test_what_cannot_begin_names_the_field(
    http: httpx.AsyncClient, house: House, body: Any, status: int, field: str
) -> None:
    await begun(http, house)
    path = f"{house.ours.base}/projects"
    answer = await http.post(path, headers=house.ours.headers("admin"), json={**WISH, **body})
    assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (status, field)
    theirs = await http.post(f"{house.theirs.base}/projects", headers=house.theirs.headers("admin"), json=WISH)
    assert theirs.status_code == 201, "another organization may use the same slug and repository"


async def test_managers_change_and_admins_delete(http: httpx.AsyncClient, house: House) -> None:
    project, pairs = await begun(http, house), {}
    for name in ("viewer", "developer", "manager", "admin"):
        pairs[name] = await signed_in(house)
        await join(house, house.ours, pairs[name].user_id, name)
    path = project["_links"]["self"]
    confirm = {"confirm": "the-app"}
    for name, changed, deleted in (
        ("viewer", 403, 403),
        ("developer", 403, 403),
        ("manager", 200, 403),
        ("admin", 200, 204),
    ):
        headers = bearer(pairs[name])
        assert (await http.get(path, headers=headers)).status_code == 200
        assert (await http.patch(path, headers=headers, json={"name": name})).status_code == changed
        assert (await http.delete(path, headers=headers, params=confirm)).status_code == deleted


async def test_changes_slugs_and_the_past(http: httpx.AsyncClient, house: House) -> None:
    first = await begun(http, house)
    second = await begun(http, house, name="Second", git_remotes=[], description=None)
    headers, path = house.ours.headers("all"), f"{house.ours.base}/projects"
    before = await house.store.head()
    changed = await http.patch(
        f"{path}/the-app",
        headers=headers,
        json={"slug": "app", "description": "More", "git_remotes": ["https://gitlab.com/a/b"]},
    )
    assert (changed.json()["slug"], changed.json()["description"], changed.json()["git_remotes"]) == (
        "app", "More", ["gitlab.com/a/b"],
    )  # fmt: skip
    free = await http.get(f"{path}/slug-available", headers=headers, params={"slug": "the-app"})
    assert free.json() == {"slug": "the-app", "available": True, "reason": None, "_links": {"projects": path}}
    for slug, reason in (("second", "taken"), ("api", "reserved"), ("No", "lower-case")):
        told = (await http.get(f"{path}/slug-available", headers=headers, params={"slug": slug})).json()
        assert (told["available"], reason in told["reason"]) == (False, True)
    taken = await http.patch(f"{path}/second", headers=headers, json={"git_remotes": ["ssh://git@gitlab.com/a/b.git"]})
    assert (taken.status_code, taken.json()["error"]["details"]["field"]) == (409, "git_remotes")
    moved = await http.patch(f"{path}/second", headers=headers, json={"git_remotes": ["https://github.com/acme/app"]})
    assert moved.status_code == 200, "the first one let go of it"
    await house.project()
    assert (await http.get(f"{path}/the-app", headers=headers)).status_code == 404
    now = (await http.get(path, headers=headers, params={"sort_by": "slug"})).json()
    assert [one["slug"] for one in now["items"]] == ["app", "second"]
    for way, wanted in (("asc", [first, second]), ("desc", [second, first])):
        query = {"as_of": before, "sort_by": "created_at", "sort_dir": way}
        assert (await http.get(path, headers=headers, params=query)).json()["items"] == wanted
    past = await http.get(f"{path}/app", headers=headers, params={"as_of": before})
    assert past.json() == first
    assert (await http.get(f"{path}/app", headers=headers, params={"as_of": 1})).status_code == 404


async def test_deleting_needs_confirmation_and_restoring_brings_everything_back(
    http: httpx.AsyncClient, house: House
) -> None:
    project, org = await begun(http, house), house.ours.org_id
    headers, path = house.ours.headers("all"), project["_links"]["self"]
    bare = await http.delete(path, headers=headers)
    assert (bare.status_code, bare.json()["error"]["code"]) == (422, "confirmation_required")
    assert (await http.request("DELETE", path, headers=headers, json={"confirm": "the-app"})).status_code == 204
    await house.project()
    assert (await http.get(path, headers=headers)).status_code == 404
    assert (await http.get(f"{house.ours.base}/projects", headers=headers)).json()["items"] == []
    assert (await http.patch(path, headers=headers, json={"name": "x"})).status_code == 404
    taken = await http.get(f"{house.ours.base}/projects/slug-available", headers=headers, params={"slug": "the-app"})
    assert not taken.json()["available"], "it keeps its slug, so that it can come back"
    known = UUID(project["project_id"])
    assert await restore_project(house.store, operator(org), known) is not None
    await house.project()
    assert (await http.get(path, headers=headers)).json() == project
    await http.delete(path, headers=headers, params={"confirm": "the-app"})
    await begun(http, house, name="Heir")
    with pytest.raises(NameTakenError):
        await restore_project(house.store, operator(org), known)


async def test_a_project_deleted_long_ago_is_purged_and_its_slug_is_free(http: httpx.AsyncClient, house: House) -> None:
    project = await begun(http, house)
    known, org = UUID(project["project_id"]), house.ours.org_id
    at = datetime.now(UTC) - timedelta(days=91)
    event = NewEvent(ProjectDeleted(project_id=known, deleted_at=at))
    await house.store.append(Append(org_id=org, stream=project_stream(known), events=[event], expected=1))
    await house.project()
    assert await purge_projects(house.store.pool, house.store) == 1
    await house.project()
    assert await purge_projects(house.store.pool, house.store) == 0
    assert await purge_project(house.store, operator(org), known, at=at) is None
    path = f"{house.ours.base}/projects/slug-available"
    free = await http.get(path, headers=house.ours.headers(), params={"slug": "the-app"})
    assert free.json()["available"]


@pytest.mark.parametrize("remote", ["git@github.com:acme/app.git", "https://GITHUB.com/Acme/App/", "acme/app"])
@pytest.mark.parametrize("path", ["/api/v1/projects/resolve", "/projects/resolve"])
async def test_a_repository_resolves_to_its_project(
    http: httpx.AsyncClient, house: House, remote: str, path: str
) -> None:
    project = await begun(http, house)
    answer = await http.post(path, headers=house.ours.headers("read"), json={"git_remote": remote})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["project"], found["playbooks"], found["conventions"]) == (project, [], [])
    assert found["recorded"] is False
    theirs = await http.post(path, headers=house.theirs.headers("read"), json={"git_remote": remote})
    assert (theirs.status_code, theirs.json()["error"]["code"]) == (404, "not_found")


async def test_news_of_the_stacks_is_put_on_record_once_and_what_somebody_said_wins(
    http: httpx.AsyncClient, house: House
) -> None:
    project = await begun(http, house)
    path, key = "/api/v1/projects/resolve", house.ours.headers("ingest")
    signs = {"files": ["Gemfile", "bin/rails"], "manifests": {"package.json": '{"dependencies": {"next": "15"}}'}}
    wish = {"git_remote": "git@github.com:acme/app.git", **signs}
    looked = await http.post(path, headers=house.ours.headers("read"), json=wish)
    assert (looked.json()["recorded"], looked.json()["stacks"]) == (False, []), "who may only read records nothing"
    first = await http.post(path, headers=key, json=wish)
    assert (first.json()["recorded"], first.json()["stacks"], first.json()["stacks_source"]) == (
        True, ["nextjs", "rails"], "detected",
    )  # fmt: skip
    await house.project()
    head = await house.store.head()
    again = await http.post(path, headers=key, json=wish)
    assert (again.json()["recorded"], again.json()["stacks"]) == (False, ["nextjs", "rails"])
    assert await house.store.head() == head
    manual = await http.patch(project["_links"]["self"], headers=house.ours.headers("admin"), json={"stacks": ["rust"]})
    assert (manual.json()["stacks"], manual.json()["stacks_source"]) == (["rust"], "manual")
    await house.project()
    other = {"git_remote": "acme/app", "stacks": ["go"]}
    kept = (await http.post(path, headers=key, json=other)).json()
    assert (kept["recorded"], kept["stacks"], kept["project"]["detected_stacks"]) == (True, ["rust"], ["go"])
    await house.project()
    by_stack = f"{house.ours.base}/projects"
    for stack, count in (("rust", 1), ("go", 0)):
        listed = await http.get(by_stack, headers=house.ours.headers(), params={"stack": stack})
        assert listed.json()["total"] == count
    freed = await http.patch(project["_links"]["self"], headers=house.ours.headers("admin"), json={"stacks": None})
    assert (freed.json()["stacks"], freed.json()["stacks_source"]) == (["go"], "detected")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "$.git_remote"),
        ({"git_remote": "here"}, 422, "git_remote"),
        ({"git_remote": "acme/app", "stacks": ["cobol"]}, 422, "stacks"),
        ({"git_remote": "acme/app", "files": ["x"] * 5_001}, 400, "$.files"),
        ({"git_remote": "acme/app", "manifests": {str(n): "" for n in range(101)}}, 400, "$.manifests"),
        ({"git_remote": "acme/app", "manifests": {"Gemfile": "x" * 200_001}}, 400, "$.manifests"),
    ],
)
async def test_what_cannot_be_resolved_names_the_field(
    http: httpx.AsyncClient, house: House, body: Any, status: int, field: str
) -> None:
    answer = await http.post("/projects/resolve", headers=house.ours.headers("ingest"), json=body)
    assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (status, field)


async def test_framework_stacks_are_reference_data(http: httpx.AsyncClient, house: House) -> None:
    headers, path = house.ours.headers("ingest"), "/api/v1/framework_stacks"
    every = (await http.get(path, headers=headers, params={"page_size": 100})).json()
    assert {"rails-hotwire", "nextjs", "rust", "python-django"} <= {one["slug"] for one in every["items"]}
    assert every["total"] == len(every["items"])
    page = (await http.get(path, headers=headers, params={"page": 2, "page_size": 5, "sort_dir": "desc"})).json()
    assert len(page["items"]) == 5
    one = await http.get(page["items"][0]["_links"]["self"], headers=headers)
    assert one.json() == page["items"][0]
    assert (await http.get(f"{path}/cobol", headers=headers)).status_code == 404
    pair = await signed_in(house)
    await house.project()
    assert (await http.get(path, headers=bearer(pair))).status_code == 200


async def test_descriptions_are_sealed_and_other_tenants_see_no_rows(http: httpx.AsyncClient, house: House) -> None:
    await begun(http, house)
    assert all(b"What it does" not in one.data for one in await house.store.read_all(0, 1_000))
    pool = await connect_pool(house.settings.database_url or "", API_ROLE, max_size=1)
    async with tenant(pool, house.theirs.org_id) as connection:
        assert await connection.fetch("SELECT * FROM crewkit.project") == []
    async with tenant(pool, house.ours.org_id) as connection:
        assert len(await connection.fetch("SELECT * FROM crewkit.project")) == 1
    await pool.close()


def test_folding_twice_changes_nothing_and_names_its_row_first() -> None:
    text = Sealed(uuid4(), box="box")
    story: list[Event] = [
        told.CREATED,
        told.updated(name="Apple", description=text, git_remotes=[], default_branch="main"),
        told.overridden("rust"),
        told.detected("go"),
        told.DELETED,
        told.RESTORED,
        told.DELETED,
        told.PURGED,
    ]
    for length in range(1, len(story) + 1):
        once, again = Rows(), Rows()
        for position, event in enumerate(story[:length], 1):
            one = recorded(position, event)
            PROJECTION.fold(once, one)
            PROJECTION.fold(again, one)
            PROJECTION.fold(again, one)
            assert {key for _, key in PROJECTION.touches(one)} >= {PROJECTS.key_of(row) for row in once.dirty(PROJECTS)}
        assert list(once.all(PROJECTS)) == list(again.all(PROJECTS))


async def test_staff_bring_a_deleted_project_back_with_a_reason(http: httpx.AsyncClient, house: House) -> None:
    project = await begun(http, house)
    await http.delete(project["_links"]["self"], headers=house.ours.headers("admin"), params={"confirm": "the-app"})
    pair = await signed_in(house, platform_role="crewkit_staff")
    await house.project()
    path, params = "/api/v1/admin/projects/the-app/restore", {"organization": "default"}
    bare = await http.post(path, headers=bearer(pair), params=params)
    assert (bare.status_code, bare.json()["error"]["code"]) == (422, "validation_failed")
    why = bearer(pair, **{"X-Reason": "deleted by mistake"})
    assert (await http.post(path, headers=why)).status_code == 400, "of which organization?"
    assert (await http.post(path, headers=why, params={"organization": "other"})).status_code == 404
    back = await http.post(path, headers=why, params=params)
    assert (back.status_code, back.json()) == (200, project)
    assert (await http.post(path, headers=why, params=params)).status_code == 200
    await house.project()
    assert (await http.get(project["_links"]["self"], headers=house.ours.headers("read"))).json() == project
    told = (await http.get(f"{house.ours.base}/audit_logs", headers=house.ours.headers("audit"))).json()["items"]
    assert {"project.restored", "admin.acted"} <= {one["action"] for one in told}
