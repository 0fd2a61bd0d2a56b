"""API keys: how they travel, when they stop working, how they are managed.  Who may call what: tests/api/test_walk.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.auth import KNOWN_TTL_S, UNKNOWN_TTL_S, Authenticator
from api.errors import ApiError
from commands.organizations import issue, key_hash, new_key, revoke_key
from projections.directory import KeyFound
from tests.api.house import EVERY_SCOPE, House, Place


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
