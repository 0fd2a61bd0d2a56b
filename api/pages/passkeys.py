"""One's passkeys: see, add, remove.  Adding one needs a script, because only scripts can talk to authenticators."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from litestar import MediaType, Request, Response, get, post
from litestar.params import QueryParameter

from api.errors import not_found
from api.pages.rendering import page
from api.pages.session import checked_form, redirect, visitor_of
from api.services import services_of
from api.signin.passkeys import passkeys_of
from commands.users import passkeys as commands
from eventstore.port import Meta
from projections.freshness import wait_for
from projections.users import PROJECTION

AnyRequest = Request[Any, Any, Any]
After = Annotated[int, QueryParameter(ge=0, le=2**62)]


@get("/passkeys", media_type=MediaType.HTML)
async def show(request: AnyRequest, after: After = 0) -> Response[Any]:
    """The list, as of position `after` at least, and a button to add one."""
    visitor = await visitor_of(request)
    if visitor.signed_in is None:
        return redirect("/login?next=/passkeys")
    services = services_of(request)
    if after:
        await wait_for(services.pool, PROJECTION.name, after, services.settings.read_after_wait_s)
    found = await passkeys_of(request, visitor.signed_in.claims.user_id)
    return visitor.known(page("passkeys", csrf=visitor.csrf, signed_in=True, passkeys=found))


@post("/passkeys/remove", status_code=303, media_type=MediaType.HTML)
async def remove(request: AnyRequest) -> Response[Any]:
    """Take one away."""
    visitor = await visitor_of(request)
    if visitor.signed_in is None:
        return redirect("/login?next=/passkeys")
    fields = await checked_form(request, visitor)
    try:
        passkey_id = UUID(fields.get("passkey_id", ""))
    except ValueError as error:
        raise not_found("passkey") from error
    services, user_id = services_of(request), visitor.signed_in.claims.user_id
    meta = Meta(actor=f"user:{user_id}", request_id=request.scope["state"].get("request_id"))
    position = await commands.remove(services.tools, user_id, passkey_id, meta=meta)
    await wait_for(services.pool, PROJECTION.name, position, services.settings.read_after_wait_s)
    return redirect("/passkeys")


HANDLERS = [show, remove]
