"""Signed-in users: their access tokens, and what they are in the organization of a path.  Answers are remembered briefly."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import msgspec

from api.errors import ApiError
from commands.tokens import AccessTokens, BadTokenError, Claims
from projections.members import Membership
from projections.users import Standing

KNOWN_TTL_S = 5.0  # an ended login works no longer than this where no notice of it arrived
ENDED_TTL_S = 3600.0  # by then the read model knows
CACHED_MAX = 10_000
NAMELESS = "\x00"  # no organization is called so
COOKIE = "crewkit_session"  # holds an access token; HttpOnly, SameSite=Lax
BROWSER_COOKIE = "crewkit_browser"  # a random id: knows a browser again, and binds its CSRF token before a login
CSRF_HEADER = "x-csrf-token"
CSRF_LABEL = b"crewkit csrf 1 "


class SignedIn(msgspec.Struct, frozen=True):
    """Somebody with a token that works.  `platform_role` is today's, not the token's."""

    claims: Claims
    platform_role: str


K = TypeVar("K")
V = TypeVar("V")
StandingLookup = Callable[[UUID, UUID, UUID], Awaitable[Standing]]
MembershipLookup = Callable[[str, UUID], Awaitable[Membership | None]]
MembershipsLookup = Callable[[UUID], Awaitable[list[Membership]]]


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
        self._standing = standing
        self._membership = membership
        self._memberships = memberships
        self._clock = clock
        self._standings: OrderedDict[UUID, tuple[float, Standing]] = OrderedDict()
        self._members: OrderedDict[tuple[str, UUID], tuple[float, Membership | None]] = OrderedDict()
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
        now = self._clock()
        cached = self._standings.get(claims.jti)
        if cached is None or cached[0] <= now:
            found = await self._standing(claims.user_id, claims.family_id, claims.jti)
            cached = (now + KNOWN_TTL_S, found)
            _remember(self._standings, claims.jti, cached)
        # After the lookup: a notice may have come while we asked.
        if cached[1].refused or self._ended.get(claims.family_id, 0.0) > self._clock():
            raise invalid_token()
        return SignedIn(claims, cached[1].platform_role or claims.platform_role)

    async def member(self, organization: str, user_id: UUID) -> Membership | None:
        """What the user is in the organization of that slug or id; None: nothing."""
        key, now = (organization, user_id), self._clock()
        cached = self._members.get(key)
        if cached is None or cached[0] <= now:
            cached = (now + KNOWN_TTL_S, await self._membership(organization, user_id))
            _remember(self._members, key, cached)
        return cached[1]

    async def only_member(self, user_id: UUID) -> Membership | None:
        """What the user is where no organization is named: their only membership; None where they have none or several."""
        key, now = (NAMELESS, user_id), self._clock()
        cached = self._members.get(key)
        if cached is None or cached[0] <= now:
            every = await self._memberships(user_id)
            cached = (now + KNOWN_TTL_S, every[0] if len(every) == 1 else None)
            _remember(self._members, key, cached)
        return cached[1]

    def end(self, family_id: UUID) -> None:
        """Refuse the login's tokens from now on, whatever the read model says while it catches up."""
        _remember(self._ended, family_id, self._clock() + ENDED_TTL_S)

    def forget(self) -> None:
        """Ask again for everybody."""
        self._standings.clear()
        self._members.clear()


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
    if not hmac.compare_digest(csrf_token(secret, bound_to), told):
        raise ApiError(403, "send the CSRF token of this session as X-CSRF-Token", details={"field": "X-CSRF-Token"})


def invalid_token() -> ApiError:
    """401."""
    return ApiError(
        401,
        "send a valid access token as Authorization: Bearer; sign in again or use the refresh token",
        headers={"WWW-Authenticate": 'Bearer realm="crewkit", error="invalid_token"'},
    )
