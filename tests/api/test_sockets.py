"""Live notices over a WebSocket, as a browser would open it, through a real uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import structlog
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, RejectData, Request, TextMessage

from api import sockets, streams
from tests.api.house import House, body, hook, knock

WAIT_S = 60


class Caller:
    """A small WebSocket client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.wire = WSConnection(ConnectionType.CLIENT)

    @classmethod
    @contextlib.asynccontextmanager
    async def dial(cls, url: str, path: str, **how: Any) -> AsyncIterator[Caller]:
        place = urlsplit(url)
        caller = cls(*await asyncio.open_connection(place.hostname, place.port))
        try:
            caller.say(Request(host=place.netloc, target=path, **how))
            yield caller
        finally:
            caller._writer.close()
            with contextlib.suppress(ConnectionError):
                await caller._writer.wait_closed()

    def say(self, event: Any) -> None:
        self._writer.write(self.wire.send(event))

    async def events(self) -> AsyncGenerator[Any]:
        while True:
            for event in self.wire.events():
                yield event
            data = await self._reader.read(65_536)
            if not data:
                return
            self.wire.receive_data(data)


async def send(http: httpx.AsyncClient, house: House, session: str, number: int) -> int:
    path = f"{house.ours.base}/observability/events"
    sent = {"events": [{"payload": hook(session, prompt=f"p{number}"), "id": f"{session}-{number}"}]}
    answer = await http.post(path, headers=house.ours.headers(), content=body(sent))
    await house.project()
    return int(answer.headers["crewkit-position"])


async def test_a_socket_tells_what_happens_in_its_session_and_resumes(live: Any, http: Any, house: House) -> None:
    first = await send(http, house, "s1", 1)
    await send(http, house, "s2", 1)
    second = await send(http, house, "s1", 2)
    protocols = ["crewkit", house.ours.keys["read"]]
    async with (
        asyncio.timeout(WAIT_S),
        Caller.dial(live.url, f"/ws/s1?after={first}", subprotocols=protocols) as caller,
        contextlib.aclosing(caller.events()) as told,
    ):
        opened = await anext(told)
        assert isinstance(opened, AcceptConnection)
        assert opened.subprotocol == "crewkit"
        messages = [json.loads((await anext(told)).data) for _ in range(2)]
        assert [(one["event"], one["position"]) for one in messages] == [("open", first), ("notice", second)]
        assert messages[1]["data"]["session_id"] == "s1"
        caller.say(TextMessage(data="whatever clients say is of no consequence"))
    async with asyncio.timeout(WAIT_S):
        while live.app.state.services.hub.open:
            await asyncio.sleep(0.01)


async def test_news_arrive_while_the_socket_is_open(live: Any, http: Any, house: House, monkeypatch: Any) -> None:
    monkeypatch.setattr(streams, "POLL_S", 0.01)
    async with (
        asyncio.timeout(WAIT_S),
        Caller.dial(live.url, f"/ws/s1?api_key={house.ours.keys['read']}") as caller,
        contextlib.aclosing(caller.events()) as told,
    ):
        assert (await anext(told)).subprotocol is None
        await anext(told)
        position = await send(http, house, "s1", 1)
        assert json.loads((await anext(told)).data)["position"] == position
        live.app.state.services.hub.close()
        end = await anext(told)
        assert isinstance(end, CloseConnection)
        assert end.code == 1012


async def test_a_workflow_is_followed_by_its_session(live: Any, http: Any, house: House) -> None:
    await http.post(
        f"{house.ours.base}/observability/sessions",
        headers=house.ours.headers(),
        json={"session_id": "w1", "kind": "workflow"},
    )
    first = await send(http, house, "w1", 1)
    second = await send(http, house, "w1", 2)
    async with (
        asyncio.timeout(WAIT_S),
        Caller.dial(live.url, f"/ws/workflows/w1?api_key={house.ours.keys['read']}&after={first}") as caller,
        contextlib.aclosing(caller.events()) as told,
    ):
        assert isinstance(await anext(told), AcceptConnection)
        messages = [json.loads((await anext(told)).data) for _ in range(2)]
        assert [(one["event"], one["position"]) for one in messages] == [("open", first), ("notice", second)]


