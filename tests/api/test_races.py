"""Many at once: an owner always stays, a name has one holder, a wish is granted once, and the past has a time."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx

from commands.tokens import Pair
from tests.api.house import House
from tests.api.signing_in import bearer, join, signed_in

CROWD = 20


async def owners(house: House, count: int) -> list[Pair]:
    pairs = [await signed_in(house) for _ in range(count)]
    for pair in pairs:
        await join(house, house.ours, pair.user_id, "owner")
    return pairs


async def insisted(wish: Any) -> httpx.Response:
    """Whoever is told that others were faster tries again, as clients do."""
    while True:
        answer: httpx.Response = await wish()
        if answer.status_code != 409 or "try again" not in answer.json()["message"]:
            return answer


async def test_when_all_owners_leave_at_once_one_stays(http: httpx.AsyncClient, house: House) -> None:
    pairs = await owners(house, 8)
    members = f"{house.ours.base}/members"
    await http.delete(f"{members}/{house.ours.owner_id}", headers=bearer(pairs[0]))
    answers = await asyncio.gather(
        *(insisted(lambda pair=pair: http.delete(f"{members}/{pair.user_id}", headers=bearer(pair))) for pair in pairs)
    )
    assert sorted(answer.status_code for answer in answers) == [204] * 7 + [409]
    await house.project()
    left = await house.store.pool.fetch(
        "SELECT permission FROM crewkit.member WHERE org_id = $1 AND removed_at IS NULL", house.ours.org_id
    )
    assert [row["permission"] for row in left] == ["owner"]


async def test_of_two_owners_who_demote_each_other_one_stays(http: httpx.AsyncClient, house: House) -> None:
    one, other = await owners(house, 2)
    members, down = f"{house.ours.base}/members", {"permission": "viewer"}
    await http.delete(f"{members}/{house.ours.owner_id}", headers=bearer(one))
    answers = await asyncio.gather(
        http.patch(f"{members}/{other.user_id}", headers=bearer(one), json=down),
        http.patch(f"{members}/{one.user_id}", headers=bearer(other), json=down),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 403], "the slower one is no owner any more"


async def test_a_slug_is_given_to_one_of_a_crowd(http: httpx.AsyncClient, house: House) -> None:
    pairs = [await signed_in(house) for _ in range(CROWD)]
    wish = {"name": "Acme", "slug": "acme"}
    founded = await asyncio.gather(
        *(http.post("/api/v1/organizations", headers=bearer(pair), json=wish) for pair in pairs)
    )
    assert sorted(answer.status_code for answer in founded) == [201] + [409] * (CROWD - 1)
    begun = await asyncio.gather(
        *(
            http.post(
                f"{house.ours.base}/projects",
                headers=house.ours.headers("admin"),
                json={"name": f"p {n}", "git_remotes": ["git@github.com:acme/app.git"]},
            )
            for n in range(CROWD)
        )
    )
    assert sorted(answer.status_code for answer in begun) == [201] + [409] * (CROWD - 1)


async def test_the_same_wish_sent_by_many_hands_is_granted_once(http: httpx.AsyncClient, house: House) -> None:
    headers = {**house.ours.headers("admin"), "Idempotency-Key": "once"}
    base = house.ours.base
    wishes: dict[str, Any] = {
        f"{base}/projects": {"name": "App"},
        f"{base}/roles": {"key": "lead"},
        f"{base}/members/invitations": {"email": "ann@example.com"},
    }
    for path, wish in wishes.items():
        head = await house.store.head()
        answers = await asyncio.gather(*(http.post(path, headers=headers, json=wish) for _ in range(CROWD)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.text for answer in answers}) == 1
        assert sum("idempotency-replayed" in answer.headers for answer in answers) == CROWD - 1
        assert await house.store.head() == head + 1


async def test_everything_is_shown_as_of_a_time(http: httpx.AsyncClient, house: House) -> None:
    all_headers, base = house.ours.headers("all"), house.ours.base
    made = await http.post(f"{base}/projects", headers=all_headers, json={"name": "App"})
    await house.project()
    (last,) = await house.store.read_all(int(made.headers["crewkit-position"]) - 1, 1)
    then = last.recorded_at.isoformat()
    paths = (f"/api/v1/organizations/{house.ours.slug}", f"{base}/members", f"{base}/roles", f"{base}/projects")
    before = [(await http.get(path, headers=all_headers)).json() for path in paths]
    await http.patch(paths[0], headers=all_headers, json={"name": "Other"})
    await http.post(f"{base}/roles", headers=all_headers, json={"key": "lead"})
    await http.patch(f"{base}/projects/app", headers=all_headers, json={"name": "Other"})
    await join(house, house.ours, UUID(int=9), "viewer")
    for path, told in zip(paths, before, strict=True):
        now = (await http.get(path, headers=all_headers)).json()
        past = (await http.get(path, headers=all_headers, params={"as_of": then})).json()
        assert now != told
        assert {**past, "_links": {}} == {**told, "_links": {}}
