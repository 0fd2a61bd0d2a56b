"""OTLP records of agents.  One request may carry records of several sessions; each names its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from commands.bus import Principal
from commands.sessions.facts import Batch, People, indexes_of, occurred, sealed, usable_id
from domain.sessions.coerce import moment, text
from domain.sessions.events import Context, TelemetryRecorded
from domain.sessions.keys import telemetry_key
from domain.sessions.noise import is_noise
from domain.sessions.split import split_telemetry
from domain.words import counted
from eventstore.port import EventStore
from schemas.ingest import Person
from schemas.otlp import OtlpRecord

SESSION_ATTRIBUTES = ("session.id", "conversation.id", "gen_ai.conversation.id")
UNNAMED = "unnamed"  # the kind of a log record that says no event's name
_NO_SESSION = f"expected attribute {' or '.join(SESSION_ATTRIBUTES)} on each of them"
_NO_NAME = "expected a name of at most 200 printable characters"
_TOO_DEEP = "the body is nested too deeply"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS_MAX = 2**63 - 1


class TelemetryAnswer(NamedTuple):
    """`accepted` includes noise, which is taken and not stored.  `rejected` and `message` go into `partialSuccess`."""

    accepted: int
    duplicate: int
    rejected: int
    message: str
    position: int


async def ingest_telemetry(
    store: EventStore,
    principal: Principal,
    records: Sequence[OtlpRecord],
    *,
    received_at: datetime,
    person_secret: bytes = b"",
) -> TelemetryAnswer:
    """Store OTLP records.  Rejected are those that name no session: there is nothing to file them under; and metrics and
    spans without a name.

    Raises:
        StoreUnavailableError: nothing is promised; sending the same request again is safe.
    """
    people, batch = People(principal, person_secret), Batch(principal.org_id)
    refused: Counter[str] = Counter()
    for index, record in enumerate(records):
        if is_noise(record):
            continue
        llm_session_id = session_of(record)
        if llm_session_id is None:
            refused[_NO_SESSION] += 1
            continue
        if not usable_id(kind_of(record)):
            refused[_NO_NAME] += 1
            continue
        try:
            event, key = telemetry_fact(record, llm_session_id, people, received_at), telemetry_key(record)
        except RecursionError:  # one such record must not hold back the others
            refused[_TOO_DEEP] += 1
            continue
        batch.group("LlmSession", llm_session_id).add(key, event, index)
    duplicates, position = await batch.commit(store, principal, people)
    duplicate, rejected = indexes_of(duplicates), refused.total()
    message = "; ".join(f"{counted(count, 'record')} cannot be filed: {why}" for why, count in refused.items())
    return TelemetryAnswer(len(records) - rejected - duplicate, duplicate, rejected, message, position)


def session_of(record: OtlpRecord) -> str | None:
    """The agent session a record belongs to, by its own attributes; by its resource only where it has none."""
    for place in (record.attributes, record.resource):
        for name in SESSION_ATTRIBUTES:
            if usable_id(found := place.get(name)):
                return str(found)
    return None


def kind_of(record: OtlpRecord) -> str:
    """The name a record is stored under.  A log record without one is stored all the same."""
    if record.signal == "log":
        return record.name.removeprefix("claude_code.") or UNNAMED
    return record.name


def agent_of(record: OtlpRecord) -> str:
    """`claude`, `codex`, `gemini`, else the service's own name, else `unknown`."""
    service = text(record.resource.get("service.name")) or ""
    for agent, names in (
        ("claude", ("claude-code", "claude_code.")),
        ("codex", ("codex", "codex.")),
        ("gemini", ("gemini-cli", "gemini_cli.")),
    ):
        if service.startswith(names[0]) or record.name.startswith(names[1]):
            return agent
    return service if usable_id(service) else "unknown"


def telemetry_fact(record: OtlpRecord, llm_session_id: str, people: People, received_at: datetime) -> TelemetryRecorded:
    """The fact to store."""
    attrs, rest = split_telemetry(record)
    nanos = record.time_unix_nano or record.start_unix_nano
    told = _EPOCH + timedelta(microseconds=nanos // 1000) if 0 < nanos <= _NANOS_MAX else None
    stamp = moment(record.attributes.get("event.timestamp"))
    person_id = people.of(_person(record))
    content, cut = sealed(person_id, rest)
    return TelemetryRecorded(
        agent=agent_of(record),
        llm_session_id=llm_session_id,
        kind=kind_of(record),
        signal=record.signal,
        occurred_at=occurred(told or stamp, received_at, attrs),
        person_id=person_id,
        attrs=attrs,
        content=content,
        context=_context(record),
        cut_bytes=cut.cut_bytes if cut else 0,
        sha256=cut.sha256 if cut else None,
    )


def _person(record: OtlpRecord) -> Person | None:
    email = record.attributes.get("user.email") or record.resource.get("user.email")
    return Person(email=email) if type(email) is str else None


def _context(record: OtlpRecord) -> Context:
    def told(name: str) -> str | None:
        value: Any = record.attributes.get(name) or record.resource.get(name)
        return value if usable_id(value) else None

    return Context(repo=told("repo"), branch=told("branch"), commit=told("commit"), project=told("project"))
