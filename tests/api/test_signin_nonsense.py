"""Whatever strangers send to the ways of signing in is answered, and never breaks them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from api import permissions
from eventstore.settings import Settings
from tests.api.house import House
from tests.api.signing_in import bearer, signed_in

TEXTS = (
    "",
    " ",
    "\x00",
    "a\x00@b.c",
    "x" * 5_000,
    "\u202e",
    "'; DROP TABLE",
    "\U0001f600" * 300,
    "ada@example.com",
    "rt_" + "0" * 32,
)
FIELDS = (
    "email",
    "password",
    "name",
    "token",
    "new_password",
    "current_password",
    "refresh_token",
    "device_code",
    "client_id",
    "grant_type",
    "user_code",
    "locale",
    "timezone",
    "challenge_id",
)
CREDENTIALS: tuple[Any, ...] = (
    {},
    {"id": 1},
    {"id": "AAAA", "rawId": "AAAA", "type": "public-key", "response": {}},
    {"id": "AAAA", "rawId": "AAAA", "type": "public-key", "response": {"userHandle": "AAAA", "clientDataJSON": "e30"}},
    {"id": "AAAA", "response": {"userHandle": "AAAAAAAAAAAAAAAAAAAAAA", "clientDataJSON": 5, "attestationObject": []}},
    {"id": "AAAA", "response": {"userHandle": "A" * 10_000, "transports": [{}], "attestationObject": "o2Nm"}},
    {"id": None, "response": None},
)
BODIES: tuple[bytes, ...] = (b"", b"{", b"[]", b"null", b"1", b"\xff\xfe", b'{"email": 5}', b'"x"', b"[" * 2_000)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, sign_ins_per_min=0)


ROUTES = sorted(path for method, path in permissions.TABLE if method == "POST" and path.startswith("/api/v1/auth/"))


@pytest.mark.parametrize("route", [path for path in ROUTES if "{" not in path])
async def test_nonsense_is_answered(http: Any, house: House, route: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("api.visits.LEVEL_S", 0.0)
    headers = bearer(await signed_in(house))
    await house.project()
    broken: list[tuple[Any, int]] = []
    for body in BODIES:
        answer = await http.post(route, content=body, headers=headers | {"Content-Type": "application/json"})
        if answer.status_code >= 500:
            broken.append((body[:50], answer.status_code))
    schema = await fields_of(http, route)
    for field in schema & set(FIELDS):
        for text in TEXTS:
            wish = dict.fromkeys(schema & set(FIELDS), "some text of some length") | {field: text}
            if "challenge_id" in schema:
                wish |= {"challenge_id": "00000000-0000-4000-8000-000000000000", "credential": {}} | {field: text}
            answer = await http.post(route, json=wish, headers=headers)
            if answer.status_code >= 500:
                broken.append(((field, text[:20]), answer.status_code))
    assert broken == []


async def fields_of(http: Any, route: str) -> set[str]:
    document = (await http.get("/docs/openapi.json")).json()
    body = document["paths"][route]["post"].get("requestBody", {})
    return set(body.get("content", {}).get("application/json", {}).get("schema", {}).get("properties", {}))


@pytest.mark.parametrize("purpose", ["login", "register"])
async def test_nonsense_from_an_authenticator_uses_the_challenge_up_and_opens_nothing(
    http: Any, house: House, purpose: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("api.visits.LEVEL_S", 0.0)
    headers = bearer(await signed_in(house))
    path = f"/api/v1/auth/passkey/{purpose}"
    for credential in CREDENTIALS:
        made = (await http.post(f"{path}/challenge", headers=headers)).json()
        wish = {"challenge_id": made["challenge_id"], "credential": credential}
        first = await http.post(path, json=wish, headers=headers)
        assert first.status_code in {401, 422}, (credential, first.text)
        again = await http.post(path, json=wish, headers=headers)
        assert again.status_code == 401, "a challenge is answered once"
