"""Live streams: resumable by position, with NATS, without it, and for clients that read slowly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import nats
import pytest

from api import streams
from api.app import create_app
from api.errors import ApiError
from api.streams import Announcement, Hub, Subscriber
from tests.api.house import House, body, hook, serving

WAIT_S = 60


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, int, Any]]:
    name, ident = "", -1
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("id: "):
            ident = int(line[4:])
        elif line.startswith("data: "):
            yield name, ident, json.loads(line[6:])


async def send(http: Any, house: House, session: str, number: int = 0) -> int:
    path = f"{house.ours.base}/observability/events"
    sent = {"events": [{"payload": hook(session, prompt=f"p{number}"), "id": f"{session}-{number}"}]}
    answer = await http.post(path, headers=house.ours.headers(), content=body(sent))
    await house.project()
    return int(answer.headers["crewkit-position"])


async def test_a_stream_without_nats_finds_news_in_the_store(http: Any, house: House, monkeypatch: Any) -> None:
    monkeypatch.setattr(streams, "POLL_S", 0.01)
    async with asyncio.timeout(WAIT_S):
        url = f"{house.ours.base}/events/stream"
        async with http.stream("GET", url, headers=house.ours.headers("read")) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            told = events(answer)
            assert (await anext(told))[0] == "open"
            position = await send(http, house, "s1")
            name, ident, data = await anext(told)
            assert (name, ident, data["session_id"]) == ("notice", position, "s1")


async def test_a_client_that_comes_back_misses_nothing_of_its_session(http: Any, house: House) -> None:
    first = await send(http, house, "s1", 1)
    await send(http, house, "s2")
    second = await send(http, house, "s1", 2)
    third = await send(http, house, "s1", 3)
    headers = {**house.ours.headers("read"), "Last-Event-ID": str(first)}
    async with asyncio.timeout(WAIT_S):
        url = f"{house.ours.base}/sessions/s1/events/stream"
        async with http.stream("GET", url, headers=headers) as answer:
            told = events(answer)
            await anext(told)
            assert [(await anext(told))[1], (await anext(told))[1]] == [second, third]
    odd = await http.get(url, headers={**headers, "Last-Event-ID": "x"})
    assert odd.status_code == 400


@pytest.mark.parametrize("path", ["{base}/workflows/w1/events", "{base}/workflows/w1/events/stream",
                                  "/events/workflows/w1", "/events/workflows/w1/stream"])  # fmt: skip
async def test_a_workflow_is_followed_by_its_session(http: Any, house: House, path: str) -> None:
    headers, url = house.ours.headers("read"), path.format(base=house.ours.base)
    assert (await http.get(url, headers=headers)).status_code == 404
    opened = await http.post(
        f"{house.ours.base}/observability/sessions",
        headers=house.ours.headers(),
        json={"session_id": "w1", "kind": "workflow"},
    )
    assert opened.status_code == 201
    await send(http, house, "elsewhere")
    position = await send(http, house, "w1")
    async with (
        asyncio.timeout(WAIT_S),
        http.stream("GET", f"{url}?after={opened.headers['crewkit-position']}", headers=headers) as answer,
    ):
        told = events(answer)
        await anext(told)
        assert (await anext(told))[:2] == ("notice", position)


async def test_only_a_session_of_kind_workflow_is_a_workflow(http: Any, house: House) -> None:
    await send(http, house, "s1")
    answer = await http.get(f"{house.ours.base}/workflows/s1/events", headers=house.ours.headers("read"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_notices_from_nats_reach_their_organization_only(settings: Any, house: House, nats_url: str) -> None:
    app = create_app(msgspec.structs.replace(settings, nats_url=nats_url))
    publisher = await nats.connect(nats_url)
    async with (
        asyncio.timeout(WAIT_S),
        serving(app) as live,
        httpx.AsyncClient(base_url=live.url, timeout=WAIT_S) as http,
    ):
        while not app.state.services.bus.connected or not app.state.services.hub._trusting:
            await asyncio.sleep(0.01)
        url = f"{house.ours.base}/events/stream"
        async with http.stream("GET", url, headers=house.ours.headers("read")) as answer:
            told = events(answer)
            await anext(told)
            for org, session in ((house.theirs.org_id, "theirs"), (house.ours.org_id, "ours")):
                item = {"position": 10_000, "session_id": session}
                notice = {"projection": "sessions", "position": 10_000, "items": [item]}
                await publisher.publish(f"crewkit.notices.{org.hex}", body(notice))
            assert (await anext(told))[2]["session_id"] == "ours"
    await publisher.close()


def test_a_slow_client_is_told_and_its_mailbox_stays_bounded() -> None:
    subscriber = Subscriber()
    for number in range(streams.QUEUE_MAX):
        assert subscriber.put(Announcement("sessions", number))
    assert not subscriber.put(Announcement("sessions", -1))
    assert subscriber.lagged
    assert len(subscriber.mail) == 0


def test_the_number_of_streams_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(streams, "STREAMS_MAX", 1)
    hub, org = Hub(), uuid4()
    member = hub.join(org)
    with pytest.raises(ApiError) as refused:
        hub.join(org)
    assert refused.value.status == 503
    hub.leave(org, member)
    hub.leave(org, hub.join(org))
    assert hub.open == 0


@pytest.mark.parametrize("path", ["/events/stream", "/logs/stream", "/sessions/s1/events/stream"])
async def test_a_stream_ends_when_its_key_is_revoked(http: Any, house: House, monkeypatch: Any, path: str) -> None:
    monkeypatch.setattr(streams, "RECHECK_S", 0.01)
    issued = await http.post(
        f"{house.ours.base}/api_keys", headers=house.ours.headers(), json={"label": "stream", "scopes": ["read"]}
    )
    await house.project()
    key = issued.json()
    async with asyncio.timeout(WAIT_S):
        url = f"{house.ours.base}{path}"
        async with http.stream("GET", url, headers={"X-API-Key": key["key"]}) as answer:
            told = events(answer)
            assert (await anext(told))[0] == "open"
            position = await send(http, house, "s1")
            monkeypatch.setattr(streams, "POLL_S", 0.01)
            assert (await anext(told))[:2] == ("notice", position)
            gone = await http.delete(f"{house.ours.base}/api_keys/{key['key_id']}", headers=house.ours.headers())
            assert gone.status_code < 300
            assert [one[0] async for one in told] == ["shut-out"]
    assert (await http.get(url, headers={"X-API-Key": key["key"]})).status_code == 401


async def test_a_stream_goes_on_while_nobody_can_tell_whether_its_key_is_good(
    http: Any, house: House, live: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(streams, "RECHECK_S", 0.01)
    monkeypatch.setattr(streams, "POLL_S", 0.01)
    asked = asyncio.Event()

    async def away(_: Any) -> Any:
        asked.set()
        raise OSError("the database is away")

    async with asyncio.timeout(WAIT_S):
        async with http.stream("GET", f"{house.ours.base}/events/stream", headers=house.ours.headers("read")) as answer:
            told = events(answer)
            await anext(told)
            auth = live.app.state.services.auth
            lookup = auth._lookup
            auth._lookup = away
            auth._cache.clear()
            await asked.wait()
            auth._lookup = lookup
            assert (await send(http, house, "s1"), "notice") == (await anext(told))[1::-1]


async def test_a_silent_stream_keeps_its_connection_alive(settings: Any, house: House, monkeypatch: Any) -> None:
    monkeypatch.setattr(streams, "POLL_S", 0.01)
    app = create_app(msgspec.structs.replace(settings, heartbeat_interval_s=0.02))
    async with (
        asyncio.timeout(WAIT_S),
        serving(app) as live,
        httpx.AsyncClient(base_url=live.url, timeout=WAIT_S) as http,
        http.stream("GET", f"{house.ours.base}/events/stream", headers=house.ours.headers("read")) as answer,
    ):
        beats = 0
        async for line in answer.aiter_lines():
            beats += line == ": keep-alive"
            if beats == 2:
                break
