"""`batch_id` through every door that takes batches, the quick ones included."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.house import House, body, hook


def hooks(batch_id: str, number: int) -> dict[str, Any]:
    return {"batch_id": batch_id, "events": [{"payload": hook("s1", prompt_id=f"p{number}"), "id": f"h{number}"}]}


def bare(batch_id: str, number: int) -> dict[str, Any]:
    return {"batch_id": batch_id, "events": [hook("s1", prompt_id=f"p{number}")]}


def items(batch_id: str, number: int) -> dict[str, Any]:
    return {"batch_id": batch_id, "items": [{"type": "user", "uuid": f"u{number}"}]}


def many(batch_id: str, number: int) -> dict[str, Any]:
    return {"batches": [{**items(batch_id, number), "llm_session_id": "s1"}]}


DOORS = [
    ("{base}/observability/events", hooks),
    ("{base}/observability/events", bare),
    ("{base}/observability/sessions/w1/events", hooks),
    ("/observability/sessions/w1/events", hooks),
    ("{base}/observability/llm_sessions/s1/items", items),
    ("/llm_sessions/s1/items", items),
    ("{base}/observability/items", many),
    ("{base}/observability/items?x=1", many),
]


@pytest.mark.parametrize(("door", "batch"), DOORS)
async def test_the_same_batch_is_stored_once_and_its_name_for_another_is_refused(
    client: Any, house: House, door: str, batch: Any
) -> None:
    path, headers = door.format(base=house.ours.base), house.ours.headers()
    for _ in range(2):
        assert (await client.post(path, headers=headers, content=body(batch("b", 1)))).status_code == 202
    head = await house.store.head()
    refused = await client.post(path, headers=headers, content=body(batch("b", 2)))
    assert refused.status_code == 409
    error = refused.json()["error"]
    assert (error["code"], error["details"]["batch_id"]) == ("conflict", "b")
    assert await house.store.head() == head
    assert (await client.post(path, headers=headers, content=body(batch("c", 2)))).status_code == 202
    theirs = house.theirs.headers()
    other = await client.post(door.format(base=house.theirs.base), headers=theirs, content=body(batch("b", 2)))
    assert other.status_code == 202


async def test_what_cannot_be_a_name_is_refused(client: Any, house: House) -> None:
    path = f"{house.ours.base}/observability/events"
    refused = await client.post(path, headers=house.ours.headers(), content=body(hooks("", 1)))
    assert (refused.status_code, refused.json()["error"]["details"]) == (422, {"field": "batch_id"})
