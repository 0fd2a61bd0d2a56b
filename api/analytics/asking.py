"""Asking an analytics worker over NATS, and what its refusals look like over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from api.auth import base_path, principal_of
from api.errors import ApiError, unavailable
from api.fresh import after_of
from api.named import person_named
from api.services import services_of
from projections.analytics.asking import Ask, unpacked
from projections.analytics.periods import slot_of
from projections.analytics.questions.base import Scope
from projections.analytics.schema.tables import SLOT_MINUTES
from schemas.analytics import Asked

RANGE_DAYS_DEFAULT = 30
RANGE_DAYS_MAX = 1_830
YEAR_MIN, YEAR_MAX = 1970, 9_000
TEXT_MAX = 400
GRACE_S = 1.0  # how long after its own deadline a worker's reply may take

AnyRequest = Request[Any, Any, Any]
Tenant = FromPath[str | None]
AskedT = TypeVar("AskedT", bound=Asked)
Text = Annotated[str | None, QueryParameter(max_length=TEXT_MAX)]
Since = Annotated[
    datetime | None,
    QueryParameter(
        description="from this moment on, cut down to a quarter of an hour; 30 days before `until` if not given"
    ),
]
Until = Annotated[
    datetime | None,
    QueryParameter(description="before this moment, rounded up to a quarter of an hour; now if not given"),
]

_encode = msgspec.json.Encoder().encode
# Error of a worker to status, and what people are told where the worker says nothing.
_REFUSALS = {
    "behind": (503, "the analytics rows have not reached this position yet"),
    "busy": (503, "too many analytics questions at once"),
    "starting": (503, "the analytics worker is building its file"),
    "deadline": (503, ""),
    "memory": (503, ""),
    "too_large": (400, ""),
    "invalid": (400, ""),
}


def _utc(moment: datetime, field: str) -> datetime:
    if not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise out_of_calendar(field)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def out_of_calendar(field: str) -> ApiError:
    """400: periods of any place are cut around a moment, so the calendar's own ends are not for asking."""
    expected = f"a moment in the years {YEAR_MIN} to {YEAR_MAX}"
    return ApiError(400, f"{field}: expected {expected}", details={"field": field, "expected": expected})


def _slot_after(moment: datetime) -> datetime:
    """The end of the quarter of an hour it is in: usage is summed by quarters, and sessions must match it."""
    whole = slot_of(moment)
    return whole if whole == moment else whole + timedelta(minutes=SLOT_MINUTES)


async def filters_of(
    request: AnyRequest,
    user: Annotated[
        str | None, QueryParameter(description="a person's id or e-mail address", max_length=TEXT_MAX)
    ] = None,
    agent: Text = None,
    project: Text = None,
    repo: Text = None,
    branch: Text = None,
    model: Text = None,
) -> Scope:
    """Whose and which rows an answer is about, at any time."""
    person = person_named(services_of(request), principal_of(request).org_id, user)
    return Scope(person_id=person, agent=agent, project=project, repo=repo, branch=branch, model=model)


async def scope_of(filters: NamedDependency[Scope], since: Since = None, until: Until = None) -> Scope:
    """The same in a range, widened to whole quarters of an hour.

    Raises:
        ApiError: 400, an end is outside of `YEAR_MIN` to `YEAR_MAX`, the range is empty or longer than `RANGE_DAYS_MAX` days.
    """
    end = _utc(until, "until") if until is not None else datetime.now(UTC)
    start = _utc(since, "since") if since is not None else _slot_after(end) - timedelta(days=RANGE_DAYS_DEFAULT)
    if start >= end:
        expected = "a moment before until"
        raise ApiError(400, f"since: expected {expected}", details={"field": "since", "expected": expected})
    if end - start > timedelta(days=RANGE_DAYS_MAX):
        message = f"since: expected at most {RANGE_DAYS_MAX} days before until"
        raise ApiError(400, message, details={"field": "since", "expected": f"at most {RANGE_DAYS_MAX} days"})
    return msgspec.structs.replace(filters, since=slot_of(start), until=_slot_after(end))


class Told(msgspec.Struct, frozen=True):
    """An answer, and up to which event it knows."""

    value: Any
    position: int
    as_of: datetime | None


async def ask(request: AnyRequest, question: str, params: Any, kind: type[Any] = object, *, after: int = 0) -> Told:
    """Ask for the caller's organization; the answer as `kind`, by a replica that knows what happened up to `after`.

    Raises:
        ApiError: 400 what was asked makes no sense; 503 no worker runs, or it is late, busy or behind.
    """
    services = services_of(request)
    org_id: UUID = principal_of(request).org_id
    settings = services.settings
    wish = Ask(
        question=question,
        org_id=org_id,
        params=msgspec.Raw(_encode(params)),
        after=max(after_of(request) or 0, after),
        wait_s=settings.read_after_wait_s,
        deadline_s=settings.analytics_deadline_s + settings.read_after_wait_s,
    )
    raw = await services.bus.ask(services.analytics_subject, _encode(wish), wish.deadline_s + GRACE_S)
    if raw is None:
        raise unavailable("no analytics worker answers; `crewkit worker analytics` runs one")
    answer = unpacked(raw)
    if answer.error is not None:
        status, text = _REFUSALS.get(answer.error, (500, "the analytics worker failed"))
        if status == 503:
            raise unavailable(answer.message or text)
        if status == 500:
            raise ApiError(500, text)
        raise ApiError(400, answer.message, details={"field": answer.field} if answer.field else {})
    return Told(msgspec.json.decode(answer.answer, type=kind), answer.position, answer.as_of)


def answered(request: AnyRequest, found: AskedT, told: Told, part: Scope, *links: str) -> AskedT:
    """The answer with what it is about; the first of `links`, below the organization, is its own."""
    base = base_path(request)
    named = {
        "self" if n == 0 else link.rpartition("/")[2].replace("-", "_"): f"{base}/{link}"
        for n, link in enumerate(links)
    }
    return msgspec.structs.replace(
        found, since=part.since, until=part.until, position=told.position, as_of=told.as_of, links=named
    )
