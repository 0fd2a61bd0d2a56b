"""Where the mail of an invitation leads: who invites, as what; join or decline."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from litestar import MediaType, Request, Response, get, post
from litestar.params import QueryParameter

from api.contacts import contact_of
from api.errors import not_found
from api.pages.rendering import page
from api.pages.session import checked_form, form_of, redirect, visitor_of
from api.services import services_of
from commands import invitations as commands
from commands.bus import Principal
from domain.invitations.decide import PENDING
from projections import invitations
from projections.invitations import InvitationFound, status_of

AnyRequest = Request[Any, Any, Any]
TOKEN_CHARS_MAX = 100
Token = Annotated[str, QueryParameter(max_length=TOKEN_CHARS_MAX)]


@get("/invitation", media_type=MediaType.HTML)
async def show(request: AnyRequest, token: Token = "") -> Response[Any]:
    """What the holder of the token is invited to; the decision, once it is known who that is."""
    visitor = await visitor_of(request)
    found = await _found(request, token)
    answer = page(
        "invitation",
        csrf=visitor.csrf,
        signed_in=visitor.signed_in is not None,
        organization=found.organization,
        permission=found.row.permission,
        open=status_of(found.row, datetime.now(UTC)) == PENDING,
        token=token,
        login=_login(token),
    )
    return visitor.known(answer)


@post("/invitation", status_code=200, media_type=MediaType.HTML)
async def decide(request: AnyRequest) -> Response[Any]:
    """Join or decline."""
    visitor = await visitor_of(request)
    if visitor.signed_in is None:  # their session ended while they looked at the page: nothing is decided, but not lost
        return redirect(_login((await form_of(request)).get("token", "")))
    fields = await checked_form(request, visitor)
    services, user_id, token = services_of(request), visitor.signed_in.claims.user_id, fields.get("token", "")
    found = await _found(request, token)
    principal = Principal(
        actor=f"user:{user_id}",
        org_id=found.row.org_id,
        person_id=user_id,
        scopes=frozenset(),
        request_id=request.scope["state"].get("request_id"),
        user_id=user_id,
    )
    accepted = fields.get("decision") == "accept"
    if accepted:
        _, name = await contact_of(request, user_id)
        outcome = await commands.accept(
            services.store, services.keyring, principal, found.row.invitation_id, token, name=name
        )
        await services.settle_members(outcome.position)
    else:
        await commands.decline(services.store, principal, found.row.invitation_id, token)
    title = f"You belong to {found.organization}" if accepted else "You declined the invitation"
    text = "Sign in with `crewkit auth login` to work in it." if accepted else "Nobody can use it any more."
    return page("message", title=title, text=text, signed_in=True, csrf=visitor.csrf)


def _login(token: str) -> str:
    return f"/login?next={quote(f'/invitation?token={token[:TOKEN_CHARS_MAX]}', safe='')}"


async def _found(request: AnyRequest, token: str) -> InvitationFound:
    services = services_of(request)
    found = None
    if 0 < len(token) <= TOKEN_CHARS_MAX and token.isascii() and token.isprintable():
        found = await invitations.find_by_token(services.pool, services.keyring, commands.token_hash(token))
    if found is None:
        raise not_found("invitation")
    return found


HANDLERS = [show, decide]
