"""Hook events, in batches from our own client or bare from an agent that posts them over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from commands.bus import Principal
from commands.sessions.batches import BatchNames
from commands.sessions.facts import Batch, People, indexes_of, occurred, sealed, usable_id
from domain.sessions.coerce import moment
from domain.sessions.events import Context, HookRecorded
from domain.sessions.keys import hook_key
from domain.sessions.split import split_hook
from eventstore.batches import Batches
from eventstore.port import EventStore
from schemas.ingest import EventResult, HookEnvelope, IngestAnswer

NOWHERE = Context()
TOO_DEEP = "payload: nested too deeply"
KNOWN_AGENTS = frozenset({"claude", "codex", "gemini"})


async def ingest_hooks(
    store: EventStore,
    principal: Principal,
    envelopes: Sequence[HookEnvelope],
    *,
    received_at: datetime,
    session_id: str | None = None,
    person_secret: bytes = b"",
    batch_id: str | None = None,
    names: Batches | None = None,
) -> IngestAnswer:
    """Store hook events, one result per envelope in the order given.

    Unknown kinds are accepted.  Rejected is only what cannot be filed: no usable `session_id` or `hook_event_name` in the
    payload.  `session_id` is the crewkit session the caller posted to; `person_secret` keys the ids of people named by
    e-mail; `batch_id` is the caller's name for these events, and `names` knows what names stood for.

    Raises:
        BatchReusedError, BatchIdError: the name stands for other events, or cannot be one.
        StoreUnavailableError: nothing is promised; sending the same batch again is safe.
    """
    people, batch = People(principal, person_secret), Batch(principal.org_id)
    results: list[EventResult] = []
    for index, envelope in enumerate(envelopes):
        reason = refusal(envelope.payload)
        if envelope.agent not in KNOWN_AGENTS and not usable_id(envelope.agent):
            reason = "agent: expected 1 to 200 printable characters"
        if reason is not None:
            results.append(EventResult(index, "rejected", reason, envelope.id))
            continue
        try:
            event, key = hook_fact(envelope, people, received_at, session_id)
        except RecursionError:  # one such event must not make its whole batch undeliverable for ever
            results.append(EventResult(index, "rejected", TOO_DEEP, envelope.id))
            continue
        event_id = batch.group("LlmSession", event.llm_session_id).add(key, event, index)
        results.append(EventResult(index, "accepted", None, event_id))
    if batch_id is None:
        duplicates, position = await batch.commit(store, principal, people)
    else:
        batch_names = BatchNames(names, principal)
        await batch_names.check([(batch_id, results)])
        duplicates, position = await batch.commit(store, principal, people)
        await batch_names.note()
    for index in duplicates:
        if index >= 0:
            results[index] = EventResult(index, "duplicate", None, results[index].id)
    rejected = sum(result.status == "rejected" for result in results)
    duplicate = indexes_of(duplicates)
    return IngestAnswer(len(results) - rejected - duplicate, duplicate, rejected, position, results)


async def ingest_bare_hook(
    store: EventStore,
    principal: Principal,
    agent: str,
    payload: dict[str, Any],
    *,
    received_at: datetime,
    person_secret: bytes = b"",
) -> IngestAnswer:
    """Store one hook event as the agent itself posted it.

    It carries no stamp of ours: an exact repeat of a payload without ids is a duplicate.
    """
    envelope = HookEnvelope(payload=payload, agent=agent)
    return await ingest_hooks(store, principal, [envelope], received_at=received_at, person_secret=person_secret)


def refusal(payload: dict[str, Any]) -> str | None:
    """Why a payload cannot be filed, naming the field and what was expected; None when it can."""
    for field in ("session_id", "hook_event_name"):
        found = payload.get(field)
        if not usable_id(found):
            got = "nothing" if found is None else type(found).__name__
            if type(found) is str:
                got = f"text of {len(found)} characters"
            return f"payload.{field}: expected 1 to 200 printable characters, got {got}"
    return None


def hook_fact(
    envelope: HookEnvelope, people: People, received_at: datetime, session_id: str | None
) -> tuple[HookRecorded, str]:
    """The fact to store, and its natural key."""
    payload = envelope.payload
    llm_session_id: str = payload["session_id"]
    attrs, rest = split_hook(payload, envelope.agent)
    told = envelope.at or moment(envelope.captured_at) or moment(payload.get("timestamp"))
    at = occurred(told, received_at, attrs)
    person_id = people.of(envelope.user)
    content, cut = sealed(person_id, rest)
    work_id = session_id or envelope.session_id
    if work_id == llm_session_id:
        work_id = None
    here = envelope.repo or envelope.branch or envelope.commit or envelope.project or work_id
    event = HookRecorded(
        agent=envelope.agent,
        llm_session_id=llm_session_id,
        kind=payload["hook_event_name"],
        occurred_at=at,
        person_id=person_id,
        attrs=attrs,
        content=content,
        context=Context(envelope.repo, envelope.branch, envelope.commit, envelope.project, work_id)
        if here
        else NOWHERE,
        cut_bytes=cut.cut_bytes if cut else 0,
        sha256=cut.sha256 if cut else None,
    )
    return event, hook_key(payload, envelope.id or envelope.at or envelope.captured_at or "")
