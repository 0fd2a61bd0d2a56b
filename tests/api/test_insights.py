"""What a model wrote is served beside what the rules say, and goes dark with the person."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import api.health
from commands.summaries import record_summary
from domain.kernel import Sealed
from tests.api.house import House, body, hook
from tests.domain.test_summaries import written
from tests.projections.test_summaries import TEXT


async def test_the_words_of_a_model_are_served_and_shown_to_be_outdated_or_erased(client: Any, house: House) -> None:
    place = f"{house.ours.base}/observability/events"
    events = [{"payload": hook("s1", kind)} for kind in ("SessionStart", "UserPromptSubmit", "SessionEnd")]
    answer = await client.post(place, content=body({"events": events}), headers=house.ours.headers())
    assert answer.status_code == 202, answer.text
    await house.project()
    where = f"{house.ours.base}/sessions/s1/insights"
    before = await client.get(where, headers=house.ours.headers())
    assert before.json()["ai"] is None
    owner = house.ours.owner_id
    sealed = Sealed(owner, msgspec.json.encode(TEXT).decode())
    event = msgspec.structs.replace(written(5, 1), person_id=owner, text=sealed)
    await record_summary(house.store, house.ours.org_id, event, causation_id=owner)
    await house.project()
    shown = (await client.get(where, headers=house.ours.headers())).json()
    assert shown["ai"]["written"] == msgspec.to_builtins(TEXT)
    assert (shown["ai"]["model"], shown["ai"]["erased"]) == (event.model, False)
    assert shown["ai"]["current"] is False  # the session's activity is newer than what was written about
    assert shown["generated_by"] == "rules"
    theirs = await client.get(f"{house.theirs.base}/sessions/s1/insights", headers=house.theirs.headers())
    assert theirs.status_code == 404
    await house.ring.destroy(house.ours.org_id, owner)
    client.app.state.services.keyring._keys.clear()  # as a minute later
    dark = (await client.get(where, headers=house.ours.headers())).json()["ai"]
    assert (dark["written"], dark["erased"], dark["model"]) == (None, True, event.model)


async def test_effects_that_were_given_up_are_told_by_health_and_metrics(
    client: Any, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.health, "WAITED_S_MAX", 3_600.0)  # a house is a copy of one that was made a while ago
    part = (await client.get("/health")).json()["components"]["reactor"]
    assert part["status"] == "ok"
    assert part["details"] == {"lag": part["details"]["lag"], "position": 0, "waiting": 0, "dead": 0}
    await house.store.pool.execute(
        "INSERT INTO crewkit.reaction (kind, event_id, org_id, position, state, due_at)"
        " VALUES ('session.summary', gen_random_uuid(), gen_random_uuid(), 1, 'dead', clock_timestamp())"
    )
    part = (await client.get("/health")).json()["components"]["reactor"]
    assert (part["status"], part["details"]["dead"]) == ("degraded", 1)
    assert "crewkit reactions list" in part["message"]
    text = (await client.get("/metrics", headers=house.ours.headers())).text
    assert 'crewkit_reactions{kind="session.summary",state="dead"} 1.0' in text
