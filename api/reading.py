"""Reading hook bodies in the shapes agents and scripts really send."""

from __future__ import annotations

from typing import Any

import msgspec

from api.errors import ApiError, malformed
from schemas.ingest import HookBatch, HookEnvelope

EVENTS_MAX = 2_000  # envelopes in one request

_batch = msgspec.json.Decoder(HookBatch)
_any = msgspec.json.Decoder()


def hook_batch(body: bytes, agent: str = "claude") -> HookBatch:
    """The hook events in a body, and the sender's name for them: a `HookBatch`, a list, one envelope, or bare hook payloads in any of these places.

    Raises:
        ApiError: 400 naming the path of the field and the expected type.
    """
    try:
        batch = _batch.decode(body)
    except msgspec.ValidationError as error:
        batch = _other_shapes(body, agent, error)
    except msgspec.DecodeError as error:
        raise malformed(error) from error
    except RecursionError as error:
        raise ApiError(400, "the body is nested too deeply", details={"field": "$"}) from error
    found = batch.events
    if len(found) > EVENTS_MAX:
        raise ApiError(
            400,
            f"$.events: expected at most {EVENTS_MAX} events, got {len(found)}",
            details={"field": "$.events", "expected": f"at most {EVENTS_MAX} events"},
        )
    return batch


def bare(body: bytes) -> dict[str, Any]:
    """One hook payload as an agent posts it.

    Raises:
        ApiError: 400, it is no JSON object.
    """
    tree = _tree(body)
    if not isinstance(tree, dict):
        raise _expected("$", "object", tree)
    return tree


def _tree(body: bytes) -> Any:
    try:
        return _any.decode(body)
    except msgspec.DecodeError as error:
        raise malformed(error) from error
    except RecursionError as error:
        raise ApiError(400, "the body is nested too deeply", details={"field": "$"}) from error


def _other_shapes(body: bytes, agent: str, error: msgspec.ValidationError) -> HookBatch:
    tree = _tree(body)
    if isinstance(tree, list):
        return HookBatch(events=[_envelope(item, f"$[{n}]", agent) for n, item in enumerate(tree[: EVENTS_MAX + 1])])
    if not isinstance(tree, dict):
        raise _expected("$", "object", tree)
    if "events" in tree:
        events = tree["events"]
        if isinstance(events, list) and any(_is_bare(item) for item in events):
            around = _around(tree)
            found = [_envelope(item, f"$.events[{n}]", agent) for n, item in enumerate(events[: EVENTS_MAX + 1])]
            return msgspec.structs.replace(around, events=found)
        raise malformed(error) from error
    if _is_bare(tree) or "payload" in tree:
        return HookBatch(events=[_envelope(tree, "$", agent)])
    raise malformed(error) from error


def _around(tree: dict[str, Any]) -> HookBatch:
    """The batch without its events.  Whatever stands beside the events must be as the batch says."""
    try:
        return msgspec.convert({**tree, "events": []}, HookBatch)
    except msgspec.ValidationError as error:
        raise malformed(error) from error


def _is_bare(item: Any) -> bool:
    return isinstance(item, dict) and "hook_event_name" in item and "payload" not in item


def _envelope(item: Any, path: str, agent: str) -> HookEnvelope:
    if _is_bare(item):
        return HookEnvelope(payload=item, agent=agent)
    try:
        return msgspec.convert(item, HookEnvelope)
    except msgspec.ValidationError as error:
        raise malformed(error, prefix=path) from error


def _expected(path: str, kind: str, got: Any) -> ApiError:
    names = {dict: "object", list: "array", str: "str", int: "int", float: "float", bool: "bool", type(None): "null"}
    found = names.get(type(got), type(got).__name__)
    return ApiError(
        400, f"{path}: Expected `{kind}`, got `{found}`", details={"field": path, "expected": kind, "got": found}
    )
