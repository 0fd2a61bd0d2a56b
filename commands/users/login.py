"""The end of every way to sign in: the login is noted with the user, a token family opened."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec

from commands.bus import transact
from commands.signin import throttle
from commands.tokens import Pair, Tools, open_login
from commands.tokens.families import load_user
from commands.users.passwords import Hashing
from domain.kernel import PLATFORM, Event, Sealed
from domain.users import decide
from domain.users.state import NOBODY, InvalidCredentialsError, User, UserState, active, evolve, user_stream
from eventstore.port import Meta, Outcome, StreamMovedError

USER_AGENT_CHARS_MAX = 300
ROUNDS_MAX = 10
_DEVICE_LABEL = b"crewkit device 1 "


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """Where a login comes from.  `browser` is the random id of a browser that has been here before, where there is one.

    `began_at` is from before anything was checked: a login counts as that old, so that what ends all logins also ends one
    that was on its way.
    """

    ip: str | None = None
    user_agent: str | None = None
    browser: str | None = None
    request_id: str | None = None
    began_at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))

    def sealed(self, user_id: UUID) -> dict[str, Sealed | None]:
        """Address and program, for events."""
        agent = self.user_agent[:USER_AGENT_CHARS_MAX] if self.user_agent else None
        return {
            "ip": Sealed(user_id, self.ip) if self.ip else None,
            "user_agent": Sealed(user_id, agent) if agent else None,
        }

    def device(self, secret: bytes, user_id: UUID) -> str:
        """A keyed hash by which the same browser or program of the same user is known again."""
        named = self.browser or self.user_agent or ""
        return hmac.digest(secret, _DEVICE_LABEL + user_id.bytes + named.encode(), "sha256").hex()[:32]

    def meta(self, user_id: UUID | None = None) -> Meta:
        """The envelope's note of who did it."""
        actor = "system:sign-in" if user_id is None else f"user:{user_id}"
        return Meta(actor=actor, request_id=self.request_id)


async def on_user(tools: Tools, user_id: UUID, decision: decide.Decision, *, meta: Meta) -> Outcome | None:
    """Decide about a user and append.

    Raises:
        DomainError: the decision refused.
        StreamMovedError: others kept changing the user.
    """
    for rounds_left in reversed(range(ROUNDS_MAX)):
        try:
            return await transact(tools.store, PLATFORM, user_stream(user_id), evolve, NOBODY, decision, meta=meta)
        except StreamMovedError:  # a crowd signs in as one and the same user
            if not rounds_left:
                raise
    raise AssertionError("the loop returns or raises")


async def email_of(tools: Tools, user: User) -> str | None:
    """The address, or None where the person was erased."""
    (email,) = await tools.ring.open_many(PLATFORM, [(user.email.tag, user.email.sealed)])
    return email


async def begin(
    tools: Tools,
    user_id: UUID,
    visit: Visit,
    *,
    method: str,
    passkey: tuple[UUID, int] | None = None,
    family_id: UUID | None = None,
) -> Pair:
    """Sign the user in, who has proved who they are.

    Raises:
        InvalidCredentialsError: the account cannot sign in.
    """
    family = family_id or uuid4()
    user = active(await load_user(tools.store, user_id))
    email = await email_of(tools, user)
    if email is None:
        raise InvalidCredentialsError("cannot sign in with these credentials")
    at, meta = visit.began_at, visit.meta(user_id)

    def noted(state: UserState) -> list[Event]:
        return decide.log_in(
            state,
            method=method,
            family_id=family,
            device=visit.device(tools.secret, user_id),
            email=Sealed(user_id, email),
            at=at,
            passkey=passkey,
            **visit.sealed(user_id),
        )

    await on_user(tools, user_id, noted, meta=meta)
    return await open_login(tools, user_id, family, method=method, platform_role=user.platform_role, at=at, meta=meta)


async def refuse(tools: Tools, user_id: UUID, visit: Visit, *, method: str, reason: str) -> None:
    """Note a login that was refused."""
    at = datetime.now(UTC)
    await on_user(
        tools,
        user_id,
        lambda state: decide.fail_login(state, method=method, reason=reason, at=at, **visit.sealed(user_id)),
        meta=visit.meta(),
    )


async def log_in_with_password(
    tools: Tools, hashing: Hashing, account: str, user_id: UUID | None, password: str, visit: Visit
) -> Pair:
    """Sign in with address and password; `account` is the address's keyed hash, `user_id` whose address it is, if anybody's.

    Raises:
        TooManyAttemptsError: wait.
        InvalidCredentialsError: not these two together.
        UnverifiedError: they are right, but the address was never verified.
    """
    await throttle.attempt(tools.store, "password", account)
    state = NOBODY if user_id is None else await load_user(tools.store, user_id)
    user = state if isinstance(state, User) and state.status == "active" else None
    stored = None
    if user is not None and user.password is not None:
        (stored,) = await tools.ring.open_many(PLATFORM, [(user.password.tag, user.password.sealed)])
    if not await hashing.matches(stored, password) or user is None:
        if user is not None:
            await refuse(tools, user.user_id, visit, method="password", reason="password")
        raise InvalidCredentialsError("cannot sign in with these credentials")
    if not user.verified:
        await refuse(tools, user.user_id, visit, method="password", reason="unverified")
        raise decide.UnverifiedError("verify your e-mail address first: use the link we mailed, or sign in by mail")
    await throttle.clear(tools.store, "password", account)
    return await begin(tools, user.user_id, visit, method="password")
