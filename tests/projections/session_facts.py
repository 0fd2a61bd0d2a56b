"""Stored facts for tests: the lab's recordings as each channel delivers them, and hand-made ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import msgspec

from domain.kernel import Event, Sealed, Stream, fact_id, tag_of
from domain.sessions.events import ChannelFact, Context, HookRecorded, TelemetryRecorded, TranscriptRecorded
from domain.sessions.keys import hook_key, item_key, subagent_key, telemetry_key
from domain.sessions.split import split_hook, split_item, split_telemetry
from eventstore.port import Meta, Recorded
from projections.base import Projection, Rows, Table
from projections.sessions.tables import TABLES
from schemas.otlp import OtlpRecord

RECORDINGS = Path(__file__).parents[1] / "recordings"
ORG = UUID("00000000-0000-4000-8000-000000000001")
PERSON = UUID("00000000-0000-4000-8000-00000000000a")
RECEIVED = datetime(2026, 12, 1, tzinfo=UTC)
Keyed = tuple[str, ChannelFact]


def hooks_of(name: str, *, agent: str = "claude", context: Context | None = None) -> list[Keyed]:
    """The hook facts of a recording with their natural keys."""
    found: list[Keyed] = []
    for number, line in enumerate(_lines(RECORDINGS / name / "hooks.jsonl")):
        payload = line.get("payload", line)
        at = _moment(line.get("captured_at")) or RECEIVED - timedelta(hours=1) + timedelta(seconds=number)
        attrs, content = split_hook(payload, agent)
        fact = HookRecorded(
            agent=agent,
            llm_session_id=payload["session_id"],
            kind=payload["hook_event_name"],
            occurred_at=at,
            person_id=PERSON,
            attrs=attrs,
            content=_seal(content),
            context=context or Context(),
        )
        found.append((hook_key(payload, str(at)), fact))
    return found


def transcript_of(name: str) -> list[Keyed]:
    """The transcript facts of a Claude recording: main file, subagents' files and their meta."""
    folder = RECORDINGS / name
    session = next(line["sessionId"] for line in _lines(folder / "transcript.jsonl") if "sessionId" in line)
    found = [item_fact(line, session) for line in _lines(folder / "transcript.jsonl")]
    for file in sorted(folder.glob("subagents/*.jsonl")):
        agent_id = file.stem.removeprefix("agent-")
        found += [item_fact(line, session, agent_id=agent_id) for line in _lines(file)]
        meta = json.loads(file.with_suffix(".meta.json").read_text())
        attrs, content = split_item({**meta, "type": "subagent", "agentId": agent_id})
        found.append(
            (
                subagent_key(agent_id, meta),
                TranscriptRecorded(
                    agent="claude",
                    llm_session_id=session,
                    kind="subagent",
                    occurred_at=RECEIVED,
                    person_id=PERSON,
                    attrs=attrs,
                    content=_seal(content),
                ),
            )
        )
    return found


def item_fact(line: dict[str, Any], session: str, *, agent_id: str | None = None, agent: str = "claude") -> Keyed:
    """One transcript line as a fact."""
    attrs, content = split_item(line, agent)
    if agent_id is not None:
        attrs["derived"] = {**attrs.get("derived", {}), "agent_id": agent_id}
    kind = str(line.get("type"))
    payload = line.get("payload")
    subtype = line.get("subtype") or (payload.get("type") if isinstance(payload, dict) else None)
    return item_key(line, agent), TranscriptRecorded(
        agent=agent,
        llm_session_id=session,
        kind=f"{kind}.{subtype}" if subtype else kind,
        occurred_at=_moment(line.get("timestamp")) or RECEIVED,
        person_id=PERSON,
        attrs=attrs,
        content=_seal(content),
    )


def codex_rollout() -> list[Keyed]:
    """The rollout of the Codex recording."""
    lines = list(_lines(RECORDINGS / "codex" / "rollout.jsonl"))
    session = next(line["payload"]["id"] for line in lines if line["type"] == "session_meta")
    return [item_fact(line, session, agent="codex") for line in lines]


def otlp_of(name: str, *, agent: str = "claude") -> list[Keyed]:
    """The telemetry facts of a recording: logs, metrics and spans."""
    found: list[Keyed] = []
    for file in ("otlp_logs.jsonl", "otlp_metrics.jsonl", "otlp_traces.jsonl"):
        path = RECORDINGS / name / file
        for body in _lines(path) if path.exists() else ():
            for record in _records(body):
                session = record.attributes.get("session.id") or record.attributes.get("conversation.id")
                if session is None:
                    continue
                attrs, content = split_telemetry(record)
                at = datetime.fromtimestamp(record.time_unix_nano / 1e9, UTC) if record.time_unix_nano else None
                fact = TelemetryRecorded(
                    agent=agent,
                    llm_session_id=session,
                    kind=record.name,
                    signal=record.signal,
                    occurred_at=_moment(record.attributes.get("event.timestamp")) or at or RECEIVED,
                    person_id=PERSON,
                    attrs=attrs,
                    content=_seal(content),
                )
                found.append((telemetry_key(record), fact))
    return found


