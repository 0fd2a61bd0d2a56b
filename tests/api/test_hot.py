"""The ingest routes answered beside the framework say exactly what the framework's handlers say."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from api import hot
from api.auth import Authenticator
from commands.organizations import key_hash
from projections.directory import KeyFound
from tests.api.house import House

VOLATILE = {"x-request-id", "date", "crewkit-position"}


def hook(number: int) -> dict[str, Any]:
    return {"session_id": f"s-{number}", "hook_event_name": "Stop", "prompt_id": f"p-{number}"}


def declined(_: Any) -> bool:
    return False


async def both(http: Any, monkeypatch: pytest.MonkeyPatch, path: str, **request: Any) -> tuple[Any, Any]:
    """The same request on the hot way and on the framework's."""
    quick = await http.post(path, **request)
    with monkeypatch.context() as patch:
        patch.setattr(hot, "recognise", declined)
        slow = await http.post(path, **request)
    return quick, slow


@pytest.mark.parametrize(
    ("path", "body", "key", "status"),
    [
        ("/api/v1/default/observability/events", b'{"events":[{"payload":{}}]}', "ingest", 202),
        ("/api/v1/default/observability/sessions/work/events", b'{"events":[]}', "ingest", 202),
        ("/api/v1/default/observability/items", b'{"batches":[{"llm_session_id":"s","items":[{}]}]}', "ingest", 202),
        ("/api/v1/default/observability/items", b'{"batches":[]}', "ingest", 202),
        ("/api/v1/default/observability/items", b'{"batches":[{"items":[]}]}', "ingest", 400),
        ("/api/v1/default/observability/items", b"{}", "read", 403),
        ("/api/v1/default/observability/events", b"not json", "ingest", 400),
        ("/api/v1/default/observability/events", b"{}", None, 401),
        ("/api/v1/default/observability/events", b"{}", "read", 403),
        ("/api/v1/other/observability/events", b"{}", "ingest", 404),
        ("/api/v1/default/observability/sessions/" + "x" * 201 + "/events", b"{}", "ingest", 400),
    ],
)
async def test_both_ways_answer_alike(
    http: Any,
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: bytes,
    key: str | None,
    status: int,
) -> None:
    headers = {"X-API-Key": house.ours.keys[key]} if key else {}
    quick, slow = await both(http, monkeypatch, path, content=body, headers=headers)
    assert (quick.status_code, slow.status_code) == (status, status)
    told, expected = quick.json(), slow.json()
    for answer in (told, expected):
        answer.get("error", {}).pop("request_id", None)
    assert told == expected
    assert {k: v for k, v in quick.headers.items() if k not in VOLATILE} == {
        k: v for k, v in slow.headers.items() if k not in VOLATILE
    }
    assert set(quick.headers) == set(slow.headers)


async def test_the_second_telling_is_a_duplicate_whatever_way_it_took(
    http: Any, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"X-API-Key": house.ours.keys["ingest"]}
    path = "/api/v1/default/observability/events"
    quick, slow = await both(http, monkeypatch, path, json={"events": [{"payload": hook(1)}]}, headers=headers)
    assert (quick.json()["accepted"], slow.json()["duplicate"]) == (1, 1)
    assert quick.json()["results"][0]["id"] == slow.json()["results"][0]["id"]
    assert quick.headers["crewkit-position"] == slow.headers["crewkit-position"]


async def test_requests_that_ask_for_a_key_at_once_are_all_let_in() -> None:
    key_id = uuid4()
    text = f"ck_{key_id.hex}_" + "s" * 43
    found = KeyFound(
        key_id=key_id,
        org_id=uuid4(),
        slug="default",
        person_id=uuid4(),
        scopes=frozenset({"ingest"}),
        secret_sha256=key_hash(text),
        expires_at=None,
        revoked_at=None,
    )
    answered = asyncio.Event()

    async def lookup(_: Any) -> KeyFound:
        await answered.wait()
        return found

    auth = Authenticator(lookup)
    earlier, later = asyncio.create_task(auth.key(text)), asyncio.create_task(auth.key(text))
    await asyncio.sleep(0)
    answered.set()
    assert await later == found
    assert await earlier == found