async def refusal(url: str, path: str, headers: list[tuple[bytes, bytes]]) -> tuple[int, str]:
    """Status and error code of a handshake that is refused."""
    status, said = 0, b""
    async with (
        Caller.dial(url, path, extra_headers=headers) as caller,
        contextlib.aclosing(caller.events()) as told,
    ):
        async for event in told:
            if isinstance(event, RejectConnection):
                status = event.status_code
            elif isinstance(event, RejectData):
                said += event.data
                if event.body_finished:
                    break
    return status, json.loads(said)["error"]["code"]


async def test_a_refusal_is_an_http_answer_like_any_other(live: Any, house: House) -> None:
    theirs = [(b"X-API-Key", house.theirs.keys["read"].encode()), (b"X-Organization", b"default")]
    ours = [(b"X-API-Key", house.ours.keys["ingest"].encode())]
    able = [(b"X-API-Key", house.ours.keys["read"].encode())]
    async with asyncio.timeout(WAIT_S):
        assert await refusal(live.url, "/ws/s1", []) == (401, "invalid_auth")
        assert await refusal(live.url, "/ws/s1?api_key=ck_wrong", []) == (401, "invalid_auth")
        assert await refusal(live.url, "/ws/s1", theirs) == (404, "not_found")
        assert await refusal(live.url, "/ws/s1", ours) == (403, "forbidden")
        assert await refusal(live.url, "/ws/s1?after=soon", able) == (400, "validation_failed")
        assert await refusal(live.url, "/ws", able) == (404, "not_found")
        assert await refusal(live.url, "/ws/workflows/s1", able) == (404, "not_found")


async def test_a_key_in_the_query_works_everywhere_and_is_never_told_again(client: Any, house: House) -> None:
    key = house.ours.keys["read"]
    with structlog.testing.capture_logs() as lines:
        answer = await client.get(f"{house.ours.base}/sessions?limit=1&api_key={key}")
        assert knock(client, f"/ws/s1?api_key={key}", {}) == 101
    assert answer.status_code == 200
    assert {line["event"] for line in lines} >= {"request.handled", "socket.closed"}
    assert key not in repr(lines)
    assert (await client.get(f"{house.ours.base}/sessions?api_key={key}x")).status_code == 401
    weak = {"X-API-Key": house.ours.keys["ingest"]}
    assert (await client.get(f"{house.ours.base}/sessions?api_key={key}", headers=weak)).status_code == 403
    for n in range(2):
        path = f"{house.ours.base}/observability/events?api_key={house.ours.keys['ingest']}"
        sent = await client.post(path, content=body([hook(f"linked-{n}")]))
        assert sent.status_code == 202
    await house.project()
    page = await client.get(f"{house.ours.base}/sessions?limit=1&api_key={key}")
    assert "cursor=" in page.json()["_links"]["next"]
    assert key not in page.text


async def test_a_socket_is_closed_when_its_key_is_revoked(live: Any, http: Any, house: House, monkeypatch: Any) -> None:
    monkeypatch.setattr(streams, "RECHECK_S", 0.01)
    issued = await http.post(
        f"{house.ours.base}/api_keys", headers=house.ours.headers(), json={"label": "socket", "scopes": ["read"]}
    )
    await house.project()
    key = issued.json()
    async with (
        asyncio.timeout(WAIT_S),
        Caller.dial(live.url, "/ws/s1", subprotocols=["crewkit", key["key"]]) as caller,
        contextlib.aclosing(caller.events()) as told,
    ):
        assert isinstance(await anext(told), AcceptConnection)
        assert json.loads((await anext(told)).data)["event"] == "open"
        await http.delete(f"{house.ours.base}/api_keys/{key['key_id']}", headers=house.ours.headers())
        assert json.loads((await anext(told)).data)["event"] == "shut-out"
        end = await anext(told)
        assert isinstance(end, CloseConnection)
        assert end.code == 4401


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    class Stuck:
        async def send_data(self, *_: Any, **__: Any) -> None:
            await asyncio.Event().wait()

    class Talking:
        async def run(self) -> AsyncGenerator[bytes]:
            try:
                yield b"news"
            finally:
                ended.set()

    ended = asyncio.Event()
    stuck: Any = Stuck()
    talking: Any = Talking()
    with pytest.raises(TimeoutError):
        await sockets._tell(stuck, talking, 0.01)
    assert ended.is_set()
