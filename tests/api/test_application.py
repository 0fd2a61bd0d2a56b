"""What holds for every route: error format, request ids, limits, health, metrics, documentation."""

from __future__ import annotations

from typing import Any


async def test_health_names_each_component(client: Any) -> None:
    answer = await client.get("/health")
    assert answer.status_code == 200
    parts = answer.json()["components"]
    assert parts["database"]["status"] == "ok"
    assert parts["nats"]["status"] == "degraded"
    assert parts["projection.directory"]["details"]["lag"] == 0
