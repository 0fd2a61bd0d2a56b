"""The device flow of RFC 8628: the terminal asks, the browser decides, the terminal is signed in."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote

import msgspec
from litestar import Request, Response, post

from api.answers import body_of, json_answer
from api.auth import principal_of
from api.bodies import content_type, is_empty, read_body, read_json
from api.errors import ApiError, malformed, not_found
from api.services import services_of
from api.tokens import rotated
from api.users import user_id_of
from api.visits import NO_STORE, A, device_of, pair_answer, visit_of
from commands.signin import devices
from commands.tokens.families import token_hash
from eventstore.settings import public_url
from schemas.signin import DeviceDecided, DeviceStart, DeviceStarted, DeviceVerification, TokenPair, TokenRequest

FORM = "application/x-www-form-urlencoded"
GRANT_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
GRANT_REFRESH = "refresh_token"
DEVICE_CODE_CHARS_MAX = 200
_start = msgspec.json.Decoder(DeviceStart)
_token = msgspec.json.Decoder(TokenRequest)
_verification = msgspec.json.Decoder(DeviceVerification)
_BODIES = ("application/json", FORM)
T = TypeVar("T", bound=msgspec.Struct)


async def _read(request: Request[Any, Any, Any], decoder: msgspec.json.Decoder[T], kind: type[T]) -> T:
    """JSON, or the form that OAuth clients send; nothing at all means every default."""
    if content_type(request) == FORM:
        fields = dict(parse_qsl((await read_body(request)).decode("utf-8", "replace")))
        try:
            return msgspec.convert(fields, kind, strict=False)
        except msgspec.ValidationError as error:
            raise malformed(error) from error
    if is_empty(request):
        return kind()
    return await read_json(request, decoder)


@post(
    [f"{A}/device", "/auth/device"],
    status_code=200,
    summary="Begin to sign in a device",
    operation_class=body_of(DeviceStart, media_types=_BODIES),
)
async def start(request: Request[Any, Any, Any]) -> Response[DeviceStarted]:
    """Show the user `user_code` and `verification_uri`, then ask for tokens every `interval` seconds, for 10 minutes."""
    body = await _read(request, _start, DeviceStart)
    services = services_of(request)
    started = await devices.start(services.tools, client=body.client_id, visit=visit_of(request))
    page = f"{public_url(services.settings)}/device"
    answer = DeviceStarted(
        device_code=started.device_code,
        user_code=started.user_code,
        verification_uri=page,
        verification_uri_complete=f"{page}?user_code={quote(started.user_code)}",
        expires_in=started.expires_in,
        interval=started.interval,
        links={"token": f"{A}/token", "verify": f"{A}/device/verify"},
    )
    return json_answer(answer, position=started.position, headers=NO_STORE)


@post(
    [f"{A}/token", "/auth/token"],
    status_code=200,
    summary="Fetch a device's tokens",
    operation_class=body_of(TokenRequest, media_types=_BODIES),
)
async def token(request: Request[Any, Any, Any]) -> Response[TokenPair]:
    """`authorization_pending` until the user decides, `slow_down` when asked too soon, `access_denied`, `expired_token`; then,
    once, the pair.
    """
    body = await _read(request, _token, TokenRequest)
    services = services_of(request)
    grant = body.grant_type or (GRANT_REFRESH if body.refresh_token and not body.device_code else GRANT_DEVICE)
    if grant == GRANT_REFRESH and body.refresh_token:
        return await rotated(request, body.refresh_token)
    if grant != GRANT_DEVICE or not body.device_code:
        message = f"expected device_code, or refresh_token with grant_type={GRANT_REFRESH}"
        raise ApiError(400, message, details={"field": "device_code"})
    if len(body.device_code) <= DEVICE_CODE_CHARS_MAX:
        services.pace.ask(token_hash(body.device_code))
    return pair_answer(await devices.claim(services.tools, body.device_code, visit_of(request)))


@post(
    f"{A}/device/verify", status_code=200, summary="Decide about a device", operation_class=body_of(DeviceVerification)
)
async def verify(request: Request[Any, Any, Any]) -> Response[DeviceDecided]:
    """A signed-in user lets a device in as themselves, or not."""
    body = await read_json(request, _verification)
    services, principal = services_of(request), principal_of(request)
    waiting = await device_of(request, body.user_code)
    if waiting is None:
        raise not_found("a device that waits with this code")
    position = await devices.verify(
        services.tools, waiting.device_id, user_id_of(principal), approve=body.approve, meta=principal.meta()
    )
    answer = DeviceDecided(
        status="approved" if body.approve else "denied", client=waiting.client, links={"token": f"{A}/token"}
    )
    return json_answer(answer, position=position)


HANDLERS = [start, token, verify]
