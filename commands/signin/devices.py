"""The device flow: a program starts it, a signed-in user decides, the program fetches its tokens once."""

from __future__ import annotations

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec

from commands.bus import transact
from commands.tokens import Pair, Tools
from commands.tokens.families import token_hash
from commands.users.login import Visit, begin
from domain.kernel import PLATFORM, Event
from domain.signin import devices as decide
from domain.signin.events import DeviceAuthorizationClaimed
from eventstore.port import Claim, Meta, NameTakenError, Outcome

CODE_CLAIM = "device.user_code"
CODES_TRIED_MAX = 5
PACES_MAX = 10_000
DEVICE_CODE_CHARS_MAX = 200
_CODE_LABEL = b"crewkit user code 1 "


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What the program is told; `user_code` is for people, `device_code` its own secret."""

    device_code: str
    user_code: str
    expires_in: int
    interval: int
    position: int


class Pace:
    """How often each program may ask.  Asking too soon makes its interval 5 seconds longer.

    In memory, per process: a program that is balanced over several processes is slowed down a little later.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def ask(self, device_id: str) -> None:
        """Count one question.

        Raises:
            SlowDownError: too soon; `details["interval"]` is the new interval in seconds.
        """
        now = self._clock()
        last, interval = self._asked.pop(device_id, (now - decide.INTERVAL_S, decide.INTERVAL_S))
        soon = now - last < interval
        if soon:
            interval += decide.INTERVAL_S
        self._asked[device_id] = (now, interval)
        if len(self._asked) > PACES_MAX:
            self._asked.popitem(last=False)
        if soon:
            raise decide.SlowDownError(f"ask no more often than every {interval} seconds", interval=interval)


def user_code_key(secret: bytes, user_code: str) -> str:
    """The keyed hash a user code is found by, however it was typed."""
    return hmac.digest(secret, _CODE_LABEL + decide.clean_user_code(user_code).encode(), "sha256").hex()


def new_user_code() -> str:
    """Eight letters that can be read aloud, as `BCDF-GHJK`."""
    letters = "".join(secrets.choice(decide.USER_CODE_LETTERS) for _ in range(decide.USER_CODE_CHARS))
    return f"{letters[:4]}-{letters[4:]}"


async def start(tools: Tools, *, client: str, visit: Visit) -> Started:
    """Begin; of two programs that wait at once, no two have the same user code.

    Raises:
        NameTakenError: no free user code was found.
    """
    device_code, at = secrets.token_urlsafe(32), datetime.now(UTC)
    device_id = token_hash(device_code)
    shown = "".join(letter for letter in client if letter.isprintable())[: decide.CLIENT_CHARS_MAX]
    for tries_left in reversed(range(CODES_TRIED_MAX)):
        user_code = new_user_code()
        try:
            position = await _start(tools, device_id, user_code_key(tools.secret, user_code), shown, at, visit)
        except NameTakenError:
            if not tries_left:
                raise
            continue
        return Started(
            device_code=device_code,
            user_code=user_code,
            expires_in=int(decide.DEVICE_LIFE.total_seconds()),
            interval=decide.INTERVAL_S,
            position=position,
        )
    raise AssertionError("the loop returns or raises")


async def _start(tools: Tools, device_id: str, key: str, client: str, at: datetime, visit: Visit) -> int:
    outcome = await transact(
        tools.store,
        PLATFORM,
        decide.device_stream(device_id),
        decide.evolve,
        decide.NO_DEVICE,
        lambda state: decide.start(state, device_id=device_id, user_code_key=key, client=client, at=at),
        meta=visit.meta(),
        claims=[Claim(CODE_CLAIM, key)],
    )
    return outcome.position if outcome else 0


async def verify(tools: Tools, device_id: str, user_id: UUID, *, approve: bool, meta: Meta) -> int | None:
    """The user's yes or no; the position, or None where it was said before.

    Raises:
        NotFoundError: nothing waits (any more).
    """
    at = datetime.now(UTC)
    outcome = await _settle(
        tools,
        device_id,
        lambda state: decide.decide_about(state, user_id=user_id, approve=approve, at=at),
        meta,
        frees_code=not approve,
    )
    return outcome.position if outcome else None


async def claim(tools: Tools, device_code: str, visit: Visit) -> Pair:
    """Fetch the tokens that were approved; of all who try, one gets them.

    Raises:
        AuthorizationPendingError, AccessDeniedError, ExpiredTokenError: as RFC 8628 names them.
        InvalidCredentialsError: the user cannot sign in any more.
    """
    if len(device_code) > DEVICE_CODE_CHARS_MAX:
        raise decide.ExpiredTokenError("this device code does not work (any more); start again")
    device_id, family_id, at = token_hash(device_code), uuid4(), datetime.now(UTC)
    claimed: list[DeviceAuthorizationClaimed] = []

    def wish(state: decide.DeviceState) -> list[Event]:
        claimed[:] = decide.claim(state, family_id=family_id, at=at)
        return list(claimed)

    await _settle(tools, device_id, wish, visit.meta())
    return await begin(tools, claimed[0].user_id, visit, method="device", family_id=family_id)


async def expire(tools: Tools, device_id: str) -> bool:
    """Give up on an authorization whose time is over; its user code becomes free."""
    at = datetime.now(UTC)
    meta = Meta(actor="system:scheduler")
    return await _settle(tools, device_id, lambda state: decide.expire(state, at=at), meta) is not None


async def _settle(
    tools: Tools,
    device_id: str,
    wish: Callable[[decide.DeviceState], list[Event]],
    meta: Meta,
    *,
    frees_code: bool = True,
) -> Outcome | None:
    stream = decide.device_stream(device_id)
    first = await tools.store.read_stream(PLATFORM, stream, limit=1)
    started = decide.evolve(decide.NO_DEVICE, first[0].event) if first else decide.NO_DEVICE
    code = [Claim(CODE_CLAIM, started.user_code_key)] if isinstance(started, decide.Device) and frees_code else []
    return await transact(
        tools.store, PLATFORM, stream, decide.evolve, decide.NO_DEVICE, wish, meta=meta, releases=code
    )
