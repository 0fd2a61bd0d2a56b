"""The model calls of one conversation."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response, Router, get
from litestar.params import FromPath, QueryParameter

from api.answers import json_answer
from api.auth import base_path, principal_of
from api.errors import ApiError, not_found
from api.fresh import wait_until_fresh
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, SortBy, SortDir, page_links, paging_of
from api.services import services_of
from domain.pricing import micro_usd
from eventstore.database import tenant
from projections.llm_calls import SORTS, LlmCallFilter, calls_of
from schemas.llm_calls import LlmCall, LlmCalls

AnyRequest = Request[Any, Any, Any]
Tenant = FromPath[str | None]
READ_MODEL = "sessions"
PICO = 10**12


def _moment(text: str | None, field: str, *, end: bool = False) -> datetime | None:
    """A moment, or a day (UTC): its beginning, or with `end` what comes after it.

    Raises:
        ApiError: 400, it is neither.
    """
    if text is None:
        return None
    try:
        if len(text) == len("2026-11-20"):
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=end)
        moment = msgspec.convert(text, datetime, strict=False)
        return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, OverflowError, msgspec.ValidationError) as error:
        expected = "a day, or a moment as RFC 3339 has it"
        raise ApiError(400, f"{field}: expected {expected}", details={"field": field, "expected": expected}) from error


def _call(row: Any) -> LlmCall:
    cost: int | None = row["cost_pico_usd"]
    sent = row["total_tokens"] - row["output_tokens"]
    return LlmCall(
        id=row["call_key"],
        conversation_id=row["llm_session_id"],
        model=row["model"],
        prompt_tokens=sent,
        completion_tokens=row["output_tokens"],
        total_tokens=row["total_tokens"],
        input_tokens=row["input_tokens"],
        cache_read_tokens=row["cache_read_tokens"],
        cache_write_5m_tokens=row["cache_write_5m_tokens"],
        cache_write_1h_tokens=row["cache_write_1h_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
        response_time_ms=row["duration_ms"],
        ttft_ms=row["ttft_ms"],
        cost=None if cost is None else cost / PICO,
        cost_usd_micros=micro_usd(cost),
        cost_source=None if cost is None else row["cost_source"],
        price_version=row["price_version"],
        unpriced_reason=row["unpriced_reason"],
        timestamp=row["at"],
        subagent_id=row["agent_id"],
        prompt_id=row["prompt_id"],
        request_id=row["request_id"],
        query_source=row["query_source"],
        skill=row["skill"],
    )


@get(
    [
        "/api/v1/{organization_id:str}/conversations/{conversation_id:str}/llm-calls",
        "/conversations/{conversation_id:str}/llm-calls",
    ],
    summary="Model calls of a conversation",
)
async def llm_calls(
    request: AnyRequest,
    conversation_id: FromPath[str],
    organization_id: Tenant = None,  # noqa: ARG001
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    sort_by: SortBy = None,
    sort_dir: SortDir = "desc",
    model: Annotated[str | None, QueryParameter(max_length=400)] = None,
    q: Annotated[
        str | None, QueryParameter(max_length=400, description="text in model, ids, skill or what asked for the call")
    ] = None,
    date_from: Annotated[
        str | None,
        QueryParameter(max_length=40, description="made at or after this moment, or on or after this day (UTC)"),
    ] = None,
    date_to: Annotated[
        str | None, QueryParameter(max_length=40, description="made before this moment, or on or before this day (UTC)")
    ] = None,
) -> Response[LlmCalls]:
    """Newest first unless sorted otherwise; the id may be a session's, then it is about all its conversations."""
    services, org_id = services_of(request), principal_of(request).org_id
    paging = paging_of(page, page_size, sort_by, sort_dir, columns=SORTS, tie="call_key")
    filters = LlmCallFilter(
        model=model, text=q, since=_moment(date_from, "date_from"), until=_moment(date_to, "date_to", end=True)
    )
    await wait_until_fresh(request, READ_MODEL)
    async with tenant(services.pool, org_id) as connection:
        found = await calls_of(connection, org_id, conversation_id, filters, paging)
    if found is None:
        raise not_found("conversation")
    cost = found.cost_pico_usd
    path = f"{base_path(request)}/conversations/{quote(conversation_id, safe='')}/llm-calls"
    return json_answer(
        LlmCalls(
            conversation_id=conversation_id,
            total_tokens_used=found.tokens,
            total_cost=None if cost is None else cost / PICO,
            total_cost_usd_micros=micro_usd(cost),
            uncosted_calls=found.uncosted,
            page=page,
            page_size=page_size,
            total=found.total,
            calls=[_call(row) for row in found.rows],
            links=page_links(request, path, paging, found.total),
        )
    )


ROUTER = Router("/", route_handlers=[llm_calls], tags=["llm-calls"])
