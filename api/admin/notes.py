"""The note that comes before everything staff see or do, and the organization it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.enums import ParamType
from litestar.openapi.spec import OpenAPIMediaType, Operation, Parameter, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from api.answers import Described, inlined
from api.auth import principal_of
from api.bodies import read_body
from api.errors import malformed, not_found
from api.services import services_of
from commands import admin as commands
from commands.admin import Note
from domain.admin.decide import REASON_CHARS_MAX
from projections.admin import register
from projections.admin.register import RegisterRow

AnyRequest = Request[Any, Any, Any]
T = TypeVar("T")

BASE = "/api/v1/admin"
HEADER = "X-Reason"


def reasoned(kind: Any = None, *, required: bool = False) -> type[Operation]:
    """For `operation_class=`: the handler reads the header that says why, and a body of type `kind` where one is named."""

    @dataclass
    class WithReason(Operation):
        def __post_init__(self) -> None:
            if kind is not None:
                body = OpenAPIMediaType(schema=Described(plain=inlined(kind)))
                self.request_body = RequestBody(content={"application/json": body}, required=required)
            why = Parameter(
                name=HEADER,
                param_in=ParamType.HEADER,
                description="why, in 3 to 500 characters; those concerned can read it",
                schema=Schema(type=OpenAPIType.STRING, max_length=REASON_CHARS_MAX),
            )
            self.parameters = [*(self.parameters or []), why]

    return WithReason


async def optional_body(request: AnyRequest, decoder: msgspec.json.Decoder[T], nothing: T) -> T:
    """The body, or `nothing` where none was sent.

    Raises:
        ApiError: 400, it is not what is expected.
    """
    raw = await read_body(request)
    if not raw.strip():
        return nothing
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise malformed(error) from error


def reason_of(request: AnyRequest, told: str | None = None) -> str | None:
    """The reason in the body, else in the header."""
    return told if told is not None else request.headers.get(HEADER)


async def noted(
    request: AnyRequest,
    what: str,
    *,
    organization: RegisterRow | None = None,
    target: str | None = None,
    needed: bool = False,
) -> None:
    """Tell what is about to be read.

    Raises:
        InvalidFieldError: there is no reason, and one is needed.
    """
    note = Note(
        what=what,
        reason=reason_of(request),
        organization_id=organization.tenant_id if organization else None,
        target=target,
        needed=needed,
    )
    await commands.note_access(services_of(request).store, principal_of(request), note)


async def noted_deed(
    request: AnyRequest,
    what: str,
    reason: str | None,
    *,
    organization: RegisterRow | None = None,
    target: str | None = None,
) -> None:
    """Tell what is about to be changed.

    Raises:
        InvalidFieldError: there is no reason.
    """
    note = Note(
        what=what,
        reason=reason_of(request, reason),
        organization_id=organization.tenant_id if organization else None,
        target=target,
    )
    await commands.note_deed(services_of(request).store, principal_of(request), note)


async def registered(request: AnyRequest, name: str) -> RegisterRow:
    """The organization of that slug or id, whatever became of it.

    Raises:
        ApiError: 404.
    """
    found = await register.find_organization(services_of(request).pool, name)
    if found is None:
        raise not_found("organization")
    return found
