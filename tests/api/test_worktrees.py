"""The git worktree of a session through HTTP: told, shown, resolved, dark after erasing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.house import House

PATH = "/work/ada/shop/.crewkit-sessions/s1"


async def start(client: Any, house: House, **more: Any) -> Any:
    path = f"{house.ours.base}/observability/sessions"
    answer = await client.post(path, headers=house.ours.headers(), json={"session_id": "s1", **more})
    await house.project()
    return answer


async def end(client: Any, house: House, **more: Any) -> Any:
    path = f"{house.ours.base}/observability/sessions/s1/end"
    answer = await client.post(path, headers=house.ours.headers(), json=more)
    await house.project()
    return answer


async def shown(client: Any, house: House) -> Any:
    return (await client.get(f"{house.ours.base}/sessions/s1", headers=house.ours.headers())).json()["worktree"]


async def test_a_worktree_is_told_shown_and_resolved(client: Any, house: House) -> None:
    opened = await start(client, house, worktree_path=PATH, worktree_branch="crewkit/s1")
    assert (opened.status_code, opened.json()["changed"]) == (201, True)
    told = await shown(client, house)
    assert (told["path"], told["branch"], told["state"]) == (PATH, "crewkit/s1", "open")
    again = await start(client, house, worktree_path=PATH, worktree_branch="crewkit/s1")
    assert (again.status_code, again.json()["changed"]) == (200, False)
    ended = await end(client, house, worktree="pull_request")
    assert ended.json()["changed"] is True
    assert (await shown(client, house))["state"] == "pull_request"


async def test_a_session_without_one_says_so(client: Any, house: House) -> None:
    await start(client, house)
    assert await shown(client, house) is None
    refused = await end(client, house, worktree="merged")
    assert refused.status_code == 404
    assert (await end(client, house)).json()["changed"] is True


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"worktree_path": PATH}, "worktree_branch"),
        ({"worktree_branch": "b"}, "worktree_path"),
        ({"worktree_path": "", "worktree_branch": "b"}, "worktree_path"),
    ],
)
async def test_bad_input_names_the_field(client: Any, house: House, more: dict[str, str], field: str) -> None:
    answer = await start(client, house, **more)
    error = answer.json()["error"]
    assert (error["code"], error["details"]["field"]) == ("validation_failed", field)


async def test_the_path_is_sealed_and_dark_once_its_person_is_erased(client: Any, house: House) -> None:
    await start(client, house, worktree_path=PATH, worktree_branch="crewkit/s1")
    told = await house.store.read_all(0, 1_000)
    [event] = [one for one in told if one.type == "session.worktree_created.v1"]
    assert b"ada" not in event.data
    await house.ring.destroy(house.ours.org_id, house.ours.owner_id)
    client.app.state.services.keyring._keys.clear()
    told = await shown(client, house)
    assert (told["path"], told["branch"]) == (None, "crewkit/s1")
