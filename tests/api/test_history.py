"""History and audit: the event stream itself, one tenant at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import commands
import domain
import eventstore
from commands.organizations import issue
from projections import history
from projections.history import PLATFORM_TYPES, RESOURCE_TYPES
from tests.api.house import House, body, hook


async def prompt(client: Any, house: House, text: str = "my secret plan") -> int:
    path = f"{house.ours.base}/observability/events"
    answer = await client.post(path, headers=house.ours.headers(), content=body(hook("s1", prompt=text)))
    return int(answer.headers["crewkit-position"])


async def test_pages_hang_together_in_both_orders(client: Any, house: House) -> None:
    for order in ("oldest", "newest"):
        seen: list[int] = []
        link = f"{house.ours.base}/events?order={order}&limit=2"
        while True:
            page = (await client.get(link, headers=house.ours.headers("read"))).json()
            seen += [item["position"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            link = f"{house.ours.base}/events?order={order}&limit=2&cursor={page['next_cursor']}"
        stored = [recorded.position for recorded in await house.store.read_all(0, org_id=house.ours.org_id)]
        assert seen == (stored if order == "oldest" else stored[::-1])


@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize(
    "wanted", ["type=hook.recorded.v1", "actor=system:bootstrap", "actor=nobody:none", "type=hook.recorded.v1&after=9"]
)
@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_what_no_index_tells_is_searched_for_in_stretches(
    client: Any, house: House, monkeypatch: pytest.MonkeyPatch, order: str, wanted: str, seconds: float
) -> None:
    """Given a search that ends within a request or does not, when every link is followed, then the list is the same."""
    for number in range(6):
        await prompt(client, house, f"plan {number}")
    link = f"{house.ours.base}/events?{wanted}&order={order}&limit=3"
    expected, _ = await followed(client, house, link)
    monkeypatch.setattr(history, "STRETCH", 2)
    monkeypatch.setattr(history, "SEARCH_S_MAX", seconds)
    found, pages = await followed(client, house, link)
    assert found == expected
    assert bool(found) != ("nobody" in wanted)
    assert pages > 4 if seconds == 0 else pages <= 4


async def followed(client: Any, house: House, link: str | None) -> tuple[list[int], int]:
    """The positions of a list whose links are followed, and how many pages it took."""
    seen: list[int] = []
    pages = 0
    while link is not None:
        page = (await client.get(link, headers=house.ours.headers("audit"))).json()
        assert len(page["items"]) <= 3
        seen += [item["position"] for item in page["items"]]
        pages += 1
        link = page["_links"].get("next")
        assert (link is None) == (page["next_cursor"] is None)
    assert seen == sorted(set(seen), reverse=seen[:1] > seen[-1:])
    return seen, pages


@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_the_audit_view_of_an_actor_is_searched_for_in_stretches(
    client: Any, house: House, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    for number in range(6):
        await prompt(client, house, f"plan {number}")
    link = f"{house.ours.base}/audit_logs?actor=system:bootstrap&limit=3"
    expected, _ = await followed(client, house, link)
    monkeypatch.setattr(history, "STRETCH", 2)
    monkeypatch.setattr(history, "SEARCH_S_MAX", seconds)
    assert (await followed(client, house, link))[0] == expected != []


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 1), (60.0, 3)])
async def test_scans_of_the_audit_view_share_the_time_of_a_request(
    client: Any, house: House, monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    link = f"{house.ours.base}/audit_logs?limit=3"
    expected, _ = await followed(client, house, link)
    monkeypatch.setattr(history, "AUDIT_SCAN_EVENTS", 1)
    monkeypatch.setattr(history, "SEARCH_S_MAX", seconds)
    found, pages = await followed(client, house, link)
    assert found == expected
    assert len(expected) > most
    assert pages - 1 <= -(-len(expected) // most) <= pages


async def test_filters_by_stream_type_actor_and_place_in_the_log(client: Any, house: House) -> None:
    base, headers = f"{house.ours.base}/events", house.ours.headers("read")
    position = await prompt(client, house)

    async def types(query: str) -> list[str]:
        answer = await client.get(f"{base}?{query}", headers=headers)
        assert answer.status_code == 200, answer.text
        return [item["type"] for item in answer.json()["items"]]

    assert await types("stream=LlmSession:s1") == ["hook.recorded.v1"]
    assert await types("type=organization.created.v1") == ["organization.created.v1"]
    assert set(await types("actor=system:bootstrap")) == {"organization.created.v1", "api_key.issued.v1"}
    assert await types(f"after={position - 1}") == ["hook.recorded.v1"]
    assert "hook.recorded.v1" not in await types(f"as_of={position - 1}")
    assert await types("as_of=2001-01-01T00:00:00Z") == []
    assert await types("since=2999-01-01T00:00:00Z") == []
    assert await types("until=2001-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    "query", ["stream=nocolon", "as_of=soon", "since=soon", "limit=0", "cursor=%21%21", "order=up"]
)
async def test_a_filter_that_cannot_be_read_is_named(client: Any, house: House, query: str) -> None:
    answer = await client.get(f"{house.ours.base}/events?{query}", headers=house.ours.headers("read"))
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("query", "near"),
    [
        ("events?type=nope", "v1"),
        ("events?type=session.startd.v1", "session.started.v1"),
        ("events?type=session.started", "session.started.v1"),
        ("events?stream=Bogus:1", "LlmSession"),
        ("audit_logs?resource_type=Bogus", "ApiKey"),
        ("audit_logs?resource_type=session", "Session"),
        ("audit_logs?action=session.startd", "session.started"),
        ("audit_logs?resource=Bogus:1", "ApiKey"),
    ],
)
async def test_a_misspelt_word_does_not_look_like_an_empty_list(
    client: Any, house: House, query: str, near: str
) -> None:
    answer = await client.get(f"{house.ours.base}/{query}", headers=house.ours.headers())
    name = query.partition("?")[2].partition("=")[0]
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["details"]["field"] == name
    assert error["message"].startswith(f"{name}: expected ")
    assert near in error["details"]["expected"]


@pytest.mark.parametrize(
    "query",
    [
        "events?type=session.ended.v1",
        "events?type=session.ended.v7",  # another release may have written it
        "events?stream=Project:none",
        "audit_logs?resource_type=Project",
        "audit_logs?action=session.ended",
        "audit_logs?action=session.ended.v1",
    ],
)
async def test_a_word_that_could_match_and_does_not_is_an_empty_list(client: Any, house: House, query: str) -> None:
    answer = await client.get(f"{house.ours.base}/{query}", headers=house.ours.headers())
    assert (answer.status_code, answer.json()["items"]) == (200, [])


async def test_sealed_text_is_opened_for_auditors_only_and_goes_dark_with_the_key(client: Any, house: House) -> None:
    await prompt(client, house)
    path = f"{house.ours.base}/events?stream=LlmSession:s1"
    (item,) = (await client.get(path, headers=house.ours.headers("read"))).json()["items"]
    assert item["data"]["content"] == {"sealed": True}
    (opened,) = (await client.get(path, headers=house.ours.headers("audit"))).json()["items"]
    assert opened["data"]["content"]["prompt"] == "my secret plan"
    one = await client.get(item["_links"]["self"], headers=house.ours.headers("audit"))
    assert one.json() == opened
    ring = client.app.state.services.keyring
    ring._keys.clear()
    await house.ring.destroy(house.ours.org_id, house.ours.owner_id)
    (dark,) = (await client.get(path, headers=house.ours.headers("audit"))).json()["items"]
    assert dark["data"]["content"] == {"sealed": True, "erased": True}


async def test_another_tenants_events_do_not_exist(client: Any, house: House) -> None:
    theirs = (await house.store.read_all(0, org_id=house.theirs.org_id))[0]
    answer = await client.get(f"{house.ours.base}/events/{theirs.event_id}", headers=house.ours.headers())
    assert answer.status_code == 404
    listed = await client.get(f"{house.ours.base}/events?stream={theirs.stream}", headers=house.ours.headers())
    assert listed.json()["items"] == []
    assert (await client.get(f"{house.ours.base}/events/{uuid4()}", headers=house.ours.headers())).status_code == 404


async def test_the_audit_view_says_who_did_what_and_leaves_reports_of_agents_out(client: Any, house: House) -> None:
    await prompt(client, house)
    made = await issue(house.store, house.ours.org_id, house.ours.owner_id, "ci", ["read"])
    base, headers = f"{house.ours.base}/audit_logs", house.ours.headers("audit")
    page = (await client.get(base, headers=headers)).json()
    newest = page["items"][0]
    assert newest["summary"] == f"the system operator issued API key {made.key_id} with scopes read"
    assert (newest["resource_type"], newest["resource_id"]) == ("ApiKey", str(made.key_id))
    assert "hook.recorded" not in {item["action"] for item in page["items"]}
    (report,) = (await client.get(f"{base}?action=hook.recorded", headers=headers)).json()["items"]
    assert report["details"]["content"]["prompt"] == "my secret plan"
    assert report["actor_kind"] == "key"
    assert (await client.get(newest["_links"]["self"], headers=headers)).json() == newest
    paged = (await client.get(f"{base}?resource_type=ApiKey&limit=1", headers=headers)).json()
    second = (
        await client.get(f"{base}?resource_type=ApiKey&limit=1&cursor={paged['next_cursor']}", headers=headers)
    ).json()
    assert paged["items"][0]["position"] > second["items"][0]["position"]
    assert set(paged["_links"]) == {"self", "next"}
    followed = (await client.get(paged["_links"]["next"], headers=headers)).json()
    assert followed["items"] == second["items"], "a link repeats what was asked for"
    assert (await client.get(followed["_links"]["self"], headers=headers)).json()["items"] == second["items"]
    assert (await client.get("/api/v1/admin/audit_logs", headers=headers)).status_code == 403, "for staff only"
    assert "session.started" in (await client.get(f"{base}/actions", headers=headers)).json()["items"]
    assert "Session" in (await client.get(f"{base}/resource_types", headers=headers)).json()["items"]


async def test_links_of_events_keep_order_and_filters(client: Any, house: House) -> None:
    for label in ("one", "two"):
        await issue(house.store, house.ours.org_id, house.ours.owner_id, label, ["read"])
    headers, shown = house.ours.headers("audit"), []
    path = f"{house.ours.base}/events?type=api_key.issued.v1&order=newest&limit=1"
    while path:
        page = (await client.get(path, headers=headers)).json()
        shown += [(one["type"], one["position"]) for one in page["items"]]
        path = page["_links"].get("next")
    assert {kind for kind, _ in shown} == {"api_key.issued.v1"}
    assert [position for _, position in shown] == sorted({position for _, position in shown}, reverse=True)
    assert len(shown) > 2


def test_every_kind_of_stream_can_be_asked_for() -> None:
    """A kind that the audit view shows and its filter does not name would look as if nothing had been done to it."""
    layers = [Path(layer.__file__ or "").parent for layer in (commands, domain, eventstore)]
    sources = [path.read_text() for layer in layers for path in layer.rglob("*.py")]
    kinds = {kind for source in sources for kind in re.findall(r'\bStream\(\s*"(\w+)"', source)}
    assert len(kinds) > 20, "streams are no longer named like that: adapt this test"
    assert kinds <= {*RESOURCE_TYPES, *PLATFORM_TYPES}
