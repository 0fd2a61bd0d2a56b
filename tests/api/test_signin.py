"""Signing in over HTTP: by password, by mail, by device; tokens that rotate; and nothing that tells who has an account."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from api.app import create_app
from commands.users.accounts import set_password
from commands.users.login import Visit, begin
from commands.users.passkeys import DECOY_BYTES, decoys
from commands.users.passwords import Hashing
from domain.kernel import PLATFORM
from domain.users.state import InvalidCredentialsError
from eventstore.settings import Settings
from tests.api.house import House, serving
from tests.api.signing_in import AGENT, PASSWORD, carrying, logged_in, registered, told_in

A = "/api/v1/auth"
ADA = "Ada@Example.com"
RACERS = 100


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, sign_ins_per_min=0)


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_from_registration_to_the_own_profile(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    pair = await logged_in(http, "ada@example.com ")
    await house.project()
    me = (await http.get(f"{A}/me", headers=carrying(pair))).json()
    assert (me["email"], me["name"], me["email_verified"], me["profile_completed"]) == (
        "ada@example.com",
        "Ada",
        True,
        False,
    )
    assert me["platform_role"] == "org_user"
    whole = {"name": "Ada L.", "locale": "en-GB", "timezone": "Europe/London"}
    assert (await http.post(f"{A}/complete_profile", headers=carrying(pair), json=whole)).json()["profile_completed"]
    done = await http.patch(f"{A}/me", headers=carrying(pair), json={"name": "Ada Lovelace"})
    assert done.json()["name"] == "Ada Lovelace", "before any read model has heard of it"
    await house.project()
    after = carrying(pair) | {"Crewkit-After": done.headers["crewkit-position"]}
    me = (await http.get(f"{A}/me", headers=after)).json()
    assert (me["name"], me["locale"], me["timezone"], me["profile_completed"]) == (
        "Ada Lovelace",
        "en-GB",
        "Europe/London",
        True,
    )
    refused = await http.patch(f"{A}/me", headers=carrying(pair), json={"timezone": "not a zone"})
    assert (*code(refused), refused.json()["error"]["details"]["field"]) == (422, "validation_failed", "timezone")
    assert (await http.get(f"{A}/organizations", headers=carrying(pair))).json()["items"] == []


async def test_nothing_personal_and_no_secret_is_readable_in_the_log(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    pair = await logged_in(http, ADA)
    await http.post(f"{A}/magic_link", json={"email": ADA})
    secrets = [PASSWORD, await told_in(house, "magic_link.requested.v1"), pair["refresh_token"], pair["access_token"]]
    for recorded in await house.store.read_all(0, org_id=PLATFORM):
        for text in ("ada@", "Ada", "127.0.0.1", "test browser", *secrets):
            assert text.encode() not in recorded.data, (recorded.type, text)


async def test_who_has_an_account_is_not_told(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    head = await house.store.head()
    again = await http.post(f"{A}/register", json={"email": ADA, "password": PASSWORD + "!"})
    new = await http.post(f"{A}/register", json={"email": "new@example.com", "password": PASSWORD})
    assert (again.status_code, again.json()) == (new.status_code, new.json())
    assert await house.store.head() == head + 1, "the second registration of an address changes nothing"
    for route in ("magic_link", "password/forgot"):
        known = await http.post(f"{A}/{route}", json={"email": ADA})
        unknown = await http.post(f"{A}/{route}", json={"email": "nobody@example.com"})
        assert (known.status_code, known.json()) == (202, unknown.json())
    wrong = await http.post(f"{A}/login", json={"email": ADA, "password": "wrong wrong wrong"})
    nobody = await http.post(f"{A}/login", json={"email": "nobody@example.com", "password": "wrong wrong wrong"})
    assert code(wrong) == code(nobody) == (401, "invalid_auth")
    assert wrong.json()["message"] == nobody.json()["message"]
    named = (await http.post(f"{A}/passkey/login/challenge", json={"email": ADA})).json()["options"]
    unnamed = (await http.post(f"{A}/passkey/login/challenge", json={"email": "nobody@example.com"})).json()["options"]
    assert all(1 <= len(one["allowCredentials"]) <= 3 for one in (named, unnamed))
    again = (await http.post(f"{A}/passkey/login/challenge", json={"email": "nobody@example.com"})).json()["options"]
    assert again["allowCredentials"] == unnamed["allowCredentials"], "the same decoy every time"


def test_decoys_are_as_many_and_as_long_as_passkeys_of_people() -> None:
    drawn = [decoys(b"secret", f"account {n}") for n in range(300)]
    assert {len(one) for one in drawn} == {1, 2, 3}
    assert {len(credential) for one in drawn for credential in one} == set(DECOY_BYTES)
    assert len({credential for one in drawn for credential in one}) == sum(map(len, drawn))
    assert decoys(b"another secret", "account 1") != drawn[1] == decoys(b"secret", "account 1")


@pytest.mark.parametrize("email", [ADA, "nobody@example.com"])
async def test_guessing_stops_after_five_tries_in_every_process(
    http: Any, house: House, settings: Settings, email: str
) -> None:
    await registered(http, house, ADA)
    wish = {"email": email, "password": "wrong wrong wrong"}
    answers = await asyncio.gather(*(http.post(f"{A}/login", json=wish) for _ in range(12)))
    assert Counter(answer.status_code for answer in answers) == {401: 5, 429: 7}
    async with serving(create_app(settings)) as other:
        locked = await http.post(f"{other.url}{A}/login", json={"email": email, "password": PASSWORD})
    assert code(locked) == (429, "rate_limited")
    assert 0 < int(locked.headers["retry-after"]) <= 900
    if email == ADA:
        await http.post(f"{A}/magic_link", json={"email": email})
        token = await told_in(house, "magic_link.requested.v1")
        by_mail = await http.post(f"{A}/magic_link/verify", json={"token": token})
        assert by_mail.status_code == 200, "its owner still has another way in"


async def test_each_address_of_the_network_gets_few_tries_a_minute(settings: Settings, house: House) -> None:
    strict = create_app(msgspec.structs.replace(settings, sign_ins_per_min=3))
    async with serving(strict) as live, httpx.AsyncClient(base_url=live.url) as http:
        tried = [await http.post(f"{A}/magic_link/verify", json={"token": str(n)}) for n in range(4)]
    assert [answer.status_code for answer in tried] == [401, 401, 401, 429]
    assert int(tried[3].headers["retry-after"]) >= 1


async def test_a_password_counts_only_once_its_address_is_verified(http: Any, house: House) -> None:
    await registered(http, house, ADA, verified=False)
    early = await http.post(f"{A}/login", json={"email": ADA, "password": PASSWORD})
    assert code(early) == (403, "email_unverified")
    token = await told_in(house, "user.registered.v1")
    assert (await http.post(f"{A}/email/verify", json={"token": token + "x"})).status_code == 401
    assert (await http.post(f"{A}/email/verify", json={"token": "x"})).status_code == 401
    verified = await http.post(f"{A}/email/verify", json={"token": token})
    assert (verified.status_code, int(verified.headers["crewkit-position"])) == (200, await house.store.head())
    await logged_in(http, ADA)


async def test_who_registers_anothers_address_does_not_share_their_account(http: Any, house: House) -> None:
    await registered(http, house, ADA, verified=False)
    await http.post(f"{A}/magic_link", json={"email": ADA})
    token = await told_in(house, "magic_link.requested.v1")
    assert (await http.post(f"{A}/magic_link/verify", json={"token": token})).status_code == 200
    planted = await http.post(f"{A}/login", json={"email": ADA, "password": PASSWORD})
    assert code(planted) == (401, "invalid_auth")


async def test_a_magic_link_works_once_whoever_races(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    await http.post(f"{A}/magic_link", json={"email": ADA})
    token = await told_in(house, "magic_link.requested.v1")
    tried = [http.post(f"{A}/magic_link/verify", json={"token": token}) for _ in range(RACERS)]
    answers = await asyncio.gather(*tried)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: RACERS - 1}


async def test_a_reset_sets_the_password_once_and_ends_every_login(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    before = await logged_in(http, ADA)
    await http.post(f"{A}/password/forgot", json={"email": ADA})
    token = await told_in(house, "password_reset.requested.v1")
    short = await http.post(f"{A}/password/reset", json={"token": token, "new_password": "short"})
    assert (*code(short), short.json()["error"]["details"]["field"]) == (422, "validation_failed", "new_password")
    wish = {"token": token, "new_password": "another fine password"}
    assert (await http.post(f"{A}/password/reset", json=wish)).status_code == 200
    assert code(await http.post(f"{A}/password/reset", json=wish)) == (401, "invalid_auth")
    await house.project()
    refused = await http.post(f"{A}/refresh", json={"refresh_token": before["refresh_token"]})
    assert code(refused) == (401, "invalid_auth")
    assert (await http.post(f"{A}/login", json={"email": ADA, "password": PASSWORD})).status_code == 401
    await logged_in(http, ADA, "another fine password")


async def test_changing_the_password_needs_the_old_one_and_ends_every_login(http: Any, live: Any, house: House) -> None:
    await registered(http, house, ADA)
    pair = await logged_in(http, ADA)
    wish = {"current_password": "wrong wrong wrong", "new_password": "another fine password"}
    wrong = await http.post(f"{A}/password/change", headers=carrying(pair), json=wish)
    assert code(wrong) == (401, "invalid_auth")
    right = await http.post(f"{A}/password/change", headers=carrying(pair), json=wish | {"current_password": PASSWORD})
    assert right.status_code == 200
    await house.project()
    live.app.state.services.people.forget()
    assert (await http.get(f"{A}/me", headers=carrying(pair))).status_code == 401
    await logged_in(http, ADA, "another fine password")


async def test_refresh_tokens_rotate_and_a_spent_one_ends_the_login(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    first = await logged_in(http, ADA)
    second = (await http.post(f"{A}/refresh", json={"refresh_token": first["refresh_token"]})).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert (await http.get(f"{A}/organizations", headers=carrying(second))).status_code == 200
    stolen = await http.post(f"{A}/refresh", json={"refresh_token": first["refresh_token"]})
    assert code(stolen) == (401, "invalid_auth")
    assert (await http.get(f"{A}/organizations", headers=carrying(second))).status_code == 401, "at once"
    assert (await http.post(f"{A}/refresh", json={"refresh_token": second["refresh_token"]})).status_code == 401
    kinds = [one.type for one in await house.store.find(PLATFORM, newest_first=True, limit=2)]
    assert kinds == ["token_family.revoked.v1", "refresh_token.reuse_detected.v1"]
    for nonsense in ("", "rt_x", second["refresh_token"][:-1] + "!", "rt_" + "0" * 32 + "_" + "a" * 43):
        assert (await http.post(f"{A}/refresh", json={"refresh_token": nonsense})).status_code == 401


async def test_of_a_hundred_clients_with_one_refresh_token_one_wins(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    pair = await logged_in(http, ADA)
    tried = [http.post(f"{A}/refresh", json={"refresh_token": pair["refresh_token"]}) for _ in range(RACERS)]
    answers = await asyncio.gather(*tried)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: RACERS - 1}
    rotated = await house.store.find(PLATFORM, type="refresh_token.rotated.v1")
    assert len(rotated) == 1
    assert len(await house.store.find(PLATFORM, type="refresh_token.reuse_detected.v1")) == 1


async def test_a_crowd_signs_in_as_one_user_at_once(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    first = await logged_in(http, ADA)
    tools = house.tools
    user_id = UUID(first["user_id"])
    pairs = await asyncio.gather(*(begin(tools, user_id, Visit(), method="password") for _ in range(20)))
    assert len({pair.family_id for pair in pairs}) == 20


async def test_a_login_that_began_before_a_reset_ends_with_it(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    user_id = UUID((await logged_in(http, ADA))["user_id"])
    slow = Visit()
    await set_password(house.tools, Hashing(), user_id, "another fine password", by="reset", visit=Visit())
    with pytest.raises(InvalidCredentialsError):
        await begin(house.tools, user_id, slow, method="password")


async def test_logout_and_revocation_end_one_login(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    one, two, three, four = [await logged_in(http, ADA) for _ in range(4)]
    assert (await http.delete(f"{A}/logout", headers=carrying(one))).status_code == 204
    assert (await http.get(f"{A}/organizations", headers=carrying(one))).status_code == 401
    assert (await http.post(f"{A}/refresh", json={"refresh_token": one["refresh_token"]})).status_code == 401
    other = {"token": three["refresh_token"]}
    ended = await http.post(f"{A}/revoke", headers=carrying(two), json=other)
    assert (ended.status_code, int(ended.headers["crewkit-position"])) == (204, await house.store.head())
    assert (await http.get(f"{A}/organizations", headers=carrying(three))).status_code == 401
    other = {"token": four["access_token"]}
    assert (await http.post(f"{A}/revoke", headers=carrying(two), json=other)).status_code == 204
    assert (await http.get(f"{A}/organizations", headers=carrying(four))).status_code == 401
    neither = await http.post(f"{A}/revoke", headers=carrying(two), json={"token": "eyJneither"})
    assert (neither.status_code, neither.json()["error"]["details"]["field"]) == (422, "token")
    assert (await http.post(f"{A}/revoke", headers=carrying(two))).status_code == 204
    assert (await http.get(f"{A}/organizations", headers=carrying(two))).status_code == 401
    denied = await house.store.find(PLATFORM, type="access_token.denied.v1")
    assert len(denied) == 3


async def test_nobody_ends_the_login_of_another(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    await registered(http, house, "eve@example.com")
    ada, eve = await logged_in(http, ADA), await logged_in(http, "eve@example.com")
    wish = {"token": ada["refresh_token"]}
    assert (await http.post(f"{A}/revoke", headers=carrying(eve), json=wish)).status_code == 204
    assert (await http.post(f"{A}/refresh", json={"refresh_token": ada["refresh_token"]})).status_code == 200


async def test_logins_are_listed_with_where_they_came_from(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    await http.post(f"{A}/login", json={"email": ADA, "password": "wrong wrong wrong"}, headers=AGENT)
    pair = await logged_in(http, ADA)
    await logged_in(http, ADA, **{"User-Agent": "another browser"})
    await house.project()
    page = (await http.get(f"{A}/activity", headers=carrying(pair), params={"limit": 2})).json()
    told = [(item["outcome"], item["user_agent"], item["current"]) for item in page["items"]]
    assert told == [("succeeded", "another browser", False), ("succeeded", "test browser 1", True)]
    assert page["items"][0]["ip"] == "127.0.0.1"
    rest = (await http.get(page["_links"]["next"], headers=carrying(pair))).json()
    assert [(item["outcome"], item["reason"]) for item in rest["items"]] == [("failed", "password")]
    assert (rest["next_cursor"], "next" in rest["_links"]) == (None, False)
    odd = await http.get(f"{A}/activity", headers=carrying(pair), params={"cursor": "x"})
    assert odd.status_code == 400
    new_device = await house.store.find(PLATFORM, type="user.new_device_login.v1")
    assert len(new_device) == 1
    assert await told_in(house, "user.new_device_login.v1", "user_agent") == "another browser"
    assert await told_in(house, "user.new_device_login.v1", "email") == "ada@example.com"


async def test_a_closed_account_opens_nothing_and_its_address_is_free(http: Any, live: Any, house: House) -> None:
    await registered(http, house, ADA)
    pair = await logged_in(http, ADA)
    closed = await http.delete(f"{A}/me", headers=carrying(pair))
    assert (closed.status_code, closed.json()["status"]) == (200, "certified")
    assert (await http.get(f"{A}/me", headers=carrying(pair))).status_code == 401
    assert (await http.post(f"{A}/refresh", json={"refresh_token": pair["refresh_token"]})).status_code == 401
    await house.project()
    assert (await http.post(f"{A}/login", json={"email": ADA, "password": PASSWORD})).status_code == 401
    await registered(http, house, ADA)
    again = await logged_in(http, ADA)
    assert again["user_id"] != pair["user_id"]
