"""Every failure leaves the API in one shape: a stable code, a sentence for people, and the request id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from domain.kernel import DomainError
from eventstore.port import StoreUnavailableError
from schemas.errors import ErrorAnswer, ErrorDetail

RETRY_AFTER_S = 1

_log = structlog.get_logger("api")
_PATH = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?", re.DOTALL)
_NAMED = re.compile(r"Object (?:missing required|contains unknown) field `(?P<name>[^`]*)`")
_EXPECTED = re.compile(r"Expected `(?P<expected>[^`]*)`(?:, got `(?P<got>[^`]*)`)?")

_STATUS_OF_CODE = {
    "not_found": 404,
    "validation_failed": 422,
    "confirmation_required": 422,
    "forbidden": 403,
    "payment_required": 402,
    "invalid_auth": 401,
    "email_unverified": 403,
    "rate_limited": 429,
    # RFC 8628, section 3.5, and RFC 6749, section 5.2
    "authorization_pending": 400,
    "slow_down": 400,
    "expired_token": 400,
    "access_denied": 400,
    "invalid_grant": 400,
}
CODE_OF_STATUS = {
    400: "validation_failed",
    401: "invalid_auth",
    402: "payment_required",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "validation_failed",
    429: "rate_limited",
    503: "unavailable",
}


# After an update, readers of a projection still find the tables of its former generation until the new one is filled.
OLDER_READ_MODEL = (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError)
# The server's answer never came, or it turns everybody away: asking again later helps.
DATABASE_AWAY = (
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class ApiError(Exception):
    """An answer other than success.  `details` may name the field; `headers` go out with it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        details: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or CODE_OF_STATUS.get(status, "internal_error")
        self.message = message
        self.details = details or {}
        self.headers = dict(headers or {})


def unavailable(message: str, *, retry_after_s: int = RETRY_AFTER_S) -> ApiError:
    """503: try the same request again later."""
    return ApiError(503, message, headers={"Retry-After": str(retry_after_s)})


def not_found(what: str) -> ApiError:
    """404, also for things of other organizations: nobody learns that they exist."""
    return ApiError(404, f"{what} not found")


def bad_cursor(error: ValueError) -> ApiError:
    """400 for a cursor that is not one of ours."""
    return ApiError(400, str(error), details={"field": "cursor"})


def malformed(error: msgspec.DecodeError, *, prefix: str = "$", status: int = 400) -> ApiError:
    """400 for a body that is no JSON, or JSON of the wrong shape; then the field's path and the expected type are named."""
    if not isinstance(error, msgspec.ValidationError):
        return ApiError(400, f"the body is not valid JSON: {error}", details={"field": prefix, "expected": "JSON"})
    found = _PATH.fullmatch(str(error))
    what = found["what"] if found else str(error)
    path = prefix + (found["path"] or "$").removeprefix("$") if found else prefix
    if named := _NAMED.match(what):  # the decoder tells the object around it
        path = f"{path}.{named['name']}"
    details: dict[str, Any] = {"field": path}
    if typed := _EXPECTED.match(what):
        details["expected"] = typed["expected"]
        if typed["got"]:
            details["got"] = typed["got"]
    return ApiError(status, f"{path}: {what}", details=details)


def error_bytes(code: str, message: str, details: dict[str, Any], request_id: str | None) -> bytes:
    """The JSON of an error answer."""
    detail = ErrorDetail(code=code, message=message, details=details, request_id=request_id)
    return msgspec.json.encode(ErrorAnswer(error=detail, message=message))


def translate(error: Exception) -> ApiError:  # noqa: PLR0911  one return per kind of failure
    """What a failure looks like from outside.  Anything unforeseen is a 500 that tells nothing."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, DomainError):
        wait_s = error.details.get("retry_after_s")
        return ApiError(
            _STATUS_OF_CODE.get(error.code, 409),
            str(error),
            code=error.code,
            details=_plain(error.details),
            headers={} if wait_s is None else {"Retry-After": str(wait_s)},
        )
    if isinstance(error, StoreUnavailableError):
        return unavailable("the event store cannot take this now; retry with the same ids")
    if isinstance(error, OLDER_READ_MODEL):
        return unavailable("this read model is being rebuilt for a newer version; try again soon")
    if isinstance(error, asyncpg.QueryCanceledError):
        return unavailable("this takes longer than a question may; ask for less at once")
    if isinstance(error, DATABASE_AWAY):
        return unavailable("the database does not answer; try again soon")
    if isinstance(error, msgspec.DecodeError):
        return malformed(error)
    if isinstance(error, ValidationException):
        return ApiError(400, _validation_message(error), details=_validation_details(error))
    if isinstance(error, HTTPException) and error.status_code < 500:
        headers = {key: value for key, value in (error.headers or {}).items() if key.lower() != "content-type"}
        return ApiError(error.status_code, _sentence(error), headers=headers)
    return ApiError(500, "something went wrong on our side; the request id finds it in the logs")


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer a failure raised while the request was served; unforeseen ones are logged once, here."""
    told = translate(error)
    request_id = request.scope.get("state", {}).get("request_id")
    log_unforeseen(told, error, request_id)
    return Response(
        error_bytes(told.code, told.message, told.details, request_id),
        status_code=told.status,
        media_type=MediaType.JSON,
        headers=told.headers,
    )


def log_unforeseen(told: ApiError, error: Exception, request_id: str | None) -> None:
    """Log what nobody expected, and what an operator should see pass; everything else is the caller's business."""
    if told.status == 500 or isinstance(error, OLDER_READ_MODEL + DATABASE_AWAY):
        _log.error("request.failed", request_id=request_id, error=type(error).__name__, exc_info=error)


HANDLERS: ExceptionHandlersMap = {Exception: handle, HTTPException: handle, 500: handle}


def _sentence(error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return "there is nothing at this path"
        case 405:
            return "this path does not take this method"
        case 413:
            return "the body is too large"
        case _:
            return error.detail


def _validation_message(error: ValidationException) -> str:
    extra: Any = error.extra
    items = [item for item in extra if isinstance(item, dict)] if isinstance(extra, list) else []
    parts = [f"{item.get('key', '?')}: {item.get('message', 'is not valid')}" for item in items]
    return "; ".join(parts) or error.detail


def _validation_details(error: ValidationException) -> dict[str, Any]:
    """Every field that is wrong, and the first one by itself, as where only one can be."""
    fields: Any = _plain(error.extra)
    first: Any = fields[0] if isinstance(fields, list) and fields else None
    named = {"field": str(first["key"])} if isinstance(first, dict) and "key" in first else {}
    return {**named, "fields": fields}


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, enc_hook=str)
