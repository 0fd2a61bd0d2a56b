"""One family per login: opened with the first refresh token, rotated with each next one, ended once."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from commands.bus import transact
from commands.tokens.access import AccessTokens
from domain.kernel import PLATFORM, Event
from domain.tokens import decide
from domain.tokens.events import RefreshTokenReuseDetected
from domain.users import state as users
from eventstore.port import EventStore, Meta
from eventstore.sealing import KeyRing

_REFRESH = re.compile(r"rt_([0-9a-f]{32})_[A-Za-z0-9_-]{43}")
USER_EVENTS_PAGE = 1_000


class Tools(msgspec.Struct, frozen=True):
    """What the commands of signing in work with.  `secret` keys the hashes of addresses and devices."""

    store: EventStore
    ring: KeyRing
    secret: bytes
    tokens: AccessTokens


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """What every way to sign in ends with.  `expires_in` is the access token's, in seconds."""

    user_id: UUID
    family_id: UUID
    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_at: datetime
    position: int


def new_refresh_token(family_id: UUID) -> str:
    """Token text `rt_<family>_<secret>` with 256 random bits in the secret."""
    return f"rt_{family_id.hex}_{secrets.token_urlsafe(32)}"


def refresh_family_of(token: str) -> UUID | None:
    """The family inside a well-formed refresh token, else None."""
    found = _REFRESH.fullmatch(token)
    return UUID(found[1]) if found else None


def token_hash(token: str) -> str:
    """What is stored of a one-time secret: its SHA-256, hex.  Enough, because it has 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


async def load_user(store: EventStore, user_id: UUID) -> users.UserState:
    """The user as of now."""
    state, version = users.NOBODY, 0
    while page := await store.read_stream(PLATFORM, users.user_stream(user_id), after=version, limit=USER_EVENTS_PAGE):
        for recorded in page:
            state = users.evolve(state, recorded.event)
        version = page[-1].version
        if len(page) < USER_EVENTS_PAGE:
            break
    return state


async def open_login(
    tools: Tools, user_id: UUID, family_id: UUID, *, method: str, platform_role: str, at: datetime, meta: Meta
) -> Pair:
    """Begin a login: a new family, its first refresh token, and an access token.  `at` is when its making began."""
    refresh = new_refresh_token(family_id)
    outcome = await transact(
        tools.store,
        PLATFORM,
        decide.family_stream(family_id),
        decide.evolve_family,
        decide.NO_FAMILY,
        lambda state: decide.open_family(
            state, family_id=family_id, user_id=user_id, method=method, refresh_sha256=token_hash(refresh), at=at
        ),
        meta=meta,
    )
    if outcome is None:  # a random id met an existing one
        raise AssertionError("a fresh family id exists already")
    access, life_s = await tools.tokens.mint(user_id, family_id, platform_role)
    return Pair(
        user_id=user_id,
        family_id=family_id,
        access_token=access,
        expires_in=life_s,
        refresh_token=refresh,
        refresh_expires_at=at + decide.REFRESH_LIFE,
        position=outcome.position,
    )


async def rotate_refresh_token(tools: Tools, token: str, *, request_id: str | None = None) -> Pair:
    """Exchange a refresh token for a new pair, once.  A spent one closes its family for ever.

    Raises:
        RefusedTokenError: it is none, was spent, expired, or its login is over.
        InvalidCredentialsError: the user cannot sign in any more.
    """
    family_id = refresh_family_of(token)
    if family_id is None:
        raise decide.RefusedTokenError("this refresh token does not work (any more)")
    first = await tools.store.read_stream(PLATFORM, decide.family_stream(family_id), limit=1)
    opened = decide.evolve_family(decide.NO_FAMILY, first[0].event) if first else decide.NO_FAMILY
    if not isinstance(opened, decide.OpenFamily):
        raise decide.RefusedTokenError("this refresh token does not work (any more)")
    user = users.active(await load_user(tools.store, opened.user_id))
    if user.signed_out_at is not None and opened.opened_at <= user.signed_out_at:
        raise decide.RefusedTokenError("this refresh token does not work (any more)")
    refresh, at, decided = new_refresh_token(family_id), datetime.now(UTC), list[Event]()

    def wish(state: decide.FamilyState) -> list[Event]:
        decided[:] = decide.rotate(state, presented_sha256=token_hash(token), next_sha256=token_hash(refresh), at=at)
        return decided

    outcome = await transact(
        tools.store,
        PLATFORM,
        decide.family_stream(family_id),
        decide.evolve_family,
        decide.NO_FAMILY,
        wish,
        meta=Meta(actor=f"user:{user.user_id}", request_id=request_id),
    )
    if outcome is None or isinstance(decided[0], RefreshTokenReuseDetected):
        raise ReusedTokenError(family_id)
    access, life_s = await tools.tokens.mint(user.user_id, family_id, user.platform_role)
    return Pair(
        user_id=user.user_id,
        family_id=family_id,
        access_token=access,
        expires_in=life_s,
        refresh_token=refresh,
        refresh_expires_at=at + decide.REFRESH_LIFE,
        position=outcome.position,
    )


class ReusedTokenError(decide.RefusedTokenError):
    """A spent token came back; its family is closed now, and readers must learn it at once."""

    def __init__(self, family_id: UUID) -> None:
        super().__init__("this refresh token does not work (any more)")
        self.family_id = family_id


async def revoke_family(
    tools: Tools,
    family_id: UUID,
    *,
    reason: str,
    meta: Meta,
    jti: UUID | None = None,
    expires_at: datetime | None = None,
) -> int | None:
    """End a login; the position of the fact, or None where it was over already."""
    at = datetime.now(UTC)
    outcome = await transact(
        tools.store,
        PLATFORM,
        decide.family_stream(family_id),
        decide.evolve_family,
        decide.NO_FAMILY,
        lambda state: decide.revoke(state, reason=reason, at=at, jti=jti, expires_at=expires_at),
        meta=meta,
    )
    return outcome.position if outcome else None


async def family_owner(store: EventStore, family_id: UUID) -> UUID | None:
    """Whose login it is; None: there never was such a login."""
    first = await store.read_stream(PLATFORM, decide.family_stream(family_id), limit=1)
    opened = decide.evolve_family(decide.NO_FAMILY, first[0].event) if first else decide.NO_FAMILY
    return None if isinstance(opened, decide.NoFamily) else opened.user_id
