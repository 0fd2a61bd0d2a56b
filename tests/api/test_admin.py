"""Administration: only staff, never without a note, never without a reason where it is somebody else's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.admin.events import AdminAccessed, AdminActed
from domain.kernel import PLATFORM
from eventstore.database import API_ROLE, connect_pool, tenant
from eventstore.port import Recorded
from projections.admin import stats
from projections.admin.register import find_organization, organizations
from projections.paging import Paging
from tests.api.house import House, hook
from tests.api.signing_in import bearer, join, registered, signed_in

BASE = "/api/v1/admin"
WHY = {"X-Reason": "ticket 4711"}


@pytest.fixture
async def staff(house: House) -> dict[str, str]:
    pair = await signed_in(house, platform_role="crewkit_staff")
    await house.project()
    return bearer(pair)


@pytest.fixture
async def chief(house: House) -> dict[str, str]:
    pair = await signed_in(house, platform_role="crewkit_owner")
    await house.project()
    return bearer(pair)


async def notes(house: House, org_id: Any) -> list[Recorded]:
    return [
        one
        for one in await house.store.read_all(0, 1_000, org_id=org_id)
        if isinstance(one.event, AdminAccessed | AdminActed)
    ]


async def reasons(house: House, org_id: Any) -> list[str | None]:
    told = [(one.type, one.event.reason) for one in await notes(house, org_id) if one.event.reason is not None]  # type: ignore[attr-defined]
    return await house.ring.open_many(org_id, told)


async def test_looking_into_an_organization_is_told_to_it_first_and_to_the_platform(
    client: Any, house: House, staff: Any
) -> None:
    path = f"{BASE}/organizations/{house.theirs.slug}"
    refused = await client.get(path, headers=staff)
    assert (refused.status_code, refused.json()["error"]["details"]["field"]) == (422, "X-Reason")
    assert await notes(house, house.theirs.org_id) == [], "nothing was shown, so nothing is told"
    shown = await client.get(path, headers={**staff, **WHY})
    assert shown.status_code == 200
    assert (shown.json()["slug"], shown.json()["members"], shown.json()["status"]) == ("other", {"owner": 1}, "active")
    for org_id in (house.theirs.org_id, PLATFORM):
        (note,) = await notes(house, org_id)
        assert note.event.what == "organization.show"  # type: ignore[attr-defined]
        assert await reasons(house, org_id) == ["ticket 4711"]
        assert b"4711" not in note.data, "their words are sealed"
    assert await notes(house, house.ours.org_id) == []
    seen = (await client.get(f"{house.theirs.base}/audit_logs", headers=house.theirs.headers("audit"))).json()["items"][
        0
    ]
    assert (seen["action"], seen["reason"], seen["resource_type"]) == ("admin.accessed", "ticket 4711", "Admin")
    assert "of the staff looked at organization.show" in seen["summary"]


@pytest.mark.parametrize("view", ["events", "audit_logs"])
async def test_another_tenants_history_needs_a_reason_and_comes_from_that_tenant_alone(
    client: Any, house: House, staff: Any, view: str
) -> None:
    path = f"{BASE}/{view}?organization={house.theirs.slug}&limit=3"
    assert (await client.get(path, headers=staff)).status_code == 422
    page = (await client.get(path, headers={**staff, **WHY})).json()
    assert len(page["items"]) == 3
    assert f"organization={house.theirs.org_id}" in page["_links"]["next"]
    one = await client.get(page["items"][1]["_links"]["self"], headers={**staff, **WHY})
    assert one.json() == page["items"][1]
    assert (await client.get(page["_links"]["next"], headers={**staff, **WHY})).status_code == 200
    elsewhere = f"{BASE}/{view}/{page['items'][1]['event_id']}?organization={house.ours.slug}"
    assert (await client.get(elsewhere, headers={**staff, **WHY})).status_code == 404
    assert len(await notes(house, house.theirs.org_id)) == 3
    assert len(await notes(house, house.ours.org_id)) == 1
    assert (await client.get(f"{BASE}/{view}?organization=nobody", headers={**staff, **WHY})).status_code == 404


async def test_events_stay_sealed_and_audit_opens_them(client: Any, house: House, staff: Any) -> None:
    sent = [hook("s1", prompt="my secret plan")]
    stored = await client.post(
        f"{house.theirs.base}/observability/events", headers=house.theirs.headers("ingest"), json=sent
    )
    assert stored.status_code == 202, stored.text
    path = f"organization={house.theirs.slug}"
    raw = await client.get(f"{BASE}/events?{path}&type=hook.recorded.v1", headers={**staff, **WHY})
    assert raw.json()["items"][0]["data"]["content"] == {"sealed": True}
    kind = await client.get(f"{BASE}/events?{path}&aggregate_type=LlmSession", headers={**staff, **WHY})
    assert [one["type"] for one in kind.json()["items"]] == ["hook.recorded.v1"]
    opened = await client.get(f"{BASE}/audit_logs?{path}&action=hook.recorded", headers={**staff, **WHY})
    assert opened.json()["items"][0]["details"]["content"]["prompt"] == "my secret plan"
    assert (await client.get(f"{BASE}/events", headers=staff)).status_code == 200, "the platform's own"
    assert (await client.get(f"{BASE}/audit_logs", headers=staff)).status_code == 422, "people's texts would be opened"


async def test_facets_name_what_filters_take(client: Any, house: House, staff: Any) -> None:
    for path, wanted in {
        "audit_logs/actions": "admin.accessed",
        "audit_logs/resource_types": "User",
        "events/event_types": "admin.acted.v1",
        "events/aggregate_types": "Session",
    }.items():
        assert wanted in (await client.get(f"{BASE}/{path}", headers=staff)).json()["items"]


async def test_accounts_are_listed_found_and_shown(client: Any, house: House, staff: Any) -> None:
    await registered(client, house, "ada@example.com")
    listed = (await client.get(f"{BASE}/users?email=Ada@example.com", headers=staff)).json()
    assert listed["total"] == 1
    (ada,) = listed["items"]
    assert (ada["email"], ada["name"], ada["status"], ada["verified"]) == ("ada@example.com", "Ada", "active", True)
    user_id = ada["user_id"]
    everybody = (await client.get(f"{BASE}/users?sort_by=registered_at&page_size=1", headers=staff)).json()
    assert (everybody["total"], len(everybody["items"]), "next" in everybody["_links"]) == (2, 1, True)
    assert (await client.get(f"{BASE}/users?platform_role=crewkit_staff", headers=staff)).json()["total"] == 1
    assert (await client.get(f"{BASE}/users?status=asleep", headers=staff)).status_code == 400
    assert (await client.get(f"{BASE}/users?email=nonsense", headers=staff)).status_code == 422
    await join(house, house.ours, UUID(user_id), "manager")
    shown = (await client.get(ada["_links"]["self"], headers=staff)).json()
    assert [(one["slug"], one["permission"]) for one in shown["memberships"]] == [("default", "manager")]
    missing = await client.get(f"{BASE}/users/00000000-0000-4000-8000-000000000000", headers=staff)
    assert missing.status_code == 404
    assert {one.event.what for one in await notes(house, PLATFORM)} == {"users.list", "user.show"}  # type: ignore[attr-defined]


async def test_an_account_is_changed_with_a_reason_and_ranks_by_owners_only(
    client: Any, house: House, staff: Any, chief: Any
) -> None:
    pair = await signed_in(house)
    await house.project()
    path = f"{BASE}/users/{pair.user_id}"
    assert (await client.patch(path, headers=staff, json={"name": "Bob"})).status_code == 422
    changed = await client.patch(path, headers=staff, json={"name": "Bob", "reason": "asked for by mail"})
    assert changed.status_code == 200, changed.text
    await house.project()
    assert (await client.get(path, headers=staff)).json()["name"] == "Bob"
    wish = {"platform_role": "crewkit_staff"}
    assert (await client.patch(path, headers={**staff, **WHY}, json=wish)).status_code == 403
    assert (await client.patch(path, headers={**chief, **WHY}, json=wish)).status_code == 200
    await house.project()
    client.app.state.services.people.forget()
    assert (await client.get(f"{BASE}/stats", headers=bearer(pair))).status_code == 200, "the rank holds at once"
    told = [one.event.action for one in await notes(house, PLATFORM) if isinstance(one.event, AdminActed)]
    assert told == ["user.update"] * 3, "also what was refused had been wanted"
    assert "asked for by mail" in await reasons(house, PLATFORM)


async def test_a_disabled_user_is_out_and_comes_back_enabled(client: Any, house: House, staff: Any) -> None:
    await registered(client, house, "ada@example.com")
    sign_in = {"email": "ada@example.com", "password": "correct horse battery staple"}
    pair = (await client.post("/api/v1/auth/login", json=sign_in)).json()
    token = {"Authorization": f"Bearer {pair['access_token']}"}
    await house.project()
    assert (await client.get("/api/v1/organizations", headers=token)).status_code == 200
    user_id = (await client.get(f"{BASE}/users?email=ada@example.com", headers=staff)).json()["items"][0]["user_id"]
    path = f"{BASE}/users/{user_id}"
    assert (await client.post(f"{path}/disable", headers=staff)).status_code == 422
    for _ in range(2):
        out = await client.post(f"{path}/disable", headers=staff, json={"reason": "left the company"})
        assert out.status_code == 200
    await house.project()
    client.app.state.services.people.forget()
    assert (await client.get("/api/v1/organizations", headers=token)).status_code == 401
    assert (await client.post("/api/v1/auth/login", json=sign_in)).status_code == 401
    refreshed = await client.post("/api/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]})
    assert refreshed.status_code in {400, 401}
    assert (await client.post(f"{path}/enable", headers={**staff, **WHY})).status_code == 200
    await house.project()
    assert (await client.post("/api/v1/auth/login", json=sign_in)).status_code == 200
    client.app.state.services.people.forget()
    assert (await client.get("/api/v1/organizations", headers=token)).status_code == 401, "old logins stay ended"


async def test_staff_erase_a_user_who_cannot_ask_and_show_the_certificate(
    client: Any, house: House, staff: Any
) -> None:
    ann = await signed_in(house, email="ann@example.com")
    await join(house, house.ours, ann.user_id, "developer")
    await house.project()
    path = f"{BASE}/users/{ann.user_id}"
    wish = {"ground": "subject_request", "confirm": str(ann.user_id), "reason": "she wrote us a letter"}
    for change, code in (
        ({"confirm": str(UUID(int=1))}, "confirmation_required"),
        ({"ground": "she asked"}, "validation_failed"),
        ({"reason": None}, "validation_failed"),
    ):
        refused = await client.post(f"{path}/erase", headers=staff, json={**wish, **change})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, code), change
    assert (await client.get("/api/v1/auth/me", headers=bearer(ann))).json()["email"] == "ann@example.com"
    done = await client.post(f"{path}/erase", headers=staff, json=wish)
    assert done.status_code == 200, done.text
    assert (await client.post(f"{path}/erase", headers=staff, json=wish)).json() == done.json()
    await house.project()
    assert (await client.get("/api/v1/auth/me", headers=bearer(ann))).status_code == 401
    members = await client.get(f"{house.ours.base}/members", headers=house.ours.headers("admin"))
    assert str(ann.user_id) not in members.text
    shown = (await client.get(path, headers=staff)).json()
    assert (shown["status"], shown["email"], shown["memberships"]) == ("deleted", None, [])
    assert (await client.get(shown["_links"]["certificate"], headers=staff)).json() == done.json()
    assert {one["organization_id"] for one in done.json()["subjects"]} == {str(PLATFORM), str(house.ours.org_id)}
    listed = (await client.get(f"{BASE}/certificates", headers=staff)).json()["items"]
    assert [(one["erasure_id"], one["status"]) for one in listed] == [(done.json()["erasure_id"], "certified")]
    assert "she wrote us a letter" in await reasons(house, PLATFORM)


async def test_staff_erase_neither_themselves_nor_their_superiors_nor_an_only_owner(
    client: Any, house: House, staff: Any, chief: Any
) -> None:
    async def erased(by: Any, user_id: str) -> Any:
        wish = {"ground": "subject_request", "confirm": user_id}
        return await client.post(f"{BASE}/users/{user_id}/erase", headers={**by, **WHY}, json=wish)

    own, above = [(await client.get("/api/v1/auth/me", headers=by)).json()["user_id"] for by in (staff, chief)]
    assert (await erased(staff, own)).json()["error"]["code"] == "forbidden"
    assert (await erased(staff, above)).json()["error"]["code"] == "forbidden"
    assert (await erased(staff, str(UUID(int=1)))).status_code == 404
    alone = await signed_in(house)
    founded = await client.post("/api/v1/organizations", headers=bearer(alone), json={"name": "Alone", "slug": "alone"})
    assert founded.status_code == 201, founded.text
    await house.project()
    assert (await erased(staff, str(alone.user_id))).status_code == 409
    assert (await client.get("/api/v1/auth/me", headers=bearer(alone))).status_code == 200, "nothing has begun"


async def test_certificates_of_an_organization_are_shown_with_a_reason_that_it_reads(
    client: Any, house: House, staff: Any
) -> None:
    sent = {"events": [{"payload": hook("s1", prompt="words"), "id": "1", "user": {"email": "ada@example.com"}}]}
    theirs = house.theirs
    await client.post(f"{theirs.base}/observability/events", headers=theirs.headers("ingest"), json=sent)
    await house.project()
    (ada,) = [
        one["person_id"]
        for one in (await client.get(f"{theirs.base}/people", headers=theirs.headers("audit"))).json()["items"]
        if one["email"] == "ada@example.com"
    ]
    erased = await client.post(
        f"{theirs.base}/people/{ada}/erase",
        headers=theirs.headers("admin"),
        json={"reason": "subject_request", "confirm": ada},
    )
    assert erased.status_code == 200, erased.text
    await house.project()
    path = f"{BASE}/certificates?organization={theirs.slug}"
    assert (await client.get(path, headers=staff)).status_code == 422
    (listed,) = (await client.get(path, headers={**staff, **WHY})).json()["items"]
    shown = await client.get(listed["_links"]["self"], headers={**staff, **WHY})
    assert shown.json()["note"] == erased.json()["note"]
    assert (await client.get(listed["_links"]["history"], headers={**staff, **WHY})).json()["items"]
    assert (await client.get(f"{BASE}/certificates", headers=staff)).json()["items"] == [], "not the platform's"
    assert {one.event.what for one in await notes(house, theirs.org_id)} == {  # type: ignore[attr-defined]
        "certificates.list",
        "certificate.show",
        "events.list",
    }


async def test_a_deleted_organization_is_restored_as_it_was(client: Any, house: House, staff: Any) -> None:
    owner = await signed_in(house)
    await join(house, house.theirs, owner.user_id, "owner")
    gone = await client.delete(f"/api/v1/organizations/{house.theirs.slug}?confirm=other", headers=bearer(owner))
    assert gone.status_code == 204
    await house.project()
    client.app.state.services.people.forget()
    assert (await client.get(f"{house.theirs.base}/sessions", headers=bearer(owner))).status_code == 404
    (listed,) = (await client.get(f"{BASE}/organizations?status=deleted", headers=staff)).json()["items"]
    assert listed["slug"] == "other"
    path = listed["_links"]["restore"]
    assert (await client.post(path, headers=staff)).status_code == 422
    assert (await client.post(path, headers={**staff, **WHY})).status_code == 200
    await house.project()
    client.app.state.services.people.forget()
    assert (await client.get(f"{house.theirs.base}/sessions", headers=bearer(owner))).status_code == 200
    (restored,) = [one for one in await house.store.read_all(0, 1_000) if one.type == "organization.restored.v1"]
    assert restored.meta.actor.startswith("user:"), "under the name of who did it"


async def test_a_deleted_project_is_restored(client: Any, house: House, staff: Any) -> None:
    headers, base = house.theirs.headers("all"), f"{house.theirs.base}/projects"
    made = (
        await client.post(base, headers=headers, json={"name": "App", "git_remotes": ["github.com/acme/app"]})
    ).json()
    await house.project()
    assert (await client.delete(f"{base}/app?confirm=app", headers=headers)).status_code == 204
    await house.project()
    path = f"{BASE}/projects/{made['project_id']}/restore"
    assert (await client.post(path, headers=staff)).status_code == 422
    told = await client.post(path, headers=staff, json={"reason": "deleted by mistake"})
    assert (told.status_code, told.json()["organization_id"]) == (200, str(house.theirs.org_id))
    await house.project()
    assert (await client.post(f"{BASE}/projects/app/restore", headers={**staff, **WHY})).status_code == 400
    assert (await client.get(f"{base}/app", headers=headers)).json()["git_remotes"] == ["github.com/acme/app"]
    (note,) = await notes(house, house.theirs.org_id)
    assert (note.event.action, note.event.target) == ("project.restore", f"Project:{made['project_id']}")  # type: ignore[attr-defined]
    missing = f"{BASE}/projects/00000000-0000-4000-8000-000000000000/restore"
    assert (await client.post(missing, headers={**staff, **WHY})).status_code == 404


async def test_ending_an_organization_destroys_every_key_of_its_data(client: Any, house: House, staff: Any) -> None:
    sent = [hook("s1", prompt="my secret plan")]
    theirs = house.theirs
    await client.post(f"{theirs.base}/observability/events", headers=theirs.headers("ingest"), json=sent)
    await house.project()
    path = f"{BASE}/organizations/{theirs.org_id}"
    assert (await client.delete(path, headers={**staff, **WHY})).status_code == 422, "its slug must be typed"
    wrong = await client.delete(f"{path}?confirm=default", headers={**staff, **WHY})
    assert wrong.json()["error"]["code"] == "confirmation_required"
    assert (await client.delete(f"{path}?confirm=other", headers=staff)).status_code == 422, "without a reason"
    for _ in range(2):
        ended = await client.request(
            "DELETE", path, headers=staff, json={"confirm": "other", "reason": "contract ended"}
        )
        assert ended.status_code == 204, ended.text
    await house.project()
    audit = f"{BASE}/audit_logs?organization={theirs.org_id}"
    told = (await client.get(f"{audit}&action=hook.recorded", headers={**staff, **WHY})).json()["items"]
    assert told[0]["details"]["content"] == {"sealed": True, "erased": True}, "the event stays, unreadable"
    left = "SELECT count(*) FROM crewkit.subject_key WHERE org_id = $1 AND wrapped IS NOT NULL"
    assert await house.store.pool.fetchval(left, theirs.org_id) == 0
    assert await house.store.pool.fetchval(left, PLATFORM) > 0
    assert (await client.get(path, headers={**staff, **WHY})).json()["status"] == "purged"
    assert "contract ended" in await reasons(house, PLATFORM), "the platform still knows why"
    alive = (await client.get(f"{house.ours.base}/audit_logs", headers=house.ours.headers("audit"))).json()
    assert alive["items"], "others are untouched"


async def test_the_installation_in_numbers(client: Any, house: House, staff: Any) -> None:
    await registered(client, house, "ada@example.com")
    told = (await client.get(f"{BASE}/stats", headers=staff)).json()
    assert (told["users"], told["organizations"], told["organizations_by_status"]) == (2, 2, {"active": 2})
    assert told["events"] == await house.store.head()
    users = (await client.get(told["_links"]["users"], headers=staff)).json()
    assert (users["by_status"], users["verified"], users["with_password"]) == ({"active": 2}, 1, 1)
    organizations = (await client.get(told["_links"]["organizations"], headers=staff)).json()
    assert organizations["by_region"] == {"na": 2}
    activity = (await client.get(f"{told['_links']['activity']}?days=2", headers=staff)).json()["items"]
    assert len(activity) == 2
    assert sum(day["users_registered"] for day in activity) == 2
    assert (await client.get(f"{BASE}/stats/activity?days=0", headers=staff)).status_code == 400


async def test_only_the_platform_reads_it_and_finds_by_slug_and_id(house: House) -> None:
    pool = await connect_pool(house.settings.database_url or "", API_ROLE, max_size=1)
    paging = Paging(order="slug", tie="tenant_id")
    found, total = await organizations(pool, paging, status=None, text=None)
    assert ([one.slug for one in found], total) == (["default", "other"], 2)
    assert (await organizations(pool, paging, status="active", text="DEF"))[1] == 1
    assert (await organizations(pool, paging, status="purged", text=None)) == ([], 0)
    for name in ("other", str(house.theirs.org_id)):
        one = await find_organization(pool, name)
        assert one is not None
        assert one.tenant_id == house.theirs.org_id
    assert await find_organization(pool, "nowhere") is None
    async with tenant(pool, house.ours.org_id) as connection:
        assert await connection.fetch("SELECT * FROM crewkit.platform_organization") == []
    await pool.close()


async def test_days_add_up_to_the_whole_log(house: House) -> None:
    pool = await connect_pool(house.settings.database_url or "", API_ROLE, max_size=1)
    today = datetime.now(UTC).date()
    days = await stats.activity(pool, house.store, last=today, days=7)
    assert [day.day for day in days] == [today - timedelta(days=back) for back in reversed(range(7))]
    assert sum(day.events for day in days) == await house.store.head()
    assert sum(day.organizations_created for day in days) == 2
    await pool.close()