def recorded(facts: Iterable[Keyed | Event], *, start: int = 1, at: datetime = RECEIVED) -> list[Recorded]:
    """What the store would hold after these were told in this order: duplicates by natural key fall away."""
    seen: dict[UUID, Recorded] = {}
    versions: dict[Stream, int] = {}
    for number, given in enumerate(facts):
        key, event = given if isinstance(given, tuple) else (f"n{number}", given)
        stream = (
            Stream("LlmSession", event.llm_session_id)
            if isinstance(event, ChannelFact)
            else Stream("Session", event.session_id)
        )
        event_id = fact_id(stream.uuid(ORG), key)
        if event_id in seen:
            continue
        versions[stream] = versions.get(stream, 0) + 1
        seen[event_id] = Recorded(
            position=start + len(seen),
            org_id=ORG,
            stream_id=stream.uuid(ORG),
            stream=stream,
            version=versions[stream],
            type=tag_of(type(event)),
            event_id=event_id,
            recorded_at=at,
            data=b"{}",
            meta=Meta(),
            event=event,
        )
    return list(seen.values())


def open_plain(record: Recorded) -> dict[str, Any] | None:
    """Open content that tests keep as text."""
    content = record.event.content  # type: ignore[attr-defined]
    return json.loads(content.text) if content is not None and content.text is not None else None


def fold_all(
    projection: Projection, events: list[Recorded], *, batch: int = 10**9, twice: bool = False, rows: Rows | None = None
) -> Rows:
    """Fold in batches the way the runtime does: only rows named by `touches` are in memory, the rest is in a 'database'."""
    database = rows or Rows()
    for start in range(0, len(events), batch):
        part = events[start : start + batch]
        memory = Rows()
        for event in part:
            for table, key in projection.touches(event):
                if not memory.known(table, key) and (row := database.get(table, key)) is not None:
                    memory.remember(table, msgspec.structs.replace(row))
        for event in part:
            projection.fold(memory, event)
            if twice:
                projection.fold(memory, event)
        for table in projection.tables:
            for row in memory.dirty(table):
                database.remember(table, row)
    return database


ARRIVAL = {"last_position", "last_recorded_at"}


def snapshot(rows: Rows, tables: Iterable[Table[Any]] = TABLES) -> dict[str, dict[Any, dict[str, Any]]]:
    """All rows as plain data, without the columns that tell about arrival."""
    return {
        table.name: {
            table.key_of(row): {k: v for k, v in msgspec.structs.asdict(row).items() if k not in ARRIVAL}
            for row in rows.all(table)
        }
        for table in tables
    }


def natural(name: str) -> UUID:
    """A stable id for tests."""
    return uuid5(ORG, name)


def _records(body: dict[str, Any]) -> Iterable[OtlpRecord]:
    for group in body.get("resourceLogs", ()):
        resource = _attributes(group["resource"].get("attributes", ()))
        for scope in group["scopeLogs"]:
            for log in scope["logRecords"]:
                attributes = _attributes(log.get("attributes", ()))
                name = attributes.get("event.name") or _value(log.get("body", {})) or ""
                nanos = int(log.get("timeUnixNano", 0))
                yield OtlpRecord(
                    signal="log", name=name, attributes=attributes, resource=resource, time_unix_nano=nanos
                )
    for group in body.get("resourceMetrics", ()):
        resource = _attributes(group["resource"].get("attributes", ()))
        for scope in group["scopeMetrics"]:
            for metric in scope["metrics"]:
                data = metric.get("sum") or metric.get("gauge") or {}
                for point in data.get("dataPoints", ()):
                    yield OtlpRecord(
                        signal="metric",
                        name=metric["name"],
                        attributes=_attributes(point.get("attributes", ())),
                        resource=resource,
                        time_unix_nano=int(point.get("timeUnixNano", 0)),
                        start_unix_nano=int(point.get("startTimeUnixNano", 0)),
                        value=point.get("asDouble", int(point.get("asInt", 0)) if "asInt" in point else None),
                        temporality="delta" if data.get("aggregationTemporality") in {1, "1"} else "cumulative",
                        unit=metric.get("unit", ""),
                    )
    for group in body.get("resourceSpans", ()):
        resource = _attributes(group["resource"].get("attributes", ()))
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                yield OtlpRecord(
                    signal="span",
                    name=span["name"],
                    attributes=_attributes(span.get("attributes", ())),
                    resource=resource,
                    time_unix_nano=int(span.get("endTimeUnixNano", 0)),
                    trace_id=span.get("traceId", ""),
                    span_id=span.get("spanId", ""),
                )


def _attributes(pairs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: _value(pair["value"]) for pair in pairs}


def _value(value: dict[str, Any]) -> Any:
    if "intValue" in value:
        return int(value["intValue"])
    return next(iter(value.values()), None)


def _seal(content: dict[str, Any]) -> Sealed | None:
    return Sealed(PERSON, json.dumps(content)) if content else None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return None


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    with path.open() as file:
        for line in file:
            if line.strip():
                yield json.loads(line)
