"""Framework stacks: the reference data that projects are recognised by."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, Router, get
from litestar.params import FromPath

from api.answers import json_answer
from api.errors import not_found
from api.paging import PAGE_SIZE_DEFAULT, Page, PageSize, SortBy, SortDir, page_links, paging_of
from domain.projects.stacks import STACKS, Stack
from schemas.projects import StackPage, StackView

PATH = "/api/v1/framework_stacks"
SORTS = {"slug": "slug", "name": "name", "language": "language"}


def view(stack: Stack) -> StackView:
    """The stack with its links."""
    return StackView(
        slug=stack.slug,
        name=stack.name,
        language=stack.language,
        files=list(stack.files),
        dependencies=[*stack.dependencies, *stack.needs_all],
        covers=list(stack.covers),
        links={"self": f"{PATH}/{stack.slug}"},
    )


@get(PATH, summary="List framework stacks")
async def list_stacks(
    request: Request[Any, Any, Any],
    page: Page = 1,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    sort_by: SortBy = None,
    sort_dir: SortDir = "asc",
) -> Response[StackPage]:
    """Sorted by `slug`, `name` or `language`."""
    paging = paging_of(page, page_size, sort_by, sort_dir, columns=SORTS, tie="slug")
    every = sorted(
        STACKS.values(), key=lambda stack: (getattr(stack, paging.order), stack.slug), reverse=paging.descending
    )
    links = page_links(request, PATH, paging, len(every))
    items = [view(stack) for stack in paging.cut(every)]
    return json_answer(StackPage(items=items, page=page, page_size=page_size, total=len(every), links=links))


@get(f"{PATH}/{{slug:str}}", summary="One framework stack", sync_to_thread=False)
def show(slug: FromPath[str]) -> Response[StackView]:
    """With the file names and dependencies that are signs of it."""
    if (stack := STACKS.get(slug)) is None:
        raise not_found("framework stack")
    return json_answer(view(stack))


ROUTER = Router("/", route_handlers=[list_stacks, show], tags=["framework stacks"])
