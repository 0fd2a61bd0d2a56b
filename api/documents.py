"""How answers are described in the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from litestar.openapi.spec import Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.types import Empty
from litestar.typing import FieldDefinition

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator


class StructSchemas(OpenAPISchemaPlugin):
    """Schemas of msgspec Structs.  Litestar's own stumbles over a default that is itself a Struct holding a list."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Whether the field is a Struct."""
        return not field_definition.is_union and field_definition.is_subclass_of(msgspec.Struct)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: SchemaCreator) -> Schema:
        """The Struct's fields under the names they have in JSON; defaults are shown where they are plain values."""
        hints = field_definition.get_type_hints(include_extras=True, resolve_generics=True)
        fields = msgspec.structs.fields(field_definition.annotation)
        return schema_creator.create_component_schema(
            field_definition,
            required=sorted(field.encode_name for field in fields if field.required),
            property_fields={
                field.encode_name: FieldDefinition.from_annotation(
                    annotation=hints[field.name], name=field.encode_name, default=_shown(field.default)
                )
                for field in fields
            },
        )


def _shown(default: Any) -> Any:
    return default if default is None or isinstance(default, str | int | float | bool) else Empty
