"""Everything about a person in one archive: whole, theirs alone, resumable, and gone with its time or with the person."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any
from uuid import UUID

import httpx
import pytest
from litestar.testing import AsyncTestClient

from commands import data_exports
from commands.data_exports import write_export
from domain.data_exports.decide import KEEP
from domain.kernel import Sealed, Stream
from domain.users.events import UserPasswordChanged
from eventstore.port import Append, Meta, NewEvent
from tests.api.house import House, body, hook
from tests.api.test_erasure import ADA, CANARY, ada_of, dark, erase, tables, tell
from tests.workers.tally import AT
from workers.scheduler import Tools, expire_data_exports, write_data_exports

BOB = {"email": "bob@example.com", "name": "Bob"}


async def asked(client: Any, house: House, person: UUID, key: str = "admin", **headers: str) -> Any:
    path = f"{house.ours.base}/people/{person}/export"
    return await client.post(path, headers={**house.ours.headers(key), **headers})


def tools_of(house: House) -> Tools:
    pool: Any = house.store.pool
    return Tools(house.settings, pool, house.store, None, None)  # type: ignore[arg-type]  these jobs store no object


async def written(house: House) -> None:
    await house.project()
    assert await write_data_exports(tools_of(house)) == 1
    await house.project()


async def fetched(client: Any, house: House, path: str) -> zipfile.ZipFile:
    answer = await client.get(path, headers=house.ours.headers("admin"))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    file = zipfile.ZipFile(io.BytesIO(answer.content))
    assert file.testzip() is None
    return file


def events_of(file: zipfile.ZipFile, org_id: UUID) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read(f"events/{org_id}.jsonl").splitlines()]


async def told_by_bob(client: Any, house: House) -> None:
    events = [{"payload": hook("bobs", prompt="bobs own words"), "id": "b1", "user": BOB}]
    await client.post(
        f"{house.ours.base}/observability/events", headers=house.ours.headers(), content=body({"events": events})
    )


async def test_an_archive_holds_everything_about_the_person_and_nothing_of_others(
    client: AsyncTestClient[Any], house: House
) -> None:
    await tell(client, house)
    await told_by_bob(client, house)
    await house.project()
    ada = await ada_of(client, house)
    secret = UserPasswordChanged(
        user_id=ada, by="reset", password_hash=Sealed(ada, f"$argon2id${CANARY}-hash"), changed_at=AT
    )
    await house.store.append(
        Append(org_id=house.ours.org_id, stream=Stream("User", str(ada)), events=[NewEvent(secret)])
    )
    answer = await asked(client, house, ada)
    assert answer.status_code == 202, answer.text
    path = answer.headers["location"]
    headers = house.ours.headers("admin")
    early = await client.get(f"{path}/download", headers=headers)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "conflict")
    assert (await asked(client, house, ada)).status_code == 409  # one at a time
    await written(house)
    view = (await client.get(path, headers=headers)).json()
    assert (view["status"], view["_links"]["download"]) == ("ready", f"{path}/download")
    file = await fetched(client, house, view["_links"]["download"])
    assert sorted(file.namelist()) == [f"events/{house.ours.org_id}.jsonl", "index.html", "person.json"]
    events = events_of(file, house.ours.org_id)
    stored = await house.store.read_all(0, 1_000, org_id=house.ours.org_id)
    mine = [one for one in stored if ada.hex in (text := one.data.decode()) or str(ada) in text]
    assert [one["position"] for one in events] == [
        one.position for one in mine if one.type != "data_export.requested.v1"
    ]
    text = file.read(f"events/{house.ours.org_id}.jsonl").decode()
    assert f"hello {CANARY}" in text
    assert f"echo {CANARY}" in text
    assert "bobs own words" not in text
    assert "-hash" not in text  # secrets are no news to anybody
    summary = json.loads(file.read("person.json"))
    assert (summary["emails"], summary["names"]) == ([ADA["email"]], [ADA["name"]])
    assert view["events"] == len(events) == sum(summary["events"][str(house.ours.org_id)].values())
    page = file.read("index.html").decode()
    assert ADA["email"] in page
    assert "hook.recorded.v1" in page
    await house.project()
    listed = (await client.get(f"{house.ours.base}/data_exports", headers=headers)).json()
    assert [(one["export_id"], one["status"]) for one in listed["items"]] == [(view["export_id"], "ready")]
    kinds = [
        one.type for one in await house.store.read_stream(house.ours.org_id, Stream("DataExport", view["export_id"]))
    ]
    assert kinds == ["data_export.requested.v1", "data_export.completed.v1", "data_export.downloaded.v1"]
    theirs = house.theirs.headers("admin")
    assert (
        await client.get(f"{house.theirs.base}/data_exports/{view['export_id']}", headers=theirs)
    ).status_code == 404
    assert (
        await client.get(f"{house.theirs.base}/data_exports/{view['export_id']}/download", headers=theirs)
    ).status_code == 404


async def test_writing_goes_on_where_it_was_cut_off(
    client: AsyncTestClient[Any], house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_exports, "PAGE_EVENTS", 3)
    await tell(client, house)
    await house.project()
    ada = await ada_of(client, house)
    whole = (await asked(client, house, ada)).json()
    await written(house)
    first = events_of(await fetched(client, house, f"{whole['_links']['self']}/download"), house.ours.org_id)
    await client.delete(whole["_links"]["self"], headers=house.ours.headers("admin"))
    again = (await asked(client, house, ada)).json()
    runs = 0
    while not await write_export(
        house.store, house.store.pool, house.ring, house.ours.org_id, UUID(again["export_id"]), until_s=0, meta=Meta()
    ):
        runs += 1  # the time was over after every page
    assert runs > 5
    parts = await house.store.pool.fetchval(
        "SELECT count(*) FROM crewkit.data_export_part WHERE export_id = $1", UUID(again["export_id"])
    )
    assert parts == runs + 1
    second = events_of(await fetched(client, house, f"{again['_links']['self']}/download"), house.ours.org_id)
    assert second[: len(first)] == first


async def test_what_is_stored_of_an_archive_is_unreadable_and_dark_after_an_erasure(
    client: AsyncTestClient[Any], house: House
) -> None:
    await tell(client, house)
    await house.project()
    ada = await ada_of(client, house)
    view = (await asked(client, house, ada)).json()
    await written(house)
    kept = {name: text for name, text in (await tables(house)).items() if name == "data_export_part"}
    assert len(kept["data_export_part"]) > 100
    assert dark(kept) == []
    path = f"{view['_links']['self']}/download"
    await fetched(client, house, path)
    assert (await erase(client, house, ada)).status_code == 200
    assert (await client.get(path, headers=house.ours.headers("admin"))).status_code == 404
    assert (await asked(client, house, ada)).status_code == 409  # until the dark one is given up
    await client.delete(view["_links"]["self"], headers=house.ours.headers("admin"))
    late = (await asked(client, house, ada)).json()
    await written(house)
    answer = await client.get(late["_links"]["self"], headers=house.ours.headers("admin"))
    assert answer.json()["status"] == "expired"  # there is nothing left to tell


async def test_an_archive_is_deleted_when_its_time_is_over_or_it_is_given_up(
    client: AsyncTestClient[Any], house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.data_exports.decide.KEEP", KEEP * 0)
    await tell(client, house)
    await house.project()
    ada = await ada_of(client, house)
    headers = house.ours.headers("admin")
    old = (await asked(client, house, ada)).json()
    await written(house)
    assert (await client.get(f"{old['_links']['self']}/download", headers=headers)).status_code == 404
    count = "SELECT count(*) FROM crewkit.data_export_part"
    assert await house.store.pool.fetchval(count) > 0
    assert await expire_data_exports(tools_of(house)) == 1
    assert await house.store.pool.fetchval(count) == 0
    await house.project()
    assert await expire_data_exports(tools_of(house)) == 0
    assert (await client.get(old["_links"]["self"], headers=headers)).json()["status"] == "expired"

    monkeypatch.undo()
    answer = await asked(client, house, ada)
    assert int(answer.headers["crewkit-position"]) == await house.store.head()
    fresh = answer.json()
    await written(house)
    for head in (await house.store.head() + 1, None):  # the second time there is nothing to do
        gone = await client.delete(fresh["_links"]["self"], headers=headers)
        assert (gone.status_code, gone.headers.get("crewkit-position")) == (204, str(head) if head else None)
    assert (await client.get(f"{fresh['_links']['self']}/download", headers=headers)).status_code == 404
    await house.project()
    assert await house.store.pool.fetchval(count) > 0
    assert await expire_data_exports(tools_of(house)) == 1
    assert await house.store.pool.fetchval(count) == 0


async def test_an_archive_that_grows_too_large_is_given_up(
    client: AsyncTestClient[Any], house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_exports, "STORED_BYTES_MAX", 10)
    await tell(client, house)
    await house.project()
    view = (await asked(client, house, await ada_of(client, house))).json()
    await written(house)
    answer = await client.get(view["_links"]["self"], headers=house.ours.headers("admin"))
    assert answer.json()["status"] == "expired"
    stream = Stream("DataExport", view["export_id"])
    last: Any = (await house.store.read_stream(house.ours.org_id, stream))[-1].event
    assert last.reason == "too_large"


async def test_asking_twice_with_one_idempotency_key_is_asking_once(http: httpx.AsyncClient, house: House) -> None:
    await tell(http, house)
    await house.project()
    ada = await ada_of(http, house)
    one, two = [await asked(http, house, ada, **{"Idempotency-Key": "k"}) for _ in range(2)]
    assert (one.status_code, two.status_code) == (202, 202)
    assert one.json() == two.json()
    assert (await asked(http, house, UUID(int=12))).status_code == 404
