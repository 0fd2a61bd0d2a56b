"""Stable tags, old shapes lifted to new ones, unknown types refused."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.kernel import Event, Sealed
from domain.sessions.events import HookRecorded
from eventstore.mapper import Mapper, released_events
from eventstore.port import UnknownEventTypeError
from eventstore.sealing import MemoryKeyRing, unboxed
from eventstore.upcasters import Upcasters

ORG, ADA, BOB = UUID(int=1), UUID(int=3), UUID(int=4)


class Renamed(Event, frozen=True, kw_only=True, tag="thing.renamed.v3"):
    """A fake event in its third shape."""

    names: list[str]
    by: Sealed | None = None


class Team(Event, frozen=True, kw_only=True, tag="team.seen.v1"):
    """Sealed values at any depth."""

    members: list[Sealed]
    lead: dict[str, Sealed | None]


def upcasters() -> Upcasters:
    chain = Upcasters()

    @chain.upcast("thing.renamed.v1", "thing.renamed.v2")
    def upcast_v1_v2(data: dict[str, Any]) -> dict[str, Any]:
        return data | {"name": data["title"]}

    @chain.upcast("thing.renamed.v2", "thing.renamed.v3")
    def upcast_v2_v3(data: dict[str, Any]) -> dict[str, Any]:
        return data | {"names": [data["name"]]}

    return chain


def test_every_release_is_found_by_walking_the_domain() -> None:
    found = released_events()
    assert found["hook.recorded.v1"] is HookRecorded
    assert all(tag.rpartition(".v")[2].isdigit() for tag in found)
    assert "ChannelFact" not in found


def test_old_shapes_come_out_new() -> None:
    mapper = Mapper(MemoryKeyRing(), types=[Renamed], upcasters=upcasters())
    one = b'{"type":"thing.renamed.v1","title":"a"}'
    two = b'{"type":"thing.renamed.v2","name":"b"}'
    three = b'{"type":"thing.renamed.v3","names":["c","d"]}'
    assert mapper.decode("thing.renamed.v1", one) == Renamed(names=["a"])
    assert mapper.decode("thing.renamed.v2", two) == Renamed(names=["b"])
    assert mapper.decode("thing.renamed.v3", three) == Renamed(names=["c", "d"])


async def test_sealed_fields_pass_through_upcasters_closed_and_open_under_their_stored_type() -> None:
    ring = MemoryKeyRing()
    await ring.prepare(ORG, [ADA])
    box = ring.seal(ORG, "thing.renamed.v1", Sealed(ADA, "Ada"))
    mapper = Mapper(ring, types=[Renamed], upcasters=upcasters())
    data = msgspec.json.encode({"type": "thing.renamed.v1", "title": "a", "by": box})
    event = mapper.decode("thing.renamed.v1", data)
    assert event == Renamed(names=["a"], by=unboxed(box))
    assert isinstance(event, Renamed)
    assert event.by is not None
    assert ring.open(ORG, "thing.renamed.v1", event.by) == "Ada"


def test_an_unknown_type_stops_the_reader() -> None:
    mapper = Mapper(MemoryKeyRing(), types=[Renamed], upcasters=upcasters())
    with pytest.raises(UnknownEventTypeError, match="thing\\.lost\\.v1"):
        mapper.decode("thing.lost.v1", b"{}")
    with pytest.raises(UnknownEventTypeError, match="thing\\.renamed\\.v3"):
        Mapper(MemoryKeyRing(), types=[], upcasters=upcasters()).decode("thing.renamed.v1", b'{"title":"a"}')


async def test_an_unknown_event_is_not_written() -> None:
    with pytest.raises(UnknownEventTypeError):
        await Mapper(MemoryKeyRing()).encode(ORG, [Renamed(names=[])])


def test_data_that_does_not_fit_its_type_is_an_error() -> None:
    mapper = Mapper(MemoryKeyRing(), types=[Renamed], upcasters=upcasters())
    for data in (b"{}", b'{"type":"thing.renamed.v3","names":1}', b'{"type":"thing.renamed.v3","names":[],"by":"Ada"}'):
        with pytest.raises(msgspec.ValidationError):
            mapper.decode("thing.renamed.v3", data)


def test_a_tag_has_a_class_or_an_upcaster_not_both() -> None:
    chain = Upcasters()
    chain.upcast("thing.renamed.v3", "thing.renamed.v4")(lambda data: data)
    with pytest.raises(ValueError, match="both a class and an upcaster"):
        Mapper(MemoryKeyRing(), types=[Renamed], upcasters=chain)


def test_upcasters_neither_fork_nor_circle() -> None:
    chain = upcasters()
    with pytest.raises(ValueError, match="already has"):
        chain.upcast("thing.renamed.v1", "thing.renamed.v9")
    with pytest.raises(ValueError, match="to itself"):
        chain.upcast("thing.renamed.v3", "thing.renamed.v1")


async def test_sealed_values_are_found_at_any_depth_and_keys_are_made_on_the_way() -> None:
    ring = MemoryKeyRing()
    mapper = Mapper(ring, types=[Team])
    team = Team(members=[Sealed(ADA, "Ada"), Sealed(BOB, "Bob")], lead={"now": Sealed(ADA, "Ada"), "next": None})
    [(tag, data)] = await mapper.encode(ORG, [team])
    assert b"Ada" not in data
    assert set(ring.wrapped) == {(ORG, ADA), (ORG, BOB)}
    back = mapper.decode(tag, data)
    assert isinstance(back, Team)
    assert [ring.open(ORG, tag, member) for member in back.members] == ["Ada", "Bob"]
    assert [(t, mapper.decode(t, d)) for t, d in await mapper.encode(ORG, [back])] == [
        (tag, back)
    ]  # boxes stay as they are
