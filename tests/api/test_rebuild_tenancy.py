"""What the tables of organizations, invitations and projects say is what a rebuild and an independent fold say."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from projections.base import Projection, Rows
from projections.directory import PROJECTION as DIRECTORY
from projections.invitations import PROJECTION as INVITATIONS
from projections.members import PROJECTION as MEMBERS
from projections.projects import PROJECTION as PROJECTS
from tests.api.house import House
from tests.api.signing_in import bearer, join, signed_in
from tests.api.test_invitations import mailed
from workers.projector import rebuild


async def a_busy_day(http: httpx.AsyncClient, house: House) -> None:
    base, key = house.ours.base, house.ours.headers("all")
    pair, guest = await signed_in(house), await signed_in(house)
    await join(house, house.ours, pair.user_id, "owner")
    owner = bearer(pair)
    organization = f"/api/v1/organizations/{house.ours.slug}"
    await http.patch(organization, headers=key, json={"settings": {"a": 1}, "coaching_enforcement": "hard"})
    await http.post(f"{base}/roles", headers=key, json={"key": "lead", "tools": ["Read", 'a "b", {c}']})
    await http.patch(f"{base}/roles/junior", headers=key, json={"tools": None})
    invitations = f"{base}/members/invitations"
    for name in ("ann", "bob", "cat"):
        made = await http.post(invitations, headers=key, json={"email": f"{name}@example.com", "org_role": "lead"})
        assert made.status_code == 201
    ann, bob, _ = await mailed(house)
    await house.project()
    assert (await http.post(f"/api/v1/invitations/{ann}/accept", headers=bearer(guest))).status_code == 200
    assert (await http.post(f"{invitations}/{bob}/resend", headers=key)).status_code == 200
    assert (await http.delete(made.json()["_links"]["self"], headers=key)).status_code == 204
    await http.post(f"{base}/members/{guest.user_id}/transfer_ownership", headers=owner)
    await http.delete(f"{base}/members/{pair.user_id}", headers=owner)
    project = await http.post(
        f"{base}/projects",
        headers=key,
        json={"name": "App", "description": "text", "git_remotes": ["git@github.com:a/b.git"], "stacks": ["go"]},
    )
    await house.project()
    await http.post("/projects/resolve", headers=key, json={"git_remote": "a/b", "files": ["Cargo.toml"]})
    await http.patch(project.json()["_links"]["self"], headers=key, json={"slug": "other", "stacks": None})
    gone = await http.post(f"{base}/projects", headers=key, json={"name": "Gone"})
    await house.project()
    answer = await http.delete(gone.json()["_links"]["self"], headers=key, params={"confirm": "gone"})
    assert answer.status_code == 204
    await house.project()


async def stored(house: House, projection: Projection) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for table in projection.tables:
        rows = await house.store.pool.fetch(f'SELECT * FROM crewkit."{table.name}"')
        found[table.name] = sorted((tuple(_plain(row[name]) for name in table.columns) for row in rows), key=str)
    return found


def _plain(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, bytes) else value


@pytest.mark.parametrize("projection", [DIRECTORY, MEMBERS, INVITATIONS, PROJECTS], ids=lambda one: one.name)
async def test_a_rebuild_and_an_independent_fold_make_the_same_rows(
    http: httpx.AsyncClient, house: House, projection: Projection
) -> None:
    await a_busy_day(http, house)
    live = await stored(house, projection)
    assert all(live[table.name] for table in projection.tables if table.name != "person")
    rows = Rows()
    for recorded in await house.store.read_all(0, 5_000):
        if projection.reads is None or type(recorded.event) in projection.reads:
            projection.fold(rows, recorded)
    for table in projection.tables:
        folded = sorted((tuple(getattr(row, name) for name in table.columns) for row in rows.all(table)), key=str)
        assert folded == live[table.name]
    await rebuild(house.settings, projection.name)
    assert await stored(house, projection) == live
