"""Lists: conversations, and the ledger as pages or as one CSV file."""

from __future__ import annotations

import csv
import io
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream

from api.analytics.asking import AnyRequest, Tenant, Told, answered, ask
from api.answers import POSITION, json_answer
from api.auth import QUERY_KEY
from api.errors import bad_cursor
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, SortDir
from projections.analytics.questions.base import Scope
from projections.analytics.questions.lists import LINES_MAX, ConversationSort, ConversationsParams, LedgerParams
from schemas.analytics import Conversations, Ledger, LedgerLine

_T = "/api/v1/{organization_id:str}"
Part = NamedDependency[Scope]
Status = Annotated[str | None, QueryParameter(pattern="^(active|ended|timed_out)$")]
Outcome = Annotated[str | None, QueryParameter(pattern="^(completed|failed|abandoned|unknown)$")]
Talk = Annotated[str | None, QueryParameter(max_length=400, description="id of a session or of an agent conversation")]
CursorText = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before", max_length=500)]
CSV = "text/csv"  # Litestar adds the charset
BOM = b"\xef\xbb\xbf"
# Beginnings that a spreadsheet would run as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


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
    cursor: CursorText = None,
) -> Response[Ledger]:
    """What each session that began in the range used and cost, newest first.

    `next_cursor` goes on where this page ends, whatever sessions begin meanwhile; pages by number move with them.
    """
    params = LedgerParams(
        scope=part,
        status=status,
        outcome=outcome,
        conversation=conversation,
        offset=(page - 1) * page_size,
        limit=page_size,
    )
    if cursor is not None:
        before, before_id = _decode_cursor(cursor)
        params = msgspec.structs.replace(params, before=before, before_id=before_id, offset=0)
    told = await ask(request, "ledger", params, Ledger)
    lines: list[LedgerLine] = told.value.lines
    following = _encode_cursor(lines[-1]) if len(lines) == page_size else None
    found = answered(
        request,
        msgspec.structs.replace(told.value, page=page, page_size=page_size, next_cursor=following),
        told,
        part,
        "ledger",
        "ledger/export",
    )
    if following is not None:
        found.links["next"] = f"{found.links['self']}?{_kept(request, part, following)}"
    return json_answer(found)


def _encode_cursor(line: LedgerLine) -> str:
    return urlsafe_b64encode(msgspec.json.encode((line.started_at, line.session_id))).decode().rstrip("=")


def _decode_cursor(text: str) -> tuple[datetime, str]:
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        moment, session_id = msgspec.json.decode(raw, type=tuple[datetime, str])
        return moment.astimezone(UTC), session_id
    except (ValueError, OverflowError, msgspec.DecodeError) as error:
        raise bad_cursor(ValueError("cursor: expected the `next_cursor` of an earlier answer")) from error


def _kept(request: AnyRequest, part: Scope, cursor: str) -> str:
    """The query of the next page: the same filters, and the range as it was when the first page was asked for."""
    ours = {"page", "cursor", "since", "until", QUERY_KEY}
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in ours]
    ends = [(name, at.isoformat()) for name, at in (("since", part.since), ("until", part.until)) if at is not None]
    return urlencode([*kept, *ends, ("cursor", cursor)])


@get([f"{_T}/ledger/export", "/api/ledger/export"], summary="The ledger as CSV", media_type=CSV)
async def export(
    request: AnyRequest,
    part: Part,
    organization_id: Tenant = None,  # noqa: ARG001
    status: Status = None,
    outcome: Outcome = None,
    conversation: Talk = None,
    bom: Annotated[
        bool, QueryParameter(description="begin with a byte order mark, by which Excel knows that it is UTF-8")
    ] = False,
) -> Stream:
    """All lines with the same filters, newest first, as RFC 4180 has it.  Money is micro-USD; an empty field is unknown."""
    params = LedgerParams(
        scope=part, status=status, outcome=outcome, conversation=conversation, limit=LINES_MAX, count=False
    )
    first = await ask(
        request, "ledger", params, Ledger
    )  # what goes wrong before the first line has a status of its own
    headers = {"Content-Disposition": 'attachment; filename="ledger.csv"', POSITION: str(first.position)}
    return Stream(_lines(request, params, first, mark=BOM if bom else b""), media_type=CSV, headers=headers)


async def _lines(request: AnyRequest, params: LedgerParams, told: Told, *, mark: bytes) -> AsyncGenerator[bytes]:
    """The file, part by part.  Parts may come from several replicas: none that knows less than the first is asked."""
    yield mark + _encoded([list(LedgerLine.__struct_fields__)])
    while lines := told.value.lines:
        yield _encoded([[_cell(value) for value in msgspec.structs.astuple(line)] for line in lines])
        if len(lines) < LINES_MAX:
            return
        last: LedgerLine = lines[-1]
        params = msgspec.structs.replace(params, before=last.started_at, before_id=last.session_id)
        told = await ask(request, "ledger", params, Ledger, after=told.position)


def _encoded(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


HANDLERS = (conversations, ledger, export)
