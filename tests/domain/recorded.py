"""The recorded sessions as plain data, without any of the code under test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.otlp import OtlpRecord

RECORDINGS = Path(__file__).parents[1] / "recordings"
CLAUDE = ("claude-0447534f", "claude-840b8813", "claude-d9f5b624", "claude-ebe32a83")


def lines(name: str) -> list[dict[str, Any]]:
    """The JSON lines of a recording, for example `claude-0447534f/hooks.jsonl`."""
    return [json.loads(line) for line in (RECORDINGS / name).read_text().splitlines() if line.strip()]


def subagents(name: str) -> dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Lines and meta of each subagent's transcript, by agent id."""
    found: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {}
    for path in sorted((RECORDINGS / name / "subagents").glob("*.jsonl")):
        meta = json.loads(path.with_suffix(".meta.json").read_text())
        found[path.stem.removeprefix("agent-")] = ([json.loads(line) for line in path.read_text().splitlines()], meta)
    return found


def session_id(name: str) -> str:
    """The agent's own id of a recorded session."""
    first = lines(f"{name}/hooks.jsonl")[0]
    return first.get("payload", first)["session_id"]


def _plain(value: dict[str, Any]) -> Any:
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_plain(item) for item in value["arrayValue"].get("values", [])]
    return next(iter(value.values()), None)


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: _plain(item["value"]) for item in holder.get("attributes", [])}


def logs(name: str) -> Iterator[OtlpRecord]:
    """The log records of a recording, flattened as the API flattens them."""
    for body in lines(f"{name}/otlp_logs.jsonl"):
        for resource_logs in body["resourceLogs"]:
            resource = _attributes(resource_logs["resource"])
            for scope_logs in resource_logs["scopeLogs"]:
                for log in scope_logs["logRecords"]:
                    attributes = _attributes(log)
                    told = (log.get("body") or {}).get("stringValue", "")
                    yield OtlpRecord(
                        signal="log",
                        name=attributes.get("event.name") or log.get("eventName") or told,
                        attributes=attributes,
                        resource=resource,
                        scope=scope_logs.get("scope", {}).get("name", ""),
                        time_unix_nano=int(log["timeUnixNano"]) or int(log["observedTimeUnixNano"]),
                        trace_id=log.get("traceId", ""),
                        span_id=log.get("spanId", ""),
                    )


def metrics(name: str) -> Iterator[OtlpRecord]:
    """The metric points of a recording."""
    for body in lines(f"{name}/otlp_metrics.jsonl"):
        for resource_metrics in body["resourceMetrics"]:
            resource = _attributes(resource_metrics["resource"])
            for scope_metrics in resource_metrics["scopeMetrics"]:
                for metric in scope_metrics["metrics"]:
                    for point in metric["sum"]["dataPoints"]:
                        yield OtlpRecord(
                            signal="metric",
                            name=metric["name"],
                            attributes=_attributes(point),
                            resource=resource,
                            time_unix_nano=int(point["timeUnixNano"]),
                            start_unix_nano=int(point["startTimeUnixNano"]),
                            value=point["asDouble"] if "asDouble" in point else int(point["asInt"]),
                            temporality={1: "delta", 2: "cumulative"}[metric["sum"]["aggregationTemporality"]],
                            unit=metric["unit"],
                        )


def spans(name: str) -> Iterator[OtlpRecord]:
    """The spans of a recording."""
    for body in lines(f"{name}/otlp_traces.jsonl"):
        for resource_spans in body["resourceSpans"]:
            resource = _attributes(resource_spans["resource"])
            for scope_spans in resource_spans["scopeSpans"]:
                for span in scope_spans["spans"]:
                    yield OtlpRecord(
                        signal="span",
                        name=span["name"],
                        attributes=_attributes(span),
                        resource=resource,
                        time_unix_nano=int(span["endTimeUnixNano"]),
                        start_unix_nano=int(span["startTimeUnixNano"]),
                        trace_id=span["traceId"],
                        span_id=span["spanId"],
                        parent_span_id=span.get("parentSpanId", ""),
                    )
