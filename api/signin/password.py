"""E-mail address and password: register, sign in, reset, change, verify."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, post

from api.answers import body_of, json_answer
from api.auth import principal_of
from api.bodies import read_json
from api.services import services_of
from api.users import user_id_of
from api.visits import NO_STORE, A, accepted, account_of, level, pair_answer, visit_of
from commands.signin import mail
from commands.users import accounts
from commands.users.login import log_in_with_password
from schemas.signin import (
    Accepted,
    EmailOnly,
    MailedToken,
    NewPassword,
    PasswordChange,
    PasswordLogin,
    Registration,
    TokenPair,
)

_registration = msgspec.json.Decoder(Registration)
_login = msgspec.json.Decoder(PasswordLogin)
_email = msgspec.json.Decoder(EmailOnly)
_token = msgspec.json.Decoder(MailedToken)
_reset = msgspec.json.Decoder(NewPassword)
_change = msgspec.json.Decoder(PasswordChange)


@post(f"{A}/register", status_code=202, summary="Open an account", operation_class=body_of(Registration))
async def register(request: Request[Any, Any, Any]) -> Response[Accepted]:
    """A mail with a link that verifies the address is on its way, unless the address has an account already: the answer is the
    same.
    """
    body = await read_json(request, _registration)
    services = services_of(request)
    async with level():
        await accounts.register(
            services.tools,
            services.hashing,
            email=body.email,
            password=body.password,
            name=body.name,
            visit=visit_of(request),
        )
    message = "if this address has no account yet, a mail with a link to verify it is on its way"
    return accepted("verification_sent", message, login=f"{A}/login", verify=f"{A}/email/verify")


@post(f"{A}/login", status_code=200, summary="Sign in with a password", operation_class=body_of(PasswordLogin))
async def login(request: Request[Any, Any, Any]) -> Response[TokenPair]:
    """Five wrong tries for an address within a quarter of an hour, and it has to wait: 429 with `Retry-After`."""
    body = await read_json(request, _login)
    services = services_of(request)
    async with level():
        account, user_id = await account_of(request, body.email)
        pair = await log_in_with_password(
            services.tools, services.hashing, account, user_id, body.password, visit_of(request)
        )
    return pair_answer(pair)


@post(f"{A}/password/forgot", status_code=202, summary="Ask for a reset mail", operation_class=body_of(EmailOnly))
async def forgot(request: Request[Any, Any, Any]) -> Response[Accepted]:
    """The same answer whether there is such an account or not."""
    body = await read_json(request, _email)
    async with level():
        account, user_id = await account_of(request, body.email)
        await mail.request_password_reset(services_of(request).tools, account, user_id, visit_of(request))
    message = "if this address has an account, a mail with a link to set a new password is on its way"
    return accepted("reset_sent", message, reset=f"{A}/password/reset")


@post(f"{A}/password/reset", status_code=200, summary="Set a new password", operation_class=body_of(NewPassword))
async def reset(request: Request[Any, Any, Any]) -> Response[Accepted]:
    """With the secret of the mail, once.  Every login of the user ends."""
    body = await read_json(request, _reset)
    services = services_of(request)
    position = await mail.complete_password_reset(
        services.tools, services.hashing, body.token, body.new_password, visit_of(request)
    )
    await services.settle_users(position)
    answer = Accepted(status="password_changed", message="sign in with it", links={"login": f"{A}/login"})
    return json_answer(answer, position=position, headers=NO_STORE)


@post(f"{A}/password/change", status_code=200, summary="Change one's password", operation_class=body_of(PasswordChange))
async def change(request: Request[Any, Any, Any]) -> Response[Accepted]:
    """Every login of the user ends, the one that asks included."""
    body = await read_json(request, _change)
    services, principal = services_of(request), principal_of(request)
    position = await accounts.change_password(
        services.tools,
        services.hashing,
        user_id_of(principal),
        current=body.current_password,
        new=body.new_password,
        visit=visit_of(request),
    )
    await services.settle_users(position)
    answer = Accepted(status="password_changed", message="sign in again", links={"login": f"{A}/login"})
    return json_answer(answer, position=position, headers=NO_STORE)


@post(f"{A}/email/verify", status_code=200, summary="Verify one's address", operation_class=body_of(MailedToken))
async def verify(request: Request[Any, Any, Any]) -> Response[Accepted]:
    """With the secret of the registration mail."""
    body = await read_json(request, _token)
    outcome = await accounts.verify_email(services_of(request).tools, body.token, visit_of(request))
    answer = Accepted(status="verified", message="now sign in", links={"login": f"{A}/login"})
    return json_answer(answer, position=outcome.position if outcome else None, headers=NO_STORE)


HANDLERS = [register, login, forgot, reset, change, verify]
