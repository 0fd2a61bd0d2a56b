"""Passkeys (WebAuthn): sign in with one, add, list and remove them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import FromPath

from api.answers import body_of, json_answer
from api.auth import principal_of
from api.bodies import is_empty, read_json
from api.fresh import wait_until_fresh
from api.services import services_of
from api.users import user_id_of
from api.visits import NO_STORE, A, account_of, level, pair_answer, party_of, visit_of
from commands.users import passkeys as commands
from commands.users.passkeys import Challenge
from domain.kernel import PLATFORM, tag_of
from domain.users.events import PasskeyRegistered as PasskeyRegisteredEvent
from eventstore.sealing import unboxed
from projections.users import PROJECTION, queries
from schemas.signin import (
    PasskeyAnswer,
    PasskeyChallenge,
    PasskeyChallengeRequest,
    PasskeyPage,
    PasskeyRegistered,
    PasskeyView,
    TokenPair,
)

_request = msgspec.json.Decoder(PasskeyChallengeRequest)
_answer = msgspec.json.Decoder(PasskeyAnswer)
_TAG = tag_of(PasskeyRegisteredEvent)


def _told(challenge: Challenge, answer: str) -> Response[PasskeyChallenge]:
    body = PasskeyChallenge(challenge_id=challenge.challenge_id, options=challenge.options, links={"answer": answer})
    return json_answer(body, headers=NO_STORE)


@post(
    f"{A}/passkey/login/challenge",
    status_code=200,
    summary="Begin to sign in with a passkey",
    operation_class=body_of(PasskeyChallengeRequest),
)
async def login_challenge(request: Request[Any, Any, Any]) -> Response[PasskeyChallenge]:
    """With `email`, the passkeys of that account are named; without, the authenticator offers those it knows for this site."""
    body = PasskeyChallengeRequest() if is_empty(request) else await read_json(request, _request)
    services, party = services_of(request), party_of(services_of(request).settings)
    async with level():
        account, user_id = await account_of(request, body.email) if body.email else (None, None)
        made = await commands.challenge_for_login(services.tools, party, account, user_id, visit_of(request))
    return _told(made, f"{A}/passkey/login")


@post(f"{A}/passkey/login", status_code=200, summary="Sign in with a passkey", operation_class=body_of(PasskeyAnswer))
async def login(request: Request[Any, Any, Any]) -> Response[TokenPair]:
    """What the authenticator signed, once per challenge."""
    body = await read_json(request, _answer)
    services = services_of(request)
    pair = await commands.log_in(
        services.tools, party_of(services.settings), body.challenge_id, body.credential, visit_of(request)
    )
    return pair_answer(pair)


@post(f"{A}/passkey/register/challenge", status_code=200, summary="Begin to add a passkey")
async def register_challenge(request: Request[Any, Any, Any]) -> Response[PasskeyChallenge]:
    """For the signed-in user."""
    services, user_id = services_of(request), user_id_of(principal_of(request))
    party = party_of(services.settings)
    made = await commands.challenge_for_registration(services.tools, party, user_id, visit_of(request))
    return _told(made, f"{A}/passkey/register")


@post(f"{A}/passkey/register", status_code=201, summary="Add a passkey", operation_class=body_of(PasskeyAnswer))
async def register(request: Request[Any, Any, Any]) -> Response[PasskeyRegistered]:
    """What the authenticator made, once per challenge."""
    body = await read_json(request, _answer)
    services, user_id = services_of(request), user_id_of(principal_of(request))
    passkey_id, position = await commands.register(
        services.tools,
        party_of(services.settings),
        user_id,
        body.challenge_id,
        body.credential,
        name=body.name,
        visit=visit_of(request),
    )
    answer = PasskeyRegistered(passkey_id=passkey_id, links={"self": f"{A}/passkeys/{passkey_id}"})
    return json_answer(answer, 201, position=position)


@get(f"{A}/passkeys", summary="List one's passkeys")
async def passkeys(request: Request[Any, Any, Any]) -> Response[PasskeyPage]:
    """Oldest first."""
    await wait_until_fresh(request, PROJECTION.name)
    return json_answer(PasskeyPage(items=await passkeys_of(request), links={"self": f"{A}/passkeys"}))


async def passkeys_of(request: Request[Any, Any, Any], user_id: UUID | None = None) -> list[PasskeyView]:
    """The passkeys of the caller (or of `user_id`), names opened."""
    services = services_of(request)
    rows = await queries.passkeys(services.pool, user_id or user_id_of(principal_of(request)))
    boxes = [(_TAG, unboxed(row.name_box)) for row in rows if row.name_box]
    names = iter(await services.keyring.open_many(PLATFORM, boxes))
    return [
        PasskeyView(
            passkey_id=row.passkey_id,
            name=next(names) if row.name_box else None,
            transports=row.transports.split(),
            registered_at=row.registered_at,
            last_used_at=row.last_used_at,
            links={"self": f"{A}/passkeys/{row.passkey_id}"},
        )
        for row in rows
    ]


@delete(f"{A}/passkeys/{{passkey_id:uuid}}", status_code=204, summary="Remove a passkey")
async def remove(request: Request[Any, Any, Any], passkey_id: FromPath[UUID]) -> Response[None]:
    """It opens nothing any more."""
    services, principal = services_of(request), principal_of(request)
    position = await commands.remove(services.tools, user_id_of(principal), passkey_id, meta=principal.meta())
    return Response(None, status_code=204, headers={"Crewkit-Position": str(position)})


HANDLERS = [login_challenge, login, register_challenge, register, passkeys, remove]
