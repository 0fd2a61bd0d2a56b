"""Items on their way to the object store: complete, sealed, once, whatever fails in between.  A folder and a real S3 server."""

from __future__ import annotations

import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import msgspec
import pytest

from commands.bus import Principal
from commands.sessions import begin_consolidation, consolidate_session, ingest_hooks, ingest_items, note_defect
from commands.sessions.consolidation import ArchivedItem, Unwritten, object_folder
from domain.kernel import Sealed
from domain.sessions import streaming
from domain.sessions.events import LlmSessionConsolidated, LlmSessionConsolidationFailed
from domain.sessions.streaming import consolidation_stream
from eventstore.mapper import Mapper
from eventstore.memory import MemoryStore
from eventstore.objects import LocalObjects, Objects, ObjectsUnavailableError
from eventstore.objects.s3 import S3Objects
from eventstore.port import Append, Outcome, Recorded, StoreUnavailableError
from eventstore.sealing import MemoryKeyRing
from projections.consolidation import stream_status
from projections.sessions.items import items
from schemas.ingest import HookEnvelope, ItemBatch

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
ORG, PERSON = UUID(int=1), UUID(int=2)
WORKER = Principal(actor="system:consolidation", org_id=ORG, person_id=UUID(int=0), scopes=frozenset())
SENDER = Principal(actor="key:1", org_id=ORG, person_id=PERSON, scopes=frozenset({"ingest"}))
SESSION = "0447534f-4168-45f3-a089-5808b6b5dc70"
SECRET = "the launch code is swordfish"


