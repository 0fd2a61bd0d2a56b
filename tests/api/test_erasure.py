"""Erasing over HTTP, and the walk through every place where a person's words could have stayed."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

import httpx
import msgspec
import nats
import pytest
from litestar.testing import AsyncTestClient

import projections
from api.app import create_app
from domain.discover import collect
from domain.kernel import Event, Sealed, Stream
from domain.proof.note import parse_key, parse_signed
from eventstore.mapper import released_events
from eventstore.objects import LocalObjects
from eventstore.port import Append, NewEvent
from eventstore.proof import is_signed_by
from eventstore.settings import Settings
from projections.base import Projection
from tests.api.house import House, body, hook, serving
from tests.api.test_proof import checked, exported, sealed
from tests.workers.tally import AT, fresh_names, running, until
from workers.consolidate import Consolidator
from workers.projector import rebuild
from workers.relay import run_relay

CANARY = "zqcanary"  # in everything that is personal, and nowhere else
ADA = {"email": "zqcanary@example.com", "name": "Zqcanary Lovelace"}
SESSION = "c0ffee00-0000-4000-8000-000000000001"
WALK_MAX = 400


def told(kind: str, number: int, **fields: Any) -> dict[str, Any]:
    payload = hook(SESSION, kind, **{"cwd": f"/home/{CANARY}/proj", **fields})
    return {"payload": payload, "id": f"h{number}", "user": ADA}


HOOKS = [
    told("SessionStart", 1, source="startup"),
    told("UserPromptSubmit", 2, prompt=f"hello {CANARY}", prompt_id="p1"),
    told("PreToolUse", 3, tool_name="Bash", tool_use_id="t1", tool_input={"command": f"echo {CANARY}"}),
    told("PostToolUse", 4, tool_name="Bash", tool_use_id="t1", tool_response={"stdout": CANARY}),
    told("SubagentStop", 5, agent_id="a1", last_assistant_message=f"{CANARY} is done"),
    told("Stop", 6, last_assistant_message=f"bye {CANARY}"),
    told("SessionEnd", 7, reason="exit"),
]
ITEMS = [
    {"type": "user", "uuid": "u1", "sessionId": SESSION, "timestamp": "2026-11-20T04:00:00Z",
     "message": {"role": "user", "content": f"hello {CANARY}"}},
    {"type": "assistant", "uuid": "u2", "sessionId": SESSION, "timestamp": "2026-11-20T04:00:01Z",
     "message": {"role": "assistant", "id": "m1", "model": "claude-sonnet-4-5",
                 "content": [{"type": "text", "text": f"hi {CANARY}"}],
                 "usage": {"input_tokens": 3, "output_tokens": 2}}},
]  # fmt: skip


def otlp() -> dict[str, Any]:
    attributes = {
        "session.id": SESSION,
        "event.name": "user_prompt",
        "event.timestamp": "2026-11-20T04:00:00Z",
        "user.email": ADA["email"],
        "prompt": f"hello {CANARY}",
        "prompt_length": "20",
    }
    record = {
        "timeUnixNano": "1795147200000000000",
        "body": {"stringValue": "claude_code.user_prompt"},
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()],
    }
    return {"resourceLogs": [{"scopeLogs": [{"scope": {"name": "claude_code"}, "logRecords": [record]}]}]}


async def tell(client: Any, house: House) -> None:
    """Everything we take, by every channel."""
    base, headers = house.ours.base, house.ours.headers()
    for path, content in (
        (f"{base}/observability/llm_sessions/{SESSION}/items", {"items": ITEMS, "user": ADA}),
        ("/v1/logs", otlp()),
        (f"{base}/observability/events", {"events": HOOKS}),
    ):
        answer = await client.post(path, headers={**headers, "Content-Type": "application/json"}, content=body(content))
        assert answer.status_code in {200, 202}, answer.text
        assert answer.json().get("rejected", 0) == 0


async def append(house: House, stream: Stream, event: Any) -> None:
    await house.store.append(Append(org_id=house.ours.org_id, stream=stream, events=[NewEvent(event)]))


# A stream and plausible words for events that a fold looks closer at; for all others anything will do.
WORDS = {
    "permission": "developer",
    "org_role": "engineer",
    "method": "password",
    "agent": "claude",
    "outcome": "completed",
}
NOT_ABOUT_PEOPLE = {"signing_key.made.v1"}


def sealed_fields(kind: type[Event]) -> list[str]:
    hints = get_type_hints(kind)
    return [name for name in kind.__struct_fields__ if hints[name] is Sealed or Sealed in get_args(hints[name])]


def made_up(kind: type[Event], ada: UUID) -> Event:
    """An event of that type about Ada, with the canary in every sealed field."""
    values: dict[str, Any] = {}
    hints, needed = get_type_hints(kind), set(kind.__struct_fields__) - set(defaults_of(kind))
    for name in kind.__struct_fields__:
        if name in sealed_fields(kind):
            values[name] = Sealed(ada, json.dumps({"summary": f"{CANARY} {name}"}))
        elif name in needed:
            values[name] = plain_value(name, hints[name], ada)
    return kind(**values)


def defaults_of(kind: type[Event]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind) if not field.required]


def plain_value(name: str, hint: Any, ada: UUID) -> Any:
    known = {UUID: ada, str: WORDS.get(name, SESSION), int: 1, bool: True, datetime: AT}
    if hint in known:
        return known[hint]
    return [] if get_origin(hint) is list else {} if get_origin(hint) is dict else None


async def plant(house: House, ada: UUID) -> int:
    """An event of every released type that keeps anything sealed; how many there are."""
    planted = 0
    for tag, kind in released_events().items():
        if sealed_fields(kind) and tag not in NOT_ABOUT_PEOPLE:
            subject = {"session": ("Session", SESSION), "organization": ("Organization", str(house.ours.org_id))}
            stream = Stream(*subject.get(tag.partition(".")[0], (tag.partition(".")[0].title(), str(ada))))
            await append(house, stream, made_up(kind, ada))
            planted += 1
    return planted


async def ada_of(client: Any, house: House) -> UUID:
    page = (await client.get(f"{house.ours.base}/people", headers=house.ours.headers("audit"))).json()
    (found,) = [one for one in page["items"] if one["email"] == ADA["email"]]
    assert found["name"] == ADA["name"]
    return UUID(found["person_id"])


async def erase(client: Any, house: House, person: UUID, **fields: Any) -> Any:
    wish = {"reason": "subject_request", "confirm": str(person)} | fields
    path = f"{house.ours.base}/people/{person}/erase"
    return await client.post(path, headers=house.ours.headers("admin"), content=body(wish))


async def walk(client: Any, house: House) -> dict[str, str]:
    """Every answer that can be reached by following links."""
    base, found = house.ours.base, dict[str, str]()
    queue = [
        *(f"{base}{path}" for path in (
            "/sessions", f"/sessions/{SESSION}", f"/sessions/{SESSION}/hierarchy", f"/sessions/{SESSION}/insights",
            f"/observability/llm_sessions/{SESSION}/items", "/subagents/active", "/events?limit=1000",
            "/events?limit=1000&order=newest", "/audit_logs?facts=true&limit=1000", "/audit/export", "/audit/certificates",
            "/people", "/api_keys", "/members", f"/sessions/{SESSION}/status",
        )),
        "/metrics", "/health",
    ]  # fmt: skip
    while queue and len(found) < WALK_MAX:
        path = queue.pop(0)
        if path in found or "live" in path or "stream" in path.partition("?")[0]:
            continue
        answer = await client.get(path, headers=house.ours.headers())
        found[path] = answer.text
        assert answer.status_code < 500, (path, answer.text)
        if answer.headers.get("content-type", "").partition(";")[0] == "application/json":
            queue += sorted(links(answer.json()))
    return found


def links(value: Any) -> set[str]:
    found = set[str]()
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "_links" and isinstance(inner, dict):
                found |= {link for link in inner.values() if isinstance(link, str) and link.startswith("/api/v1/")}
            else:
                found |= links(inner)
    elif isinstance(value, list):
        for inner in value:
            found |= links(inner)
    return found


def dark(texts: dict[str, str]) -> list[str]:
    """Where the canary sings."""
    return [place for place, text in texts.items() if CANARY in text.lower()]


async def tables(house: House) -> dict[str, str]:
    """Every row of every table, as text."""
    names = await house.store.pool.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname IN ('crewkit', 'public') AND c.relkind IN ('r', 'p', 'm')"
    )
    return {name: await dumped(house, name) for (name,) in names}


async def dumped(house: House, table: str) -> str:
    import asyncpg  # noqa: PLC0415

    owner = await asyncpg.connect(house.settings.database_url)
    try:
        schema = await owner.fetchval(
            "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = $1", table
        )
        rows = await owner.fetch(f'SELECT t::text FROM {schema}."{table}" t')
    finally:
        await owner.close()
    return "\n".join(row[0] for row in rows)


def files(folder: Path) -> dict[str, str]:
    return {str(path): path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file()}


async def carried(url: str, stream: str) -> dict[str, str]:
    client = await nats.connect(url)
    try:
        js = client.jetstream()
        state = (await js.stream_info(stream)).state
        found = {}
        for number in range(state.first_seq, state.last_seq + 1):
            message = await js.get_msg(stream, seq=number)
            found[f"{message.subject} {number}"] = (message.data or b"").decode(errors="replace") + str(message.headers)
        return found
    finally:
        await client.close()


async def streamed(http: httpx.AsyncClient, house: House, position: int) -> dict[str, str]:
    """A live stream from the very beginning up to `position`."""
    headers = {**house.ours.headers(), "Last-Event-ID": "0"}
    lines: list[str] = []
    async with asyncio.timeout(20), http.stream("GET", f"{house.ours.base}/events/stream", headers=headers) as answer:
        async for line in answer.aiter_lines():
            lines.append(line)
            if line.startswith("id: ") and int(line[4:]) >= position:
                break
    return {"the live stream": "\n".join(lines)}


@pytest.mark.integration
async def test_no_place_keeps_a_word_of_an_erased_person(
    settings: Settings, house: House, nats_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = fresh_names()
    connected = msgspec.structs.replace(settings, nats_url=nats_url, consolidate_after_s=0)
    consolidator = Consolidator(connected, house.store.pool, house.store, LocalObjects(tmp_path / "objects"))
    async with serving(create_app(connected)) as live, httpx.AsyncClient(base_url=live.url, timeout=30) as http:
        await tell(http, house)
        await house.project()
        ada = await ada_of(http, house)
        assert await plant(house, ada) > 20
        await house.project()
        assert await consolidator.run() == 1
        await house.project()
        signer = await sealed(house)
        before = dark(await walk(http, house))
        assert len(before) > 8, before  # else this walk would prove nothing
        assert [name for name in dark(await tables(house)) if name.startswith("prompt__g")]
        old = await exported(http, house.ours)

        answer = await erase(http, house, ada)
        assert answer.status_code == 200, answer.text

        # At once, before any projector has heard of it: what is opened on demand stays shut.
        items = await http.get(
            f"{house.ours.base}/observability/llm_sessions/{SESSION}/items", headers=house.ours.headers()
        )
        history = await http.get(f"{house.ours.base}/events?limit=1000", headers=house.ours.headers())
        assert dark({"items": items.text, "history": history.text}) == []

        await house.project()
        await sealed(house)
        for _ in range(2):  # as they are, and filled anew from the first event
            texts = await walk(http, house)
            assert len(texts) > 40
            assert dark(texts) == []
            assert dark(await tables(house)) == []
            for projection in collect(projections, Projection):
                await rebuild(connected, projection.name)
        async with running(run_relay(connected, names)):
            head = await house.store.head()

            async def relayed() -> bool:
                return await house.store.pool.fetchval("SELECT position FROM crewkit.relay") >= head

            await until(relayed)
        assert len(blocks := await carried(nats_url, names.stream)) > 0
        assert dark(blocks) == []
        told_last = (await house.store.read_stream(house.ours.org_id, Stream("LlmSession", SESSION)))[-1]
        assert dark(await streamed(http, house, told_last.position)) == []
        assert len(files(tmp_path / "objects")) > 0
        assert dark(files(tmp_path)) == []
        # Later words of the same person are not even kept.
        await http.post(
            f"{house.ours.base}/observability/events",
            headers=house.ours.headers(),
            content=body({"events": [told("UserPromptSubmit", 99, prompt=f"again {CANARY}", prompt_id="p9")]}),
        )
        await house.project()
        assert dark(await walk(http, house)) == []
        assert dark(await tables(house)) == []
        # The proof does not mind.
        assert checked(old, signer).ok
        assert checked(await exported(http, house.ours), signer).ok
    shown = capfd.readouterr()
    assert "request.handled" in shown.out + shown.err
    assert dark({"stdout": shown.out, "stderr": shown.err}) == []


async def test_the_certificate_is_signed_kept_and_the_same_when_asked_again(
    client: AsyncTestClient[Any], house: House
) -> None:
    await tell(client, house)
    await house.project()
    ada = await ada_of(client, house)
    first = await erase(client, house, ada)
    again = await erase(client, house, ada, reason="legal_obligation")
    assert again.json() == first.json()
    found = first.json()
    text, signatures = parse_signed(found["note"])
    assert is_signed_by(parse_key(found["public_key"]), text, signatures)
    assert CANARY not in first.text.lower()
    assert (found["status"], found["reason"], len(found["subjects"])) == ("certified", "subject_request", 1)
    assert len(found["subjects"][0]["key_sha256"]) == 64
    headers = house.ours.headers("audit")
    assert (await client.get(found["_links"]["self"], headers=headers)).json() == found
    await house.project()
    listed = (await client.get(f"{house.ours.base}/audit/certificates", headers=headers)).json()
    assert [(one["erasure_id"], one["status"]) for one in listed["items"]] == [(found["erasure_id"], "certified")]
    (person,) = [
        one
        for one in (await client.get(f"{house.ours.base}/people", headers=headers)).json()["items"]
        if one["person_id"] == str(ada)
    ]
    assert (person["email"], person["name"]) == (None, None)
    assert person["erased_at"]
    elsewhere = await client.get(
        f"{house.theirs.base}/audit/certificates/{found['erasure_id']}", headers=house.theirs.headers("audit")
    )
    assert elsewhere.status_code == 404


async def test_an_erasure_needs_a_reason_a_confirmation_and_a_person(
    client: AsyncTestClient[Any], house: House
) -> None:
    await tell(client, house)
    await house.project()
    ada = await ada_of(client, house)
    for fields, status, code in (
        ({"confirm": None}, 422, "confirmation_required"),
        ({"confirm": str(house.ours.owner_id)}, 422, "confirmation_required"),
        ({"reason": "she asked nicely"}, 422, "validation_failed"),
        ({"reason": 7}, 400, "validation_failed"),
        ({"force": True}, 400, "validation_failed"),
    ):
        answer = await erase(client, house, ada, **fields)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), fields
    nobody = UUID(int=12)
    assert (await erase(client, house, nobody)).status_code == 404
    theirs = await client.post(
        f"{house.theirs.base}/people/{ada}/erase",
        headers=house.theirs.headers("admin"),
        content=body({"reason": "subject_request", "confirm": str(ada)}),
    )
    assert theirs.status_code == 404
    assert await ada_of(client, house) == ada


@pytest.mark.integration
async def test_another_process_forgets_the_key_at_once_when_it_is_told(
    settings: Settings, house: House, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two API processes; the second has the key in its memory, for a minute if nobody spoke."""
    connected = msgspec.structs.replace(settings, nats_url=nats_url)
    one, two = create_app(connected), create_app(connected)
    async with (
        serving(one) as first,
        serving(two) as second,
        httpx.AsyncClient(base_url=first.url, timeout=30) as http,
        httpx.AsyncClient(base_url=second.url, timeout=30) as other,
    ):
        await tell(http, house)
        await house.project()
        ada = await ada_of(other, house)
        path = f"{house.ours.base}/events?type=hook.recorded.v1"
        assert CANARY in (await other.get(path, headers=house.ours.headers())).text.lower()

        async def both() -> bool:
            return bool(one.state.services.bus.connected and two.state.services.bus.connected)

        await until(both)
        await erase(http, house, ada)

        async def shut() -> bool:
            return CANARY not in (await other.get(path, headers=house.ours.headers())).text.lower()

        await until(shut)


@pytest.mark.integration
async def test_another_process_that_no_message_reaches_asks_by_itself(settings: Settings, house: House) -> None:
    """No NATS: the second process holds the key, and drops it as soon as it opens something again."""
    alone = msgspec.structs.replace(settings, nats_url=None)
    async with (
        serving(create_app(alone)) as first,
        serving(create_app(alone)) as second,
        httpx.AsyncClient(base_url=first.url, timeout=30) as http,
        httpx.AsyncClient(base_url=second.url, timeout=30) as other,
    ):
        await tell(http, house)
        await house.project()
        ada = await ada_of(other, house)
        path = f"{house.ours.base}/events?type=hook.recorded.v1"
        assert CANARY in (await other.get(path, headers=house.ours.headers())).text.lower()
        await erase(http, house, ada)

        async def shut() -> bool:
            return CANARY not in (await other.get(path, headers=house.ours.headers())).text.lower()

        await until(shut)
