"""Every route, tried by everybody: the table in api/permissions.py is the whole truth about who may call what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from litestar import Router, get
from litestar.testing import AsyncTestClient

from api import permissions
from api.app import create_app
from api.auth import KNOWN_TTL_S, UNKNOWN_TTL_S, Authenticator
from api.errors import ApiError
from api.permissions import Access
from commands.organizations import issue, key_hash, new_key, revoke_key
from projections.directory import KeyFound
from tests.api.house import EVERY_SCOPE, House, Place, knock

STREAMS = ("/events/stream",)
SOME_ID = "00000000-0000-4000-8000-000000000000"


def filled(path: str, organization: str) -> str:
    """A concrete URL for a route's template."""
    parts = [
        organization if part == "{organization_id}" else SOME_ID if part.startswith("{") else part
        for part in path.split("/")
    ]
    return "/".join(parts)


async def holes(client: Any, app: Any, house: House, table: dict[tuple[str, str], Access]) -> list[str]:
    """What the routes do that the table does not say, walking the routes of the running application."""
    found: list[str] = []

    async def expect(method: str, path: str, headers: dict[str, str], allowed: set[int], who: str) -> None:
        if method == "WS":
            status = knock(client, path, headers)
        else:
            status = (await client.request(method, path, headers=headers)).status_code
        if status not in allowed:
            found.append(f"{who}: {method} {path} answered {status}, not {sorted(allowed)}")

    for method, template in permissions.operations(app.routes):
        access = table.get((method, template), Access(frozenset({"nobody"})))
        if access.public:
            continue
        path = filled(template, house.ours.slug)
        await expect(method, path, {}, {401}, "nobody")
        await expect(method, path, {"X-API-Key": "ck_bad"}, {401}, "a malformed key")
        await expect(method, path, {"X-API-Key": new_key(uuid4())}, {401}, "an unknown key")
        if "{organization_id}" in template:
            await expect(method, path, house.theirs.headers("all"), {404}, "another organization's key")
        else:
            crossed = {**house.theirs.headers("all"), "X-Organization": house.ours.slug}
            await expect(method, path, crossed, {404}, "a key that names another organization")
        for scope in set(EVERY_SCOPE) - access.scopes:
            await expect(method, path, house.ours.headers(scope), {403}, f"scope {scope}")
    return found


async def test_every_route_lets_in_exactly_whom_the_table_names(client: Any, app: Any, house: House) -> None:
    assert await holes(client, app, house, permissions.TABLE) == []


async def test_a_planted_hole_is_found(settings: Any, house: House, monkeypatch: Any) -> None:
    """Routes that forget the guard, or an entry that is too generous, do not stay unnoticed."""
    strict = dict(permissions.TABLE)
    route = ("GET", "/api/v1/{organization_id}/events")
    monkeypatch.setitem(permissions.TABLE, route, permissions.PUBLIC)
    monkeypatch.setitem(permissions.TABLE, ("GET", "/planted"), permissions.PUBLIC)
    app = create_app(settings)

    @get("/planted", sync_to_thread=False)
    def planted() -> str:
        return "anybody may read this"

    app.register(Router("/", route_handlers=[planted]))
    async with AsyncTestClient(app, raise_server_exceptions=False) as client:
        found = await holes(client, app, house, strict)
    assert any("nobody: GET /planted answered 200" in line for line in found)
    assert any("nobody: GET /api/v1/default/events" in line for line in found)


async def test_right_scope_right_tenant_gets_past_the_guard(client: Any, app: Any, house: House) -> None:
    for method, template in permissions.operations(app.routes):
        access = permissions.TABLE[method, template]
        if access.public or template.endswith(STREAMS):
            continue
        for scope in access.scopes:
            if method == "WS":
                assert knock(client, filled(template, ""), house.ours.headers(scope)) == 101
                continue
            for name in (house.ours.slug, str(house.ours.org_id), str(house.ours.org_id).upper()):
                answer = await client.request(method, filled(template, name), headers=house.ours.headers(scope))
                assert answer.status_code not in {401, 403}, (scope, method, template)
                if answer.status_code == 404:
                    assert "organization" not in answer.json()["message"], (method, template)


async def test_keys_travel_in_either_header_and_refusals_say_how(client: Any, house: House) -> None:
    key, path = house.ours.keys["read"], f"{house.ours.base}/events"
    assert (await client.get(path, headers={"X-API-Key": key})).status_code == 200
    assert (await client.get(path, headers={"Authorization": f"Bearer {key}"})).status_code == 200
    assert (await client.get(path, headers={"Authorization": f"bearer  {key} "})).status_code == 200
    for wrong in ({}, {"Authorization": f"Basic {key}"}, {"Authorization": "Bearer"}, {"X-API-Key": key + "x"}):
        answer = await client.get(path, headers=wrong)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_auth"
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_the_right_id_with_another_secret_is_refused(client: Any, house: House) -> None:
    real = house.ours.keys["read"]
    forged = real[:36] + new_key(uuid4())[36:]
    assert (await client.get(f"{house.ours.base}/events", headers={"X-API-Key": forged})).status_code == 401


