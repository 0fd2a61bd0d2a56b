"""The SQL of read-model tables, derived from the catalogue: load, upsert, copy, generations and the views over them.

Table `session` of generation 3 is stored as `crewkit.session__g3` and read through the view `crewkit.session`.  Rows are
written as one JSON parameter (`json_populate_recordset`), which costs us a tenth of one array per column; rows that JSON
would change travel as whole columns (`unnest`).  Either way a batch costs one statement per table, whatever its size.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter, signature
from typing import Any, Generic, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import asyncpg
import msgspec

from eventstore.database import API_ROLE, Connection, Pool
from projections.base import Key, Projection, Table

SCHEMA = "crewkit"
NUL = "\x00"
NUL_SHOWN = "\ufffd"  # what a reader sees where a text held a NUL, which Postgres cannot store
_NUL_IN_JSON = b"\\u0000"
_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # not the text \\u0000, whose backslash is escaped itself

RowT = TypeVar("RowT", bound=msgspec.Struct)
Codec: TypeAlias = Callable[[Any], Any]

# Types whose values are the same after a way through JSON, and the only hints with which they are.
_JSON_TYPES = frozenset(
    [
        *("bigint", "boolean", "date", "integer", "json", "jsonb", "numeric", "smallint", "text", "text[]"),
        *("timestamp with time zone", "uuid", "uuid[]"),
    ]
)
_PLAIN_DEFAULTS = (type(None), bool, int, str)
_encode = msgspec.json.Encoder().encode


class Column(msgspec.Struct, frozen=True):
    """One column.  `store` makes the value asyncpg takes, `load` the row's value; None where it passes as it is.

    `in_json`: its values survive a way through JSON.
    """

    name: str
    type: str
    store: Codec | None
    load: Codec | None
    is_array: bool
    in_json: bool


def stored_name(table: str, generation: int) -> str:
    """The name of a table's generation, without the schema."""
    return f"{table}__g{generation}"


