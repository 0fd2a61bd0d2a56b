"""Lists: conversations, and the ledger as pages or as one CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream

from api.analytics.asking import AnyRequest, Tenant, Told, answered, ask
from api.answers import POSITION, json_answer
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, SortDir
from projections.analytics.questions.base import Scope
from projections.analytics.questions.lists import LINES_MAX, ConversationSort, ConversationsParams, LedgerParams
from schemas.analytics import Conversations, Ledger, LedgerLine

_T = "/api/v1/{organization_id:str}"
Part = NamedDependency[Scope]
Status = Annotated[str | None, QueryParameter(pattern="^(active|ended|timed_out)$")]
Outcome = Annotated[str | None, QueryParameter(pattern="^(completed|failed|abandoned|unknown)$")]
Talk = Annotated[str | None, QueryParameter(max_length=400, description="id of a session or of an agent conversation")]
CSV = "text/csv; charset=utf-8"
# Beginnings that a spreadsheet would run as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@get([f"{_T}/analytics/conversations", "/api/analytics/conversations"], summary="Agent conversations")
async def conversations(
    request: AnyRequest,
    part: Part,
    organization_id: Tenant = None,  # noqa: ARG001
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    sort_by: FromQuery[ConversationSort] = "started_at",
    sort_dir: SortDir = "desc",
) -> Response[Conversations]:
    """Those that began in the range: numbers of all, and one page of them."""
    params = ConversationsParams(
        scope=part, page=page, page_size=page_size, sort_by=sort_by, descending=sort_dir == "desc"
    )
    told = await ask(request, "conversations", params, Conversations)
    found = msgspec.structs.replace(told.value, page=page, page_size=page_size)
    return json_answer(answered(request, found, told, part, "analytics/conversations"))


@get([f"{_T}/ledger", "/api/ledger"], summary="The ledger")
async def ledger(
    request: AnyRequest,
    part: Part,
    organization_id: Tenant = None,  # noqa: ARG001
    status: Status = None,
    outcome: Outcome = None,
    conversation: Talk = None,
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
) -> Response[Ledger]:
    """What each session that began in the range used and cost, newest first."""
    params = LedgerParams(
        scope=part,
        status=status,
        outcome=outcome,
        conversation=conversation,
        offset=(page - 1) * page_size,
        limit=page_size,
    )
    told = await ask(request, "ledger", params, Ledger)
    found = msgspec.structs.replace(told.value, page=page, page_size=page_size)
    return json_answer(answered(request, found, told, part, "ledger", "ledger/export"))


@get([f"{_T}/ledger/export", "/api/ledger/export"], summary="The ledger as CSV", media_type=CSV)
async def export(
    request: AnyRequest,
    part: Part,
    organization_id: Tenant = None,  # noqa: ARG001
    status: Status = None,
    outcome: Outcome = None,
    conversation: Talk = None,
) -> Stream:
    """All lines with the same filters, newest first.  Money is micro-USD; an empty field is unknown."""
    params = LedgerParams(
        scope=part, status=status, outcome=outcome, conversation=conversation, limit=LINES_MAX, count=False
    )
    first = await ask(
        request, "ledger", params, Ledger
    )  # what goes wrong before the first line has a status of its own
    headers = {"Content-Disposition": 'attachment; filename="ledger.csv"', POSITION: str(first.position)}
    return Stream(_lines(request, params, first), media_type=CSV, headers=headers)


async def _lines(request: AnyRequest, params: LedgerParams, told: Told) -> AsyncGenerator[bytes]:
    yield _encoded([list(LedgerLine.__struct_fields__)])
    while lines := told.value.lines:
        yield _encoded([[_cell(value) for value in msgspec.structs.astuple(line)] for line in lines])
        if len(lines) < LINES_MAX:
            return
        last: LedgerLine = lines[-1]
        told = await ask(
            request,
            "ledger",
            msgspec.structs.replace(params, before=last.started_at, before_id=last.session_id),
            Ledger,
        )


def _encoded(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


HANDLERS = (conversations, ledger, export)
