"""Access tokens at the door: who is let in where, and how soon an ended login stops working."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.people import COOKIE, Remembered, csrf_token
from commands.tokens import make_signing_key, revoke_family, withdraw_signing_key
from commands.tokens.keys import SigningKeys
from domain.kernel import PLATFORM
from eventstore.port import Meta
from eventstore.settings import public_url
from tests.api.house import House, knock
from tests.api.signing_in import bearer, join, signed_in


async def test_a_user_who_is_no_member_finds_no_organization(client: Any, app: Any, house: House) -> None:
    pair = await signed_in(house)
    await join(house, house.theirs, pair.user_id, "owner")
    assert (await client.get(f"{house.ours.base}/sessions", headers=bearer(pair))).status_code == 404
    assert (await client.get(f"{house.theirs.base}/sessions", headers=bearer(pair))).status_code == 200
    crossed = bearer(pair, **{"X-Organization": house.ours.slug})
    assert (await client.get(f"{house.theirs.base}/sessions", headers=crossed)).status_code == 404


async def test_a_path_without_an_organization_means_the_users_only_one(client: Any, house: House) -> None:
    path, pair = "/api/v2/dashboard/sessions/history", await signed_in(house)

    async def asked() -> Any:
        client.app.state.services.people.forget()
        return await client.get(path, headers=bearer(pair))

    await house.project()
    nowhere = await asked()
    assert (nowhere.status_code, nowhere.json()["error"]["details"]["field"]) == (422, "organization")
    await join(house, house.theirs, pair.user_id, "viewer")
    assert (await asked()).status_code == 200
    await join(house, house.ours, pair.user_id, "viewer")
    several = await asked()
    assert (several.status_code, several.json()["error"]["code"]) == (422, "validation_failed")
    named = await client.get(path, headers=bearer(pair, **{"X-Organization": house.ours.slug}))
    assert named.status_code == 200


async def test_a_login_that_ended_is_refused_at_once_and_for_good(client: Any, app: Any, house: House) -> None:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "viewer")
    services, path = app.state.services, f"{house.ours.base}/sessions"
    assert (await client.get(path, headers=bearer(pair))).status_code == 200
    await revoke_family(house.tools, pair.family_id, reason="logout", meta=Meta())
    services.people.end(pair.family_id)
    assert (await client.get(path, headers=bearer(pair))).status_code == 401
    await house.project()
    services.people.forget()
    services.people._ended.clear()
    refused = await client.get(path, headers=bearer(pair))
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_auth")


def forged(pair: Any, key: Any, kid: str, **changes: Any) -> str:
    claims = jwt.decode(pair.access_token, options={"verify_signature": False}) | changes
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": kid})


async def test_tokens_that_we_did_not_sign_as_they_are_do_not_work(client: Any, app: Any, house: House) -> None:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "owner")
    signer = await house.tools.tokens.keys.signer()
    own, head = Ed25519PrivateKey.generate(), jwt.get_unverified_header(pair.access_token)
    assert (head["alg"], head["kid"]) == ("EdDSA", signer.kid)
    hopeless = [
        forged(pair, own, signer.kid),
        forged(pair, own, "unknown"),
        forged(pair, signer.private_key, signer.kid, exp=int(time.time()) - 1),
        forged(pair, signer.private_key, signer.kid, iss="https://elsewhere.example"),
        forged(pair, signer.private_key, signer.kid, sub="nobody"),
        jwt.encode(jwt.decode(pair.access_token, options={"verify_signature": False}), None, algorithm="none"),
        pair.access_token[:-8] + "AAAAAAAA",
        "eyJ",
        "eyJ" + "a" * 5_000,
    ]
    for token in hopeless:
        answer = await client.get(f"{house.ours.base}/sessions", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, token
    assert (await client.get(f"{house.ours.base}/sessions", headers=bearer(pair))).status_code == 200


async def test_the_key_set_verifies_what_we_sign_with_a_library_of_others(
    client: Any, house: House, settings: Any
) -> None:
    assert (await client.get("/.well-known/jwks.json")).json() == {"keys": []}
    pair = await signed_in(house)
    client.app.state.services.tools.tokens.keys._read_at = None
    told = await client.get("/.well-known/jwks.json")
    kid = jwt.get_unverified_header(pair.access_token)["kid"]
    key = jwt.PyJWKSet.from_dict(told.json())[kid]
    claims = jwt.decode(pair.access_token, key.key, algorithms=["EdDSA"], issuer=public_url(settings))
    assert claims["sub"] == str(pair.user_id)
    assert claims["exp"] - claims["iat"] == 4 * 3600
    assert set(claims) == {"iss", "sub", "jti", "fam", "iat", "exp", "platform_role"}


async def test_rotation_logs_nobody_out_and_withdrawal_everybody(app: Any, client: Any, house: House) -> None:
    pair = await signed_in(house)
    tools = house.tools
    first = await tools.tokens.keys.signer()
    kid = await make_signing_key(house.store)
    assert kid is not None
    assert await make_signing_key(house.store) is None, "the next one is on its way already"
    tools.tokens.keys._read_at = None
    assert (await tools.tokens.keys.signer()).kid == first.kid, "not before every process has heard of it"
    assert {key["kid"] for key in (await tools.tokens.keys.jwks())["keys"]} == {first.kid, kid}
    assert (await tools.tokens.check(pair.access_token)).user_id == pair.user_id
    path = f"{house.ours.base}/sessions"
    assert (await client.get(path, headers=bearer(pair))).status_code == 404, "signed in, but no member"
    await withdraw_signing_key(house.store, first.kid)
    app.state.services.tools.tokens.keys._read_at = None
    assert (await client.get(path, headers=bearer(pair))).status_code == 401
    tools.tokens.keys._read_at = None
    again = await signed_in(house)  # although the next key does not sign yet
    assert (await tools.tokens.check(again.access_token)).user_id == again.user_id


async def test_the_private_half_of_a_signing_key_is_stored_sealed_and_never_shown(app: Any, house: House) -> None:
    await signed_in(house)
    signer = await house.tools.tokens.keys.signer()
    made = [one for one in await house.store.read_all(0, org_id=PLATFORM) if one.type == "signing_key.made.v1"]
    assert len(made) == 1
    assert b"sealed:1:" in made[0].data
    private = signer.private_key.private_bytes_raw()
    assert private not in made[0].data
    other = SigningKeys(house.store, house.ring)
    assert (await other.signer()).private_key.private_bytes_raw() == private


async def test_requests_with_the_cookie_need_the_sessions_csrf_token(client: Any, app: Any, house: House) -> None:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "admin")
    cookie = {"Cookie": f"{COOKIE}={pair.access_token}"}
    path, wish = f"{house.ours.base}/api_keys", {"label": "x", "scopes": ["read"]}
    assert (await client.get(path, headers=cookie)).status_code == 200
    assert (await client.post(path, headers=cookie, json=wish)).status_code == 403
    token = csrf_token(app.state.services.person_secret, str(pair.family_id))
    assert (await client.post(path, headers={**cookie, "X-CSRF-Token": token[:-1] + "x"}, json=wish)).status_code == 403
    assert (await client.post(path, headers={**cookie, "X-CSRF-Token": token}, json=wish)).status_code == 201
    assert (await client.post(path, headers=bearer(pair), json=wish)).status_code == 201, "bearers need none"
    await join(house, house.ours, pair.user_id, "viewer")
    app.state.services.people.forget()
    socket = {**cookie, "Host": "testserver"}
    assert knock(client, "/ws/x", {**socket, "Origin": "https://evil.example", "X-Organization": "default"}) == 403
    assert knock(client, "/ws/x", {**socket, "Origin": "https://testserver", "X-Organization": "default"}) == 101


async def test_a_page_with_scripts_learns_its_csrf_token_from_its_own_account(client: Any, house: House) -> None:
    pair = await signed_in(house)
    told = await client.get("/api/v1/auth/me", headers={"Cookie": f"{COOKIE}={pair.access_token}"})
    assert told.headers["x-csrf-token"] == csrf_token(client.app.state.services.person_secret, str(pair.family_id))
    assert "x-csrf-token" not in (await client.get("/api/v1/auth/me", headers=bearer(pair))).headers


async def test_however_many_ask_at_once_one_question_goes_out() -> None:
    asked, told, now = list[str](), asyncio.Event(), [0.0]

    async def ask(key: str) -> int:
        asked.append(key)
        await told.wait()
        return len(asked)

    known = Remembered[str, int](ask, 5.0, lambda: now[0])
    waiting = [asyncio.create_task(known.get("a")) for _ in range(10)]
    await asyncio.sleep(0)
    known.clear()
    later = asyncio.create_task(known.get("a"))
    await asyncio.sleep(0)
    told.set()
    assert await asyncio.gather(*waiting) == [2] * 10
    assert await later == 2
    assert asked == ["a", "a"], "what was asked before clearing is not remembered after it"
    assert await known.get("a") == 2
    now[0] = 5.0
    assert await known.get("a") == 3


async def test_deeds_are_attributed_to_the_user(client: Any, app: Any, house: House) -> None:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "admin")
    made = await client.post(
        f"{house.ours.base}/api_keys", headers=bearer(pair), json={"label": "mine", "scopes": ["read"]}
    )
    position = made.json()["position"]
    (recorded,) = await house.store.read_all(position - 1, 1)
    assert recorded.meta.actor == f"user:{pair.user_id}"
    assert msgspec.json.decode(recorded.data)["person_id"] == str(pair.user_id)
