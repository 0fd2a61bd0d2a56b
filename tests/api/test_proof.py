"""Exports over HTTP: complete and provable for one organization, silent about the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from litestar.testing import AsyncTestClient

from domain.proof.lines import Head, Shown, Skipped, read_line
from domain.proof.merkle import check_consistency, leaf_hash, root_of_inclusion
from domain.proof.note import parse_note
from domain.proof.verify import Report, verify
from eventstore.proof import Signer, is_signed_by, log_name, seal
from eventstore.sealing import load_or_create_master_key
from projections import proof
from tests.api.house import House, Place, body, hook


async def sealed(house: House) -> Signer:
    """Seal what is there, as the sealer does."""
    async with house.store.pool.acquire() as connection:
        signer = Signer(load_or_create_master_key(Path(house.settings.key_file or "")), await log_name(connection))
        await seal(connection, signer)
    return signer


async def happen(client: Any, place: Place, count: int, name: str = "s") -> None:
    events = [{"payload": hook(f"{name}{n % 3}", prompt=f"prompt {n}"), "id": f"{name}{n}"} for n in range(count)]
    answer = await client.post(
        f"{place.base}/observability/events", headers=place.headers(), content=body({"events": events})
    )
    assert answer.status_code == 202, answer.text


async def exported(client: Any, place: Place, **query: Any) -> list[bytes]:
    answer = await client.get(f"{place.base}/audit/export", headers=place.headers("audit"), params=query)
    assert answer.status_code == 200, answer.text
    return answer.content.splitlines(keepends=True)


def checked(lines: list[bytes], signer: Signer, **options: Any) -> Report:
    return verify(lines, is_signed_by, trusted=[signer.public.fingerprint], **options)


async def test_an_export_proves_all_of_one_organization_and_shows_nothing_of_another(
    client: AsyncTestClient[Any], house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "PAGE_EVENTS", 7)  # several pages, one of them empty
    for round_ in range(3):
        await happen(client, house.ours, 14, f"a{round_}-")
        await happen(client, house.theirs, 300 * (round_ == 1) + 3, f"b{round_}-")
        signer = await sealed(house)
    for place in (house.ours, house.theirs):
        lines = await exported(client, place)
        report = checked(lines, signer)
        assert report.problems == []
        assert report.pinned
        stored = await house.store.read_all(0, 5_000, org_id=place.org_id)
        shown = [line for line in map(read_line, lines) if isinstance(line, Shown)]
        assert [(one.position, one.event_id, one.data) for one in shown] == [
            (one.position, one.event_id, one.data.decode()) for one in stored
        ]
        assert {type(line).__name__ for line in map(read_line, lines)} == {"Head", "Shown", "Skipped", "End"}
    part = await exported(client, house.ours, after=1)
    report = checked(part, signer)
    assert report.problems == []
    assert report.events_before > 0
    assert len(part) < len(await exported(client, house.ours))
    assert checked(await exported(client, house.ours, until=2, include=[1]), signer).ok


async def test_an_export_is_of_the_past_that_was_sealed(client: AsyncTestClient[Any], house: House) -> None:
    early = await client.get(f"{house.ours.base}/audit/export", headers=house.ours.headers("audit"))
    assert (early.status_code, early.headers["retry-after"]) == (503, "10")
    signer = await sealed(house)
    before = checked(await exported(client, house.ours), signer)
    await happen(client, house.ours, 5)
    assert checked(await exported(client, house.ours), signer).events == before.events
    await sealed(house)
    assert checked(await exported(client, house.ours), signer).events > before.events


@pytest.mark.parametrize(
    "query", ["until=9", "after=9", "include=9", "after=2&until=1", "after=1&include=0", "after=x"]
)
async def test_checkpoints_that_do_not_exist_are_refused(
    client: AsyncTestClient[Any], house: House, query: str
) -> None:
    for _ in range(2):
        await happen(client, house.ours, 1, f"s{_}")
        await sealed(house)
    answer = await client.get(f"{house.ours.base}/audit/export?{query}", headers=house.ours.headers("audit"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_failed")


async def test_a_row_that_was_changed_in_the_database_is_named(
    client: AsyncTestClient[Any], house: House, postgres_url: str
) -> None:
    import asyncpg  # noqa: PLC0415

    await happen(client, house.ours, 3)
    signer = await sealed(house)
    owner = await asyncpg.connect(postgres_url)
    position = await owner.fetchval("SELECT max(position) FROM crewkit.event WHERE org_id = $1", house.ours.org_id)
    await owner.execute("SET session_replication_role = replica")  # a superuser, past every trigger
    await owner.execute(
        "UPDATE crewkit.event SET data = replace(data::text, 'UserPrompt', 'UserPrimpt')::json WHERE position = $1",
        position,
    )
    await owner.close()
    report = checked(await exported(client, house.ours), signer)
    assert not report.ok


async def test_one_event_and_two_checkpoints_are_proven_by_the_standard(
    client: AsyncTestClient[Any], house: House
) -> None:
    await happen(client, house.ours, 20)
    await sealed(house)
    await happen(client, house.theirs, 20)
    await sealed(house)
    headers = house.ours.headers("audit")
    listed = (await client.get(f"{house.ours.base}/audit/checkpoints?limit=1", headers=headers)).json()
    assert [one["number"] for one in listed["items"]] == [2]
    older = (await client.get(listed["_links"]["next"], headers=headers)).json()
    assert ([one["number"] for one in older["items"]], older["next_before"]) == ([1], None)
    last, first = listed["items"][0], older["items"][0]
    assert parse_note(last["note"])[0].root.hex() == last["root"]
    events = await house.store.read_all(0, 100, org_id=house.ours.org_id)
    for one in events[:3] + events[-3:]:
        found = (await client.get(f"{house.ours.base}/audit/events/{one.event_id}/proof", headers=headers)).json()
        path = [bytes.fromhex(step) for step in found["path"]]
        leaf = leaf_hash(bytes.fromhex(found["leaf"]))
        assert found["index"] == one.position - 1
        assert root_of_inclusion(found["index"], last["size"], leaf, path).hex() == last["root"]
    answer = await client.get(f"{house.ours.base}/audit/consistency?first=1&second=2", headers=headers)
    path = [bytes.fromhex(step) for step in answer.json()["path"]]
    roots = bytes.fromhex(first["root"]), bytes.fromhex(last["root"])
    check_consistency(first["size"], roots[0], last["size"], roots[1], path)
    theirs = (await house.store.read_all(0, 1, org_id=house.theirs.org_id))[0]
    for path_, status in (
        (f"/audit/events/{theirs.event_id}/proof", 404),
        (f"/audit/events/{UUID(int=7)}/proof", 404),
        ("/audit/consistency?first=2&second=1", 400),
        ("/audit/consistency?first=1&second=9", 400),
        ("/audit/checkpoints/9", 404),
        ("/audit/checkpoints/0", 404),
        ("/audit/checkpoints/1", 200),
    ):
        assert (await client.get(house.ours.base + path_, headers=headers)).status_code == status, path_
    await happen(client, house.ours, 1, "late")
    fresh = (await house.store.read_all(0, 100, org_id=house.ours.org_id))[-1]
    answer = await client.get(f"{house.ours.base}/audit/events/{fresh.event_id}/proof", headers=headers)
    assert answer.status_code == 503


async def test_an_export_is_written_while_it_is_read(http: httpx.AsyncClient, house: House) -> None:
    await happen(http, house.ours, 40)
    await sealed(house)
    async with http.stream("GET", f"{house.ours.base}/audit/export", headers=house.ours.headers("audit")) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.headers["content-disposition"].endswith('-1.jsonl"')
        lines = [line async for line in answer.aiter_lines()]
    assert isinstance(read_line(lines[0].encode() + b"\n"), Head)
    assert any(isinstance(read_line(line.encode() + b"\n"), Skipped) for line in lines)


async def test_a_new_key_goes_on_where_the_old_one_ended(client: AsyncTestClient[Any], house: House) -> None:
    """Checkpoints of both keys stand in one export; who is asked to be trusted is the one who signed last."""
    old = await sealed(house)
    await happen(client, house.ours, 3)
    async with house.store.pool.acquire() as connection:
        new = Signer(b"n" * 32, old.public.name)
        await seal(connection, new)
    lines = await exported(client, house.ours)
    report = checked(lines, new)
    assert report.problems == []
    assert report.fingerprints == sorted([old.public.fingerprint, new.public.fingerprint])
    assert not checked(lines, old).ok
    assert checked(await exported(client, house.ours, until=1), old).ok
