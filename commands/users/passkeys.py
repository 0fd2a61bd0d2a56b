"""Passkeys: add one to an account, sign in with one (named or discoverable), take one away."""

from __future__ import annotations

import hmac
import secrets
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from commands.bus import transact
from commands.tokens import Pair, Tools
from commands.tokens.families import load_user
from commands.tokens.keys import decoded, encoded
from commands.users import ceremony
from commands.users.ceremony import RelyingParty
from commands.users.login import Visit, begin, email_of, refuse
from domain.kernel import PLATFORM, Event, Sealed
from domain.organizations.state import InvalidFieldError
from domain.signin import once
from domain.users import decide
from domain.users.events import PasskeyRegistered
from domain.users.state import NOBODY, InvalidCredentialsError, User, active, evolve, user_stream
from eventstore.port import Claim, Meta, NameTakenError

CREDENTIAL_CLAIM = "passkey.credential"
CHALLENGE_BYTES = 32
NAME_DEFAULT = "Passkey"
TRANSPORTS = frozenset({"usb", "nfc", "ble", "smart-card", "internal", "cable", "hybrid"})
_DECOY_LABEL = b"crewkit decoy passkey 1 "
DECOY_BYTES = (16, 20, 32, 32, 48, 64)  # lengths that authenticators and password managers give their credential ids
DECOYS_ONE, DECOYS_TWO = 165, 230  # of 256 addresses, how many have one decoy, and how many at most two
LIFE_MS = int(once.CHALLENGE_LIFE.total_seconds() * 1000)


class InvalidPasskeyError(InvalidFieldError):
    """An authenticator's answer does not fit the challenge, this site, or the standard."""


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """What the browser needs: `options` is the argument of `navigator.credentials`, in JSON."""

    challenge_id: UUID
    options: dict[str, Any]


async def challenge_for_registration(tools: Tools, party: RelyingParty, user_id: UUID, visit: Visit) -> Challenge:
    """Begin to add a passkey to the account of a signed-in user."""
    user = active(await load_user(tools.store, user_id))
    email = await email_of(tools, user) or "user"
    challenge_id, challenge = await _issue(tools, "register", user_id, visit)
    options = await ceremony.options_to_register(
        party, challenge, user_id.bytes, email, [decoded(one.credential_id) for one in user.passkeys], LIFE_MS
    )
    return Challenge(challenge_id=challenge_id, options=options)


async def register(
    tools: Tools,
    party: RelyingParty,
    user_id: UUID,
    challenge_id: UUID,
    credential: dict[str, Any],
    *,
    name: str | None,
    visit: Visit,
) -> tuple[UUID, int]:
    """Add the passkey that the authenticator made; its id and the position.

    Raises:
        InvalidPasskeyError: the answer does not fit.
        SpentError: the challenge does not work (any more).
    """
    challenge = await _consume(tools, challenge_id, purpose="register", user_id=user_id, visit=visit)
    try:
        made = await ceremony.verify_registration(party, challenge, credential)
        told: Any = credential.get("response", {}).get("transports") or []
        transports = sorted(TRANSPORTS.intersection(told))
    except ceremony.BROKEN as error:
        raise InvalidPasskeyError("the authenticator's answer does not fit", field="credential") from error
    registered = PasskeyRegistered(
        user_id=user_id,
        passkey_id=uuid4(),
        credential_id=encoded(made.credential_id),
        public_key=encoded(made.public_key),
        sign_count=made.sign_count,
        transports=transports,
        name=Sealed(user_id, decide.clean_name(name or NAME_DEFAULT)),
        registered_at=datetime.now(UTC),
    )
    try:
        outcome = await transact(
            tools.store,
            PLATFORM,
            user_stream(user_id),
            evolve,
            NOBODY,
            lambda state: decide.add_passkey(state, registered),
            meta=visit.meta(user_id),
            claims=[Claim(CREDENTIAL_CLAIM, registered.credential_id)],
        )
    except NameTakenError as error:
        raise InvalidPasskeyError("this authenticator belongs to another account", field="credential") from error
    return registered.passkey_id, outcome.position if outcome else 0


def decoys(secret: bytes, account: str) -> list[bytes]:
    """Ids of passkeys that nobody has, the same ones for an address every time: as many, and as long, as people's own are."""
    drawn = hmac.digest(secret, _DECOY_LABEL + account.encode(), "sha512")
    number = 1 + (drawn[0] > DECOYS_ONE) + (drawn[0] > DECOYS_TWO)
    lengths = [DECOY_BYTES[drawn[n + 1] % len(DECOY_BYTES)] for n in range(number)]
    return [
        hmac.digest(secret, _DECOY_LABEL + account.encode() + bytes([n]), "sha512")[:length]
        for n, length in enumerate(lengths)
    ]


