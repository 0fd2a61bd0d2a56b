"""Let a device in: type the code it shows, look at what it calls itself, decide."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from litestar import MediaType, Request, Response, get, post
from litestar.params import QueryParameter

from api.pages.rendering import page
from api.pages.session import checked_form, redirect, visitor_of
from api.services import services_of
from api.visits import device_of
from commands.signin import devices
from domain.kernel import NotFoundError
from eventstore.port import Meta

AnyRequest = Request[Any, Any, Any]
UserCode = Annotated[str, QueryParameter(max_length=20)]
UNKNOWN = "No device waits with this code. It may be mistyped, or older than 10 minutes."


@get("/device", media_type=MediaType.HTML)
async def show(request: AnyRequest, user_code: UserCode = "") -> Response[Any]:
    """The code; once it is known, the decision."""
    visitor = await visitor_of(request)
    if visitor.signed_in is None:
        path = f"/device?user_code={quote(user_code)}" if user_code else "/device"
        return redirect(f"/login?next={quote(path)}")
    services = services_of(request)
    waiting = None
    if user_code:
        services.sign_in_limiter.take(f"code:{visitor.signed_in.claims.user_id}")
        waiting = await device_of(request, user_code)
    unknown = user_code and waiting is None
    answer = page(
        "device",
        status=404 if unknown else 200,
        error=UNKNOWN if unknown else None,
        csrf=visitor.csrf,
        signed_in=True,
        user_code=user_code,
        client=waiting.client if waiting else None,
    )
    return visitor.known(answer)


@post("/device", status_code=200, media_type=MediaType.HTML)
async def decide(request: AnyRequest) -> Response[Any]:
    """Yes or no."""
    visitor = await visitor_of(request)
    if visitor.signed_in is None:
        return redirect("/login?next=/device")
    fields = await checked_form(request, visitor)
    services, user_id = services_of(request), visitor.signed_in.claims.user_id
    services.sign_in_limiter.take(f"code:{user_id}")
    waiting = await device_of(request, fields.get("user_code", ""))
    if waiting is None:
        raise NotFoundError(UNKNOWN)
    approve = fields.get("decision") == "approve"
    meta = Meta(actor=f"user:{user_id}", request_id=request.scope["state"].get("request_id"))
    await devices.verify(services.tools, waiting.device_id, user_id, approve=approve, meta=meta)
    title = "The device is signed in" if approve else "The device stays out"
    text = "You can close this page and go back to it." if approve else "Nothing was signed in."
    return page("message", title=title, text=text, signed_in=True, csrf=visitor.csrf)


HANDLERS = [show, decide]
