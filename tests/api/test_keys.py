"""API keys: issued once per wish, refused at once by every process after they were revoked."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from api.app import create_app
from api.auth import Authenticator
from api.errors import ApiError
from api.used import KeyUse
from commands.organizations import issue, new_key
from projections.directory import KeyFound, find_key
from tests.api.house import House, serving

WAIT_S = 60


async def test_the_same_wish_is_granted_once_and_its_repeat_tells_no_secret(client: Any, house: House) -> None:
    path, wish = f"{house.ours.base}/api_keys", {"label": "ci", "scopes": ["ingest", "read"]}
    headers = {**house.ours.headers("admin"), "Idempotency-Key": "deploy 7"}
    before = await house.store.head()
    first = await client.post(path, headers=headers, json=wish)
    assert (first.status_code, first.json()["repeated"]) == (201, False)
    by_id = path.replace(house.ours.slug, str(house.ours.org_id))
    again = await client.post(by_id, headers=headers, json=wish)
    assert (again.status_code, again.json()["repeated"], again.json()["key"]) == (200, True, None)
    assert first.json()["key"] not in again.text
    for field in ("key_id", "scopes", "issued_at", "position", "label"):
        assert again.json()[field] == first.json()[field]
    assert await house.store.head() == before + 1
    other = await client.post(path, headers=headers, json={**wish, "scopes": ["admin"]})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    headers["Idempotency-Key"] = "deploy 8"
    assert (await client.post(path, headers=headers, json=wish)).status_code == 201
    odd = await client.post(path, headers={**headers, "Idempotency-Key": "x" * 201}, json=wish)
    assert odd.json()["error"]["details"]["field"] == "Idempotency-Key"


async def test_a_revoked_key_is_refused_at_once_although_the_directory_has_not_heard(client: Any, house: House) -> None:
    made = await issue(house.store, house.ours.org_id, house.ours.owner_id, "gone", ["read"])
    await house.project()
    path, headers = f"{house.ours.base}/events", {"X-API-Key": made.key}
    assert (await client.get(path, headers=headers)).status_code == 200
    revoked = await client.delete(f"{house.ours.base}/api_keys/{made.key_id}", headers=house.ours.headers("admin"))
    assert revoked.status_code == 204
    assert (await client.get(path, headers=headers)).status_code == 401


async def test_another_process_refuses_it_too_once_nats_has_told(settings: Any, house: House, nats_url: str) -> None:
    made = await issue(house.store, house.ours.org_id, house.ours.owner_id, "gone", ["read"])
    await house.project()
    used = msgspec.structs.replace(settings, nats_url=nats_url)
    one, other = create_app(used), create_app(used)
    async with (
        asyncio.timeout(WAIT_S),
        serving(one) as here,
        serving(other) as there,
        httpx.AsyncClient(timeout=WAIT_S) as http,
    ):
        while not (one.state.services.bus.connected and other.state.services.hub._trusting):
            await asyncio.sleep(0.01)
        path, headers = f"{there.url}{house.ours.base}/events", {"X-API-Key": made.key}
        assert (await http.get(path, headers=headers)).status_code == 200
        away = f"{here.url}{house.ours.base}/api_keys/{made.key_id}"
        assert (await http.delete(away, headers=house.ours.headers("admin"))).status_code == 204
        while other.state.services.auth._cache[made.key_id][1] is not None:
            await asyncio.sleep(0.01)
        assert (await http.get(path, headers=headers)).status_code == 401


async def test_a_key_that_is_revoked_while_it_is_looked_up_is_refused() -> None:
    key_id = uuid4()
    asked, told = asyncio.Event(), asyncio.Event()

    async def lookup(_: Any) -> KeyFound | None:
        asked.set()
        await told.wait()
        return msgspec.convert(
            {
                "key_id": key_id,
                "org_id": uuid4(),
                "slug": "acme",
                "scopes": ["read"],
                "secret_sha256": "",
                "person_id": uuid4(),
                "expires_at": None,
                "revoked_at": None,
            },
            KeyFound,
        )

    auth = Authenticator(lookup)
    trying = asyncio.create_task(auth.key(new_key(key_id)))
    await asked.wait()
    auth.revoke(key_id)
    told.set()
    with pytest.raises(ApiError) as refused:
        await trying
    assert refused.value.status == 401
    assert auth._cache[key_id][1] is None


async def test_many_requests_that_need_a_key_looked_up_ask_the_directory_once() -> None:
    key_id = uuid4()
    asked, told = 0, asyncio.Event()

    async def lookup(_: Any) -> KeyFound | None:
        nonlocal asked
        asked += 1
        await told.wait()
        return None

    auth = Authenticator(lookup)
    trying = [asyncio.create_task(auth.key(new_key(key_id))) for _ in range(50)]
    await asyncio.sleep(0)
    trying[0].cancel()  # a caller that goes away takes nobody else's answer with it
    await asyncio.sleep(0)
    told.set()
    outcomes = await asyncio.gather(*trying, return_exceptions=True)
    assert asked == 1
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert all(isinstance(outcome, ApiError) and outcome.status == 401 for outcome in outcomes[1:])


async def test_when_a_key_was_last_used_is_told_once_an_hour(client: Any, house: House) -> None:
    made = await issue(house.store, house.ours.org_id, house.ours.owner_id, "used", ["read"])
    unused = await issue(house.store, house.ours.org_id, house.ours.owner_id, "unused", ["read"])
    await house.project()
    auth = Authenticator(lambda key_id: find_key(house._worker, key_id))
    use = KeyUse(auth, house.store)
    forged = made.key[:36] + new_key(uuid4())[36:]
    with pytest.raises(ApiError):
        await auth.key(forged)
    assert auth.used == {}, "a wrong secret is no use"
    for _ in range(3):
        await auth.key(made.key)
        await use.tell()
    other = KeyUse(auth, house.store)
    await auth.key(made.key)
    await other.tell()
    found = await house.store.find(house.ours.org_id, type="api_key.used.v1")
    assert len(found) == 1, "also when another process tells the same"
    await house.project()
    listed = (await client.get(f"{house.ours.base}/api_keys", headers=house.ours.headers("admin"))).json()["items"]
    by_id = {item["key_id"]: item for item in listed}
    hour = datetime.fromisoformat(by_id[str(made.key_id)]["last_used_at"])
    assert (hour.minute, hour.second) == (0, 0)
    assert by_id[str(unused.key_id)]["last_used_at"] is None


async def test_keys_are_listed_page_by_page(client: httpx.AsyncClient, house: House) -> None:
    headers, path = house.ours.headers("admin"), f"{house.ours.base}/api_keys"
    whole = (await client.get(path, headers=headers)).json()
    assert whole["total"] == len(whole["items"]) > 1
    seen: list[str] = []
    link: str | None = f"{path}?page_size=1"
    while link:
        page = (await client.get(link, headers=headers)).json()
        assert (page["total"], page["page_size"], len(page["items"])) == (whole["total"], 1, 1)
        seen.append(page["items"][0]["key_id"])
        link = page["_links"].get("next")
    assert seen == [item["key_id"] for item in whole["items"]], "newest first, each once"
    assert "prev" in page["_links"]
    refused = await client.get(f"{path}?sort_by=secret_sha256", headers=headers)
    assert (refused.status_code, refused.json()["error"]["details"]["field"]) == (400, "sort_by")
