"""`batch_id`: the same batch is stored once, and its name for other content is a clear refusal that stores nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from commands.bus import Principal
from commands.sessions import ingest_batches, ingest_hooks, ingest_items
from commands.sessions.batches import BatchIdError, BatchReusedError
from eventstore.batches import MemoryBatches
from eventstore.memory import MemoryStore
from eventstore.port import Append, Outcome, StoreUnavailableError
from schemas.ingest import HookEnvelope, ItemBatch, SessionItems

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ORG = UUID(int=1)
SENDER = Principal(actor="key:1", org_id=ORG, person_id=UUID(int=2), scopes=frozenset({"ingest"}))


class Place:
    """A store, what names of batches stood for, and the ways to send one."""

    def __init__(self) -> None:
        self.store: Any = MemoryStore()
        self.names = MemoryBatches()

    async def hooks(self, batch_id: str | None, *prompts: str, session: str = "s") -> Any:
        envelopes = [
            HookEnvelope(
                payload={"session_id": session, "hook_event_name": "UserPromptSubmit", "prompt_id": one}, at=NOW
            )
            for one in prompts
        ]
        return await ingest_hooks(self.store, SENDER, envelopes, received_at=NOW, batch_id=batch_id, names=self.names)

    async def items(self, batch_id: str | None, *lines: str, session: str = "s") -> Any:
        batch = ItemBatch(items=[{"type": "user", "uuid": one} for one in lines], batch_id=batch_id)
        return await ingest_items(self.store, SENDER, session, batch, received_at=NOW, names=self.names)

    async def many(self, *batches: tuple[str | None, str, str]) -> Any:
        sent = [
            SessionItems(items=[{"type": "user", "uuid": line}], batch_id=batch_id, llm_session_id=session)
            for batch_id, session, line in batches
        ]
        return await ingest_batches(self.store, SENDER, sent, received_at=NOW, names=self.names)


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture(params=["hooks", "items"])
def send(request: pytest.FixtureRequest, place: Place) -> Any:
    return getattr(place, request.param)


async def test_the_same_batch_again_is_all_duplicates(place: Place, send: Any) -> None:
    first = await send("b", "1", "2")
    head = await place.store.head()
    again = await send("b", "1", "2")
    assert (first.accepted, again.accepted, again.duplicate) == (2, 0, 2)
    assert await place.store.head() == head


@pytest.mark.parametrize("other", [("1",), ("1", "3"), ("1", "2", "3"), ("2", "1")])
async def test_its_name_for_other_content_is_refused_and_nothing_is_stored(
    place: Place, send: Any, other: tuple[str, ...]
) -> None:
    await send("b", "1", "2")
    head = await place.store.head()
    with pytest.raises(BatchReusedError, match="batch_id b was used for other content") as refused:
        await send("b", *other)
    assert refused.value.details == {"field": "batch_id", "batch_id": "b"}
    assert await place.store.head() == head


async def test_the_same_content_of_another_session_is_other_content(place: Place, send: Any) -> None:
    await send("b", "1")
    with pytest.raises(BatchReusedError):
        await send("b", "1", session="other")


async def test_without_a_name_nothing_is_refused(place: Place, send: Any) -> None:
    await send(None, "1")
    assert (await send(None, "1", "2")).accepted == 1


@pytest.mark.parametrize("batch_id", ["", "x" * 201, "a\nb"])
async def test_what_cannot_be_a_name_is_refused(place: Place, send: Any, batch_id: str) -> None:
    with pytest.raises(BatchIdError):
        await send(batch_id, "1")
    assert await place.store.head() == 0


async def test_many_batches_each_have_their_name(place: Place) -> None:
    await place.many(("b1", "s1", "1"), ("b2", "s2", "1"), (None, "s3", "1"))
    answers = await place.many(("b1", "s1", "1"), ("b3", "s2", "2"))
    assert [(one.accepted, one.duplicate) for one in answers] == [(0, 1), (1, 0)]
    head = await place.store.head()
    with pytest.raises(BatchReusedError, match="batch_id b2 "):
        await place.many(("b4", "s4", "1"), ("b2", "s2", "9"))
    assert await place.store.head() == head


async def test_one_request_cannot_use_a_name_twice_for_different_content(place: Place) -> None:
    with pytest.raises(BatchReusedError):
        await place.many(("b", "s1", "1"), ("b", "s1", "2"))
    assert await place.store.head() == 0


async def test_a_batch_that_was_not_stored_has_no_name_yet(place: Place, send: Any) -> None:
    working = place.store

    class Away:
        async def append(self, _: Append) -> Outcome:
            raise StoreUnavailableError("away")

    place.store = Away()
    with pytest.raises(StoreUnavailableError):
        await send("b", "1")
    place.store = working
    assert (await send("b", "2")).accepted == 1
