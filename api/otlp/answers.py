"""OTLP/HTTP answers, in the encoding of the request, as the protocol's specification words them."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from api.bodies import content_type
from api.errors import ApiError, log_unforeseen, translate
from schemas.errors import ErrorDetail

JSON, PROTOBUF = "application/json", "application/x-protobuf"
# Names of the rejected count: in JSON and in protobuf.
_COUNTS = {
    "logs": ("rejectedLogRecords", "rejected_log_records"),
    "metrics": ("rejectedDataPoints", "rejected_data_points"),
    "traces": ("rejectedSpans", "rejected_spans"),
}
_RESPONSES: dict[str, Any] = {
    "logs": ExportLogsServiceResponse,
    "metrics": ExportMetricsServiceResponse,
    "traces": ExportTraceServiceResponse,
}
# google.rpc.Code by HTTP status
_RPC = {400: 3, 401: 16, 403: 7, 404: 5, 413: 8, 415: 3, 422: 3, 429: 8, 503: 14}
_RPC_INTERNAL = 13


def exported(signal: str, kind: str, rejected: int, message: str) -> bytes:
    """The body of a success: empty, or with `partial_success` where something was rejected or there is a warning."""
    json_name, proto_name = _COUNTS[signal]
    if kind == PROTOBUF:
        response: Any = _RESPONSES[signal]()
        if rejected or message:
            setattr(response.partial_success, proto_name, rejected)
            response.partial_success.error_message = message
        return bytes(response.SerializeToString())
    if not rejected and not message:
        return b"{}"
    # int64 is a string in protobuf's JSON
    return msgspec.json.encode({"partialSuccess": {json_name: str(rejected), "errorMessage": message}})


def refuse(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A failure as google.rpc.Status; its JSON form carries our own error object as well."""
    told = translate(error)
    request_id = request.scope.get("state", {}).get("request_id")
    log_unforeseen(told, error, request_id)
    code = _RPC.get(told.status, _RPC_INTERNAL)
    if content_type(request) == PROTOBUF:
        return Response(
            status_message(code, told.message), status_code=told.status, media_type=PROTOBUF, headers=told.headers
        )
    return Response(
        _json_status(code, told, request_id), status_code=told.status, media_type=JSON, headers=told.headers
    )


def _json_status(code: int, told: ApiError, request_id: str | None) -> bytes:
    detail = ErrorDetail(code=told.code, message=told.message, details=told.details, request_id=request_id)
    return msgspec.json.encode({"code": code, "message": told.message, "details": [], "error": detail})


def status_message(code: int, message: str) -> bytes:
    """google.rpc.Status by hand: field 1 is the code (varint), field 2 the message (bytes).  No generated class is needed."""
    text = message.encode()
    return b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
