"""Released events never change: one JSON schema and one stored payload per version, compared and decoded for ever.

`UPDATE_SCHEMAS=1 pytest tests/contract/test_event_schemas.py` writes the files of new events; it never touches existing ones.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.kernel import Event, Sealed, tag_of
from eventstore.mapper import Mapper, released_events
from eventstore.sealing import MemoryKeyRing
from eventstore.upcasters import UPCASTERS

SCHEMAS = Path(__file__).parents[2] / "schemas" / "events"
PAYLOADS = Path(__file__).parent / "payloads"
UPDATE = os.environ.get("UPDATE_SCHEMAS") == "1"
ORG, PERSON = UUID(int=7), UUID(int=8)
RELEASED = released_events()
TAGS = sorted({path.stem for path in SCHEMAS.glob("*.json")} | set(RELEASED))


def schema_of(event_type: type[Event]) -> dict[str, Any]:
    """What readers depend on: fields, their types, which are required.  Docstrings and titles may change."""

    def hook(kind: type) -> dict[str, Any]:
        if kind is Sealed:
            return {"type": "string", "format": "sealed"}
        raise NotImplementedError(kind)

    return strip(msgspec.json.schema(event_type, schema_hook=hook))


def strip(schema: Any) -> Any:
    if isinstance(schema, dict):
        kept = {
            key: strip(value)
            for key, value in schema.items()
            if key not in {"title", "description"} or key == "properties"
        }
        if "properties" in schema:
            kept["properties"] = {name: strip(value) for name, value in schema["properties"].items()}
        return kept
    return [strip(value) for value in schema] if isinstance(schema, list) else schema


EXAMPLES: dict[str, Any] = {
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "string": "text",
    "uuid": str(PERSON),
    "sealed": f"sealed:1:{PERSON.hex}:{'A' * 40}",
}


def example(schema: dict[str, Any], definitions: dict[str, Any], name: str = "") -> Any:
    """A payload with every field filled in.  A moment has the schema of any string: its name ends in `_at`."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        schema = next(choice for choice in schema["anyOf"] if choice.get("type") != "null")
        return example(schema, definitions, name)
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema:
        return {key: example(value, definitions, key) for key, value in schema["properties"].items()}
    if schema.get("type") == "array":
        return [example(schema.get("items") or {"type": "string"}, definitions)]
    if name.endswith("_at"):
        return datetime(2026, 11, 20, 12, tzinfo=UTC).isoformat()
    return EXAMPLES.get(schema.get("format") or schema.get("type", ""), {"key": "value"})


@pytest.mark.parametrize("tag", TAGS)
def test_a_released_event_keeps_its_schema(tag: str) -> None:
    path = SCHEMAS / f"{tag}.json"
    if tag not in RELEASED:
        assert tag in UPCASTERS, f"{tag} was released: its class is gone, and no upcaster reads it"
        return
    actual = schema_of(RELEASED[tag])
    if UPDATE and not path.exists():
        path.write_text(json.dumps(actual, indent=2, sort_keys=True) + "\n")
    assert path.exists(), f"{tag} is new: run with UPDATE_SCHEMAS=1 and commit its schema and payload"
    assert actual == json.loads(path.read_text()), (
        f"{tag} is released: add a v2 (and an upcaster) instead of changing it"
    )


@pytest.mark.parametrize("tag", TAGS)
def test_a_stored_payload_decodes_for_ever(tag: str) -> None:
    path = PAYLOADS / f"{tag}.json"
    if UPDATE and not path.exists() and tag in RELEASED:
        schema = schema_of(RELEASED[tag])
        path.write_text(json.dumps(example(schema, schema["$defs"]), indent=2) + "\n")
    assert path.exists(), f"{tag} is new: run with UPDATE_SCHEMAS=1 and commit its schema and payload"
    event = Mapper(MemoryKeyRing()).decode(tag, path.read_bytes())
    assert tag_of(type(event)) in RELEASED


@pytest.mark.parametrize("tag", sorted(RELEASED))
async def test_a_decoded_payload_encodes_to_the_same_facts(tag: str) -> None:
    mapper = Mapper(MemoryKeyRing())
    event = mapper.decode(tag, (PAYLOADS / f"{tag}.json").read_bytes())
    [(again, data)] = await mapper.encode(ORG, [event])
    assert (again, mapper.decode(tag, data)) == (tag, event)


@pytest.mark.parametrize("tag", sorted(RELEASED))
def test_a_newer_writers_extra_field_does_not_stop_a_reader(tag: str) -> None:
    payload = json.loads((PAYLOADS / f"{tag}.json").read_text())
    event = Mapper(MemoryKeyRing()).decode(tag, json.dumps(payload | {"added_later": [1]}).encode())
    assert tag_of(type(event)) == tag


def test_every_event_class_has_a_docstring_of_its_own() -> None:
    assert [tag for tag, kind in RELEASED.items() if not kind.__dict__.get("__doc__")] == []
