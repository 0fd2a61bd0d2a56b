"""What users do with their own accounts: register, verify, change, close."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from uuid import UUID, uuid4

from commands.bus import transact
from commands.sessions.facts import person_id_of
from commands.signin import throttle
from commands.tokens import Tools
from commands.tokens.families import load_user, token_hash
from commands.users.login import Visit, on_user
from commands.users.passwords import Hashing
from domain.kernel import PLATFORM, NotFoundError, Sealed
from domain.signin.once import VERIFICATION_LIFE
from domain.users import decide
from domain.users.events import UserRegistered
from domain.users.state import NOBODY, InvalidCredentialsError, User, active, evolve, user_stream
from eventstore.port import Claim, EventStore, Meta, NameTakenError, Outcome

EMAIL_CLAIM = "user.email"


def email_key(secret: bytes, email: str) -> str:
    """The keyed hash an address is found by; it tells nothing without the secret.

    Raises:
        InvalidFieldError: it is no address.
    """
    return person_id_of(secret, PLATFORM, decide.clean_email(email)).hex


def new_secret() -> str:
    """A one-time secret of 256 random bits, for a mail."""
    return secrets.token_urlsafe(32)


def verification_token(user_id: UUID, secret: str) -> str:
    """The token that verifies an address names its user, so that it can be looked up."""
    return f"{user_id.hex}.{secret}"


async def register(
    tools: Tools, hashing: Hashing, *, email: str, password: str, name: str | None, visit: Visit
) -> UUID | None:
    """Open an account, whose address is to be verified by mail.  None: the address has an account already, and nothing changed.

    Raises:
        InvalidFieldError: address, password or name cannot be accepted.
    """
    decide.check_password(password)
    given = decide.clean_name(name) if name is not None else None
    key, user_id = email_key(tools.secret, email), uuid4()
    hashed, token, at = await hashing.hash(password), verification_token(user_id, new_secret()), datetime.now(UTC)
    registered = UserRegistered(
        user_id=user_id,
        email=Sealed(user_id, decide.clean_email(email)),
        email_key=key,
        name=Sealed(user_id, given) if given else None,
        password_hash=Sealed(user_id, hashed),
        token=Sealed(user_id, token),
        token_sha256=token_hash(token),
        token_expires_at=at + VERIFICATION_LIFE,
        registered_at=at,
    )
    try:
        await _found(tools, registered, meta=visit.meta())
    except NameTakenError:
        return None
    return user_id


async def create(
    tools: Tools,
    hashing: Hashing,
    *,
    email: str,
    password: str | None,
    name: str | None,
    platform_role: str = "org_user",
) -> UUID:
    """Open an account on an operator's word: the address counts as verified, no mail is sent.

    Raises:
        InvalidFieldError: address, password or name cannot be accepted.
        NameTakenError: the address has an account.
    """
    if password is not None:
        decide.check_password(password)
    given = decide.clean_name(name) if name is not None else None
    user_id, at, meta = uuid4(), datetime.now(UTC), Meta(actor="system:operator")
    hashed = None if password is None else await hashing.hash(password)
    registered = UserRegistered(
        user_id=user_id,
        email=Sealed(user_id, decide.clean_email(email)),
        email_key=email_key(tools.secret, email),
        name=Sealed(user_id, given) if given else None,
        password_hash=None if hashed is None else Sealed(user_id, hashed),
        platform_role=platform_role,
        registered_at=at,
    )
    await _found(tools, registered, meta=meta)
    await on_user(tools, user_id, lambda state: decide.prove_address(state, by="operator", at=at), meta=meta)
    return user_id


async def _found(tools: Tools, registered: UserRegistered, *, meta: Meta) -> None:
    await transact(
        tools.store,
        PLATFORM,
        user_stream(registered.user_id),
        evolve,
        NOBODY,
        lambda state: decide.register(state, registered),
        meta=meta,
        claims=[Claim(EMAIL_CLAIM, registered.email_key)],
    )


async def verify_email(tools: Tools, token: str, visit: Visit) -> Outcome | None:
    """Redeem the token of the registration mail.  None: it was redeemed already.

    Raises:
        InvalidCredentialsError: it does not work (any more).
    """
    try:
        user_id = UUID(hex=token.partition(".")[0])
    except ValueError as error:
        raise InvalidCredentialsError("this link does not work (any more)") from error
    at = datetime.now(UTC)
    return await on_user(
        tools,
        user_id,
        lambda state: decide.verify_email(state, token_sha256=token_hash(token), at=at),
        meta=visit.meta(user_id),
    )


async def change_password(
    tools: Tools, hashing: Hashing, user_id: UUID, *, current: str | None, new: str, visit: Visit
) -> int:
    """Set another password and end every login, the one that asks included.  Who has none yet needs not tell the old one.

    Raises:
        InvalidFieldError: the new one cannot be accepted.
        InvalidCredentialsError: the current one is wrong.
        TooManyAttemptsError: wait.
    """
    decide.check_password(new, field="new_password")
    user = active(await load_user(tools.store, user_id))
    if user.password is not None:
        await throttle.attempt(tools.store, "password", user.email_key)
        (stored,) = await tools.ring.open_many(PLATFORM, [(user.password.tag, user.password.sealed)])
        if not await hashing.matches(stored, current or ""):
            raise InvalidCredentialsError("the current password is another")
        await throttle.clear(tools.store, "password", user.email_key)
    return await set_password(tools, hashing, user_id, new, by="change", visit=visit)


async def set_password(tools: Tools, hashing: Hashing, user_id: UUID, new: str, *, by: str, visit: Visit) -> int:
    """Store a password and end every login; the position of the facts."""
    hashed, at = await hashing.hash(new), datetime.now(UTC)
    outcome = await on_user(
        tools,
        user_id,
        lambda state: decide.change_password(state, password_hash=Sealed(user_id, hashed), by=by, at=at),
        meta=visit.meta(user_id),
    )
    return outcome.position if outcome else 0


async def update_profile(
    tools: Tools, user_id: UUID, *, name: str | None, locale: str | None, timezone: str | None, meta: Meta
) -> int | None:
    """Change what is given; the position, or None where nothing changed.

    Raises:
        InvalidFieldError: a value cannot be accepted.
    """
    given = Sealed(user_id, decide.clean_name(name)) if name is not None else None
    at = datetime.now(UTC)
    outcome = await on_user(
        tools,
        user_id,
        lambda state: decide.update_profile(state, name=given, locale=locale, timezone=timezone, at=at),
        meta=meta,
    )
    return outcome.position if outcome else None


async def complete_profile(
    tools: Tools, user_id: UUID, *, name: str, locale: str | None, timezone: str | None, meta: Meta
) -> int | None:
    """Finish the first steps; the position, or None where nothing changed.

    Raises:
        InvalidFieldError: a value cannot be accepted.
    """
    given, at = Sealed(user_id, decide.clean_name(name)), datetime.now(UTC)
    outcome = await on_user(
        tools,
        user_id,
        lambda state: decide.complete_profile(state, name=given, locale=locale, timezone=timezone, at=at),
        meta=meta,
    )
    return outcome.position if outcome else None


async def close_account(store: EventStore, user_id: UUID, *, meta: Meta) -> int | None:
    """Close the account: every login ends, the address becomes free.  Erasing what is sealed is commands/erasure.py's.

    Raises:
        NotFoundError: there never was such an account.
    """
    state = await load_user(store, user_id)
    if not isinstance(state, User):
        raise NotFoundError("no such user")
    at = datetime.now(UTC)
    outcome = await transact(
        store,
        PLATFORM,
        user_stream(user_id),
        evolve,
        NOBODY,
        lambda found: decide.delete(found, at=at),
        meta=meta,
        releases=[Claim(EMAIL_CLAIM, state.email_key)],
    )
    return outcome.position if outcome else None
