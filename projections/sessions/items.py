"""The records of a conversation, straight from its stream in the event store, opened where they still can be."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from uuid import UUID

import msgspec

from domain.kernel import Sealed, Stream
from domain.sessions.events import ChannelFact, HookRecorded, TelemetryRecorded, TranscriptRecorded
from domain.sessions.reading.common import subagent_of
from eventstore.port import EventStore, Recorded
from eventstore.sealing import KeyRing
from projections.sessions.queries import CursorError
from schemas.sessions import Item, ItemPage

PAGE_ITEMS_MAX = 500
SCAN_EVENTS = 1_000  # events read at once
SCANS_MAX = 20  # reads for one page: with a rare subagent a page may come back short, and the cursor goes on from there
CHANNELS: dict[type, str] = {HookRecorded: "hook", TelemetryRecorded: "telemetry", TranscriptRecorded: "transcript"}


async def items(
    store: EventStore,
    ring: KeyRing,
    org_id: UUID,
    llm_session_id: str,
    *,
    after: str | None = None,
    limit: int = 100,
    subagent_id: str | None = None,
) -> ItemPage:
    """A page of records in the order of arrival, after the cursor `after`; at most `PAGE_ITEMS_MAX`.

    With `subagent_id` only that subagent's.  Content of an erased person is None with `erased`.

    Raises:
        CursorError: `after` is not a cursor of ours.
    """
    limit = max(1, min(limit, PAGE_ITEMS_MAX))
    version = decode_version(after) if after else 0
    stream = Stream("LlmSession", llm_session_id)
    found: list[Recorded] = []
    more = False
    for _ in range(SCANS_MAX):
        # Without a filter one event more than asked for tells whether there is more.
        asked = SCAN_EVENTS if subagent_id else min(SCAN_EVENTS, limit - len(found) + 1)
        page = await store.read_stream(org_id, stream, after=version, limit=asked)
        for recorded in page:
            if more := len(found) == limit:
                break
            version = recorded.version
            if isinstance(recorded.event, ChannelFact) and subagent_id in {None, subagent_of(recorded.event)}:
                found.append(recorded)
        if more or len(page) < asked:
            break
    else:
        more = True
    return ItemPage(await _open(ring, org_id, found), encode_version(version), more)


def encode_version(version: int) -> str:
    """An opaque mark of the place after this version of the stream."""
    return urlsafe_b64encode(b"v%d" % version).decode().rstrip("=")


def decode_version(cursor: str) -> int:
    """The version a cursor marks.

    Raises:
        CursorError: the text is not a cursor of ours.
    """
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise CursorError("cursor: expected a value that an earlier answer gave as next_cursor") from error
    digits = text[1:]
    if text[:1] != "v" or not digits.isdecimal() or len(digits) > 18:
        raise CursorError("cursor: expected a value that an earlier answer gave as next_cursor")
    return int(digits)


async def _open(ring: KeyRing, org_id: UUID, found: list[Recorded]) -> list[Item]:
    facts = [(recorded, fact) for recorded in found if isinstance(fact := recorded.event, ChannelFact)]
    sealed: list[tuple[str, Sealed]] = [(r.type, fact.content) for r, fact in facts if fact.content is not None]
    texts = iter(await ring.open_many(org_id, sealed))
    shown: list[Item] = []
    for recorded, fact in facts:
        text = next(texts) if fact.content is not None else None
        shown.append(
            Item(
                position=recorded.position,
                version=recorded.version,
                event_id=recorded.event_id,
                channel=CHANNELS.get(type(fact), "unknown"),
                agent=fact.agent,
                kind=fact.kind,
                occurred_at=fact.occurred_at,
                recorded_at=recorded.recorded_at,
                subagent_id=subagent_of(fact),
                attrs=fact.attrs,
                content=_decoded(text),
                erased=fact.content is not None and text is None,
                cut_bytes=fact.cut_bytes,
                sha256=fact.sha256,
            )
        )
    return shown


def _decoded(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return {"text": text}  # not JSON of ours: shown as it is
