"""What agents send: hooks in every shape, transcript lines, sessions; each channel comes out of the read side again."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.api.house import House, body, hook


async def test_a_batch_is_answered_after_the_commit_with_one_result_per_event(client: Any, house: House) -> None:
    path, headers = f"{house.ours.base}/observability/events", house.ours.headers("ingest")
    batch = {"events": [{"payload": hook("s1"), "id": "a"}, {"payload": {"no": "session"}}, {"payload": hook("s2")}]}
    answer = await client.post(path, headers=headers, content=body(batch))
    assert answer.status_code == 202
    told = answer.json()
    assert (told["accepted"], told["duplicate"], told["rejected"]) == (2, 0, 1)
    assert [(result["index"], result["status"]) for result in told["results"]] == [
        (0, "accepted"),
        (1, "rejected"),
        (2, "accepted"),
    ]
    assert "session_id" in told["results"][1]["reason"]
    assert int(answer.headers["crewkit-position"]) == told["position"] == await house.store.head()
    again = (await client.post(path, headers=headers, content=body(batch))).json()
    assert (again["accepted"], again["duplicate"], again["rejected"]) == (0, 2, 1)


@pytest.mark.parametrize(
    "sent",
    [
        {"events": [{"payload": hook("shape")}]},
        {"events": [hook("shape")]},
        [{"payload": hook("shape")}],
        [hook("shape")],
        {"payload": hook("shape")},
        hook("shape"),
    ],
)
async def test_hooks_are_taken_in_every_harmless_shape(client: Any, house: House, sent: Any) -> None:
    path = f"{house.ours.base}/observability/events"
    answer = await client.post(path, headers=house.ours.headers("ingest"), content=body(sent))
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)


async def test_an_agent_that_posts_a_hook_gets_an_object_that_decides_nothing(client: Any, house: House) -> None:
    headers = house.ours.headers("ingest")
    answer = await client.post("/hooks/claude", headers=headers, content=body(hook("s1", "PreToolUse")))
    assert answer.status_code == 200
    assert answer.json() == {}
    assert answer.headers["content-type"].startswith("application/json")
    assert int(answer.headers["crewkit-position"]) > 0
    for odd in (b"[]", b"{}", b"nonsense"):
        assert (await client.post("/hooks/claude", headers=headers, content=odd)).status_code == 400


async def test_events_of_a_session_by_both_paths_become_part_of_it(client: Any, house: House) -> None:
    headers = house.ours.headers()
    for n, path in enumerate(
        (f"{house.ours.base}/observability/sessions/work-1/events", "/observability/sessions/work-1/events")
    ):
        answer = await client.post(path, headers=headers, content=body([hook(f"agent-{n}")]))
        assert answer.status_code == 202
    await house.project()
    found = (await client.get(f"{house.ours.base}/sessions/work-1", headers=headers)).json()
    assert {llm["id"] for llm in found["llm_sessions"]} == {"agent-0", "agent-1"}
    assert found["tree"]["kind"] == "session"
    assert found["_links"]["self"] == f"{house.ours.base}/sessions/work-1"


async def test_a_session_is_opened_once_per_idempotency_key_and_ended(client: Any, house: House) -> None:
    path = f"{house.ours.base}/observability/sessions"
    headers = {**house.ours.headers(), "Idempotency-Key": "k-1"}
    first = await client.post(path, headers=headers, content=b"{}")
    again = await client.post(path, headers=headers, content=b"{}")
    assert first.status_code == 201
    assert again.json()["session_id"] == first.json()["session_id"]
    session = f"{path}/{first.json()['session_id']}/end"
    ended = await client.post(session, headers=house.ours.headers(), content=b'{"outcome":"completed"}')
    assert (ended.status_code, ended.json()["changed"]) == (200, True)
    twice = await client.post(session, headers=house.ours.headers(), content=b'{"outcome":"completed"}')
    assert (twice.status_code, twice.json()["changed"]) == (200, False)
    other = await client.post(session, headers=house.ours.headers(), content=b'{"outcome":"failed"}')
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    wrong = await client.post(session, headers=house.ours.headers(), content=b'{"outcome":"meh"}')
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "validation_failed")


async def test_transcript_lines_go_in_and_come_back_page_by_page(client: Any, house: House) -> None:
    lines = [
        {
            "type": "user",
            "uuid": str(uuid4()),
            "timestamp": f"2026-11-20T10:00:0{n}Z",
            "message": {"content": f"hi {n}"},
        }
        for n in range(5)
    ]
    headers = house.ours.headers()
    for path in (f"{house.ours.base}/observability/llm_sessions/llm-1/items", "/llm_sessions/llm-1/items"):
        answer = await client.post(path, headers=headers, content=body({"items": lines}))
        assert answer.status_code == 202
    assert answer.json()["duplicate"] == 5
    found: list[Any] = []
    link = f"{house.ours.base}/observability/llm_sessions/llm-1/items?limit=2"
    while True:
        page = (await client.get(link, headers=headers)).json()
        found += page["items"]
        link = page["_links"]["next"]
        if not page["more"]:
            break
    assert [item["content"]["message"]["content"] for item in found] == [f"hi {n}" for n in range(5)]
    assert (await client.get(link, headers=headers)).json()["items"] == []
    assert (await client.get("/llm_sessions/llm-1/items", headers=headers)).json()["items"][0] == found[0]
    assert (await client.get("/llm_sessions/none/items", headers=headers)).status_code == 404
    odd = await client.get("/llm_sessions/llm-1/items?cursor=%21", headers=headers)
    assert (odd.status_code, odd.json()["error"]["details"]["field"]) == (400, "cursor")


async def test_a_recorded_session_is_listed_filtered_and_live(client: Any, house: House, recordings: Any) -> None:
    headers = house.ours.headers()
    lines = (recordings / "claude-0447534f" / "hooks.jsonl").read_text().splitlines()
    events = [{**json.loads(line), "repo": "acme/shop", "branch": "main", "project": "shop"} for line in lines]
    path = f"{house.ours.base}/observability/events"
    answer = await client.post(path, headers=headers, content=body({"events": events}))
    assert answer.json()["accepted"] == len(lines)
    await house.project()
    headers["Crewkit-After"] = answer.headers["crewkit-position"]
    base = f"{house.ours.base}/sessions"
    page = (await client.get(f"{base}?repo=acme/shop&limit=1", headers=headers)).json()
    (line,) = page["items"]
    assert line["_links"]["self"] == f"{base}/{line['id']}"
    for query in ("repo=other/x", "project=none", "status=timed_out", f"user={uuid4()}", "user=a@b.example", "model=x"):
        assert (await client.get(f"{base}?{query}", headers=headers)).json()["items"] == [], query
    assert len((await client.get(f"{base}?user={house.ours.owner_id}", headers=headers)).json()["items"]) == 1
    assert (await client.get(f"{base}?user=nobody", headers=headers)).status_code == 400
    assert (await client.get(f"{base}?since=soon", headers=headers)).status_code == 400
    for alias in ("live", "status", "hierarchy"):
        assert (await client.get(f"{base}/{line['id']}/{alias}", headers=headers)).json()["id"] == line["id"]
    assert (await client.get(f"{base}/live", headers=headers)).status_code == 200
    history = await client.get("/api/v2/dashboard/sessions/history", headers=headers)
    assert history.json()["items"][0]["id"] == line["id"]
    assert (await client.get(f"{base}/nobody", headers=headers)).status_code == 404
    detail = (await client.get(f"{base}/{line['id']}", headers=headers)).json()
    subagents = [one for llm in detail["llm_sessions"] for one in llm["subagents"]]
    assert subagents, "the recording has subagents"
    one = (await client.get(f"{house.ours.base}/subagents/{subagents[0]['agent_id']}", headers=headers)).json()
    assert one["session_id"] == line["id"]
    assert (await client.get(one["_links"]["items"], headers=headers)).status_code == 200
    assert (await client.get("/api/v2/subagents/active", headers=headers)).status_code == 200
    theirs = await client.get(f"{house.theirs.base}/sessions", headers=house.theirs.headers())
    assert theirs.json()["items"] == []
    assert (
        await client.get(f"{house.theirs.base}/sessions/{line['id']}", headers=house.theirs.headers())
    ).status_code == 404
