"""What callers see of consolidation: the stream status, the same items before and after, and the metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from eventstore.objects import LocalObjects
from tests.api.house import House, body, hook
from workers.consolidate import Consolidator


async def told(client: Any, house: House) -> Any:
    await house.project()
    answer = await client.get(f"{house.ours.base}/sessions/s1", headers=house.ours.headers())
    [llm] = answer.json()["llm_sessions"]
    return llm


async def send(client: Any, house: House, *kinds: str) -> None:
    events = [{"payload": hook("s1", kind, prompt_id=kind), "id": kind} for kind in kinds]
    path = f"{house.ours.base}/observability/events"
    assert (await client.post(path, headers=house.ours.headers(), content=body({"events": events}))).status_code == 202


async def test_the_status_goes_from_streaming_to_completed_and_back(
    client: Any, house: House, settings: Any, tmp_path: Path
) -> None:
    at_once = msgspec.structs.replace(settings, consolidate_after_s=0)
    consolidator = Consolidator(at_once, house.store.pool, house.store, LocalObjects(tmp_path / "objects"))
    items = f"{house.ours.base}/observability/llm_sessions/s1/items"

    await send(client, house, "SessionStart", "UserPromptSubmit")
    assert (await told(client, house))["stream_status"] == "streaming"
    assert await consolidator.run() == 0

    await send(client, house, "SessionEnd")
    await house.project()
    before = (await client.get(items, headers=house.ours.headers())).json()
    assert before["stream_status"] == "streaming"
    assert await consolidator.run() == 1
    llm = await told(client, house)
    assert llm["stream_status"] == "completed"
    assert (llm["consolidated"]["generations"], llm["consolidated"]["items"]) == (1, 3)
    after = (await client.get(items, headers=house.ours.headers())).json()
    assert after == {**before, "stream_status": "completed"}

    await send(client, house, "Notification")
    assert (await told(client, house))["stream_status"] == "streaming"
    metrics = (await client.get("/metrics", headers=house.ours.headers())).text
    assert "crewkit_consolidation_items_total 3.0" in metrics
    assert "crewkit_consolidation_backlog 0.0" in metrics