async def challenge_for_login(
    tools: Tools, party: RelyingParty, account: str | None, user_id: UUID | None, visit: Visit
) -> Challenge:
    """Begin to sign in.  `account` None: whichever passkey the authenticator knows for this site.

    Else the passkeys of that address are named (`account` is its keyed hash, `user_id` whose it is, if anybody's); an address
    without any gets some that nobody has, so that the answer does not tell which addresses have accounts.
    """
    allowed: list[bytes] = []
    if account is not None:
        state = NOBODY if user_id is None else await load_user(tools.store, user_id)
        known = state.passkeys if isinstance(state, User) and state.status == "active" else ()
        allowed = [decoded(one.credential_id) for one in known] or decoys(tools.secret, account)
    challenge_id, challenge = await _issue(tools, "login", user_id if allowed else None, visit)
    options = await ceremony.options_to_log_in(party, challenge, allowed, LIFE_MS)
    return Challenge(challenge_id=challenge_id, options=options)


async def log_in(
    tools: Tools, party: RelyingParty, challenge_id: UUID, credential: dict[str, Any], visit: Visit
) -> Pair:
    """Sign in with what the authenticator signed.

    Raises:
        SpentError: the challenge does not work (any more).
        InvalidCredentialsError: the passkey does not open an account here, or seems to have been copied.
    """
    named: list[UUID | None] = []
    challenge = await _consume(tools, challenge_id, purpose="login", user_id=None, visit=visit, owner=named)
    try:
        user_id = named[0] or UUID(bytes=decoded(credential["response"]["userHandle"]))
        credential_id = encoded(decoded(credential["id"]))
    except ceremony.BROKEN as error:
        raise InvalidCredentialsError("cannot sign in with these credentials") from error
    user = active(await load_user(tools.store, user_id))
    passkey = next((one for one in user.passkeys if one.credential_id == credential_id), None)
    if passkey is None:
        raise InvalidCredentialsError("cannot sign in with these credentials")
    try:
        told = await ceremony.verify_login(party, challenge, decoded(passkey.public_key), credential)
    except ceremony.BROKEN as error:
        raise InvalidCredentialsError("cannot sign in with these credentials") from error
    if not decide.count_is_sound(passkey, told):
        await refuse(tools, user_id, visit, method="passkey", reason="sign_count")
        raise InvalidCredentialsError("cannot sign in with these credentials")
    return await begin(tools, user_id, visit, method="passkey", passkey=(passkey.passkey_id, told))


async def remove(tools: Tools, user_id: UUID, passkey_id: UUID, *, meta: Meta) -> int:
    """Take a passkey away; the position of the fact.

    Raises:
        NotFoundError: the user has no such passkey.
    """
    user = active(await load_user(tools.store, user_id))
    at = datetime.now(UTC)
    outcome = await transact(
        tools.store,
        PLATFORM,
        user_stream(user_id),
        evolve,
        NOBODY,
        lambda state: decide.remove_passkey(state, passkey_id=passkey_id, at=at),
        meta=meta,
        releases=[Claim(CREDENTIAL_CLAIM, one.credential_id) for one in user.passkeys if one.passkey_id == passkey_id],
    )
    return outcome.position if outcome else 0


async def _issue(tools: Tools, purpose: str, user_id: UUID | None, visit: Visit) -> tuple[UUID, bytes]:
    challenge_id, challenge, at = uuid4(), secrets.token_bytes(CHALLENGE_BYTES), datetime.now(UTC)
    await transact(
        tools.store,
        PLATFORM,
        once.challenge_stream(challenge_id),
        once.evolve,
        once.NOTHING,
        lambda state: once.issue_challenge(
            state, challenge_id=challenge_id, purpose=purpose, challenge=encoded(challenge), user_id=user_id, at=at
        ),
        meta=visit.meta(),
    )
    return challenge_id, challenge


async def _consume(
    tools: Tools,
    challenge_id: UUID,
    *,
    purpose: str,
    user_id: UUID | None,
    visit: Visit,
    owner: list[UUID | None] | None = None,
) -> bytes:
    """Use the challenge up and answer it; `owner` learns whom it was issued for."""
    told: list[str] = []
    at = datetime.now(UTC)

    def wish(state: once.OnceState) -> list[Event]:
        events = once.consume_challenge(state, purpose=purpose, user_id=user_id, at=at)
        if isinstance(state, once.Waiting):
            told[:] = [state.challenge]
            if owner is not None:
                owner[:] = [state.user_id]
        return events

    stream = once.challenge_stream(challenge_id)
    await transact(tools.store, PLATFORM, stream, once.evolve, once.NOTHING, wish, meta=visit.meta())
    return decoded(told[0])
