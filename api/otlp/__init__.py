"""OTLP/HTTP: `/v1/logs`, `/v1/metrics`, `/v1/traces`, as JSON or protobuf, gzip or plain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response, Router, post

from api.answers import POSITION
from api.auth import principal_of
from api.bodies import content_type, read_body
from api.errors import ApiError
from api.otlp import from_json, from_protobuf
from api.otlp.answers import JSON, PROTOBUF, exported, refuse
from api.otlp.values import UndecodableError
from api.services import services_of
from commands.sessions import ingest_telemetry


async def _export(request: Request[Any, Any, Any], signal: str) -> Response[bytes]:
    kind = content_type(request)
    if kind not in {JSON, PROTOBUF}:
        raise ApiError(415, f"content type {kind!r} is not supported; send {JSON} or {PROTOBUF}")
    body = await read_body(request)
    try:
        decoded = (from_json if kind == JSON else from_protobuf).decode(signal, body)
    except UndecodableError as error:
        raise ApiError(400, f"{error.path}: {error}", details={"field": error.path}) from error
    services = services_of(request)
    answer = await ingest_telemetry(
        services.store,
        principal_of(request),
        decoded.records,
        received_at=datetime.now(UTC),
        person_secret=services.person_secret,
    )
    message = "; ".join(part for part in (*decoded.reasons, answer.message) if part)
    return Response(
        exported(signal, kind, decoded.rejected + answer.rejected, message),
        status_code=200,
        media_type=kind,
        headers={POSITION: str(answer.position)},
    )


@post("/v1/logs", status_code=200, summary="OTLP logs")
async def logs(request: Request[Any, Any, Any]) -> Response[bytes]:
    """ExportLogsServiceRequest in, ExportLogsServiceResponse out, in the encoding of the request."""
    return await _export(request, "logs")


@post("/v1/metrics", status_code=200, summary="OTLP metrics")
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """ExportMetricsServiceRequest in, ExportMetricsServiceResponse out, in the encoding of the request."""
    return await _export(request, "metrics")


@post("/v1/traces", status_code=200, summary="OTLP traces")
async def traces(request: Request[Any, Any, Any]) -> Response[bytes]:
    """ExportTraceServiceRequest in, ExportTraceServiceResponse out, in the encoding of the request."""
    return await _export(request, "traces")


ROUTER = Router(
    "/", route_handlers=[logs, metrics, traces], tags=["otlp"], exception_handlers={Exception: refuse, 500: refuse}
)
