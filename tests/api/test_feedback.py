"""Feedback on a session through HTTP: said once, shown with its mean, dark after erasing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.house import House, body, hook

SECRET = "ada fixed it in a minute"


@pytest.fixture(autouse=True)
async def session(client: Any, house: House) -> None:
    path = f"{house.ours.base}/observability/sessions/w1/events"
    assert (await client.post(path, headers=house.ours.headers(), content=body([hook("s1")]))).status_code == 202
    await house.project()


async def say(client: Any, house: House, *, session: str = "w1", key: str = "read", **what: Any) -> Any:
    headers = {**house.ours.headers(key), **what.pop("headers", {})}
    answer = await client.post(f"{house.ours.base}/sessions/{session}/feedback", headers=headers, json=what)
    await house.project()
    return answer


async def shown(client: Any, house: House) -> Any:
    return (await client.get(f"{house.ours.base}/sessions/w1", headers=house.ours.headers())).json()["feedback"]


async def test_what_was_said_is_shown_with_its_mean(client: Any, house: House) -> None:
    assert await shown(client, house) == {"count": 0, "mean_rating": None, "newest": []}
    first = await say(client, house, rating=5, comment=SECRET)
    assert first.status_code == 201
    assert first.json()["session_id"] == "w1"
    await say(client, house, session="s1", key="ingest", rating=2)  # by the agent's own id, by the agent's key
    await say(client, house, comment="no number for that")
    told = await shown(client, house)
    assert (told["count"], told["mean_rating"]) == (3, 3.5)
    assert [(one["rating"], one["comment"]) for one in told["newest"]] == [
        (None, "no number for that"),
        (2, None),
        (5, SECRET),
    ]


async def test_a_repeat_with_its_key_says_it_once(client: Any, house: House) -> None:
    key = {"Idempotency-Key": "k1"}
    first, again = [await say(client, house, rating=4, headers=key) for _ in range(2)]
    assert (first.json(), again.status_code) == (again.json(), 201)
    assert (await shown(client, house))["count"] == 1
    other = await say(client, house, rating=1, headers=key)
    assert other.status_code == 409


@pytest.mark.parametrize(
    ("what", "field"), [({}, "rating"), ({"rating": 9}, "rating"), ({"comment": "x" * 5_000}, "comment")]
)
async def test_bad_input_names_the_field(client: Any, house: House, what: dict[str, Any], field: str) -> None:
    error = (await say(client, house, **what)).json()["error"]
    assert (error["code"], error["details"]["field"]) == ("validation_failed", field)


async def test_an_unknown_session_and_other_peoples_are_not_found(client: Any, house: House) -> None:
    assert (await say(client, house, session="nobody", rating=1)).status_code == 404
    path = f"{house.theirs.base}/sessions/w1/feedback"
    assert (await client.post(path, headers=house.theirs.headers(), json={"rating": 1})).status_code == 404


async def test_a_comment_is_sealed_and_dark_once_its_person_is_erased(client: Any, house: House) -> None:
    await say(client, house, rating=5, comment=SECRET)
    told = await house.store.read_all(0, 1_000)
    [event] = [one for one in told if one.type == "session.feedback_submitted.v1"]
    assert b"ada" not in event.data
    await house.ring.destroy(house.ours.org_id, house.ours.owner_id)
    client.app.state.services.keyring._keys.clear()
    [entry] = (await shown(client, house))["newest"]
    assert (entry["rating"], entry["comment"]) == (5, None)
