"""Invitations over HTTP: mailed tokens, one acceptance whatever the crowd, and nothing of them to be read elsewhere."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from commands.invitations import invite
from commands.members import remove_member
from domain.invitations import decide
from domain.invitations.events import InvitationCreated, InvitationResent
from domain.kernel import Event, Sealed, Stream
from domain.organizations.events import MemberAdded
from eventstore.database import tenant
from eventstore.port import Append, NewEvent
from projections.base import Rows
from projections.invitations import INVITATIONS, PROJECTION
from tests.api.house import House
from tests.api.signing_in import bearer, join, signed_in
from tests.projections.test_members import operator, recorded
from workers.tenancy import expire_invitations, finish_joinings

CROWD = 100


async def mailed(house: House) -> list[str]:
    """The tokens that mails would tell, oldest first, opened as the mailer does."""
    found = await house.store.read_all(0, 5_000)
    tokens: list[str] = []
    for one in found:
        if isinstance(one.event, InvitationCreated | InvitationResent):
            [text] = await house.ring.open_many(one.org_id, [(one.type, one.event.token)])
            assert text is not None
            tokens.append(text)
    return tokens


async def test_from_invitation_to_membership(http: httpx.AsyncClient, house: House) -> None:
    path, admin = f"{house.ours.base}/members/invitations", house.ours.headers("all")
    wish = {"email": "Ann@Example.com ", "permission": "manager", "org_role": "junior"}
    headers = {**admin, "Idempotency-Key": "ann"}
    made = await http.post(path, headers=headers, json=wish)
    assert made.status_code == 201
    told = made.json()
    assert (told["email"], told["permission"], told["role"], told["org_role"], told["status"]) == (
        "ann@example.com", "manager", "manager", "junior", "pending",
    )  # fmt: skip
    again = await http.post(path, headers=headers, json=wish)
    assert (again.status_code, again.json()) == (201, told)
    differs = await http.post(path, headers=headers, json={**wish, "permission": "viewer"})
    assert (differs.status_code, differs.json()["error"]["details"]["field"]) == (409, "Idempotency-Key")
    twice = await http.post("/api/v1/organizations/default/members/invitations", headers=admin, json=wish)
    assert (twice.status_code, twice.json()["error"]["details"]["field"]) == (409, "email")
    [token] = await mailed(house)
    assert token not in made.text
    await house.project()
    listed = (await http.get(path, headers=admin)).json()
    assert (listed["items"], listed["total"]) == ([told], 1)
    shown = await http.get(f"/api/v1/invitations/{token}")
    assert (shown.status_code, shown.headers["cache-control"]) == (200, "no-store")
    assert {name: shown.json()[name] for name in ("organization", "slug", "email", "status", "permission")} == {
        "organization": "Default", "slug": "default", "email": "ann@example.com", "status": "pending", "permission": "manager",
    }  # fmt: skip
    assert (await http.post(shown.json()["_links"]["accept"])).status_code == 401
    assert (await http.post(shown.json()["_links"]["accept"], headers=admin)).status_code == 403, "a key is nobody"
    pair = await signed_in(house)
    await house.project()
    joined = await http.post(shown.json()["_links"]["accept"], headers=bearer(pair))
    assert joined.status_code == 200
    assert (joined.json()["user_id"], joined.json()["permission"], joined.json()["org_role"]) == (
        str(pair.user_id), "manager", "junior",
    )  # fmt: skip
    repeat = await http.post(shown.json()["_links"]["accept"], headers=bearer(pair))
    assert (repeat.status_code, repeat.json()) == (200, joined.json())
    await house.project()
    member = (await http.get(joined.json()["_links"]["self"], headers=admin)).json()
    assert (member["email"], member["permission"]) == ("ann@example.com", "manager")
    assert (await http.get(path, headers=admin)).json()["items"] == []
    every = (await http.get(path, headers=admin, params={"status": "all"})).json()
    assert [one["status"] for one in every["items"]] == ["accepted"]
    assert (await http.get(f"/api/v1/invitations/{token}")).json()["status"] == "accepted"
    fresh = await http.post(path, headers=admin, json=wish)
    assert fresh.status_code == 201, "the address is free for another one"


async def test_of_a_hundred_who_accept_at_once_one_becomes_a_member(http: httpx.AsyncClient, house: House) -> None:
    pairs = [await signed_in(house) for _ in range(CROWD)]
    await invite(house.store, operator(house.ours.org_id), "ann@example.com", secret=b"s")
    [token] = await mailed(house)
    await house.project()
    async with httpx.AsyncClient(base_url=http.base_url, timeout=60) as crowd:
        answers = await asyncio.gather(
            *(crowd.post(f"/api/v1/invitations/{token}/accept", headers=bearer(pair)) for pair in pairs)
        )
    won = [answer for answer in answers if answer.status_code == 200]
    assert len(won) == 1
    assert {answer.status_code for answer in answers} == {200, 409}
    added = [one.event for one in await house.store.read_all(0, 5_000) if isinstance(one.event, MemberAdded)]
    assert [str(event.user_id) for event in added] == [won[0].json()["user_id"]]


async def test_a_crowd_with_invitations_of_their_own_all_become_members(http: httpx.AsyncClient, house: House) -> None:
    pairs = [await signed_in(house) for _ in range(20)]
    for n in range(len(pairs)):
        await invite(house.store, operator(house.ours.org_id), f"p{n}@example.com", secret=b"s")
    tokens = await mailed(house)
    await house.project()
    answers = await asyncio.gather(
        *(
            http.post(f"/api/v1/invitations/{token}/accept", headers=bearer(pair))
            for token, pair in zip(tokens, pairs, strict=True)
        )
    )
    assert {answer.status_code for answer in answers} == {200}


async def test_a_resent_invitation_has_another_token(http: httpx.AsyncClient, house: House) -> None:
    path, admin = f"{house.ours.base}/members/invitations", house.ours.headers("all")
    made = (await http.post(path, headers=admin, json={"email": "ann@example.com"})).json()
    await house.project()
    resent = await http.post(made["_links"]["resend"], headers=admin)
    assert (resent.status_code, resent.json()["resends"], resent.json()["email"]) == (200, 1, "ann@example.com")
    first, second = await mailed(house)
    await house.project()
    assert (await http.get(f"/api/v1/invitations/{first}")).status_code == 404
    assert (await http.get(f"/api/v1/invitations/{made['invitation_id']}")).status_code == 404, "the id opens nothing"
    assert (await http.get(f"/api/v1/invitations/{second}")).status_code == 200
    by_token = await http.post(f"{path}/{second}/resend", headers=admin)
    assert by_token.json()["resends"] == 2
    await house.project()
    third = (await mailed(house))[-1]
    pair = await signed_in(house)
    await house.project()
    stale = await http.post(f"/api/v1/invitations/{second}/accept", headers=bearer(pair))
    assert stale.status_code == 404
    assert (await http.post(f"/api/v1/invitations/{third}/decline", headers=bearer(pair))).status_code == 204
    assert (await http.post(f"/api/v1/invitations/{third}/decline", headers=bearer(pair))).status_code == 204
    late = await http.post(f"/api/v1/invitations/{third}/accept", headers=bearer(pair))
    assert (late.status_code, late.json()["error"]["details"]["status"]) == (409, "declined")
    over = await http.post(made["_links"]["resend"], headers=admin)
    assert (over.status_code, over.json()["error"]["code"]) == (409, "conflict")


async def test_a_cancelled_invitation_opens_nothing(http: httpx.AsyncClient, house: House) -> None:
    path, admin = f"{house.ours.base}/members/invitations", house.ours.headers("all")
    made = (await http.post(path, headers=admin, json={"email": "ann@example.com"})).json()
    [token] = await mailed(house)
    for _ in range(2):
        assert (await http.delete(made["_links"]["self"], headers=admin)).status_code == 204
    await house.project()
    assert (await http.get(f"/api/v1/invitations/{token}")).json()["status"] == "cancelled"
    pair = await signed_in(house)
    await house.project()
    assert (await http.post(f"/api/v1/invitations/{token}/accept", headers=bearer(pair))).status_code == 409


async def test_who_was_removed_does_not_come_back_with_the_old_invitation(
    http: httpx.AsyncClient, house: House
) -> None:
    await invite(house.store, operator(house.ours.org_id), "ann@example.com", secret=b"s")
    [token] = await mailed(house)
    pair = await signed_in(house)
    await house.project()
    accept = f"/api/v1/invitations/{token}/accept"
    assert (await http.post(accept, headers=bearer(pair))).status_code == 200
    await remove_member(house.store, operator(house.ours.org_id), pair.user_id)
    await house.project()
    assert (await http.post(accept, headers=bearer(pair))).status_code == 404
    assert await finish_joinings(house.store.pool, house.store) == 0


@pytest.mark.parametrize(("since", "status"), [("removed", 409), ("developer", 409), ("manager", 409), ("owner", 200)])
async def test_an_invitation_is_worth_what_its_sender_could_give_now(
    http: httpx.AsyncClient, house: House, since: str, status: int
) -> None:
    path, sender, invited = f"{house.ours.base}/members/invitations", await signed_in(house), await signed_in(house)
    await join(house, house.ours, sender.user_id, "admin")
    wish = {"email": "ann@example.com", "permission": "admin"}
    made = await http.post(path, headers=bearer(sender), json=wish)
    assert made.status_code == 201
    [token] = await mailed(house)
    if since == "removed":
        await remove_member(house.store, operator(house.ours.org_id), sender.user_id)
        await house.project()
    else:
        await join(house, house.ours, sender.user_id, since)
    answer = await http.post(f"/api/v1/invitations/{token}/accept", headers=bearer(invited))
    assert answer.status_code == status
    if status == 200:
        return
    assert answer.json()["error"]["code"] == "conflict"
    assert (await http.get(f"/api/v1/invitations/{token}")).json()["status"] == "pending"
    again = await http.post(made.json()["_links"]["resend"], headers=house.ours.headers("all"))
    assert again.status_code == 200, "whoever can give it takes it over"
    await house.project()
    token = (await mailed(house))[-1]
    assert (await http.post(f"/api/v1/invitations/{token}/accept", headers=bearer(invited))).status_code == 200


async def test_a_member_needs_no_invitation(http: httpx.AsyncClient, house: House) -> None:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "viewer")
    await invite(house.store, operator(house.ours.org_id), "ann@example.com", secret=b"s", permission="admin")
    [token] = await mailed(house)
    await house.project()
    answer = await http.post(f"/api/v1/invitations/{token}/accept", headers=bearer(pair))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert (await http.get(f"/api/v1/invitations/{token}")).json()["status"] == "pending"


@pytest.mark.parametrize(
    ("who", "body", "status", "field"),
    [
        ("manager", {"email": "x@example.com", "permission": "admin"}, 403, None),
        ("manager", {"email": "x@example.com", "role": "admin"}, 403, None),
        ("developer", {"email": "x@example.com"}, 403, None),
        ("manager", {"email": "nobody"}, 422, "email"),
        ("manager", {"email": "x@example.com", "org_role": "wizard"}, 422, "org_role"),
        ("manager", {}, 400, "$.email"),
    ],
)
async def test_who_may_invite_whom(
    http: httpx.AsyncClient, house: House, who: str, body: Any, status: int, field: str | None
) -> None:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, who)
    answer = await http.post(f"{house.ours.base}/members/invitations", headers=bearer(pair), json=body)
    assert answer.status_code == status
    assert field is None or answer.json()["error"]["details"]["field"] == field


async def test_a_manager_cannot_resend_or_cancel_what_an_owner_offered(http: httpx.AsyncClient, house: House) -> None:
    named, _ = await invite(house.store, operator(house.ours.org_id), "a@example.com", secret=b"s", permission="owner")
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "manager")
    path = f"{house.ours.base}/members/invitations/{named}"
    assert (await http.post(f"{path}/resend", headers=bearer(pair))).status_code == 403
    assert (await http.delete(path, headers=bearer(pair))).status_code == 403


async def test_neither_tokens_nor_addresses_can_be_read_in_the_log_or_by_others(
    http: httpx.AsyncClient, house: House
) -> None:
    await invite(house.store, operator(house.ours.org_id), "ann@example.com", secret=b"s")
    [token] = await mailed(house)
    await house.project()
    for one in await house.store.read_all(0, 1_000):
        text = one.data.decode() + str(one.stream) + msgspec.json.encode(one.meta).decode()
        assert token not in text
        assert "ann@example.com" not in text
    for kind in ("events", "audit_logs"):
        history = await http.get(f"{house.ours.base}/{kind}", headers=house.ours.headers("audit"))
        assert history.status_code == 200
        assert token not in history.text
    pool = house.store.pool
    api = await tenant_rows(house, http)
    assert api == []
    assert await pool.fetchval("SELECT count(*) FROM crewkit.invitation") == 1


async def tenant_rows(house: House, http: httpx.AsyncClient) -> list[Any]:
    """What another tenant sees of invitations, even when the query forgets the tenant."""
    from eventstore.database import API_ROLE, connect_pool  # noqa: PLC0415

    pool = await connect_pool(house.settings.database_url or "", API_ROLE, max_size=1)
    try:
        async with tenant(pool, house.theirs.org_id) as connection:
            return list(await connection.fetch("SELECT * FROM crewkit.invitation"))
    finally:
        await pool.close()


async def test_time_and_broken_off_joinings_are_looked_after(http: httpx.AsyncClient, house: House) -> None:
    org, pool = house.ours.org_id, house.store.pool
    past = datetime.now(UTC) - timedelta(days=8)
    await tell(house, "0" * 64, past)
    await tell(house, "1" * 64, past, accepted_by=UUID(int=77))
    await house.project()
    shown = (await http.get(f"{house.ours.base}/members/invitations", headers=house.ours.headers("all"))).json()
    assert shown["items"] == [], "over, although nobody has noted it"
    assert await expire_invitations(pool, house.store) == 1
    assert await finish_joinings(pool, house.store) == 1
    await house.project()
    assert await expire_invitations(pool, house.store) == 0
    assert await finish_joinings(pool, house.store) == 0
    rows = await pool.fetch(
        "SELECT status, joined_at IS NOT NULL AS joined FROM crewkit.invitation ORDER BY invitation_id"
    )
    assert [tuple(row) for row in rows] == [("expired", False), ("accepted", True)]
    member = await pool.fetchrow(
        "SELECT permission FROM crewkit.member WHERE org_id = $1 AND user_id = $2", org, UUID(int=77)
    )
    assert member is not None


async def tell(house: House, invitation_id: str, at: datetime, accepted_by: UUID | None = None) -> None:
    """Put an invitation of long ago into the log."""
    email, token = Sealed(UUID(int=5), "old@example.com"), Sealed(UUID(int=5), "t")
    told: list[Event] = decide.create(
        decide.NO_INVITATION,
        invitation_id=invitation_id,
        permission="viewer",
        org_role="gone by now",
        organization_name="Default",
        email=email,
        token=token,
        invited_by=None,
        at=at,
    )
    if accepted_by is not None:
        state = decide.evolve(decide.NO_INVITATION, told[0])
        told += decide.accept(state, token_sha256=invitation_id, user_id=accepted_by, at=at)
    wish = Append(
        org_id=house.ours.org_id,
        stream=Stream("Invitation", invitation_id),
        events=[NewEvent(event) for event in told],
        expected=0,
    )
    await house.store.append(wish)


def test_folding_twice_changes_nothing() -> None:
    story = [recorded(n, event) for n, event in enumerate(STORY, 1)]
    for length in range(1, len(story) + 1):
        once, again = Rows(), Rows()
        for one in story[:length]:
            PROJECTION.fold(once, one)
            PROJECTION.fold(again, one)
            PROJECTION.fold(again, one)
            assert {(t.name, k) for t, k in PROJECTION.touches(one)} >= {
                (INVITATIONS.name, INVITATIONS.key_of(row)) for row in again.dirty(INVITATIONS)
            }
        assert list(once.all(INVITATIONS)) == list(again.all(INVITATIONS))


def _story() -> list[Event]:
    from tests.domain.test_invitations import ACCEPTED, CREATED, resent  # noqa: PLC0415

    joined = MemberAdded(
        user_id=UUID(int=1), permission="viewer", org_role="senior", invitation_id="a" * 64, added_at=CREATED.created_at
    )
    return [CREATED, resent(CREATED.created_at + timedelta(days=1)), ACCEPTED, joined]


STORY = _story()
