"""Building answers, and describing bodies that handlers read by themselves to the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from litestar import MediaType, Response
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema

from eventstore.port import Outcome
from schemas.ingest import BatchesAnswer, IngestAnswer

T = TypeVar("T")
REF = "#/definitions/"
POSITION = "Crewkit-Position"
INGESTED = {
    202: ResponseSpec(
        data_container=IngestAnswer, description="Stored durably; one result per record", generate_examples=False
    )
}
BATCHES_INGESTED = {
    202: ResponseSpec(
        data_container=BatchesAnswer, description="Stored durably; one answer per batch", generate_examples=False
    )
}
INGEST_HEADERS = [ResponseHeader(name=POSITION, description="give it back as Crewkit-After", documentation_only=True)]


encoded = msgspec.json.Encoder().encode


def accepted(answer: IngestAnswer | BatchesAnswer) -> Response[bytes]:
    """202 with one result per record, sent after the commit."""
    return Response(
        encoded(answer),
        status_code=202,
        media_type=MediaType.JSON,
        headers={POSITION: str(answer.position)},
    )


def json_answer(
    value: T, status: int = 200, *, position: int | None = None, headers: Mapping[str, str] | None = None
) -> Response[T]:
    """`value` as JSON; `position` travels as `Crewkit-Position`."""
    told = dict(headers or {})
    if position is not None:
        told[POSITION] = str(position)
    return Response(value, status_code=status, headers=told)


def no_content(outcome: Outcome | None) -> Response[None]:
    """204; `outcome` is what became of the command, None: there was nothing to do."""
    return Response(None, status_code=204, headers={} if outcome is None else {POSITION: str(outcome.position)})


@dataclass
class Described(Schema):
    """A schema given as JSON Schema, without references."""

    plain: Any = None

    def to_schema(self) -> dict[str, Any]:
        """The JSON Schema."""
        return dict(self.plain)


def inlined(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type with every reference replaced by what it names; for types that do not contain themselves."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template=REF + "{name}")

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            if isinstance(name := node.get("$ref"), str):
                return walk(components[name.removeprefix(REF)])
            return {key: walk(value) for key, value in node.items()}
        return [walk(item) for item in node] if isinstance(node, list) else node

    return dict(walk(schema))


def body_of(
    kind: Any, *, media_types: tuple[str, ...] = ("application/json",), description: str = ""
) -> type[Operation]:
    """For `operation_class=`: the handler reads a body of this type."""
    schema = Described(plain=inlined(kind))

    @dataclass
    class WithBody(Operation):
        def __post_init__(self) -> None:
            self.request_body = RequestBody(
                content={media_type: OpenAPIMediaType(schema=schema) for media_type in media_types},
                description=description or None,
                required=True,
            )

    return WithBody
