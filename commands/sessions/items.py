"""Transcript lines: of Claude's main and subagent files, Codex' rollouts, Gemini's chat files, or any agent's messages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from commands.bus import Principal
from commands.sessions.batches import BatchNames
from commands.sessions.facts import Batch, People, indexes_of, occurred, sealed, usable_id
from domain.sessions.coerce import count, moment, part, parts, text
from domain.sessions.events import Context, TranscriptRecorded
from domain.sessions.keys import item_key, subagent_key
from domain.sessions.split import split_item
from eventstore.batches import Batches
from eventstore.port import EventStore
from schemas.ingest import EventResult, IngestAnswer, ItemBatch, SessionItems

BREATH_LINES = 250  # prepared in one go; then others' requests get their turn
SUBAGENT_KIND = "subagent"  # the kind of the fact made of a subagent's .meta.json


async def ingest_items(
    store: EventStore,
    principal: Principal,
    llm_session_id: str,
    batch: ItemBatch,
    *,
    received_at: datetime,
    person_secret: bytes = b"",
    names: Batches | None = None,
) -> IngestAnswer:
    """Store lines of a transcript, in the order of the file; one result per line.  Safe to repeat.

    Lines without a time of their own (Claude's `cost-state`) take the time of the line before them.

    `names` knows what batch ids stood for.

    Raises:
        BatchReusedError, BatchIdError: a batch id stands for other lines, or cannot be one.
        StoreUnavailableError: nothing is promised; sending the same batch again is safe.
    """
    people, facts = People(principal, person_secret), Batch(principal.org_id)
    results = _note(facts, people, llm_session_id, batch, received_at, 0)
    batch_names = BatchNames(names, principal)
    await batch_names.check([(batch.batch_id, results)])
    duplicates, position = await facts.commit(store, principal, people)
    await batch_names.note()
    return _answer(results, duplicates, position, 0)


async def ingest_batches(
    store: EventStore,
    principal: Principal,
    batches: Sequence[SessionItems],
    *,
    received_at: datetime,
    person_secret: bytes = b"",
    names: Batches | None = None,
) -> list[IngestAnswer]:
    """Store lines of many transcripts, each as `ingest_items` does; one answer per batch, in order, after all are committed.

    All streams are appended at once, so that the store takes them in a few statements.

    `names` knows what batch ids stood for.

    Raises:
        BatchReusedError, BatchIdError: a batch id stands for other lines, or cannot be one.
        StoreUnavailableError: nothing is promised; sending the same batches again is safe.
    """
    people, facts = People(principal, person_secret), Batch(principal.org_id)
    noted: list[list[EventResult]] = []
    first = passed = 0
    for batch in batches:
        noted.append(_note(facts, people, batch.llm_session_id, batch, received_at, first))
        first += len(batch.items)
        if first - passed >= BREATH_LINES:
            passed = first
            await asyncio.sleep(0)
    batch_names = BatchNames(names, principal)
    await batch_names.check((batch.batch_id, results) for batch, results in zip(batches, noted, strict=True))
    duplicates, position = await facts.commit(store, principal, people)
    await batch_names.note()
    answers: list[IngestAnswer] = []
    first = 0
    for results in noted:
        own = duplicates.intersection(range(first, first + len(results))) if duplicates else duplicates
        answers.append(_answer(results, own, position, first))
        first += len(results)
    return answers


def _note(
    facts: Batch, people: People, llm_session_id: str, batch: ItemBatch, received_at: datetime, first: int
) -> list[EventResult]:
    """Add a batch's lines to `facts`, numbered from `first`; what becomes of each if none is a duplicate."""
    lines = _Lines(llm_session_id, batch, people, received_at)
    group = facts.group("LlmSession", llm_session_id)
    results: list[EventResult] = []
    for index, line in enumerate(batch.items):
        if not line:
            results.append(EventResult(index, "rejected", "expected a JSON object with at least one field"))
            continue
        try:
            event, key = lines.fact(line), item_key(line, batch.agent)
        except RecursionError:  # one such line must not make its whole file unreadable
            results.append(EventResult(index, "rejected", "nested too deeply"))
            continue
        results.append(EventResult(index, "accepted", None, group.add(key, event, first + index)))
    if batch.meta and batch.subagent_id:
        note = {**batch.meta, "type": SUBAGENT_KIND, "agentId": batch.subagent_id}
        group.add(subagent_key(batch.subagent_id, batch.meta), lines.fact(note), -1)
    return results


def _answer(results: list[EventResult], duplicates: AbstractSet[int], position: int, first: int) -> IngestAnswer:
    """`duplicates` are numbers of lines as given to `_note`, -1 for records that are not lines."""
    for number in duplicates:
        if number >= first:
            results[number - first] = EventResult(number - first, "duplicate", None, results[number - first].id)
    rejected = sum(result.status == "rejected" for result in results)
    duplicate = indexes_of(duplicates)
    return IngestAnswer(len(results) - rejected - duplicate, duplicate, rejected, position, results)


def kind_of(line: dict[str, Any]) -> str:
    """A line's type, with its subtype after a dot: `system.compact_boundary`, `attachment.model`, `event_msg.error`."""
    kind = line.get("type") or line.get("role") or ("header" if "sessionId" in line else "unknown")
    inner = line.get("subtype") or part(line.get("attachment")).get("type") or part(line.get("payload")).get("type")
    name = f"{kind}.{inner}" if type(inner) is str and inner else kind
    return name if usable_id(name) else "unknown"


class _Lines:
    """Makes facts of the lines of one batch; carries the time and Codex' model from line to line."""

    def __init__(self, llm_session_id: str, batch: ItemBatch, people: People, received_at: datetime) -> None:
        self._llm_session_id = llm_session_id
        self._batch = batch
        self._person_id = people.of(batch.user)
        self._context = Context(batch.repo, batch.branch, batch.commit, batch.project)
        self._received_at = received_at
        self._last_at: datetime | None = None
        self._model: str | None = None
        self._copied: dict[str, str] = {}  # tool calls in lines copied from another session, and that session

    def fact(self, line: dict[str, Any]) -> TranscriptRecorded:
        """The fact to store."""
        attrs, rest = split_item(line, self._batch.agent)
        self._carry(line, attrs)
        told = moment(line.get("timestamp")) or self._last_at or _ended(line)
        if "timestamp" in line:
            self._last_at = told
        at = occurred(told, self._received_at, attrs)
        content, cut = sealed(self._person_id, rest)
        return TranscriptRecorded(
            agent=self._batch.agent,
            llm_session_id=self._llm_session_id,
            kind=kind_of(line),
            occurred_at=at,
            person_id=self._person_id,
            attrs=attrs,
            content=content,
            context=self._context,
            cut_bytes=cut.cut_bytes if cut else 0,
            sha256=cut.sha256 if cut else None,
        )

    def _carry(self, line: dict[str, Any], attrs: dict[str, Any]) -> None:
        """Tell a line what only its file or an earlier line knows."""
        known: dict[str, Any] = {}
        if self._batch.subagent_id and "agentId" not in line:
            known["agent_id"] = self._batch.subagent_id
        if self._batch.agent == "claude":
            self._note_copies(line, known)
        elif self._batch.agent == "codex":
            payload = part(line.get("payload"))
            self._model = (
                text(payload.get("model")) or text(part(payload.get("thread_settings")).get("model")) or self._model
            )
            if line.get("type") == "token_usage_record" and self._model:
                known["model"] = self._model
        if known:
            attrs["derived"] = {**part(attrs.get("derived")), **known}

    def _note_copies(self, line: dict[str, Any], known: dict[str, Any]) -> None:
        """A fork marks its parent's answers, not the results of the tools that they called."""
        origin = text(line.get("requestSessionId"))
        foreign = origin is not None and origin != self._llm_session_id
        if not foreign and not self._copied:
            return
        for block in parts(part(line.get("message")).get("content")):
            if foreign and origin and (own := text(block.get("id"))):
                self._copied[own] = origin
            elif (called := text(block.get("tool_use_id"))) and called in self._copied:
                known["copied_from"] = self._copied[called]


def _ended(line: dict[str, Any]) -> datetime | None:
    """When a run ended, as its `cost-state` tells it (milliseconds)."""
    began, lasted = count(line.get("startTime")), count(line.get("totalDuration"))
    return moment(began + (lasted or 0)) if began else None
