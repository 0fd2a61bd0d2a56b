"""What the ingestion endpoints take and answer.  Unknown fields inside a hook payload are welcome; around it they are not."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Person(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who worked, when it is not the owner of the API key."""

    email: str | None = None
    name: str | None = None


class HookEnvelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One captured hook call.

    `payload` is what the agent sent, untouched.  `id` and `at` are stamped at capture (`captured_at`: epoch seconds, an
    alternative to `at`).  `repo`, `branch`, `commit`, `project`, `session_id` (a crewkit session) and `user` are what the
    developer's side knows about the place.
    """

    payload: dict[str, Any]
    id: str | None = None
    at: datetime | None = None
    captured_at: float | None = None
    agent: str = "claude"
    session_id: str | None = None
    repo: str | None = None
    branch: str | None = None
    commit: str | None = None
    project: str | None = None
    user: Person | None = None
    content_level: str | None = None


class HookBatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`events` are taken in order; at most 2,000."""

    events: list[HookEnvelope]
    batch_id: str | None = None
    client: dict[str, Any] | None = None


class ItemBatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Lines of an agent's transcript, each a JSON object as found in the file (or cut down by the client's content level).

    `subagent_id` marks lines of a subagent's own transcript.  `meta` is the subagent's `.meta.json`.
    """

    items: list[dict[str, Any]]
    batch_id: str | None = None
    agent: str = "claude"
    subagent_id: str | None = None
    meta: dict[str, Any] | None = None
    repo: str | None = None
    branch: str | None = None
    commit: str | None = None
    project: str | None = None
    user: Person | None = None
    content_level: str | None = None


class SessionItems(ItemBatch, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Lines of one transcript among others: an item batch that names its agent session."""

    llm_session_id: str


class ItemBatches(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Lines of many transcripts, taken in order; at most 2,000 lines (and 2,000 batches) together."""

    batches: list[SessionItems]


class EventResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of the event at `index` of the batch: `accepted`, `duplicate`, or `rejected` with a `reason`."""

    index: int
    status: str
    reason: str | None = None
    id: str | None = None


class IngestAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sent after the commit.  `position` can be given back as `Crewkit-After`."""

    accepted: int
    duplicate: int
    rejected: int
    position: int
    results: list[EventResult]


class BatchesAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer per batch, in order, sent after the commit of all.  `position` can be given back as `Crewkit-After`."""

    position: int
    answers: list[IngestAnswer]
