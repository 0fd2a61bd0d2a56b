"""Reading request bodies without ever holding more than the limit, also when they arrive compressed."""

from __future__ import annotations

import zlib
from typing import Any, TypeVar

import msgspec
from litestar import Request

from api.errors import ApiError, malformed
from api.services import services_of

GZIP_WBITS = 16 + zlib.MAX_WBITS
JSON_TYPES = frozenset({"application/json", "text/json", "application/x-ndjson", ""})
T = TypeVar("T")


def content_type(request: Request[Any, Any, Any]) -> str:
    """The media type without its parameters, in lower case; empty where none is named."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_empty(request: Request[Any, Any, Any]) -> bool:
    """Whether the caller sends no body at all."""
    return request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers


async def read_body(request: Request[Any, Any, Any]) -> bytes:
    """The body, unzipped where `Content-Encoding` says so.

    Raises:
        ApiError: 413 when it is, or grows, over the limit; 415 for an unknown encoding; 400 for a broken one.
    """
    limit = services_of(request).settings.body_bytes_max
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] != "http.request":
            raise ApiError(400, "the connection ended before the body did")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        more = message.get("more_body", False)
    raw = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    match encoding:
        case "identity" | "":
            return raw
        case "gzip" | "x-gzip":
            return inflate(raw, GZIP_WBITS, limit)
        case "deflate":
            return inflate(raw, zlib.MAX_WBITS, limit)
        case _:
            raise ApiError(415, f"content encoding {encoding!r} is not supported; use gzip, deflate or none")


def inflate(raw: bytes, wbits: int, limit: int) -> bytes:
    """Unzip at most `limit` bytes, all members of a gzip file included.

    Raises:
        ApiError: 413 when there would be more, 400 when the stream is broken or ends early.
    """
    parts: list[bytes] = []
    size = 0
    try:
        while raw:
            member = zlib.decompressobj(wbits)
            part = member.decompress(raw, limit - size + 1)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            if not member.eof:
                raise ApiError(400, "the compressed body ends early")
            parts.append(part)
            raw = member.unused_data
    except zlib.error as error:
        raise ApiError(400, "the compressed body is broken") from error
    return b"".join(parts)


async def read_json(request: Request[Any, Any, Any], decoder: msgspec.json.Decoder[T]) -> T:
    """The body as `decoder` reads it.

    Raises:
        ApiError: 400 naming the field's path and the expected type; 413 and 415 as `read_body`.
    """
    kind = content_type(request)
    if kind not in JSON_TYPES and not kind.endswith("+json"):
        raise ApiError(415, f"content type {kind!r} is not supported here; send application/json")
    body = await read_body(request)
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise malformed(error) from error
    except RecursionError as error:
        raise ApiError(400, "the body is nested too deeply", details={"field": "$"}) from error


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes", details={"limit_bytes": limit})
