"""A user's own data: taken along as one archive, and erased with the account, in every organization they ever were in."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from litestar import Litestar

from commands import erasure
from commands.erasure import Eraser, erase_user
from commands.members import remove_member
from commands.sessions.facts import person_id_of
from domain.erasure.decide import erasure_id_of, erasure_stream
from domain.kernel import PLATFORM
from domain.proof.note import parse_key, parse_signed
from domain.tokens.events import TokenFamilyOpened
from eventstore.port import Meta
from eventstore.proof import Signer, is_signed_by
from eventstore.sealing import load_or_create_master_key, person_secret
from tests.api.house import House, Place, body, hook
from tests.api.signing_in import bearer, carrying, join, logged_in, registered, signed_in
from tests.api.test_data_exports import tools_of, written
from tests.api.test_erasure import dark, tables
from workers.scheduler import finish_erasures

MAIL = "zqcanary@example.com"


async def member(http: Any, house: House) -> tuple[UUID, dict[str, str]]:
    """A user who is in one organization, and was in another."""
    await registered(http, house, MAIL)
    headers = carrying(await logged_in(http, MAIL))
    me = UUID((await http.get("/api/v1/auth/me", headers=headers)).json()["user_id"])
    for place in (house.ours, house.theirs):
        await join(house, place, me, "developer")
        payload = {"payload": hook(f"of-{place.slug}", prompt="zqcanary speaks"), "id": place.slug}
        for sender, events in (
            (headers, [payload]),
            (place.headers(), [{**payload, "id": f"{place.slug} 2", "user": {"email": MAIL, "name": "Zqcanary"}}]),
        ):
            answer = await http.post(
                f"{place.base}/observability/events", headers=sender, content=body({"events": events})
            )
            assert answer.status_code == 202, answer.text
    owner = principal_in(house, house.theirs)
    await remove_member(house.store, owner, me)
    await house.project()
    return me, headers


def principal_in(house: House, place: Place) -> Any:
    from commands.bus import Principal  # noqa: PLC0415

    return Principal(actor="system:test", org_id=place.org_id, person_id=place.owner_id, scopes=frozenset())


async def test_a_user_takes_everything_along_once_it_is_written(http: httpx.AsyncClient, house: House) -> None:
    me, headers = await member(http, house)
    asked = await http.post("/api/v1/auth/me/export", headers=headers)
    assert asked.status_code == 202, asked.text
    assert int(asked.headers["crewkit-position"]) == await house.store.head()
    path = asked.headers["location"]
    waiting = await http.get(path, headers=headers)
    assert (waiting.status_code, waiting.json()["status"]) == (202, "requested")
    assert (await http.post("/api/v1/auth/me/export", headers=headers)).status_code == 409
    await written(house)
    answer = await http.get(path, headers=headers)
    assert answer.headers["content-type"] == "application/zip"
    file = zipfile.ZipFile(io.BytesIO(answer.content))
    places = (PLATFORM, house.ours.org_id, house.theirs.org_id)
    assert {f"events/{org}.jsonl" for org in places} <= set(file.namelist())
    for place in (house.ours, house.theirs):
        events = [json.loads(line) for line in file.read(f"events/{place.org_id}.jsonl").splitlines()]
        prompts = [one for one in events if one["type"] == "hook.recorded.v1"]
        assert len(prompts) == 2  # told with the user's token, and told by their e-mail
        assert all("zqcanary speaks" in json.dumps(one) for one in prompts)
    account = file.read(f"events/{PLATFORM}.jsonl").decode()
    assert MAIL in account
    assert "$argon2" not in account
    assert json.loads(file.read("person.json"))["emails"] == [MAIL]
    # Nobody else's business, whoever they are.
    other = bearer(await signed_in(house))
    await house.project()
    assert (await http.get(path, headers=other)).status_code == 404
    assert (await http.get(path, headers=house.ours.headers())).status_code == 403
    assert (await http.get(f"/api/v1/auth/me/export/{me}", headers=headers)).status_code == 404


async def test_what_happened_to_ones_logins_is_told_also_where_no_event_names_one(
    http: httpx.AsyncClient, house: House
) -> None:
    """A rotated refresh token and an attempt to sign in name a family and a hash, not the user."""
    me, headers = await member(http, house)
    pair = await logged_in(http, MAIL)
    renewed = await http.post("/api/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]})
    assert renewed.status_code == 200, renewed.text
    stranger = await registered_stranger(http, house)
    await house.project()
    asked = await http.post("/api/v1/auth/me/export", headers=headers)
    await written(house)
    answer = await http.get(asked.headers["location"], headers=headers)
    file = zipfile.ZipFile(io.BytesIO(answer.content))
    told = [json.loads(line) for line in file.read(f"events/{PLATFORM}.jsonl").splitlines()]
    kinds = {one["type"] for one in told}
    assert {"token_family.opened.v1", "refresh_token.rotated.v1", "sign_in.attempted.v1"} <= kinds
    stored = await house.store.read_all(0, 1_000, org_id=PLATFORM)
    families = {
        one.event.family_id for one in stored if isinstance(one.event, TokenFamilyOpened) and one.event.user_id == me
    }
    rotated = [one for one in told if one["type"] == "refresh_token.rotated.v1"]
    assert {one["stream"] for one in rotated} <= {f"TokenFamily:{one}" for one in families}
    assert len(rotated) == 1
    assert stranger not in json.dumps(told)


async def registered_stranger(http: httpx.AsyncClient, house: House) -> str:
    """Somebody else who signs in and renews; their id."""
    await registered(http, house, "stranger@example.com")
    pair = await logged_in(http, "stranger@example.com")
    await http.post("/api/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]})
    return str(pair["user_id"])


async def test_closing_the_account_erases_its_user_everywhere(http: httpx.AsyncClient, house: House) -> None:
    me, headers = await member(http, house)
    assert dark({"me": (await http.get("/api/v1/auth/me", headers=headers)).text})
    answer = await http.delete("/api/v1/auth/me", headers=headers)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    text, signatures = parse_signed(told["note"])
    assert is_signed_by(parse_key(told["public_key"]), text, signatures)
    assert dark({"certificate": answer.text}) == []
    await house.project()
    assert dark(await tables(house)) == []
    (certificate,) = [
        one.event
        for one in await house.store.read_stream(PLATFORM, erasure_stream(erasure_id_of(PLATFORM, me)))
        if one.type == "erasure.certified.v1"
    ]
    assert told["note"] == certificate.note  # type: ignore[attr-defined]
    secret = secret_of(house)
    wanted = {(PLATFORM, me)}
    for place in (house.ours, house.theirs):
        wanted |= {(place.org_id, me), (place.org_id, person_id_of(secret, place.org_id, MAIL))}
    assert {(one.org_id, one.subject) for one in certificate.subjects} == wanted  # type: ignore[attr-defined]
    assert (await http.get("/api/v1/auth/me", headers=headers)).status_code == 401
    again = await http.post("/api/v1/auth/register", json={"email": MAIL, "password": "correct horse battery staple"})
    assert again.status_code == 202  # the address is free
    await house.project()


async def test_an_account_that_cannot_be_closed_keeps_every_membership(http: httpx.AsyncClient, house: House) -> None:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "owner")  # beside the founder
    alone = await http.post("/api/v1/organizations", headers=bearer(pair), json={"slug": "zoo", "name": "Zoo"})
    assert alone.status_code == 201
    await house.project()
    refused = await http.delete("/api/v1/auth/me", headers=bearer(pair))
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert refused.json()["error"]["details"] == {"organization_id": alone.json()["organization_id"]}
    await house.project()
    mine = (await http.get("/api/v1/auth/organizations", headers=bearer(pair))).json()["items"]
    assert [(one["slug"], one["permission"]) for one in mine] == [("default", "owner"), ("zoo", "owner")]
    second = await http.get("/api/v1/auth/organizations?page=2&page_size=1", headers=bearer(pair))
    assert ([one["slug"] for one in second.json()["items"]], second.json()["total"]) == (["zoo"], 2)
    assert second.json()["_links"].keys() == {"self", "prev"}
    assert await house.store.find(house.ours.org_id, type="member.removed.v1") == []
    gone = await http.delete("/api/v1/organizations/zoo", headers=bearer(pair), params={"confirm": "zoo"})
    assert gone.status_code == 204
    await house.project()
    assert (await http.delete("/api/v1/auth/me", headers=bearer(pair))).status_code == 200


async def test_an_organization_whose_owner_closed_their_account_is_restored_for_a_new_one(
    app: Litestar, http: httpx.AsyncClient, house: House
) -> None:
    old, staff = await signed_in(house), await signed_in(house, platform_role="crewkit_staff")
    new, closed = await signed_in(house), await signed_in(house)
    zoo = {"slug": "zoo", "name": "Zoo"}
    assert (await http.post("/api/v1/organizations", headers=bearer(old), json=zoo)).status_code == 201
    await house.project()
    gone = await http.delete("/api/v1/organizations/zoo", headers=bearer(old), params={"confirm": "zoo"})
    assert gone.status_code == 204
    await house.project()
    for pair in (old, closed):
        assert (await http.delete("/api/v1/auth/me", headers=bearer(pair))).status_code == 200
        await house.project()
    path, headers = "/api/v1/admin/organizations/zoo/restore", bearer(staff, **{"X-Reason": "asked by the customer"})
    refused = await http.post(path, headers=headers)
    assert (refused.status_code, refused.json()["error"]["details"]) == (409, {"field": "owner_id"})
    for nobody in (closed.user_id, old.user_id, UUID(int=9)):
        odd = await http.post(path, headers=headers, json={"owner_id": str(nobody)})
        assert (odd.status_code, odd.json()["error"]["details"]) == (422, {"field": "owner_id"})
    restored = await http.post(path, headers=headers, json={"owner_id": str(new.user_id)})
    assert restored.status_code == 200
    await house.project()
    app.state.services.people.forget()
    members = (await http.get("/api/v1/zoo/members", headers=bearer(new))).json()["items"]
    assert [(one["user_id"], one["permission"], one["email"]) for one in members] == [
        (str(new.user_id), "owner", f"{new.user_id.hex}@example.com")
    ]


def secret_of(house: House) -> bytes:
    """What the application keys the ids of people with."""
    return person_secret(load_or_create_master_key(Path(house.settings.key_file or "")))


async def test_an_organization_that_only_heard_of_the_address_is_one_of_them(
    http: httpx.AsyncClient, house: House
) -> None:
    await registered(http, house, MAIL)
    headers = carrying(await logged_in(http, MAIL))
    events = [{"payload": hook("s", prompt="zqcanary speaks"), "id": "1", "user": {"email": MAIL, "name": "Zqcanary"}}]
    path = f"{house.theirs.base}/observability/events"
    await http.post(path, headers=house.theirs.headers(), content=body({"events": events}))
    await house.project()
    assert (await http.post("/api/v1/auth/me/export", headers=headers)).status_code == 202
    await written(house)
    assert (await http.delete("/api/v1/auth/me", headers=headers)).status_code == 200
    await house.project()
    assert dark(await tables(house)) == []


async def test_an_address_that_nobody_proved_to_own_opens_and_erases_nothing(
    http: httpx.AsyncClient, house: House
) -> None:
    """Somebody registers with Ada's address, to read or to destroy what others told about her."""
    events = [{"payload": hook("s", prompt="zqcanary speaks"), "id": "1", "user": {"email": MAIL, "name": "Zqcanary"}}]
    path = f"{house.ours.base}/observability/events"
    await http.post(path, headers=house.ours.headers(), content=body({"events": events}))
    await house.project()
    thief = await signed_in(house, email=MAIL)
    await house.project()
    headers = bearer(thief)
    asked = await http.post("/api/v1/auth/me/export", headers=headers)
    assert asked.status_code == 202, asked.text
    await written(house)
    answer = await http.get(asked.headers["location"], headers=headers)
    assert f"events/{house.ours.org_id}.jsonl" not in zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert (await http.delete("/api/v1/auth/me", headers=headers)).status_code == 200
    shown = await http.get(f"{house.ours.base}/events?type=hook.recorded.v1", headers=house.ours.headers())
    assert "zqcanary speaks" in shown.text


async def test_an_account_whose_closing_was_cut_off_is_closed_by_the_scheduler(
    http: httpx.AsyncClient, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    me, headers = await member(http, house)

    class CutOffError(Exception):
        """The process was killed here."""

    async def killed(*_: Any, **__: Any) -> None:
        raise CutOffError

    with monkeypatch.context() as patched:
        patched.setattr(erasure, "finish", killed)
        eraser = Eraser(house.store, house.store.pool, house.ring, Signer(b"m" * 32, "crewkit/test"))
        with pytest.raises(CutOffError):
            await erase_user(
                eraser,
                me,
                emails=[MAIL],
                organizations=[house.ours.org_id, house.theirs.org_id],
                secret=secret_of(house),
                reason="subject_request",
                meta=Meta(actor=f"user:{me}"),
            )
    assert (await http.get("/api/v1/auth/me", headers=headers)).status_code == 200
    await house.project()
    assert await finish_erasures(tools_of(house)) == 1
    await house.project()
    assert dark(await tables(house)) == []
    status = await house.store.pool.fetchval("SELECT status FROM crewkit.user_account WHERE user_id = $1", me)
    assert status == "deleted"