def _allowed(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a field's type without None: `str | None` gives `(str,)`."""
    if get_origin(hint) in {Union, types.UnionType}:
        return tuple(part for part in get_args(hint) if part is not type(None))
    return (hint,)


def _json_codec(hint: Any) -> tuple[Codec, Codec]:
    decode = msgspec.json.Decoder(hint).decode

    def store(value: Any) -> str | None:
        if value is None:
            return None
        return str(_clean_json(msgspec.json.encode(value).decode()))

    return store, lambda text: None if text is None else decode(text)


def _text_of(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _clean_text(value: Any) -> Any:
    return value.replace(NUL, NUL_SHOWN) if type(value) is str and NUL in value else value


def _clean_json(text: Any) -> Any:
    if type(text) is str and "\\u0000" in text:
        return _ESCAPED_NUL.sub(lambda found: found.group(1) + NUL_SHOWN, text)
    return text


def _column(name: str, sql_type: str, hint: Any, *, is_key: bool) -> Column:
    allowed = _allowed(hint)
    store: Codec | None = None
    load: Codec | None = None
    if sql_type in {"json", "jsonb"}:
        store, load = _json_codec(hint) if allowed != (str,) else (_clean_json, _text_of)
    elif sql_type.startswith("numeric") and allowed == (int,):
        load = _int_or_none
    elif sql_type.endswith("[]"):
        load = lambda value: None if value is None else msgspec.convert(value, hint)  # noqa: E731
    elif sql_type == "text" and not is_key:
        store = _clean_text
    in_json = sql_type in _JSON_TYPES
    if sql_type == "numeric":
        in_json = allowed == (int,)  # a fraction would be rounded
    elif sql_type in {"json", "jsonb"}:
        in_json = str not in allowed  # JSON that the row keeps as text
    return Column(name, sql_type, store, load, sql_type.endswith("[]"), in_json)


def _int_or_none(value: Any) -> int | None:
    return None if value is None else int(value)


def _array_literal(values: Iterable[Any] | None) -> str | None:
    """A one-dimensional array as Postgres text, because `unnest` would flatten a list of lists."""
    if values is None:
        return None
    parts: list[str] = []
    for value in values:
        if value is None:
            parts.append("NULL")
        else:
            text = str(value).replace(NUL, NUL_SHOWN).replace("\\", "\\\\").replace('"', '\\"')
            parts.append(f'"{text}"')
    return "{" + ",".join(parts) + "}"


class StoredTable(Generic[RowT]):
    """One generation of one table: its statements and how its rows travel.  Made by `describe`."""

    __slots__ = ("_from_json", "_in_json", "columns", "load_sql", "name", "positional", "table", "upsert_sql")

    def __init__(
        self, table: Table[RowT], generation: int, columns: Sequence[Column], stored: Sequence[tuple[str, str]]
    ) -> None:
        """`stored` are names and types of all columns of the table, in its order."""
        self.table = table
        self.name = stored_name(table.name, generation)
        self.columns = tuple(columns)
        taken = signature(table.row).parameters.values()
        # Whether a record's values, as they are and in their order, make a row.
        self.positional = not any(part.kind is Parameter.KEYWORD_ONLY for part in taken) and all(
            column.load is None for column in columns
        )
        by_name = {column.name: column for column in columns}
        full = f'{SCHEMA}."{self.name}"'
        names = ", ".join(f'"{column.name}"' for column in columns)
        keys = ", ".join(f'"{part}"' for part in table.key)
        key_arrays = ", ".join(f"${n}::{by_name[part].type}[]" for n, part in enumerate(table.key, 1))
        self.load_sql = f"SELECT {names} FROM {full} JOIN unnest({key_arrays}) AS wanted({keys}) USING ({keys})"  # noqa: S608
        arrays = ", ".join(
            f"${n}::{'text' if column.is_array else column.type}[]" for n, column in enumerate(columns, 1)
        )
        values = ", ".join(
            f'given."{column.name}"::{column.type}' if column.is_array else f'given."{column.name}"'
            for column in columns
        )
        rest = [column.name for column in columns if column.name not in table.key]
        action = "UPDATE SET " + ", ".join(f'"{name}" = EXCLUDED."{name}"' for name in rest) if rest else "NOTHING"
        end = f"ON CONFLICT ({keys}) DO {action}"
        self.upsert_sql = f"INSERT INTO {full} ({names}) SELECT {values} FROM unnest({arrays}) AS given({names}) {end}"  # noqa: S608
        base = _base(table.row, full, stored) if all(column.in_json for column in columns) else None
        self._in_json = base is not None
        self._from_json = (  # before the gate, before and after the number of the parameter
            f"INSERT INTO {full} ({names}) SELECT {names} FROM ",  # noqa: S608
            f"json_populate_recordset({base}, $",
            f"::json) {end}",
        )

    def upsert_from(self, parameter: int, gate: str = "") -> str:
        """The statement that takes what `as_json` made as its parameter of that number.

        `gate` names a relation of one row or none: without a row nothing is written.
        """
        into, before, after = self._from_json
        return f"{into}{gate + ', ' if gate else ''}{before}{parameter}{after}"

    def as_json(self, rows: Sequence[RowT]) -> bytes | None:
        """`rows` as one JSON text; None where they must travel as columns."""
        if not self._in_json:
            return None
        text = _encode(rows)
        return None if _NUL_IN_JSON in text else text

    def _by_column(self, rows: Sequence[RowT]) -> list[Sequence[Any]]:
        found: list[Sequence[Any]] = list(zip(*map(msgspec.structs.astuple, rows), strict=True))
        for n, column in enumerate(self.columns):
            if column.store is not None:
                found[n] = list(map(column.store, found[n]))
        return found

    async def load(self, connection: Connection | Pool, keys: Sequence[Key]) -> list[RowT]:
        """The rows of `keys` that exist, in any order."""
        if not keys:
            return []
        found = await connection.fetch(self.load_sql, *(list(part) for part in zip(*keys, strict=True)))
        loaders = [(column.name, column.load) for column in self.columns if column.load is not None]
        make = self.table.row
        if self.positional:
            return [make(*record) for record in found]
        rows: list[RowT] = []
        for record in found:
            values = dict(record)
            for name, load in loaders:
                values[name] = load(values[name])
            rows.append(make(**values))
        return rows

    async def upsert(self, connection: Connection, rows: Sequence[RowT]) -> None:
        """Insert or replace `rows`, each key at most once, in one statement."""
        if not rows:
            return
        text = self.as_json(rows)
        if text is not None:
            await connection.execute(self.upsert_from(1), text)
            return
        values = self._by_column(rows)
        for n, column in enumerate(self.columns):
            if column.is_array:
                values[n] = list(map(_array_literal, values[n]))
        await connection.execute(self.upsert_sql, *values)

    async def copy(self, connection: Connection, rows: Sequence[RowT]) -> None:
        """Insert `rows`, none of which may exist yet, by COPY: the fast path of a rebuild."""
        if rows:
            await connection.copy_records_to_table(
                self.name,
                schema_name=SCHEMA,
                columns=[column.name for column in self.columns],
                records=zip(*self._by_column(rows), strict=True),
            )


def _base(row: type[msgspec.Struct], full: str, stored: Sequence[tuple[str, str]]) -> str | None:
    """What a column has that the JSON of a row leaves out; None where that JSON is no plain object of the row's columns."""
    config = row.__struct_config__
    if config.array_like or config.tag is not None or row.__struct_encode_fields__ != row.__struct_fields__:
        return None
    if not config.omit_defaults:
        return f"NULL::{full}"
    values: list[str] = []
    defaults = {field.name: field for field in msgspec.structs.fields(row)}
    for name, sql_type in stored:
        field = defaults.get(name)
        value = None
        if field is not None and field.default is not msgspec.NODEFAULT:
            value = field.default
        elif field is not None and field.default_factory is not msgspec.NODEFAULT:
            return None
        if type(value) not in _PLAIN_DEFAULTS:
            return None
        text = "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"
        values.append(f"{text}::{sql_type}")
    return f"ROW({', '.join(values)})::{full}"


async def describe(connection: Connection, table: Table[RowT], generation: int) -> StoredTable[RowT]:
    """Read the column types of a stored generation.

    Raises:
        LookupError: the table, or a column that the row Struct names, does not exist.
    """
    found = await connection.fetch(
        """SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type
             FROM pg_attribute a
            WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum""",
        f'{SCHEMA}."{stored_name(table.name, generation)}"',
    )
    if not found:
        raise LookupError(f"table {SCHEMA}.{stored_name(table.name, generation)} does not exist")
    sql_types: dict[str, str] = {record["name"]: record["type"] for record in found}
    if missing := [name for name in table.columns if name not in sql_types]:
        raise LookupError(f"table {stored_name(table.name, generation)} lacks the columns {', '.join(missing)}")
    hints = get_type_hints(table.row)
    columns = [_column(name, sql_types[name], hints[name], is_key=name in table.key) for name in table.columns]
    return StoredTable(table, generation, columns, list(sql_types.items()))


async def describe_all(connection: Connection, projection: Projection, generation: int) -> dict[str, StoredTable[Any]]:
    """Every table of a projection's generation, by table name."""
    return {table.name: await describe(connection, table, generation) for table in projection.tables}


async def create_generation(connection: Connection, projection: Projection, generation: int) -> None:
    """Create the empty tables of a generation and let the API's role read them, each tenant its own rows.

    A table whose ddl switches on row security itself keeps the policies the ddl gave it.  Runs inside the caller's
    transaction.
    """
    await connection.execute(f"SET LOCAL search_path TO {SCHEMA}, public")
    await connection.execute(projection.ddl.replace("{g}", str(generation)))
    for table in projection.tables:
        name = stored_name(table.name, generation)
        full = f'{SCHEMA}."{name}"'
        record = await connection.fetchrow(
            """SELECT c.relrowsecurity AS secured,
                      EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id') AS tenant
                 FROM pg_class c WHERE c.oid = to_regclass($1)""",
            full,
        )
        if record is None:
            raise LookupError(f"the ddl of projection {projection.name} does not create {full}")
        await connection.execute(f"GRANT SELECT ON {full} TO {API_ROLE}")
        if record["tenant"] and not record["secured"]:
            await connection.execute(f"ALTER TABLE {full} ENABLE ROW LEVEL SECURITY")
            await connection.execute(
                f"CREATE POLICY tenant ON {full} FOR SELECT TO {API_ROLE} USING (org_id = crewkit.current_org())"
            )


async def point_views(connection: Connection, projection: Projection, generation: int) -> None:
    """Let the views show `generation`.  Runs inside the caller's transaction, so that all views move at once."""
    for table in projection.tables:
        view = f'{SCHEMA}."{table.name}"'
        stored = f'{SCHEMA}."{stored_name(table.name, generation)}"'
        body = f"VIEW {view} WITH (security_invoker = true) AS SELECT * FROM {stored}"  # noqa: S608
        try:
            async with connection.transaction():
                await connection.execute(f"CREATE OR REPLACE {body}")
        except asyncpg.InvalidTableDefinitionError:  # other columns than before: a view cannot change those in place
            await connection.execute(f"DROP VIEW {view}")
            await connection.execute(f"CREATE {body}")
        await connection.execute(f"GRANT SELECT ON {view} TO {API_ROLE}")


async def drop_generation(connection: Connection, names: Iterable[str], generation: int) -> None:
    """Drop the tables `names` of a generation; those that do not exist are no error."""
    for name in names:
        await connection.execute(f'DROP TABLE IF EXISTS {SCHEMA}."{stored_name(name, generation)}"')
