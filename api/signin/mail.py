"""Magic links: a login by mail, without a password."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, post

from api.answers import body_of
from api.bodies import read_json
from api.services import services_of
from api.visits import A, accepted, account_of, level, pair_answer, visit_of
from commands.signin import mail
from schemas.signin import Accepted, EmailOnly, MailedToken, TokenPair

_email = msgspec.json.Decoder(EmailOnly)
_token = msgspec.json.Decoder(MailedToken)


@post(f"{A}/magic_link", status_code=202, summary="Mail a login link", operation_class=body_of(EmailOnly))
async def magic_link(request: Request[Any, Any, Any]) -> Response[Accepted]:
    """Good once, for 15 minutes.  The same answer whether there is such an account or not."""
    body = await read_json(request, _email)
    async with level():
        account, user_id = await account_of(request, body.email)
        await mail.request_magic_link(services_of(request).tools, account, user_id, visit_of(request))
    message = "if this address has an account, a mail with a link to sign in is on its way"
    return accepted("link_sent", message, verify=f"{A}/magic_link/verify")


@post(f"{A}/magic_link/verify", status_code=200, summary="Sign in by mail", operation_class=body_of(MailedToken))
async def redeem(request: Request[Any, Any, Any]) -> Response[TokenPair]:
    """With the secret of the mail, once."""
    body = await read_json(request, _token)
    return pair_answer(await mail.redeem_magic_link(services_of(request).tools, body.token, visit_of(request)))


HANDLERS = [magic_link, redeem]
