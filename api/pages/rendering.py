"""Templates, the headers every page carries, and the two files that pages load."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litestar import MediaType, Request, Response, get
from litestar.params import FromPath

from api.bodies import content_type
from api.errors import handle, log_unforeseen, not_found, translate

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).resolve().parent
_TYPES = {"pages.css": "text/css", "passkeys.js": "text/javascript"}
_FILES = {name: (_HERE / "assets" / name).read_text(encoding="utf-8") for name in _TYPES}
ASSET_MAX_AGE_S = 300

# Nothing from other hosts, nothing inline, no frames around us; addresses of these pages hold secrets, so nobody is told them.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@cache
def _templates() -> Environment:
    """Loaded with the first page: an API that shows none stays smaller."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    return Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def page(template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> Response[str]:
    """A rendered page."""
    text = (
        _templates().get_template(f"{template}.html").render({"error": None, "csrf": "", "signed_in": False, **values})
    )
    return Response(text, status_code=status, media_type=MediaType.HTML, headers={**HEADERS, **(headers or {})})


def show_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """A failure as a page, with the status that the API would answer; scripts are answered as by the API."""
    if content_type(request) == "application/json":
        return handle(request, error)
    told = translate(error)
    log_unforeseen(told, error, request.scope.get("state", {}).get("request_id"))
    return page("message", status=told.status, headers=told.headers, title="That did not work", text=told.message)


@get("/assets/{name:str}", sync_to_thread=False, media_type=MediaType.TEXT)
def asset(name: FromPath[str]) -> Response[str]:
    """The style sheet, and the script that talks to authenticators."""
    if name not in _FILES:
        raise not_found("file")
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": f"public, max-age={ASSET_MAX_AGE_S}"}
    return Response(_FILES[name], media_type=_TYPES[name], headers=headers)


ASSETS = [asset]
