"""Pages: their headers, forms that only they can send, and sessions in cookies."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from api.app import create_app
from api.people import BROWSER_COOKIE, COOKIE
from eventstore.settings import Settings
from tests.api.house import House, serving
from tests.api.signing_in import PASSWORD, registered, told_in
from tests.api.test_invitations import mailed

ADA = "ada@example.com"
FORM = re.compile(r'name="csrf_token" value="([0-9a-f]{64})"')


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, sign_ins_per_min=0)


async def token(http: Any, path: str) -> str:
    found = FORM.search((await http.get(path)).text)
    assert found, path
    return found[1]


async def post(http: Any, path: str, shown: str | None = None, **fields: str) -> Any:
    return await http.post(path, data={"csrf_token": await token(http, shown or path), **fields})


async def sign_in(http: Any, **fields: str) -> Any:
    return await post(http, "/login", email=ADA, password=PASSWORD, **fields)


@pytest.mark.parametrize(
    "path",
    ["/login", "/login/forgot", "/login/register", "/login/reset?token=x", "/login/magic?token=x", "/login/verify"],
)
async def test_every_page_is_strict_about_what_it_loads_and_tells(http: Any, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]*src)|<style| style=| on[a-z]+=", answer.text), "nothing inline"
    for asset in re.findall(r'(?:src|href)="(/assets/[^"]+)"', answer.text):
        assert (await http.get(asset)).status_code == 200
    assert (await http.get("/assets/..%2Fpages.css")).status_code == 404


async def test_a_password_opens_a_session_that_leads_on(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    first = await http.get("/device?user_code=BCDF-GHJK")
    assert (first.status_code, first.headers["location"]) == (303, "/login?next=/device%3Fuser_code%3DBCDF-GHJK")
    opened = await sign_in(http, next="/device?user_code=BCDF-GHJK")
    assert (opened.status_code, opened.headers["location"]) == (303, "/device?user_code=BCDF-GHJK")
    cookie = next(line for line in opened.headers.get_list("set-cookie") if line.startswith(COOKIE))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert (await http.get("/passkeys")).status_code == 200
    assert (await http.get("/login")).status_code == 303, "already signed in"
    gone = await post(http, "/logout", "/passkeys")
    assert gone.status_code == 303
    assert (await http.get("/passkeys")).status_code == 303


@pytest.mark.parametrize("path", ["https://evil.example/", "//evil.example", "/\\evil.example", "/api/v1/auth/me", ""])
async def test_a_login_leads_nowhere_else(http: Any, house: House, path: str) -> None:
    await registered(http, house, ADA)
    assert (await sign_in(http, next=path)).headers["location"] == "/passkeys"


async def test_a_login_by_mail_leads_on_as_well(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    page = "/invitation?token=abc"
    await post(http, "/login/link", f"/login?next={quote(page, safe='')}", email=ADA)
    secret = await told_in(house, "magic_link.requested.v1")
    shown = await http.get("/login")
    assert f'name="next" value="{page}"' in shown.text, "also after a detour, by way of opening an account"
    opened = await post(http, "/login/magic", f"/login/magic?token={secret}", token=secret)
    assert (opened.status_code, opened.headers["location"]) == (303, page)
    await post(http, "/logout", "/passkeys")
    assert 'name="next" value="/passkeys"' in (await http.get("/login")).text, "it is not remembered for ever"


async def test_a_planted_way_on_leads_nowhere(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    http.cookies.set("crewkit_next", "https%3A%2F%2Fevil.example%2F")
    assert 'name="next" value="/passkeys"' in (await http.get("/login")).text


async def test_a_wrong_password_shows_the_form_again(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    refused = await post(http, "/login", email='a"><script>@example.com', password="wrong wrong wrong")
    assert refused.status_code in {401, 422}
    assert "<script>" not in refused.text
    assert 'role="alert"' in refused.text
    assert COOKIE not in refused.headers.get("set-cookie", "")


async def test_forms_of_other_sites_are_refused(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    mine = await token(http, "/login")
    for told in ("", "0" * 64, mine[:-1] + ("0" if mine[-1] != "0" else "1")):
        refused = await http.post("/login", data={"email": ADA, "password": PASSWORD, "csrf_token": told})
        assert refused.status_code == 403
    odd = await http.post("/login", data={"email": ADA, "password": PASSWORD, "csrf_token": "\u00e9" * 64})
    assert odd.status_code == 403
    http.cookies.set(BROWSER_COOKIE, "an attacker planted this one")
    assert (await http.post("/login", data={"csrf_token": mine})).status_code == 403
    assert (await http.post("/logout")).status_code == 415
    assert (
        await http.post("/login", content=b"x" * 70_000, headers={"Content-Type": "application/x-www-form-urlencoded"})
    ).status_code == 413


async def test_mails_lead_to_pages_that_ask_before_they_act(http: Any, house: House) -> None:
    await registered(http, house, ADA, verified=False)
    secret = await told_in(house, "user.registered.v1")
    assert "user.email_verified.v1" not in [one.type for one in await house.store.read_all(0)]
    done = await post(http, "/login/verify", f"/login/verify?token={secret}", token=secret)
    assert "verified" in done.text
    await post(http, "/login/link", "/login", email=ADA)
    secret = await told_in(house, "magic_link.requested.v1")
    await http.get(f"/login/magic?token={secret}")
    opened = await post(http, "/login/magic", f"/login/magic?token={secret}", token=secret)
    assert opened.status_code == 303
    assert (await http.get("/passkeys")).status_code == 200
    again = await http.post("/login/magic", data={"csrf_token": await token(http, "/passkeys"), "token": secret})
    assert again.status_code == 401
    http.cookies.clear()
    await post(http, "/login/forgot", email=ADA)
    secret = await told_in(house, "password_reset.requested.v1")
    short = await post(http, "/login/reset", f"/login/reset?token={secret}", token=secret, password="short")
    assert short.status_code == 422
    done = await post(
        http, "/login/reset", f"/login/reset?token={secret}", token=secret, password="another fine password"
    )
    assert done.status_code == 200


async def test_registering_on_the_page_tells_nothing_either(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    known = await post(http, "/login/register", email=ADA, password=PASSWORD, name="")
    new = await post(http, "/login/register", email="new@example.com", password=PASSWORD, name="New")
    assert known.status_code == new.status_code == 200
    assert known.text == new.text


async def test_a_device_is_decided_about_on_its_page(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    told = (await http.post("/api/v1/auth/device", json={"client_id": "<b>laptop</b>"})).json()
    await house.project()
    await sign_in(http)
    assert (await http.get("/device?user_code=BBBB-BBBB")).status_code == 404
    asked = await http.get("/device", params={"user_code": told["user_code"].lower()})
    assert "&lt;b&gt;laptop" in asked.text
    csrf = FORM.findall(asked.text)[-1]
    fields = {"csrf_token": csrf, "user_code": told["user_code"], "decision": "deny"}
    assert "stays out" in (await http.post("/device", data=fields)).text
    answer = await http.post("/api/v1/auth/token", json={"device_code": told["device_code"]})
    assert answer.json()["error"]["code"] == "access_denied"


async def test_cookies_are_secure_where_the_site_is(settings: Settings, house: House) -> None:
    used = msgspec.structs.replace(settings, public_url="https://crewkit.example")
    async with serving(create_app(used)) as live, httpx.AsyncClient(base_url=live.url) as http:
        answer = await http.get("/login")
    assert "Secure" in answer.headers["set-cookie"]


async def test_the_mail_of_an_invitation_leads_to_membership(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    path = f"{house.ours.base}/members/invitations"
    wish = {"email": ADA, "permission": "manager", "org_role": "junior"}
    assert (await http.post(path, headers=house.ours.headers("all"), json=wish)).status_code == 201
    await house.project()
    [secret] = await mailed(house)
    page = f"/invitation?token={secret}"
    shown = await http.get(page)
    assert shown.status_code == 200
    assert "<strong>manager</strong>" in shown.text
    assert "<form" not in shown.text
    signed_out = await http.post("/invitation", data={"token": secret})
    assert (signed_out.status_code, signed_out.headers["location"]) == (
        303,
        f"/login?next=%2Finvitation%3Ftoken%3D{secret}",
    )
    opened = await sign_in(http, next=page)
    assert opened.headers["location"] == page
    foreign = await http.post("/invitation", data={"token": secret, "decision": "accept", "csrf_token": "0" * 64})
    assert foreign.status_code == 403
    joined = await post(http, "/invitation", page, token=secret, decision="accept")
    assert (joined.status_code, "You belong to Default" in joined.text) == (200, True)
    await house.project()
    assert "not open any more" in (await http.get(page)).text
    members = (await http.get(f"{house.ours.base}/members", headers=house.ours.headers("all"))).json()
    assert ("manager", "Ada") in {(one["permission"], one["name"]) for one in members["items"]}


async def test_an_invitation_can_be_declined_and_an_unknown_one_is_not_found(http: Any, house: House) -> None:
    await registered(http, house, ADA)
    wish = {"email": ADA, "permission": "viewer", "org_role": "junior"}
    await http.post(f"{house.ours.base}/members/invitations", headers=house.ours.headers("all"), json=wish)
    await house.project()
    [secret] = await mailed(house)
    await sign_in(http)
    page = f"/invitation?token={secret}"
    declined = await post(http, "/invitation", page, token=secret, decision="decline")
    assert "You declined" in declined.text
    again = await post(http, "/invitation", "/passkeys", token=secret, decision="accept")
    assert again.status_code == 409
    for token in ("x", "", "y" * 90):
        assert (await http.get(f"/invitation?token={token}")).status_code == 404
