"""One OTLP record, whatever its signal and encoding was, as plain data."""

from __future__ import annotations

from typing import Any

import msgspec


class OtlpRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A log record, a metric data point or a span, flattened.

    `name` is the event name (log: attribute `event.name`, else `eventName`, else a body such as `claude_code.user_prompt`, else
    empty), the metric's or the span's name.
    `attributes` and `resource` map keys to plain Python values (int64 strings of the JSON encoding are ints here).
    `time_unix_nano` 0 means the sender gave none.  `value` is a metric point's number, `temporality` `delta`, `cumulative`
    or `gauge`; `unit` its unit.  `body` is a log's body when it is not just the name.
    """

    signal: str
    name: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str = ""
    time_unix_nano: int = 0
    start_unix_nano: int = 0
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    severity: str = ""
    status_code: int = 0
    body: Any = None
    value: float | int | None = None
    temporality: str = ""
    unit: str = ""
