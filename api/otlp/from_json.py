"""OTLP/JSON as plain records.  One odd record is refused and counted; the others of its request are kept."""

from __future__ import annotations

from typing import Any

import msgspec

from api.otlp.values import (
    VALUE_DEPTH_MAX,
    Decoded,
    UndecodableError,
    named,
    number,
    temporality,
    whole,
)
from schemas.otlp import OtlpRecord

_decode = msgspec.json.Decoder().decode
_POINT_KINDS = ("sum", "gauge", "histogram", "exponentialHistogram", "summary")
Groups = list[tuple[dict[str, Any], str, list[Any]]]


def decode(signal: str, body: bytes) -> Decoded:
    """Read an Export*ServiceRequest.

    Raises:
        UndecodableError: no JSON, or not the outer shape of the request.
    """
    try:
        tree = _decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UndecodableError(f"the body is not valid JSON: {error}") from error
    if not isinstance(tree, dict):
        raise UndecodableError("expected an object")
    decoded = Decoded([])
    match signal:
        case "logs":
            groups, read = _groups(tree, "resourceLogs", "scopeLogs", "logRecords"), _log
        case "metrics":
            return _metrics(tree, decoded)
        case _:
            groups, read = _groups(tree, "resourceSpans", "scopeSpans", "spans"), _span
    for resource, scope, items in groups:
        for item in items:
            try:
                decoded.records.append(read(item, resource, scope))
            except (TypeError, ValueError, AttributeError, KeyError) as error:
                decoded.refuse(f"{signal}: {error}")
    return decoded


def _groups(tree: dict[str, Any], outer: str, inner: str, leaf: str) -> Groups:
    groups: Groups = []
    for n, block in enumerate(_list(tree, outer, "$")):
        path = f"$.{outer}[{n}]"
        resource = _attributes(_object(_object(block, path).get("resource"), path).get("attributes"))
        for m, scoped in enumerate(_list(block, inner, path)):
            place = f"{path}.{inner}[{m}]"
            name = _object(_object(scoped, place).get("scope"), place).get("name")
            groups.append((resource, name if isinstance(name, str) else "", _list(scoped, leaf, place)))
    return groups


def _object(value: Any, path: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UndecodableError("expected an object", path)
    return value


def _list(holder: dict[str, Any], name: str, path: str) -> list[Any]:
    value = holder.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UndecodableError("expected an array", f"{path}.{name}")
    return value


def _attributes(pairs: Any) -> dict[str, Any]:
    if not isinstance(pairs, list):
        return {}
    found: dict[str, Any] = {}
    for pair in pairs:
        if isinstance(pair, dict) and isinstance(key := pair.get("key"), str):
            found[key] = _value(pair.get("value"))
    return found


def _value(holder: Any, depth: int = 0) -> Any:  # noqa: PLR0911  one return per kind of value
    if not isinstance(holder, dict) or depth > VALUE_DEPTH_MAX:
        return None
    for kind, value in holder.items():
        match kind:
            case "stringValue" | "boolValue" | "bytesValue":
                return value
            case "intValue":
                return whole(value)
            case "doubleValue":
                return number(value)
            case "arrayValue":
                items = value.get("values") if isinstance(value, dict) else None
                return [_value(item, depth + 1) for item in items] if isinstance(items, list) else []
            case "kvlistValue":
                pairs = value.get("values") if isinstance(value, dict) else None
                return {
                    str(pair.get("key", "")): _value(pair.get("value"), depth + 1)
                    for pair in (pairs if isinstance(pairs, list) else [])
                    if isinstance(pair, dict)
                }
            case _:
                continue
    return None


def _hex(value: Any) -> str:
    return value.lower() if isinstance(value, str) else ""


def _log(item: Any, resource: dict[str, Any], scope: str) -> OtlpRecord:
    if not isinstance(item, dict):
        raise TypeError("a log record must be an object")
    attributes = _attributes(item.get("attributes"))
    name, body = named(attributes, item.get("eventName"), _value(item.get("body")))
    return OtlpRecord(
        signal="log",
        name=name,
        attributes=attributes,
        resource=resource,
        scope=scope,
        time_unix_nano=whole(item.get("timeUnixNano")) or whole(item.get("observedTimeUnixNano")),
        trace_id=_hex(item.get("traceId")),
        span_id=_hex(item.get("spanId")),
        severity=str(item.get("severityText") or item.get("severityNumber") or ""),
        body=body,
    )


def _span(item: Any, resource: dict[str, Any], scope: str) -> OtlpRecord:
    if not isinstance(item, dict):
        raise TypeError("a span must be an object")
    status = item.get("status")
    code = status.get("code") if isinstance(status, dict) else 0
    return OtlpRecord(
        signal="span",
        name=str(item.get("name") or ""),
        attributes=_attributes(item.get("attributes")),
        resource=resource,
        scope=scope,
        time_unix_nano=whole(item.get("endTimeUnixNano")),
        start_unix_nano=whole(item.get("startTimeUnixNano")),
        trace_id=_hex(item.get("traceId")),
        span_id=_hex(item.get("spanId")),
        parent_span_id=_hex(item.get("parentSpanId")),
        status_code={"STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}.get(str(code), whole(code)),
    )


def _metrics(tree: dict[str, Any], decoded: Decoded) -> Decoded:
    for resource, scope, metrics in _groups(tree, "resourceMetrics", "scopeMetrics", "metrics"):
        for metric in metrics:
            kind = next((kind for kind in _POINT_KINDS if isinstance(metric, dict) and kind in metric), None)
            data = metric[kind] if kind is not None else None
            points = data.get("dataPoints", []) if isinstance(data, dict) else None
            if kind is None or not isinstance(data, dict) or not isinstance(points, list):
                decoded.refuse("metrics: a metric without data points of a known kind")
                continue
            how = "gauge" if kind == "gauge" else temporality(data.get("aggregationTemporality"))
            for point in points:
                if isinstance(point, dict):
                    decoded.records.append(_point(metric, kind, how, point, resource, scope))
                else:
                    decoded.refuse("metrics: a data point must be an object")
    return decoded


def _point(
    metric: dict[str, Any], kind: str, how: str, point: dict[str, Any], resource: dict[str, Any], scope: str
) -> OtlpRecord:
    plain = kind in {"sum", "gauge"}
    value = number(point["asDouble"]) if "asDouble" in point else number(point.get("asInt"))
    return OtlpRecord(
        signal="metric",
        name=str(metric.get("name") or ""),
        attributes=_attributes(point.get("attributes")),
        resource=resource,
        scope=scope,
        time_unix_nano=whole(point.get("timeUnixNano")),
        start_unix_nano=whole(point.get("startTimeUnixNano")),
        value=value if plain else number(point.get("sum")),
        temporality=how,
        unit=str(metric.get("unit") or ""),
        body=None
        if plain
        else {
            "kind": kind,
            "count": whole(point.get("count")),
            "min": number(point.get("min")),
            "max": number(point.get("max")),
        },
    )
