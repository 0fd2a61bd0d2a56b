"""Sign in and out, open an account, and the pages that mails lead to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.params import QueryParameter

from api.answers import body_of, json_answer
from api.bodies import read_json
from api.errors import ApiError, translate
from api.pages.rendering import page
from api.pages.session import (
    NEXT_DEFAULT,
    Visitor,
    checked_form,
    close_session,
    onward,
    open_session,
    redirect,
    remember,
    remembered,
    visitor_of,
)
from api.people import CSRF_HEADER
from api.services import services_of
from api.visits import account_of, level, party_of, visit_of
from commands.signin import mail
from commands.tokens import Pair, revoke_family
from commands.users import accounts, passkeys
from commands.users.login import log_in_with_password
from domain.kernel import DomainError
from eventstore.port import Meta
from schemas.signin import PasskeyAnswer

AnyRequest = Request[Any, Any, Any]
NextPath = Annotated[str | None, QueryParameter(name="next", max_length=200)]
Secret = Annotated[str, QueryParameter(max_length=200)]
_passkey = msgspec.json.Decoder(PasskeyAnswer)

LINK_SENT = "If this address has an account, a mail with a link is on its way."
REGISTERED = "If this address has no account yet, a mail with a link to verify it is on its way."


async def _shown(visitor: Visitor, template: str, *, error: Exception | None = None, **values: Any) -> Response[Any]:
    """A page with a form; again with a sentence where the form was refused."""
    told = None if error is None else translate(error)
    answer = page(
        template,
        status=200 if told is None else told.status,
        headers={} if told is None else told.headers,
        error=None if told is None else told.message,
        csrf=visitor.csrf,
        **values,
    )
    return visitor.known(answer)


async def _tried(
    visitor: Visitor, template: str, work: Callable[[], Awaitable[Response[Any]]], **values: Any
) -> Response[Any]:
    """What `work` answers, or the form again."""
    try:
        return visitor.known(await work())
    except (DomainError, ApiError) as error:
        return await _shown(visitor, template, error=error, **values)


@get("/login", media_type=MediaType.HTML)
async def show(request: AnyRequest, next_path: NextPath = None) -> Response[Any]:
    """Address and password, a link by mail, or a passkey."""
    visitor = await visitor_of(request)
    if visitor.signed_in is not None:
        return redirect(onward(next_path))
    path = onward(next_path, remembered(request))
    answer = await _shown(visitor, "login", next=path, email="")
    return answer if path == NEXT_DEFAULT else remember(request, answer, path)


@post("/login", status_code=303, media_type=MediaType.HTML)
async def submit(request: AnyRequest) -> Response[Any]:
    """Sign in with a password."""
    visitor = await visitor_of(request)
    fields = await checked_form(request, visitor)
    services, email, path = services_of(request), fields.get("email", ""), onward(fields.get("next"))

    async def work() -> Response[Any]:
        async with level():
            account, user_id = await account_of(request, email)
            password = fields.get("password", "")
            pair = await log_in_with_password(
                services.tools, services.hashing, account, user_id, password, visit_of(request, visitor.browser)
            )
        return open_session(request, redirect(path), pair)

    return await _tried(visitor, "login", work, next=path, email=email)


@post("/login/link", status_code=200, media_type=MediaType.HTML)
async def send_link(request: AnyRequest) -> Response[Any]:
    """Have a login link mailed."""
    visitor = await visitor_of(request)
    fields = await checked_form(request, visitor)
    email = fields.get("email", "")

    async def work() -> Response[Any]:
        async with level():
            account, user_id = await account_of(request, email)
            visit = visit_of(request, visitor.browser)
            await mail.request_magic_link(services_of(request).tools, account, user_id, visit)
        return page("message", title="Look into your mail", text=LINK_SENT)

    return await _tried(visitor, "login", work, next=onward(fields.get("next")), email=email)


@post("/login/passkey", status_code=200, operation_class=body_of(PasskeyAnswer))
async def passkey(request: AnyRequest) -> Response[Any]:
    """What the page's script brings from the authenticator."""
    visitor = await visitor_of(request)
    visitor.check(request.headers.get(CSRF_HEADER, ""))
    body = await read_json(request, _passkey)
    services = services_of(request)
    pair: Pair = await passkeys.log_in(
        services.tools,
        party_of(services.settings),
        body.challenge_id,
        body.credential,
        visit_of(request, visitor.browser),
    )
    return open_session(request, visitor.known(json_answer({"status": "signed_in"})), pair)


@get("/login/magic", media_type=MediaType.HTML)
async def show_magic(request: AnyRequest, token: Secret = "") -> Response[Any]:
    """A button, because programs that look at mails open links."""
    return await _shown(
        await visitor_of(request), "confirm", token=token, title="Sign in", button="Sign in", action="/login/magic"
    )


