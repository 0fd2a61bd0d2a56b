"""Signed-in users: their access tokens, and what they are in the organization of a path.  Answers are remembered briefly."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from api.errors import ApiError
from commands.tokens import AccessTokens, BadTokenError, Claims
from projections.members import Membership
from projections.users import Standing

KNOWN_TTL_S = 5.0  # an ended login works no longer than this where no notice of it arrived
ENDED_TTL_S = 3600.0  # by then the read model knows
CACHED_MAX = 10_000
COOKIE = "crewkit_session"  # holds an access token; HttpOnly, SameSite=Lax
BROWSER_COOKIE = "crewkit_browser"  # a random id: knows a browser again, and binds its CSRF token before a login
CSRF_HEADER = "x-csrf-token"
CSRF_LABEL = b"crewkit csrf 1 "


class SignedIn(msgspec.Struct, frozen=True):
    """Somebody with a token that works.  `platform_role` is today's, not the token's."""

    claims: Claims
    platform_role: str


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
StandingLookup = Callable[[UUID, UUID, UUID], Awaitable[Standing]]
MembershipLookup = Callable[[str, UUID], Awaitable[Membership | None]]
MembershipsLookup = Callable[[UUID], Awaitable[list[Membership]]]


class Remembered(Generic[K, V]):
    """Answers by key, each for `ttl_s`.  However many ask at once for what is too old, one question goes out."""

    def __init__(self, ask: Callable[[K], Awaitable[V]], ttl_s: float, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._ttl_s = ttl_s
        self._clock = clock
        self._known: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._asking: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """The answer, at most `ttl_s` old."""
        known = self._known.get(key)
        if known is not None and known[0] > self._clock():
            return known[1]
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._learn(key))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    def clear(self) -> None:
        """Ask again for every key, also where an answer is on its way."""
        self._known.clear()
        self._asking.clear()

    async def _learn(self, key: K) -> V:
        until = self._clock() + self._ttl_s
        value = await self._ask(key)
        if self._asking.get(key) is asyncio.current_task():  # not cleared meanwhile
            _remember(self._known, key, (until, value))
        return value


class People:
    """Checks access tokens and memberships."""

    def __init__(
        self,
        tokens: AccessTokens,
        standing: StandingLookup,
        membership: MembershipLookup,
        memberships: MembershipsLookup,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._standings = Remembered[tuple[UUID, UUID, UUID], Standing](lambda key: standing(*key), KNOWN_TTL_S, clock)
        self._members = Remembered[tuple[str, UUID], Membership | None](
            lambda key: membership(*key), KNOWN_TTL_S, clock
        )
        self._only = Remembered[UUID, Membership | None](partial(_only_one, memberships), KNOWN_TTL_S, clock)
        self._ended: OrderedDict[UUID, float] = OrderedDict()

    async def who(self, text: str) -> SignedIn:
        """The user behind an access token.

        Raises:
            ApiError: 401, with the same words whatever was wrong with it.
        """
        try:
            claims = await self._tokens.check(text)
        except BadTokenError as error:
            raise invalid_token() from error
        found = await self._standings.get((claims.user_id, claims.family_id, claims.jti))
        # After the lookup: a notice may have come while we asked.
        if found.refused or self._ended.get(claims.family_id, 0.0) > self._clock():
            raise invalid_token()
        return SignedIn(claims, found.platform_role or claims.platform_role)

    async def member(self, organization: str, user_id: UUID) -> Membership | None:
        """What the user is in the organization of that slug or id; None: nothing."""
        return await self._members.get((organization, user_id))

    async def only_member(self, user_id: UUID) -> Membership | None:
        """What the user is where no organization is named: their only membership; None where they have none or several."""
        return await self._only.get(user_id)

    def end(self, family_id: UUID) -> None:
        """Refuse the login's tokens from now on, whatever the read model says while it catches up."""
        _remember(self._ended, family_id, self._clock() + ENDED_TTL_S)

    def forget(self) -> None:
        """Ask again for everybody."""
        self._standings.clear()
        self._members.clear()
        self._only.clear()


async def _only_one(memberships: MembershipsLookup, user_id: UUID) -> Membership | None:
    every = await memberships(user_id)
    return every[0] if len(every) == 1 else None


def _remember(cache: OrderedDict[K, V], key: K, value: V) -> None:
    cache.pop(key, None)
    cache[key] = value
    if len(cache) > CACHED_MAX:
        cache.popitem(last=False)


def csrf_token(secret: bytes, bound_to: str) -> str:
    """What a request that is authenticated by a cookie must repeat; other sites can neither read nor compute it."""
    return hmac.digest(secret, CSRF_LABEL + bound_to.encode(), "sha256").hex()


def check_csrf(secret: bytes, bound_to: str, told: str) -> None:
    """Compare in constant time.

    Raises:
        ApiError: 403, it is missing or another.
    """
    # As bytes: of texts, only plain ASCII can be compared in constant time, and anybody may send anything.
    if not hmac.compare_digest(csrf_token(secret, bound_to).encode(), told.encode("utf-8", "replace")):
        raise ApiError(403, "send the CSRF token of this session as X-CSRF-Token", details={"field": "X-CSRF-Token"})


def invalid_token() -> ApiError:
    """401."""
    return ApiError(
        401,
        "send a valid access token as Authorization: Bearer; sign in again or use the refresh token",
        headers={"WWW-Authenticate": 'Bearer realm="crewkit", error="invalid_token"'},
    )
