"""Members and working roles over HTTP: the three axes, who may change whom, and what an agent has to keep to."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest
from litestar import Litestar

from commands.members import add_member, remove_member
from commands.tokens import Pair
from eventstore.database import tenant
from tests.api.house import House
from tests.api.signing_in import bearer, join, signed_in
from tests.projections.test_members import operator

READ_ONLY = ["Read", "Grep", "Glob"]


class Team:
    """Four users of our organization, signed in."""

    def __init__(self, house: House, pairs: dict[str, Pair]) -> None:
        self.house = house
        self.pairs = pairs
        self.base = house.ours.base

    def id(self, name: str) -> UUID:
        return self.pairs[name].user_id

    def path(self, name: str) -> str:
        return f"{self.base}/members/{self.id(name)}"

    def headers(self, name: str, **more: str) -> dict[str, str]:
        return bearer(self.pairs[name], **more)


@pytest.fixture
async def team(house: House) -> Team:
    pairs = {name: await signed_in(house) for name in ("owner", "admin", "manager", "developer")}
    for name, pair in pairs.items():
        await join(house, house.ours, pair.user_id, name)
    return Team(house, pairs)


async def test_members_are_listed_with_their_links_and_the_aliases_answer_the_same(
    http: httpx.AsyncClient, team: Team
) -> None:
    await add_member(
        team.house.store, operator(team.house.ours.org_id), UUID(int=5), email="five@example.com", name="Five"
    )
    await team.house.project()
    headers = team.headers("developer")
    listed = (
        await http.get(f"{team.base}/members", headers=headers, params={"sort_by": "permission", "sort_dir": "desc"})
    ).json()
    assert [one["permission"] for one in listed["items"]] == [
        "owner",
        "owner",
        "admin",
        "manager",
        "developer",
        "developer",
    ]
    five = next(one for one in listed["items"] if one["user_id"] == str(UUID(int=5)))
    assert (five["email"], five["name"], five["role"], five["org_role"]) == (
        "five@example.com",
        "Five",
        "developer",
        "senior",
    )
    assert (await http.get(five["_links"]["self"], headers=headers)).json() == five
    assert (await http.get(five["_links"]["organization"], headers=headers)).status_code == 200
    for query in ({}, {"page": 2, "page_size": 2}, {"permission": "manager"}, {"org_role": "admin"}):
        canonical = await http.get(f"{team.base}/members", headers=headers, params=query)
        alias = await http.get(f"/api/v1/organizations/{team.house.ours.org_id}/members", headers=headers, params=query)
        assert canonical.status_code == 200
        assert canonical.json() == alias.json()
    second = (await http.get(f"{team.base}/members", headers=headers, params={"page": 2, "page_size": 2})).json()
    assert (len(second["items"]), second["total"]) == (2, 6)
    assert set(second["_links"]) == {"self", "prev", "next"}
    third = (await http.get(second["_links"]["next"], headers=headers)).json()
    assert set(third["_links"]) == {"self", "prev"}
    odd = await http.get(f"{team.base}/members", headers=headers, params={"permission": "king"})
    assert (odd.status_code, odd.json()["error"]["details"]["field"]) == (400, "permission")


@pytest.mark.parametrize(
    ("body", "permission", "org_role"),
    [
        ({"permission": "manager"}, "manager", "senior"),
        ({"org_role": "junior"}, "developer", "junior"),
        ({"permission": "viewer", "org_role": "junior"}, "viewer", "junior"),
        ({"role": "admin"}, "admin", "senior"),  # a value of both axes: the permission
        ({"role": "junior"}, "developer", "junior"),
    ],
)
async def test_either_axis_is_changed_also_by_the_older_field(
    http: httpx.AsyncClient, team: Team, body: dict[str, str], permission: str, org_role: str
) -> None:
    answer = await http.patch(team.path("developer"), headers=team.headers("admin"), json=body)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["permission"], told["role"], told["org_role"]) == (permission, permission, org_role)


@pytest.mark.parametrize(
    ("who", "whom", "body", "status", "code"),
    [
        ("developer", "developer", {"permission": "admin"}, 403, "forbidden"),
        ("manager", "developer", {"permission": "admin"}, 403, "forbidden"),
        ("manager", "admin", {"org_role": "junior"}, 403, "forbidden"),
        ("admin", "owner", {"permission": "viewer"}, 403, "forbidden"),
        ("admin", "admin", {"permission": "owner"}, 403, "forbidden"),
        ("admin", "developer", {"permission": "king"}, 422, "validation_failed"),
        ("admin", "developer", {"role": "wizard"}, 422, "validation_failed"),
        ("admin", "developer", {"role": "viewer", "permission": "manager"}, 422, "validation_failed"),
        ("admin", "developer", {}, 422, "validation_failed"),
        ("admin", "developer", {"permision": "viewer"}, 400, "validation_failed"),
    ],
)
async def test_what_is_refused_says_why(
    http: httpx.AsyncClient, team: Team, who: str, whom: str, body: dict[str, str], status: int, code: str
) -> None:
    answer = await http.patch(team.path(whom), headers=team.headers(who), json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_key_of_scope_admin_is_an_admin_and_never_an_owner(http: httpx.AsyncClient, team: Team) -> None:
    headers = team.house.ours.headers("admin")
    lifted = await http.patch(team.path("developer"), headers=headers, json={"permission": "admin"})
    assert lifted.status_code == 200
    for name, body in (("developer", {"permission": "owner"}), ("owner", {"org_role": "junior"})):
        assert (await http.patch(team.path(name), headers=headers, json=body)).status_code == 403
    assert (await http.post(f"{team.path('admin')}/transfer_ownership", headers=headers)).status_code == 403


async def test_members_leave_are_removed_and_the_last_owner_stays(http: httpx.AsyncClient, team: Team) -> None:
    assert (await http.delete(team.path("manager"), headers=team.headers("developer"))).status_code == 403
    assert (await http.delete(team.path("developer"), headers=team.headers("developer"))).status_code == 204
    assert (await http.delete(team.path("manager"), headers=team.headers("admin"))).status_code == 204
    assert (await http.delete(team.path("manager"), headers=team.headers("admin"))).status_code == 404
    founder = f"{team.base}/members/{team.house.ours.owner_id}"
    assert (await http.delete(founder, headers=team.headers("owner"))).status_code == 204
    last = await http.delete(team.path("owner"), headers=team.headers("owner"))
    assert (last.status_code, last.json()["error"]["code"]) == (409, "conflict")
    step_down = await http.patch(team.path("owner"), headers=team.headers("owner"), json={"permission": "admin"})
    assert step_down.status_code == 409
    await team.house.project()
    listed = (await http.get(f"{team.base}/members", headers=team.headers("owner"))).json()
    assert {one["permission"] for one in listed["items"]} == {"owner", "admin"}


async def test_a_removed_member_is_refused_at_once(http: httpx.AsyncClient, team: Team) -> None:
    path = f"{team.base}/sessions"
    assert (await http.get(path, headers=team.headers("developer"))).status_code == 200
    removed = asyncio.create_task(http.delete(team.path("developer"), headers=team.headers("admin")))
    while not removed.done():  # the answer waits for the read model
        await team.house.project()
    assert (await removed).status_code == 204
    await team.house.project()
    assert (await http.get(path, headers=team.headers("developer"))).status_code == 404


async def test_ownership_is_handed_over_once_per_wish(app: Litestar, http: httpx.AsyncClient, team: Team) -> None:
    path = f"{team.path('developer')}/transfer_ownership"
    headers = team.headers("owner", **{"Idempotency-Key": "hand over"})
    first = await http.post(path, headers=headers)
    assert (first.status_code, first.json()["permission"]) == (200, "owner")
    again = await http.post(path, headers=headers)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["crewkit-position"] == first.headers["crewkit-position"]
    await team.house.project()
    app.state.services.people.forget()
    late = await http.post(path, headers=headers)
    assert (late.status_code, late.json()) == (200, first.json()), "the guard knows by now that the caller is an admin"
    once_more = await http.post(path, headers=team.headers("owner"))
    assert (once_more.status_code, once_more.json()["error"]["code"]) == (403, "forbidden"), (
        "a new wish is not a repeat"
    )
    giver = await http.get(team.path("owner"), headers=team.headers("manager"))
    assert giver.json()["permission"] == "admin"
    refused = await http.post(f"{team.path('manager')}/transfer_ownership", headers=team.headers("admin"))
    assert refused.status_code == 403


async def test_members_are_shown_as_they_were(http: httpx.AsyncClient, team: Team) -> None:
    before, headers = await team.house.store.head(), team.headers("manager")
    listed = (await http.get(f"{team.base}/members", headers=headers)).json()
    await http.patch(team.path("developer"), headers=team.headers("admin"), json={"org_role": "junior"})
    await remove_member(team.house.store, operator(team.house.ours.org_id), team.id("admin"))
    await team.house.project()
    for sort in ("added_at", "permission", "org_role"):
        params: dict[str, Any] = {"sort_by": sort, "as_of": before}
        past = (await http.get(f"{team.base}/members", headers=headers, params=params)).json()
        assert sorted(map(str, past["items"])) == sorted(map(str, listed["items"]))
    assert (await http.get(team.path("admin"), headers=headers)).status_code == 404
    assert (await http.get(team.path("admin"), headers=headers, params={"as_of": before})).json()[
        "permission"
    ] == "admin"
    assert (await http.get(f"{team.base}/members", headers=headers, params={"as_of": "then"})).status_code == 400


async def test_working_roles_are_created_changed_and_deleted(http: httpx.AsyncClient, team: Team) -> None:
    path, headers = f"{team.base}/roles", team.headers("admin", **{"Idempotency-Key": "lead"})
    built_in = (await http.get(path, headers=headers)).json()
    assert [(one["key"], one["level"], one["mode"], one["tools"]) for one in built_in["items"]] == [
        ("junior", 1, "coaching", READ_ONLY),
        ("senior", 2, "collaborative", None),
        ("admin", 3, "autonomous", None),
    ]
    wish = {"key": "lead", "level": 4, "custom_name": "Lead", "tools": ["Read", "Bash(git:*)", 'a "quoted", {odd} one']}
    made = await http.post(path, headers=headers, json=wish)
    assert made.status_code == 201
    assert {name: made.json()[name] for name in wish} == wish
    again = await http.post(path, headers=headers, json=wish)
    assert (again.status_code, again.json()) == (201, made.json())
    other = await http.post(path, headers=headers, json={**wish, "level": 5})
    assert (other.status_code, other.json()["error"]["details"]["field"]) == (409, "Idempotency-Key")
    taken = await http.post(path, headers=team.headers("admin"), json=wish)
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "conflict")
    before = await team.house.store.head()
    changed = await http.patch(f"{path}/lead", headers=team.headers("admin"), json={"tools": None, "level": 9})
    assert (changed.json()["tools"], changed.json()["level"]) == (None, 9)
    kept = await http.patch(f"{path}/lead", headers=team.headers("admin"), json={"custom_name": "Chief"})
    assert (kept.json()["tools"], kept.json()["custom_name"]) == (None, "Chief")
    assert (await http.patch(f"{path}/lead", headers=team.headers("manager"), json={"level": 1})).status_code == 403
    await team.house.project()
    listed = (await http.get(path, headers=headers, params={"sort_by": "key"})).json()
    assert [one["key"] for one in listed["items"]] == ["admin", "junior", "lead", "senior"]
    past = (await http.get(path, headers=headers, params={"sort_by": "key", "as_of": before})).json()
    assert next(one for one in past["items"] if one["key"] == "lead")["level"] == 4
    await http.patch(team.path("developer"), headers=team.headers("admin"), json={"role": "lead"})
    used = await http.delete(f"{path}/lead", headers=team.headers("admin"))
    assert (used.status_code, used.json()["error"]["details"]["members"]) == (409, 1)
    await http.patch(team.path("developer"), headers=team.headers("admin"), json={"role": "junior"})
    assert (await http.delete(made.json()["_links"]["self"], headers=team.headers("admin"))).status_code == 204
    assert (await http.get(f"{path}/lead", headers=headers)).status_code == 404
    assert (await http.delete(f"{path}/junior", headers=team.headers("admin"))).status_code == 409


async def test_the_effective_role_is_role_and_enforcement_resolved(http: httpx.AsyncClient, team: Team) -> None:
    await http.patch(team.path("developer"), headers=team.headers("admin"), json={"org_role": "junior"})
    await team.house.project()
    path, headers = f"{team.base}/effective-role", team.headers("developer")
    soft = (await http.get(path, headers=headers)).json()
    assert (soft["mode"], soft["coaching_enforcement"], soft["tools"], soft["tools_enforced"]) == (
        "coaching",
        "soft",
        READ_ONLY,
        False,
    )
    assert "coaching" in soft["system_prompt"]
    before = await team.house.store.head()
    organization = f"/api/v1/organizations/{team.house.ours.slug}"
    await http.patch(organization, headers=team.headers("admin"), json={"coaching_enforcement": "hard"})
    await team.house.project()
    hard = (await http.get(f"{organization}/effective-role", headers=headers)).json()
    assert (hard["org_role"], hard["level"], hard["tools"], hard["tools_enforced"]) == ("junior", 1, READ_ONLY, True)
    assert (await http.get(path, headers=headers, params={"as_of": before})).json() == soft
    other = await http.get(path, headers=team.headers("manager"), params={"user_id": str(team.id("developer"))})
    assert other.json()["org_role"] == "junior"
    assert (await http.get(path, headers=headers, params={"user_id": str(team.id("admin"))})).status_code == 403
    nobody = await http.get(path, headers=team.headers("manager"), params={"user_id": str(UUID(int=9))})
    assert nobody.status_code == 404
    key = (await http.get(path, headers=team.house.ours.headers("ingest"))).json()
    assert (key["user_id"], key["mode"]) == (str(team.house.ours.owner_id), "autonomous"), "a key acts for its person"


async def test_row_security_keeps_roles_of_other_tenants_from_a_forgetful_query(team: Team, live: Any) -> None:
    pool = live.app.state.services.pool
    async with tenant(pool, team.house.theirs.org_id) as connection:
        found = await connection.fetch("SELECT DISTINCT org_id FROM crewkit.org_role")
    assert [row["org_id"] for row in found] == [team.house.theirs.org_id]