@post("/login/magic", status_code=303, media_type=MediaType.HTML)
async def magic(request: AnyRequest) -> Response[Any]:
    """Sign in with the secret of the mail, and go where the browser that asked for it wanted to go."""
    visitor = await visitor_of(request)
    fields = await checked_form(request, visitor)
    visit = visit_of(request, visitor.browser)
    pair = await mail.redeem_magic_link(services_of(request).tools, fields.get("token", ""), visit)
    return visitor.known(open_session(request, redirect(onward(remembered(request))), pair))


@get("/login/verify", media_type=MediaType.HTML)
async def show_verify(request: AnyRequest, token: Secret = "") -> Response[Any]:
    """A button, as above."""
    return await _shown(
        await visitor_of(request),
        "confirm",
        token=token,
        title="Verify your address",
        button="Verify",
        action="/login/verify",
    )


@post("/login/verify", status_code=200, media_type=MediaType.HTML)
async def verify(request: AnyRequest) -> Response[Any]:
    """Verify the address with the secret of the registration mail."""
    visitor = await visitor_of(request)
    fields = await checked_form(request, visitor)
    await accounts.verify_email(services_of(request).tools, fields.get("token", ""), visit_of(request))
    return page("message", title="Your address is verified", text="Now you can sign in.")


@get("/login/forgot", media_type=MediaType.HTML)
async def show_forgot(request: AnyRequest) -> Response[Any]:
    """Where to mail a reset link."""
    return await _shown(await visitor_of(request), "forgot", email="")


@post("/login/forgot", status_code=200, media_type=MediaType.HTML)
async def forgot(request: AnyRequest) -> Response[Any]:
    """Have a reset link mailed."""
    visitor = await visitor_of(request)
    email = (await checked_form(request, visitor)).get("email", "")

    async def work() -> Response[Any]:
        async with level():
            account, user_id = await account_of(request, email)
            await mail.request_password_reset(services_of(request).tools, account, user_id, visit_of(request))
        return page("message", title="Look into your mail", text=LINK_SENT)

    return await _tried(visitor, "forgot", work, email=email)


@get("/login/reset", media_type=MediaType.HTML)
async def show_reset(request: AnyRequest, token: Secret = "") -> Response[Any]:
    """The password to be."""
    return await _shown(await visitor_of(request), "reset", token=token)


@post("/login/reset", status_code=200, media_type=MediaType.HTML)
async def reset(request: AnyRequest) -> Response[Any]:
    """Set it, with the secret of the mail."""
    visitor = await visitor_of(request)
    fields = await checked_form(request, visitor)
    token, services = fields.get("token", ""), services_of(request)

    async def work() -> Response[Any]:
        position = await mail.complete_password_reset(
            services.tools, services.hashing, token, fields.get("password", ""), visit_of(request)
        )
        await services.settle_users(position)
        return page("message", title="Your password is changed", text="Now sign in with it.")

    return await _tried(visitor, "reset", work, token=token)


@get("/login/register", media_type=MediaType.HTML)
async def show_register(request: AnyRequest) -> Response[Any]:
    """An account to be."""
    return await _shown(await visitor_of(request), "register", email="", name="")


@post("/login/register", status_code=200, media_type=MediaType.HTML)
async def register(request: AnyRequest) -> Response[Any]:
    """Open it."""
    visitor = await visitor_of(request)
    fields = await checked_form(request, visitor)
    email, name, services = fields.get("email", ""), fields.get("name", ""), services_of(request)

    async def work() -> Response[Any]:
        async with level():
            await accounts.register(
                services.tools,
                services.hashing,
                email=email,
                password=fields.get("password", ""),
                name=name or None,
                visit=visit_of(request),
            )
        return page("message", title="Look into your mail", text=REGISTERED)

    return await _tried(visitor, "register", work, email=email, name=name)


@post("/logout", status_code=303, media_type=MediaType.HTML)
async def logout(request: AnyRequest) -> Response[Any]:
    """End the session."""
    visitor = await visitor_of(request)
    await checked_form(request, visitor)
    if visitor.signed_in is not None:
        services, claims = services_of(request), visitor.signed_in.claims
        meta = Meta(actor=f"user:{claims.user_id}", request_id=request.scope["state"].get("request_id"))
        await revoke_family(services.tools, claims.family_id, reason="logout", meta=meta)
        services.people.end(claims.family_id)
        await services.bus.revoked(claims.family_id)
    return close_session(request, redirect("/login"))


HANDLERS = [
    show,
    submit,
    send_link,
    passkey,
    show_magic,
    magic,
    show_verify,
    verify,
    show_forgot,
    forgot,
    show_reset,
    reset,
    show_register,
    register,
    logout,
]