@pytest.fixture(params=["local", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    return LocalObjects(tmp_path) if request.param == "local" else S3Objects(request.getfixturevalue("s3_bucket"))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(Mapper(MemoryKeyRing()))


async def tell(store: MemoryStore, count: int = 3, *, start: int = 0, session: str = SESSION) -> None:
    """Hook events of one session, every third by a subagent."""
    envelopes = [
        HookEnvelope(
            payload={
                "session_id": session,
                "hook_event_name": "UserPromptSubmit",
                "prompt_id": f"p{n}",
                "prompt": f"{SECRET} {n}",
                **({"agent_id": "a1"} if n % 3 == 2 else {}),
            },
            at=AT,
        )
        for n in range(start, start + count)
    ]
    await ingest_hooks(store, SENDER, envelopes, received_at=AT)


async def consolidate(store: Any, objects: Objects, at: datetime = AT, session: str = SESSION) -> int | Unwritten:
    await begin_consolidation(store, WORKER, session, at=at)
    return await consolidate_session(store, objects, WORKER, session, at=at)


async def told(store: MemoryStore, session: str = SESSION) -> list[Any]:
    return [recorded.event for recorded in await store.read_stream(ORG, consolidation_stream(session))]


async def lines_of(objects: Objects, key: str) -> list[ArchivedItem]:
    raw = b"".join([chunk async for chunk in objects.read(key)])
    return [msgspec.json.decode(line, type=ArchivedItem) for line in gzip.decompress(raw).splitlines()]


async def test_the_objects_hold_every_item_as_the_log_does(store: MemoryStore, objects: Objects) -> None:
    await tell(store, 7)
    before = await items(store, store.mapper.ring, ORG, SESSION)
    assert await consolidate(store, objects) == 7
    done = (await told(store))[-1]
    assert isinstance(done, LlmSessionConsolidated)
    found: dict[int, ArchivedItem] = {}
    for one in done.objects:
        raw = b"".join([chunk async for chunk in objects.read(one.key)])
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (one.bytes, one.sha256)
        assert hashlib.sha256(gzip.decompress(raw)).hexdigest() == one.lines_sha256
        assert one.lines_sha256 in one.key
        lines = await lines_of(objects, one.key)
        assert len(lines) == one.items
        assert (lines[0].position, lines[-1].position) == (one.from_position, one.to_position)
        found |= {line.position: line for line in lines}
    logged = [one for one in await store.read_all(0) if one.stream.kind == "LlmSession"]
    assert [(one.position, one.version, one.event_id, one.type, one.data) for one in logged] == [
        (line.position, line.version, line.event_id, line.type, bytes(line.data)) for _, line in sorted(found.items())
    ]
    assert (done.items, done.bytes) == (7, sum(one.bytes for one in done.objects))
    assert await items(store, store.mapper.ring, ORG, SESSION) == before


async def test_a_subagent_has_an_object_of_its_own(store: MemoryStore, objects: Objects) -> None:
    await tell(store, 6)
    await consolidate(store, objects)
    done = (await told(store))[-1]
    assert [(one.subagent_id, one.items) for one in done.objects] == [(None, 4), ("a1", 2)]


async def test_destroying_a_persons_key_darkens_the_objects(store: MemoryStore, objects: Objects) -> None:
    await tell(store)
    await consolidate(store, objects)
    [main, _] = (await told(store))[-1].objects

    async def opened() -> list[str | None]:
        mapper = store.mapper
        sealed: list[tuple[str, Sealed]] = []
        for line in await lines_of(objects, main.key):
            assert SECRET.encode() not in bytes(line.data)
            event: Any = mapper.decode(line.type, bytes(line.data))
            sealed.append((line.type, event.content))
        return await mapper.ring.open_many(ORG, sealed)

    assert [json.loads(text or "{}")["prompt"] for text in await opened()] == [f"{SECRET} 0", f"{SECRET} 1"]
    await store.mapper.ring.destroy(ORG, PERSON)
    assert await opened() == [None, None]


async def test_running_twice_changes_nothing(store: MemoryStore, objects: Objects) -> None:
    await tell(store)
    await consolidate(store, objects)
    head, keys = await store.head(), await objects.keys(object_folder(ORG, SESSION))
    for _ in range(3):
        assert await consolidate(store, objects) == 0
    assert (await store.head(), await objects.keys(object_folder(ORG, SESSION))) == (head, keys)


async def test_later_items_are_another_generation_and_only_they(store: MemoryStore, objects: Objects) -> None:
    await tell(store, 3)
    await consolidate(store, objects)
    await tell(store, 2, start=3)
    assert await consolidate(store, objects) == 2
    done = [event for event in await told(store) if isinstance(event, LlmSessionConsolidated)]
    assert [(one.generation, one.after_version, one.to_version, one.items) for one in done] == [
        (1, 0, 3, 3),
        (2, 3, 5, 2),
    ]


async def test_items_that_arrive_while_a_generation_is_written_are_not_in_it(
    store: MemoryStore, objects: Objects
) -> None:
    await tell(store, 3)
    await begin_consolidation(store, WORKER, SESSION, at=AT)
    await tell(store, 4, start=3)
    assert await consolidate(store, objects) == 3
    assert await consolidate(store, objects) == 4


async def test_a_large_conversation_becomes_several_generations(
    store: MemoryStore, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "ITEMS_MAX", 4)
    monkeypatch.setattr("commands.sessions.consolidation.READ_EVENTS", 3)
    await tell(store, 10)
    assert [await consolidate(store, objects) for _ in range(4)] == [4, 4, 2, 0]


async def test_more_subagents_than_objects_lose_nothing(
    store: MemoryStore, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commands.sessions.consolidation.SUBAGENTS_MAX", 2)
    for number in range(5):
        batch = ItemBatch(items=[{"type": "user", "uuid": f"u{number}"}], subagent_id=f"s{number}")
        await ingest_items(store, SENDER, SESSION, batch, received_at=AT)
    assert await consolidate(store, objects) == 5
    objects_told = (await told(store))[-1].objects
    assert sum(one.items for one in objects_told) == 5
    assert len(objects_told) <= 4


@pytest.mark.parametrize("session", ["../../etc/passwd", "a b/ü", "x" * 200, "C:\\con"])
async def test_whatever_agents_call_a_session_is_a_key(tmp_path: Path, store: MemoryStore, session: str) -> None:
    objects = LocalObjects(tmp_path / "objects")
    await tell(store, 3, session=session)
    assert await consolidate(store, objects, session=session) == 3
    assert len(await objects.keys(object_folder(ORG, session))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["objects"]


class CutOff:
    """A store that goes away after the object was written and before the event is."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.cut = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, wish: Append) -> Outcome:
        if self.cut and isinstance(wish.events[0].event, LlmSessionConsolidated):
            raise StoreUnavailableError("gone")
        return await self._store.append(wish)


async def test_cut_off_between_object_and_event_doubles_and_loses_nothing(store: MemoryStore, objects: Objects) -> None:
    await tell(store)
    cut = CutOff(store)
    with pytest.raises(StoreUnavailableError):
        await consolidate(cut, objects)
    keys = await objects.keys(object_folder(ORG, SESSION))
    assert len(keys) == 2
    await tell(store, 2, start=3)  # news meanwhile is not part of what is written again
    cut.cut = False
    assert await consolidate(cut, objects) == 3
    assert await objects.keys(object_folder(ORG, SESSION)) == keys
    done = [event for event in await told(store) if isinstance(event, LlmSessionConsolidated)]
    assert [sorted(one.key for one in event.objects) for event in done] == [keys]


class Failing(LocalObjects):
    """A folder that is away."""

    away = True

    async def put(self, key: str, content: BinaryIO) -> None:
        if self.away:
            raise ObjectsUnavailableError("nobody answers")
        await super().put(key, content)


async def test_a_failure_is_told_and_tried_again_when_it_is_due(store: MemoryStore, tmp_path: Path) -> None:
    failing = Failing(tmp_path)
    await tell(store)
    assert await consolidate(store, failing) == Unwritten("unavailable", "nobody answers")
    assert await consolidate(store, failing, AT + timedelta(seconds=59)) == 0
    assert await consolidate(store, failing, AT + timedelta(seconds=60)) == Unwritten("unavailable", "nobody answers")
    failures = [event for event in await told(store) if isinstance(event, LlmSessionConsolidationFailed)]
    assert [(one.generation, one.failures, one.reason) for one in failures] == [
        (1, 1, "unavailable"),
        (1, 2, "unavailable"),
    ]
    failing.away = False
    assert await consolidate(store, failing, AT + timedelta(hours=1)) == 3


async def test_a_defect_is_told_too(store: MemoryStore) -> None:
    await tell(store)
    await begin_consolidation(store, WORKER, SESSION, at=AT)
    await note_defect(store, WORKER, SESSION, at=AT)
    assert (await told(store))[-1].reason == "defect"


async def test_an_unknown_session_is_not_consolidated(store: MemoryStore, tmp_path: Path) -> None:
    assert await consolidate(store, LocalObjects(tmp_path), session="nobody") == 0
    assert await store.head() == 0


async def test_nothing_personal_stands_in_what_is_told(store: MemoryStore, tmp_path: Path) -> None:
    await tell(store)
    await consolidate(store, LocalObjects(tmp_path))
    recorded: list[Recorded] = await store.read_stream(ORG, consolidation_stream(SESSION))
    assert {one.meta.actor for one in recorded} == {"system:consolidation"}
    assert not any(str(PERSON) in one.data.decode() or SECRET in one.data.decode() for one in recorded)


async def test_the_status_as_the_log_has_it(store: MemoryStore, tmp_path: Path) -> None:
    objects = Failing(tmp_path)
    seen = [await stream_status(store, ORG, SESSION)]
    await tell(store)
    seen.append(await stream_status(store, ORG, SESSION))
    await begin_consolidation(store, WORKER, SESSION, at=AT)
    seen.append(await stream_status(store, ORG, SESSION))
    await consolidate_session(store, objects, WORKER, SESSION, at=AT)
    seen.append(await stream_status(store, ORG, SESSION))
    objects.away = False
    await consolidate(store, objects, AT + timedelta(hours=1))
    seen.append(await stream_status(store, ORG, SESSION))
    await tell(store, 1, start=9)
    seen.append(await stream_status(store, ORG, SESSION))
    assert seen == ["inactive", "streaming", "consolidating", "consolidating", "completed", "streaming"]
