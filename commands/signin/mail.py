"""Magic links and password resets.  The secret goes into an event sealed for the user; the mail reactor sends it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from commands.bus import transact
from commands.signin import throttle
from commands.tokens import Pair, Tools
from commands.tokens.families import load_user, token_hash
from commands.users.accounts import new_secret, set_password
from commands.users.login import Visit, begin, email_of, on_user
from commands.users.passwords import Hashing
from domain.kernel import PLATFORM, Event, Sealed, Stream
from domain.signin import once
from domain.users import decide as users
from domain.users.state import User

SECRET_CHARS_MAX = 200


async def request_magic_link(tools: Tools, account: str, user_id: UUID | None, visit: Visit) -> None:
    """Have a login link mailed, where there is somebody to mail it to; `account` is the address's keyed hash.

    Raises:
        TooManyAttemptsError: wait.
    """
    await throttle.attempt(tools.store, "mail", account)
    if (found := await _recipient(tools, user_id)) is None:
        return
    user, email = found
    token, at = new_secret(), datetime.now(UTC)
    link_id = token_hash(token)
    await _once(
        tools,
        once.link_stream(link_id),
        lambda state: once.request_link(
            state,
            link_id=link_id,
            user_id=user.user_id,
            email=Sealed(user.user_id, email),
            token=Sealed(user.user_id, token),
            at=at,
        ),
        visit,
    )


async def redeem_magic_link(tools: Tools, token: str, visit: Visit) -> Pair:
    """Sign in with the secret of the mail, once.  That also proves the address.

    Raises:
        SpentError: it does not work (any more).
        InvalidCredentialsError: the account cannot sign in.
    """
    at = datetime.now(UTC)
    user_id = await _redeem(tools, once.link_stream(_id(token)), lambda state: once.redeem_link(state, at=at), visit)
    await on_user(
        tools, user_id, lambda state: users.prove_address(state, by="magic_link", at=at), meta=visit.meta(user_id)
    )
    return await begin(tools, user_id, visit, method="magic_link")


async def request_password_reset(tools: Tools, account: str, user_id: UUID | None, visit: Visit) -> None:
    """Have a reset link mailed, where there is somebody to mail it to.

    Raises:
        TooManyAttemptsError: wait.
    """
    await throttle.attempt(tools.store, "mail", account)
    if (found := await _recipient(tools, user_id)) is None:
        return
    user, email = found
    token, at = new_secret(), datetime.now(UTC)
    reset_id = token_hash(token)
    await _once(
        tools,
        once.reset_stream(reset_id),
        lambda state: once.request_reset(
            state,
            reset_id=reset_id,
            user_id=user.user_id,
            email=Sealed(user.user_id, email),
            token=Sealed(user.user_id, token),
            at=at,
        ),
        visit,
    )


async def complete_password_reset(tools: Tools, hashing: Hashing, token: str, new: str, visit: Visit) -> int:
    """Set a new password with the secret of the mail, once; every login ends.  The position of the facts.

    Raises:
        InvalidFieldError: the new password cannot be accepted; the link still works.
        SpentError: the link does not work (any more).
        InvalidCredentialsError: the account cannot sign in.
    """
    users.check_password(new, field="new_password")
    at = datetime.now(UTC)
    stream = once.reset_stream(_id(token))
    user_id = await _redeem(tools, stream, lambda state: once.complete_reset(state, at=at), visit)
    position = await set_password(tools, hashing, user_id, new, by="reset", visit=visit)
    state = await load_user(tools.store, user_id)
    if isinstance(state, User):
        await throttle.clear(tools.store, "password", state.email_key)
    return position


def _id(token: str) -> str:
    if len(token) > SECRET_CHARS_MAX:
        raise once.SpentError("this does not work (any more); ask for a new one")
    return token_hash(token)


async def _recipient(tools: Tools, user_id: UUID | None) -> tuple[User, str] | None:
    state = None if user_id is None else await load_user(tools.store, user_id)
    if not isinstance(state, User) or state.status != "active":
        return None
    email = await email_of(tools, state)
    return None if email is None else (state, email)


async def _once(tools: Tools, stream: Stream, decision: Callable[[once.OnceState], list[Event]], visit: Visit) -> None:
    await transact(tools.store, PLATFORM, stream, once.evolve, once.NOTHING, decision, meta=visit.meta())


async def _redeem(
    tools: Tools, stream: Stream, decision: Callable[[once.OnceState], list[Event]], visit: Visit
) -> UUID:
    """Append the one event that uses the secret up; whose it is."""
    owner: list[UUID] = []

    def wish(state: once.OnceState) -> list[Event]:
        events = decision(state)
        if isinstance(state, once.Waiting) and state.user_id is not None:
            owner[:] = [state.user_id]
        return events

    await _once(tools, stream, wish, visit)
    return owner[0]
