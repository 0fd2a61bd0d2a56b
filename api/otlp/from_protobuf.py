"""OTLP/protobuf as the same plain records as OTLP/JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from api.otlp.values import VALUE_DEPTH_MAX, Decoded, UndecodableError, named, temporality
from schemas.otlp import OtlpRecord

_REQUESTS: dict[str, Any] = {
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
_POINT_KINDS = {
    "sum": "sum",
    "gauge": "gauge",
    "histogram": "histogram",
    "exponential_histogram": "exponentialHistogram",
    "summary": "summary",
}


def decode(signal: str, body: bytes) -> Decoded:
    """Read an Export*ServiceRequest.

    Raises:
        UndecodableError: the bytes are no such message.
    """
    request: Any = _REQUESTS[signal]()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise UndecodableError("the body is not a protobuf message of this signal") from error
    decoded = Decoded([])
    match signal:
        case "logs":
            for resource, scope, items in _groups(request.resource_logs, "scope_logs", "log_records"):
                decoded.records += [_log(item, resource, scope) for item in items]
        case "metrics":
            for resource, scope, items in _groups(request.resource_metrics, "scope_metrics", "metrics"):
                for item in items:
                    _metric(item, resource, scope, decoded)
        case _:
            for resource, scope, items in _groups(request.resource_spans, "scope_spans", "spans"):
                decoded.records += [_span(item, resource, scope) for item in items]
    return decoded


def _groups(blocks: Iterable[Any], inner: str, leaf: str) -> Iterable[tuple[dict[str, Any], str, Iterable[Any]]]:
    for block in blocks:
        resource = _attributes(block.resource.attributes)
        for scoped in getattr(block, inner):
            yield resource, scoped.scope.name, getattr(scoped, leaf)


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(holder: Any, depth: int = 0) -> Any:
    kind = holder.WhichOneof("value")
    if kind is None or depth > VALUE_DEPTH_MAX:
        return None
    value = getattr(holder, kind)
    match kind:
        case "array_value":
            return [_value(item, depth + 1) for item in value.values]
        case "kvlist_value":
            return {pair.key: _value(pair.value, depth + 1) for pair in value.values}
        case "bytes_value":
            return base64.b64encode(value).decode()
        case "double_value":
            return value if math.isfinite(value) else None
        case _:
            return value


def _log(item: Any, resource: dict[str, Any], scope: str) -> OtlpRecord:
    attributes = _attributes(item.attributes)
    name, body = named(attributes, item.event_name, _value(item.body))
    return OtlpRecord(
        signal="log",
        name=name,
        attributes=attributes,
        resource=resource,
        scope=scope,
        time_unix_nano=item.time_unix_nano or item.observed_time_unix_nano,
        trace_id=item.trace_id.hex(),
        span_id=item.span_id.hex(),
        severity=item.severity_text or (str(item.severity_number) if item.severity_number else ""),
        body=body,
    )


def _span(item: Any, resource: dict[str, Any], scope: str) -> OtlpRecord:
    return OtlpRecord(
        signal="span",
        name=item.name,
        attributes=_attributes(item.attributes),
        resource=resource,
        scope=scope,
        time_unix_nano=item.end_time_unix_nano,
        start_unix_nano=item.start_time_unix_nano,
        trace_id=item.trace_id.hex(),
        span_id=item.span_id.hex(),
        parent_span_id=item.parent_span_id.hex(),
        status_code=item.status.code,
    )


def _metric(metric: Any, resource: dict[str, Any], scope: str, decoded: Decoded) -> None:
    kind = metric.WhichOneof("data")
    if kind not in _POINT_KINDS:
        decoded.refuse("metrics: a metric without data points of a known kind")
        return
    data: Any = getattr(metric, kind)
    plain = kind in {"sum", "gauge"}
    how = "gauge" if kind == "gauge" else temporality(getattr(data, "aggregation_temporality", 0))
    for point in data.data_points:
        decoded.records.append(
            OtlpRecord(
                signal="metric",
                name=metric.name,
                attributes=_attributes(point.attributes),
                resource=resource,
                scope=scope,
                time_unix_nano=point.time_unix_nano,
                start_unix_nano=point.start_time_unix_nano,
                value=_point_value(point) if plain else _optional(point, "sum"),
                temporality=how,
                unit=metric.unit,
                body=None
                if plain
                else {
                    "kind": _POINT_KINDS[kind],
                    "count": point.count,
                    "min": _optional(point, "min"),
                    "max": _optional(point, "max"),
                },
            )
        )


def _point_value(point: Any) -> float | int | None:
    kind = point.WhichOneof("value")
    value = getattr(point, kind) if kind else None
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _optional(point: Message, field: str) -> float | None:
    known = point.DESCRIPTOR.fields_by_name.get(field)
    if known is None or (known.has_presence and not point.HasField(field)):
        return None
    value = float(getattr(point, field))
    return value if math.isfinite(value) else None
