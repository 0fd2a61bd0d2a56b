"""A reader of the log that hangs is seen by the age of what it leaves, long before it is many events behind."""

from __future__ import annotations

from typing import Any

import pytest

import api.health as module
from tests.api.house import House, hook


def parts_named(found: dict[str, Any], message: str) -> set[str]:
    return {name for name, part in found.items() if message in part.get("message", "")}


async def test_what_nobody_reads_for_a_minute_is_named(
    client: Any, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given events that only the projections have read, when they are old, then health names relay and reactor."""
    monkeypatch.setattr(module, "WAITED_S_MAX", 3_600.0)  # a house is a copy of one that was made a while ago
    fresh = (await client.get("/health")).json()["components"]
    assert parts_named(fresh, "behind") == set()
    monkeypatch.setattr(module, "WAITED_S_MAX", 0.0)
    old = (await client.get("/health")).json()["components"]
    assert parts_named(old, "behind: its oldest event waits for ") == {"relay", "reactor"}
    assert {old["relay"]["status"], old["reactor"]["status"]} == {"degraded"}


async def test_a_projection_that_hangs_is_named_with_its_age(
    client: Any, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITED_S_MAX", 0.0)
    answer = await client.post("/hooks/claude", json=hook("s1"), headers=house.ours.headers())
    assert answer.status_code == 200
    behind = parts_named((await client.get("/health")).json()["components"], "behind")
    assert "projection.sessions" in behind
    text = (await client.get("/metrics", headers=house.ours.headers())).text
    waited = next(line for line in text.splitlines() if 'lag_seconds{generation="1",projection="sessions"}' in line)
    assert float(waited.split()[-1]) > 0
    await house.project()
    behind = parts_named((await client.get("/health")).json()["components"], "behind")
    assert "projection.sessions" not in behind
    text = (await client.get("/metrics", headers=house.ours.headers())).text
    assert 'crewkit_projection_lag_seconds{generation="1",projection="sessions"} 0.0' in text


async def test_a_generation_that_was_replaced_is_not_behind(client: Any, house: House) -> None:
    """Given a rebuild, when events go on, then the old generation, which nobody moves, tells no growing lag."""
    await house.store.pool.execute("UPDATE crewkit.checkpoint SET status = 'retired' WHERE projection = 'directory'")
    text = (await client.get("/metrics", headers=house.ours.headers())).text
    assert 'crewkit_projection_state{generation="1",projection="directory",state="retired"} 1.0' in text
    assert 'crewkit_projection_lag_events{generation="1",projection="directory"}' not in text
    assert 'crewkit_projection_lag_events{generation="1",projection="sessions"}' in text
