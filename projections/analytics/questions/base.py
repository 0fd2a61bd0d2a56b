"""What every question shares: whom and when it is about, and how that becomes SQL with parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import Any, Generic, Literal, Protocol, TypeVar
from uuid import UUID

import msgspec

SIDE_THREADS_MAX = 4
GROUPS_MAX = 500  # rows of a table that is grouped by something

FirstT = TypeVar("FirstT")
SecondT = TypeVar("SecondT")
ParamsT = TypeVar("ParamsT", bound=msgspec.Struct)


class Cursor(Protocol):
    """The part of a DuckDB connection that questions use."""

    def execute(self, query: str, parameters: Any = None) -> Any:
        """Run a statement; what comes back has `fetchall` and `description`."""
        ...

    def cursor(self) -> Cursor:
        """Another one, for another thread."""
        ...


class QuestionError(ValueError):
    """The question cannot be answered as it was put; the message names the field and what was expected."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of an organization's rows; None means any.  From `since` to before `until`."""

    since: datetime | None = None
    until: datetime | None = None
    person_id: UUID | None = None
    agent: str | None = None
    project: str | None = None
    repo: str | None = None
    branch: str | None = None
    model: str | None = None


class Question(Generic[ParamsT]):
    """A named question: its parameters, and how a cursor answers it for one organization."""

    def __init__(self, name: str, params: type[ParamsT], ask: Callable[[Cursor, UUID, ParamsT], Any]) -> None:
        self.name = name
        self.params = params
        self.ask = ask


class Where:
    """A condition with its values, in the order of its marks."""

    def __init__(self, sql: str, values: list[Any]) -> None:
        self.sql = sql
        self.values = values

    def plus(self, sql: str, *values: Any) -> Where:
        """The same and one more."""
        return Where(f"{self.sql} AND {sql}", [*self.values, *values])


def utc(moment: datetime) -> datetime:
    """As columns hold it: UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo is not None else moment


def _place(org_id: UUID, scope: Scope, moment: str) -> Where:
    where = Where("org_id = ?", [org_id])
    if scope.since is not None:
        where = where.plus(f"{moment} >= ?", utc(scope.since))
    if scope.until is not None:
        where = where.plus(f"{moment} < ?", utc(scope.until))
    for name in ("person_id", "agent", "project", "repo", "branch"):
        if (wanted := getattr(scope, name)) is not None:
            where = where.plus(f"{name} = ?", wanted)
    return where


def sessions(org_id: UUID, scope: Scope, key: Literal["session_id", "llm_session_id"] = "session_id") -> Where:
    """Rows of `fact_session`, or of `fact_llm_session` by its `key`: those that began in the range, and used the model."""
    where = _place(org_id, scope, "started_at")
    if scope.model is not None:
        used = f"{key} IN (SELECT {key} FROM agg_usage WHERE org_id = ? AND model = ?)"  # noqa: S608
        where = where.plus(used, org_id, scope.model)
    return where


def usage(org_id: UUID, scope: Scope) -> Where:
    """Rows of `agg_usage`: what was used in the range."""
    where = _place(org_id, scope, "slot_at")
    return where if scope.model is None else where.plus("model = ?", scope.model)


def rows(cursor: Cursor, sql: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows a query answers, by column name; times say that they are UTC."""
    found = cursor.execute(sql, list(values))
    names = [column[0] for column in found.description]
    told = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    for name in [column[0] for column in found.description if str(column[1]).startswith(("TIMESTAMP", "DATETIME"))]:
        for row in told:
            if isinstance(value := row[name], datetime):
                row[name] = value.replace(tzinfo=UTC)
    return told


def beside(
    cursor: Cursor, one: Callable[[Cursor], FirstT], other: Callable[[Cursor], SecondT]
) -> tuple[FirstT, SecondT]:
    """Ask two things at once: each alone keeps one processor busy."""
    second = _threads.submit(other, cursor.cursor())
    try:
        first = one(cursor)
    finally:
        wait([second])  # its cursor is the question's: it ends with the question's deadline
    return first, second.result()


_threads = ThreadPoolExecutor(SIDE_THREADS_MAX, thread_name_prefix="question-beside")


def one(cursor: Cursor, sql: str, values: Sequence[Any]) -> dict[str, Any]:
    """The only row a query answers."""
    return rows(cursor, sql, values)[0]
