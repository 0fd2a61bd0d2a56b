"""Lines of many transcripts in one request: each batch is answered as if it had come alone."""

from __future__ import annotations

from typing import Any

import pytest

from api.items import BATCHED_ITEMS_MAX
from tests.api.house import House, body


def line(name: str, **more: Any) -> dict[str, Any]:
    told = {"type": "user", "uuid": name, "timestamp": "2026-11-20T10:00:00Z", "message": {"content": f"word {name}"}}
    return {**told, **more}


def batch(session: str, *items: Any, **more: Any) -> dict[str, Any]:
    return {"llm_session_id": session, "items": list(items), **more}


async def test_each_batch_has_its_answer_in_order(client: Any, house: House) -> None:
    path, headers = f"{house.ours.base}/observability/items", house.ours.headers("ingest")
    sent = [
        batch("a", line("1"), {}, line("2")),
        batch("b", line("1")),
        batch("a", line("2"), line("3"), subagent_id="inner", meta={"agentType": "helper"}),
        batch("c"),
    ]
    answer = await client.post(path, headers=headers, content=body({"batches": sent}))
    assert answer.status_code == 202
    told = answer.json()
    counts = [(one["accepted"], one["duplicate"], one["rejected"]) for one in told["answers"]]
    assert counts == [(2, 0, 1), (1, 0, 0), (1, 1, 0), (0, 0, 0)]
    assert [[result["status"] for result in one["results"]] for one in told["answers"]] == [
        ["accepted", "rejected", "accepted"],
        ["accepted"],
        ["duplicate", "accepted"],
        [],
    ]
    assert [result["index"] for result in told["answers"][2]["results"]] == [0, 1]
    assert int(answer.headers["crewkit-position"]) == told["position"] == await house.store.head()
    alone = await client.post(
        f"{house.ours.base}/observability/llm_sessions/a/items",
        headers=headers,
        content=body({"items": sent[0]["items"]}),
    )
    assert (alone.json()["accepted"], alone.json()["duplicate"], alone.json()["rejected"]) == (0, 2, 1)
    assert alone.json()["results"][0]["id"] == told["answers"][0]["results"][0]["id"]
    again = (await client.post(path, headers=headers, content=body({"batches": sent}))).json()
    assert [(one["accepted"], one["duplicate"]) for one in again["answers"]] == [(0, 2), (0, 1), (0, 2), (0, 0)]


async def test_what_came_together_is_read_session_by_session(client: Any, house: House) -> None:
    headers = house.ours.headers()
    user = {"email": "ada@example.org"}
    sent = [batch(f"s-{n}", *(line(f"{n}-{m}") for m in range(3)), user=user) for n in range(30)]
    answer = await client.post(
        f"{house.ours.base}/observability/items", headers=headers, content=body({"batches": sent})
    )
    assert sum(one["accepted"] for one in answer.json()["answers"]) == 90
    for n in (0, 29):
        found = (await client.get(f"{house.ours.base}/observability/llm_sessions/s-{n}/items", headers=headers)).json()
        assert [item["content"]["message"]["content"] for item in found["items"]] == [f"word {n}-{m}" for m in range(3)]


@pytest.mark.parametrize(
    ("batches", "field"),
    [
        ([batch("a", *[{"uuid": str(n)} for n in range(BATCHED_ITEMS_MAX)]), batch("b", line("1"))], "$.batches"),
        ([batch(str(n)) for n in range(BATCHED_ITEMS_MAX + 1)], "$.batches"),
        ([batch("a", line("1")), batch("", line("2"))], "$.batches[1].llm_session_id"),
        ([batch("x" * 201)], "$.batches[0].llm_session_id"),
        ([{"items": []}], "$.batches[0].llm_session_id"),
        ([batch("a", 7)], "$.batches[0].items[0]"),
        ([batch("a", mode="odd")], "$.batches[0].mode"),
    ],
)
async def test_a_request_that_is_not_well_formed_stores_nothing(
    client: Any, house: House, batches: list[Any], field: str
) -> None:
    head = await house.store.head()
    answer = await client.post(
        f"{house.ours.base}/observability/items", headers=house.ours.headers(), content=body({"batches": batches})
    )
    assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (400, field)
    assert await house.store.head() == head
