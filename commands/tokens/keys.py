"""The keys that sign access tokens: made once for the whole installation, rotated without logging anybody out."""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from commands.bus import transact
from domain.kernel import PLATFORM, Sealed, tag_of
from domain.tokens import decide
from domain.tokens.events import SigningKeyMade
from eventstore.port import EventStore, Meta
from eventstore.sealing import KeyRing

SUBJECT = UUID(
    "00000000-0000-8000-8000-000000000002"
)  # whom the private halves are sealed for: nobody, so never erased
RELOAD_S = 30.0  # how often the list of keys is read again; less than `KEY_LEAD`
UNKNOWN_RELOAD_S = 2.0  # how soon again for a key id we do not know
KEYS_EVENTS_MAX = 5_000

_TAG = tag_of(SigningKeyMade)


class Signer(msgspec.Struct, frozen=True):
    """The key that signs now."""

    kid: str
    private_key: Ed25519PrivateKey


def encoded(raw: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """What `encoded` encoded.

    Raises:
        ValueError: it is no base64url.
    """
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def new_signing_key(at: datetime, active_at: datetime) -> SigningKeyMade:
    """A fresh Ed25519 key as a fact."""
    private = Ed25519PrivateKey.generate()
    return SigningKeyMade(
        kid=uuid4().hex,
        public_key=encoded(private.public_key().public_bytes_raw()),
        private_key=Sealed(SUBJECT, encoded(private.private_bytes_raw())),
        made_at=at,
        active_at=active_at,
    )


class SigningKeys:
    """The keys as this process knows them, read again every `RELOAD_S`."""

    def __init__(self, store: EventStore, ring: KeyRing, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._ring = ring
        self._clock = clock
        self._state = decide.NO_KEYS
        self._read_at: float | None = None
        self._public: dict[str, Ed25519PublicKey] = {}
        self._signer: Signer | None = None
        self._lock = asyncio.Lock()

    async def signer(self) -> Signer:
        """The key to sign with; the first is made when it is first needed."""
        await self._fresh(RELOAD_S)
        now = datetime.now(UTC)
        key = decide.signing(self._state, now)
        if key is None:
            await make_first_key(self._store)
            await self._fresh(0.0)
            key = decide.signing(self._state, datetime.now(UTC))
        if key is None:
            raise AssertionError("a signing key that was just made is active")
        if self._signer is None or self._signer.kid != key.kid:
            (text,) = await self._ring.open_many(PLATFORM, [(_TAG, key.private_key)])
            if text is None:
                raise AssertionError("the key of the signing keys was destroyed")
            self._signer = Signer(key.kid, Ed25519PrivateKey.from_private_bytes(decoded(text)))
        return self._signer

    async def public_key(self, kid: str) -> Ed25519PublicKey | None:
        """The key of that id if its signatures count, else None."""
        await self._fresh(RELOAD_S)
        if kid not in self._public:
            await self._fresh(UNKNOWN_RELOAD_S)
        return self._public.get(kid)

    async def trusted(self) -> list[decide.SigningKey]:
        """Keys whose signatures count, those that do not sign yet included; oldest first."""
        await self._fresh(RELOAD_S)
        return decide.trusted(self._state, datetime.now(UTC))

    async def jwks(self) -> dict[str, Any]:
        """The public keys as RFC 7517 and RFC 8037 write them, those that do not sign yet included."""
        return {
            "keys": [
                {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.kid, "x": key.public_key}
                for key in await self.trusted()
            ]
        }

    async def _fresh(self, after_s: float) -> None:
        if self._is_fresh(after_s):
            return
        async with self._lock:
            if not self._is_fresh(after_s):
                await self._read()

    def _is_fresh(self, after_s: float) -> bool:
        return self._read_at is not None and after_s > 0 and self._clock() - self._read_at < after_s

    async def _read(self) -> None:
        now = self._clock()
        state = decide.NO_KEYS
        for recorded in await self._store.read_stream(PLATFORM, decide.KEYS_STREAM, limit=KEYS_EVENTS_MAX):
            state = decide.evolve_keys(state, recorded.event)
        self._state, self._read_at = state, now
        self._public = {
            key.kid: Ed25519PublicKey.from_public_bytes(decoded(key.public_key))
            for key in decide.trusted(state, datetime.now(UTC))
        }


async def make_first_key(store: EventStore) -> None:
    """Make the first key; of several processes that try at once, one does."""
    at = datetime.now(UTC)
    made = new_signing_key(at, at)
    await transact(
        store,
        PLATFORM,
        decide.KEYS_STREAM,
        decide.evolve_keys,
        decide.NO_KEYS,
        lambda state: decide.make_first(state, made, at=at),
        meta=Meta(actor="system:signing-keys"),
    )


async def make_signing_key(store: EventStore, *, older_than: datetime | None = None) -> str | None:
    """Rotate: make the next key, which signs after `KEY_LEAD`.  Its id, or None where it is not due.

    `older_than`: only where the newest key was made before that moment (and there is one at all).
    """
    at = datetime.now(UTC)
    made = new_signing_key(at, at + decide.KEY_LEAD)

    def wish(state: decide.Keys) -> list[Any]:
        if older_than is not None and (not state.made or state.made[-1].made_at >= older_than):
            return []
        return list(decide.make_next(state, made, at=at))

    outcome = await transact(
        store,
        PLATFORM,
        decide.KEYS_STREAM,
        decide.evolve_keys,
        decide.NO_KEYS,
        wish,
        meta=Meta(actor="system:signing-keys"),
    )
    return made.kid if outcome else None


async def withdraw_signing_key(store: EventStore, kid: str) -> bool:
    """Stop believing a key; whether there was such a key."""
    at = datetime.now(UTC)
    outcome = await transact(
        store,
        PLATFORM,
        decide.KEYS_STREAM,
        decide.evolve_keys,
        decide.NO_KEYS,
        lambda state: decide.withdraw(state, kid=kid, at=at),
        meta=Meta(actor="system:operator"),
    )
    return outcome is not None
