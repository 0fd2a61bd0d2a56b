"""Sessions of the dashboard: the caller's current one, listed by kind, used again after they were over."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.house import House


async def start(client: Any, house: House, session: str, kind: str = "dashboard") -> None:
    body = {"session_id": session, "kind": kind}
    path = f"{house.ours.base}/observability/sessions"
    assert (await client.post(path, headers=house.ours.headers(), json=body)).status_code == 201
    await house.project()


async def end(client: Any, house: House, session: str) -> None:
    path = f"{house.ours.base}/observability/sessions/{session}/end"
    assert (await client.post(path, headers=house.ours.headers(), json={})).status_code == 200
    await house.project()


@pytest.mark.parametrize("alias", [False, True])
async def test_the_current_session_is_the_callers_active_one(client: Any, house: House, alias: bool) -> None:
    place = "/api/v2" if alias else house.ours.base
    current, headers = f"{place}/dashboard/session/current", house.ours.headers()
    await start(client, house, "c1", "cli")
    assert (await client.get(current, headers=headers)).status_code == 404
    await start(client, house, "d1")
    found = (await client.get(current, headers=headers)).json()
    assert (found["id"], found["kind"], found["status"]) == ("d1", "dashboard", "active")
    theirs = f"{house.theirs.base}/dashboard/session/current"
    assert (await client.get(theirs, headers=house.theirs.headers())).status_code == 404
    await end(client, house, "d1")
    assert (await client.get(current, headers=headers)).status_code == 404
    again = await client.post(f"{place}/sessions/d1/reset", headers=headers)
    assert (again.status_code, again.json()["changed"]) == (200, True)
    await house.project()
    assert (await client.get(current, headers=headers)).json()["id"] == "d1"
    assert (await client.post(f"{place}/sessions/d1/reset", headers=headers)).json()["changed"] is False


async def test_only_dashboard_sessions_are_used_again(client: Any, house: House) -> None:
    await start(client, house, "c1", "cli")
    await end(client, house, "c1")
    for session, status in (("c1", 409), ("nobody", 404)):
        answer = await client.post(f"{house.ours.base}/sessions/{session}/reset", headers=house.ours.headers())
        assert answer.status_code == status


async def test_sessions_are_listed_by_kind(client: Any, house: House) -> None:
    await start(client, house, "c1", "cli")
    await start(client, house, "d1")
    path = f"{house.ours.base}/sessions"
    found = (await client.get(path, headers=house.ours.headers(), params={"kind": "dashboard"})).json()["items"]
    assert [one["id"] for one in found] == ["d1"]
    assert (await client.get(path, headers=house.ours.headers(), params={"kind": "x"})).status_code == 400
