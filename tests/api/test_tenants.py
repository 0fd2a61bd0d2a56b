"""Organizations over HTTP: found, listed, changed, deleted with confirmation, shown as they were."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from commands import tenants
from commands.bus import Once, Principal
from domain.organizations.state import EscalationError
from eventstore.port import NameTakenError, Status
from tests.api.house import House
from tests.api.signing_in import bearer, join, signed_in

ANN = uuid4()


def user(org_id: UUID, user_id: UUID = ANN) -> Principal:
    return Principal(actor=f"user:{user_id}", org_id=org_id, person_id=user_id, scopes=frozenset(), user_id=user_id)


async def test_founding_once_makes_an_owner_and_claims_the_slug(house: House) -> None:
    once = Once("k" * 32, "w" * 32)
    org_id, first = await tenants.create_organization(
        house.store, user(uuid4()), slug="acme", name="Acme", region="eu", email="ann@example.com", once=once
    )
    again, repeat = await tenants.create_organization(
        house.store, user(uuid4()), slug="acme", name="Acme", region="eu", email="ann@example.com", once=once
    )
    assert (again, repeat.position, repeat.status) == (org_id, first.position, Status.DUPLICATE)
    with pytest.raises(NameTakenError):
        await tenants.create_organization(house.store, user(uuid4()), slug="acme", name="Acme 2")
    program = Principal(actor="key:1", org_id=org_id, person_id=ANN, scopes=frozenset({"admin"}))
    with pytest.raises(EscalationError):
        await tenants.create_organization(house.store, program, slug="other-2", name="Program's")


async def test_a_key_sees_its_own_organization_only(http: httpx.AsyncClient, house: House) -> None:
    headers = house.ours.headers("read")
    listed = (await http.get("/api/v1/organizations", headers=headers)).json()
    assert [(one["slug"], one["organization_id"]) for one in listed["items"]] == [("default", str(house.ours.org_id))]
    assert (listed["total"], listed["page"]) == (1, 1)
    one = (await http.get("/api/v1/organizations/default", headers=headers)).json()
    assert one == (await http.get(f"/api/v1/organizations/{house.ours.org_id}", headers=headers)).json()
    assert (one["org_id"], one["external_id"], one["region"]) == (str(house.ours.org_id), "default", "na")
    assert one["_links"]["self"] == "/api/v1/organizations/default"
    assert one["_links"]["members"] == "/api/v1/default/members"
    other = await http.get("/api/v1/organizations/other", headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (404, "not_found")


async def test_changes_are_answered_and_the_past_is_kept(http: httpx.AsyncClient, house: House) -> None:
    path, headers = "/api/v1/organizations/default", house.ours.headers("admin")
    before = await house.store.head()
    wish = {"name": "Ours", "settings": {"theme": "dark"}, "coaching_enforcement": "hard"}
    changed = await http.patch(path, headers=headers, json=wish)
    assert changed.status_code == 200
    assert {name: changed.json()[name] for name in wish} == wish
    same = await http.patch(path, headers=headers, json=wish)
    assert same.json() == changed.json()
    assert "crewkit-position" not in same.headers, "nothing happened"
    await house.project()
    read = {**house.ours.headers("read"), "Crewkit-After": changed.headers["crewkit-position"]}
    now = (await http.get(path, headers=read)).json()
    assert now == {**changed.json(), "permission": None}
    past = (await http.get(path, headers=read, params={"as_of": before})).json()
    assert (past["name"], past["settings"], past["coaching_enforcement"]) == ("Default", {}, "soft")
    assert (await http.get(path, headers=read, params={"as_of": 0})).status_code == 404, "it was not there yet"


async def test_a_new_slug_is_claimed_and_the_old_one_is_free(http: httpx.AsyncClient, house: House) -> None:
    headers = house.ours.headers("all")

    async def available(slug: str) -> Any:
        answer = await http.get("/api/v1/organizations/slug-available", headers=headers, params={"slug": slug})
        assert answer.status_code == 200
        return answer.json()

    assert not (await available("default"))["available"]
    taken = await http.patch("/api/v1/organizations/default", headers=headers, json={"slug": "other"})
    assert (taken.status_code, taken.json()["error"]["details"]["field"]) == (409, "slug")
    moved = await http.patch("/api/v1/organizations/default", headers=headers, json={"slug": "ours"})
    assert moved.json()["slug"] == "ours"
    assert (await available("default"))["available"]
    assert (await available("ours"))["reason"] == "this slug is taken"
    assert "reserved" in (await available("admin"))["reason"]
    assert not (await available("No Slug"))["available"]
    await house.project()
    still = await http.get(f"/api/v1/{house.ours.org_id}/events", headers=headers)
    assert still.status_code == 200, "a key finds its organization under the new name and by id"


async def test_a_user_founds_owns_lists_deletes_and_gets_back(http: httpx.AsyncClient, house: House) -> None:
    pair = await signed_in(house)
    await house.project()
    headers = bearer(pair, **{"Idempotency-Key": "my first"})
    wish = {"name": "Käthe & Söhne GmbH", "region": "eu"}
    made = await http.post("/api/v1/organizations", headers=headers, json=wish)
    assert (made.status_code, made.json()["slug"], made.json()["region"]) == (201, "k-the-s-hne-gmbh", "eu")
    assert (made.json()["permission"], made.json()["org_id"]) == ("owner", made.json()["organization_id"])
    again = await http.post("/orgs", headers=headers, json=wish)
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (201, made.json(), "true")
    other = await http.post("/orgs", headers=headers, json={"name": "Other"})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    taken = await http.post("/orgs", headers=bearer(pair), json={"name": "x", "slug": "default"})
    assert (taken.status_code, taken.json()["error"]["details"]["field"]) == (409, "slug")
    assert (await http.post("/orgs", headers=bearer(pair), json={"name": "!!"})).status_code == 422
    assert (await http.post("/orgs", headers=house.ours.headers("admin"), json={"name": "x"})).status_code == 403
    await house.project()
    (founder,) = (await http.get(made.json()["_links"]["members"], headers=bearer(pair))).json()["items"]
    assert (founder["email"], founder["permission"]) == (f"{pair.user_id.hex}@example.com", "owner")
    listed = (await http.get("/api/v1/organizations", headers=bearer(pair))).json()
    assert (listed["items"], listed["total"]) == ([made.json()], 1)
    path = made.json()["_links"]["self"]
    assert (await http.get(path, headers=bearer(pair))).json() == made.json()
    assert (await http.delete(path, headers=bearer(pair))).status_code == 422
    gone = await http.delete(path, headers=bearer(pair), params={"confirm": made.json()["slug"]})
    assert gone.status_code == 204
    await house.project()
    listed = (await http.get("/api/v1/organizations", headers=bearer(pair))).json()
    assert (listed["items"], listed["total"]) == ([], 0)
    assert (await http.get(path, headers=bearer(pair))).status_code == 404
    await tenants.restore_organization(house.store, user(UUID(made.json()["org_id"]), pair.user_id))
    await house.project()
    listed = (await http.get("/api/v1/organizations", headers=bearer(pair))).json()
    assert [one["slug"] for one in listed["items"]] == ["k-the-s-hne-gmbh"]


async def test_deleting_needs_confirmation_and_an_owner(http: httpx.AsyncClient, house: House) -> None:
    owner, admin = await signed_in(house), await signed_in(house)
    await join(house, house.ours, owner.user_id, "owner")
    await join(house, house.ours, admin.user_id, "admin")
    path, headers = "/api/v1/organizations/default", bearer(owner)
    bare = await http.delete(path, headers=headers)
    assert (bare.status_code, bare.json()["error"]["code"]) == (422, "confirmation_required")
    assert bare.json()["error"]["details"] == {"field": "confirm", "expected": "default"}
    wrong = await http.request("DELETE", path, headers=headers, json={"confirm": "other"})
    assert wrong.status_code == 422
    odd = await http.request("DELETE", path, headers=headers, json={"confirm": 1})
    assert (odd.status_code, odd.json()["error"]["details"]["field"]) == (400, "$.confirm")
    for who in (bearer(admin), house.ours.headers("admin")):
        refused = await http.delete(path, headers=who, params={"confirm": "default"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    gone = await http.request("DELETE", path, headers=headers, json={"confirm": "default"})
    assert gone.status_code == 204
    await house.project()
    assert (await http.get(path, headers=house.ours.headers("read"))).status_code == 401, "its keys work no more"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"sort_by": "owner"}, "sort_by"),
        ({"sort_dir": "up"}, "sort_dir"),
        ({"page": 0}, "page"),
        ({"page_size": 101}, "page_size"),
        ({"page": "x"}, "page"),
    ],
)
async def test_odd_paging_is_refused(http: httpx.AsyncClient, house: House, params: Any, field: str) -> None:
    answer = await http.get("/api/v1/organizations", headers=house.ours.headers("read"), params=params)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_failed")
    assert answer.json()["error"]["details"]["field"] == field


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"name": "Bcc:\r\nx@example.com"}, 422, "name"),
        ({"name": ""}, 422, "name"),
        ({"name": 1}, 400, "$.name"),
        ({"slug": "admin"}, 422, "slug"),
        ({"settings": {"a": {}}}, 422, "settings.a"),
        ({"coaching_enforcement": "x"}, 422, "coaching_enforcement"),
        ({"owner": "me"}, 400, "$.owner"),
    ],
)
async def test_a_change_that_cannot_be_names_the_field(
    http: httpx.AsyncClient, house: House, body: Any, status: int, field: str
) -> None:
    answer = await http.patch("/api/v1/organizations/default", headers=house.ours.headers("admin"), json=body)
    assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (status, field)