async def test_an_expired_key_is_refused(client: Any, house: House) -> None:
    soon = datetime.now(UTC) + timedelta(milliseconds=50)
    made = await issue(house.store, house.ours.org_id, house.ours.owner_id, "short", ["read"], expires_at=soon)
    await house.project()
    while datetime.now(UTC) < soon:
        pass
    assert (await client.get(f"{house.ours.base}/events", headers={"X-API-Key": made.key})).status_code == 401


async def test_a_revoked_key_is_refused(client: Any, house: House) -> None:
    made = await issue(house.store, house.ours.org_id, house.ours.owner_id, "gone", ["read"])
    await house.project()
    path, headers = f"{house.ours.base}/events", {"X-API-Key": made.key}
    assert (await client.get(path, headers=headers)).status_code == 200
    await revoke_key(house.store, house.ours.org_id, made.key_id)
    await house.project()
    client.app.state.services.auth.forget(made.key_id)
    assert (await client.get(path, headers=headers)).status_code == 401


async def test_answers_are_remembered_for_a_bounded_time_also_unknown_ones() -> None:
    now, asked = [0.0], list[UUID]()
    key_id = uuid4()
    key = new_key(key_id)
    known: dict[UUID, KeyFound] = {}

    async def lookup(wanted: UUID) -> KeyFound | None:
        asked.append(wanted)
        return known.get(wanted)

    auth = Authenticator(lookup, clock=lambda: now[0])
    for _ in range(3):
        with pytest.raises(ApiError):
            await auth.key(key)
    assert len(asked) == 1
    known[key_id] = KeyFound(
        key_id=key_id,
        org_id=uuid4(),
        slug="acme",
        scopes=frozenset({"read"}),
        secret_sha256=key_hash(key),
        person_id=uuid4(),
        expires_at=None,
        revoked_at=None,
    )
    now[0] += UNKNOWN_TTL_S
    assert (await auth.key(key)).slug == "acme"
    assert (await auth.key(key)).slug == "acme"
    assert len(asked) == 2
    now[0] += KNOWN_TTL_S
    await auth.key(key)
    assert len(asked) == 3


async def test_key_management_round_trip(client: Any, house: House) -> None:
    path, headers = f"{house.ours.base}/api_keys", house.ours.headers("admin")
    made = await client.post(path, headers=headers, json={"label": "ci", "scopes": ["ingest"]})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    told = made.json()
    assert told["key"].startswith(f"ck_{told['key_id'].replace('-', '')}_")
    await house.project()
    after = {**headers, "Crewkit-After": made.headers["crewkit-position"]}
    listed = (await client.get(path, headers=after)).json()
    (view,) = [item for item in listed["items"] if item["key_id"] == told["key_id"]]
    assert view["status"] == "active"
    assert told["key"] not in str(listed)
    assert "sha256" not in str(listed)
    assert (await client.delete(view["_links"]["self"], headers=headers)).status_code == 204
    assert (await client.delete(view["_links"]["self"], headers=headers)).status_code == 204, "twice is no error"
    await house.project()
    listed = (await client.get(path, headers=headers)).json()
    assert [item["status"] for item in listed["items"] if item["key_id"] == told["key_id"]] == ["revoked"]


async def test_another_tenants_keys_can_be_neither_seen_nor_revoked(client: Any, house: House) -> None:
    mine, theirs = house.ours.headers("admin"), house.theirs
    made = await issue(house.store, theirs.org_id, theirs.owner_id, "theirs", ["read"])
    await house.project()
    listed = (await client.get(f"{house.ours.base}/api_keys", headers=mine)).json()
    assert str(made.key_id) not in str(listed)
    gone = await client.delete(f"{house.ours.base}/api_keys/{made.key_id}", headers=mine)
    assert gone.status_code == 404
    still = await client.get(f"{theirs.base}/events", headers={"X-API-Key": made.key})
    assert still.status_code == 200


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"label": "x", "scopes": []}, "scopes"),
        ({"label": "x", "scopes": ["root"]}, "scopes"),
        ({"label": " ", "scopes": ["read"]}, "label"),
        ({"label": "x", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
    ],
)
async def test_a_key_that_cannot_be_made_names_the_field(
    client: Any, house: House, sent: dict[str, Any], field: str
) -> None:
    answer = await client.post(f"{house.ours.base}/api_keys", headers=house.ours.headers("admin"), json=sent)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "validation_failed"
    assert answer.json()["error"]["details"]["field"] == field


async def test_a_query_that_is_ahead_of_the_read_model_is_told_to_wait(client: Any, house: House) -> None:
    headers = {**house.ours.headers("admin"), "Crewkit-After": str(await house.store.head() + 1)}
    answer = await client.get(f"{house.ours.base}/api_keys", headers=headers)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    odd = {**house.ours.headers("admin"), "Crewkit-After": "soon"}
    assert (await client.get(f"{house.ours.base}/api_keys", headers=odd)).status_code == 400


def test_place_has_every_scope(house: House) -> None:
    assert isinstance(house.ours, Place)
    assert {"all", *EVERY_SCOPE} <= set(house.ours.keys)
