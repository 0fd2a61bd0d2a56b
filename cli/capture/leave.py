"""What may leave: a record reduced to its content level, without secrets, and not larger than the service keeps."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from cli.capture.redact import redact
from domain.sessions.split import CONTENT_BYTES_MAX, MARK, content_text, merge, reduce, split_hook, split_item


def leave(record: dict[str, Any], channel: str, agent: str, level: str) -> dict[str, Any]:
    """The form of a `hook` payload or a `transcript` line in which it leaves.

    Numbers computed from text (lengths, lines changed, exit codes) are taken before anything is replaced or cut, so totals
    are the same at every level.

    `record` itself may be changed.

    Raises:
        ValueError: level or channel is unknown.
    """
    if level != "full":
        return cast("dict[str, Any]", redact(reduce(record, channel, agent, level)))
    split = split_hook if channel == "hook" else split_item
    large = len(msgspec.json.encode(record)) > CONTENT_BYTES_MAX
    derived = split(record, agent)[0].get("derived") if large else None
    kept = cast("dict[str, Any]", redact(record))
    if not large:
        return kept
    attrs, content = split(kept, agent)
    attrs.pop("derived", None)
    cut = content_text(content)
    whole = merge(attrs, msgspec.json.decode(cut.text))
    for key in ("session_id", "hook_event_name"):
        if channel == "hook" and key in record:
            whole[key] = record[key]
    return {**whole, MARK: {"derived": derived}} if derived else whole
