"""`page`, `page_size`, `sort_by`, `sort_dir`: tables page by page, sorted by columns from a fixed list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from litestar import Request
from litestar.params import QueryParameter

from api.auth import QUERY_KEY
from api.errors import ApiError
from projections.paging import PAGE_ROWS_MAX, Paging

PAGE_SIZE_DEFAULT = 50
PAGES_MAX = 10_000

Page = Annotated[int, QueryParameter(ge=1, le=PAGES_MAX, description="counts from 1")]
PageSize = Annotated[int, QueryParameter(ge=1, le=PAGE_ROWS_MAX)]
SortBy = Annotated[str | None, QueryParameter(max_length=50, description="a column to sort by")]
SortDir = Annotated[str, QueryParameter(pattern="^(asc|desc)$", description="`asc` or `desc`")]


def paging_of(
    page: int, page_size: int, sort_by: str | None, sort_dir: str, *, columns: Mapping[str, str], tie: str
) -> Paging:
    """What the caller asked for; the first of `columns` (name to SQL) is the default.

    Raises:
        ApiError: 400, they want it sorted by something else.
    """
    wanted = sort_by or next(iter(columns))
    if wanted not in columns:
        expected = ", ".join(columns)
        message = f"sort_by: expected one of {expected}, got {wanted!r}"
        raise ApiError(400, message, details={"field": "sort_by", "expected": expected})
    return Paging(page=page, page_size=page_size, order=columns[wanted], tie=tie, descending=sort_dir == "desc")


def cursor_links(
    request: Request[Any, Any, Any],
    path: str,
    following: str | int | None,
    *,
    name: str = "cursor",
    pinned: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """`self`, and `next` where something follows; other parameters of the query are kept.

    `name` is the parameter that says where to go on; `pinned` are values to keep instead of those that were sent, such as an
    id for a slug, which may change hands.  There is no `prev`: see docs/adr/0027.
    """
    fixed = pinned or {}
    asked = [(key, fixed.get(key, value)) for key, value in request.query_params.multi_items() if key != QUERY_KEY]
    links = {"self": f"{path}?{urlencode(asked)}" if asked else path}
    if following is not None:
        onward = [*(pair for pair in asked if pair[0] != name), (name, str(following))]
        links["next"] = f"{path}?{urlencode(onward)}"
    return links


def page_links(request: Request[Any, Any, Any], path: str, paging: Paging, total: int) -> dict[str, str]:
    """`self`, and `prev` and `next` where there are such pages; other parameters of the query are kept."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in {"page", QUERY_KEY}]

    def at(page: int) -> str:
        return f"{path}?{urlencode([*kept, ('page', str(page))])}"

    links = {"self": at(paging.page)}
    if paging.page > 1:
        links["prev"] = at(paging.page - 1)
    if paging.page * paging.page_size < total and paging.page < PAGES_MAX:
        links["next"] = at(paging.page + 1)
    return links
