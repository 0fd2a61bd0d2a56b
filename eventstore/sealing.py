"""Sealed text: one 256-bit key per person, wrapped by the master key.  Destroying a person's key is what erasing means.

A box is the string `sealed:1:<subject hex>:<base64url of nonce and ciphertext>` (AES-256-GCM).  Organization, subject and
event type are authenticated with it, so that a box moved to another tenant, person or type does not open.  `sealed:0:…:`
is what is stored for a person whose key is already destroyed: it was never kept.
"""

from __future__ import annotations

import hmac
import os
import time
from abc import ABC, abstractmethod
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.kernel import Sealed
from eventstore.database import Pool, tenant
from eventstore.sql import load

KEY_BYTES = 32
NONCE_BYTES = 12
NONCES_FETCHED = 256  # at a time
CACHE_S = 60.0  # how long a key is kept at hand
RECHECK_S = 1.0  # how often a process that opens or seals asks which keys were destroyed, so that it drops its copies
RECHECK_WINDOW_S = 2 * CACHE_S  # longer than any copy is kept, so that a slow commit is not overlooked
CACHE_KEYS_MAX = 10_000
PREFIX = "sealed:1:"
DARK_PREFIX = "sealed:0:"
BOX_START = len(PREFIX) + 32 + 1  # where the base64 begins

_PERSON_LABEL = b"crewkit person ids 1"  # changing it would give everybody a new id
_WRAP_VERSION = b"\x01"
_WRAP_LABEL = b"crewkit subject key 1"
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE = bytes.maketrans(b"-_+/", b"+/!!")  # the other alphabet is not ours: one text, one spelling


class KeyNotReadyError(LookupError):
    """The subject's key is not in the cache: call `prepare` or `load` first."""


class SealBrokenError(Exception):
    """A box does not belong here (other tenant, person or event type), was altered, or its key was wrapped by another
    master key.
    """


def load_or_create_master_key(path: Path) -> bytes:
    """Read 32 bytes, kept as URL-safe base64 text or wrapped by a KMS; a missing file is created with mode 0600.

    Raises:
        ValueError: the file holds something else.
        eventstore.kms.aws.KmsError: the KMS refused or cannot be reached.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(handle, "wb") as file:
            file.write(urlsafe_b64encode(os.urandom(KEY_BYTES)))
            file.flush()
            os.fsync(file.fileno())
    raw = path.read_bytes()
    if raw.startswith(b"{"):
        from eventstore.kms import unwrap  # noqa: PLC0415  few need it

        return unwrap(raw)
    try:
        key = urlsafe_b64decode(raw.strip())
    except Base64Error as error:
        raise ValueError(f"{path}: expected {KEY_BYTES} bytes as URL-safe base64 text") from error
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path}: expected {KEY_BYTES} bytes as URL-safe base64 text, got {len(key)}")
    return key


def person_secret(master: bytes) -> bytes:
    """What keys the ids of people and the hashes of their addresses."""
    return hmac.digest(master, _PERSON_LABEL, "sha256")


def unboxed(box: str) -> Sealed:
    """What a stored string holds, still closed.

    Raises:
        ValueError: it is no box.
    """
    return Sealed(_subject(box[:BOX_START]), None, box)


@lru_cache(maxsize=CACHE_KEYS_MAX)
def _subject(start: str) -> UUID:
    if not start.startswith((PREFIX, DARK_PREFIX)) or start[BOX_START - 1 :] != ":":
        raise ValueError("expected sealed text ('sealed:1:…')")
    return UUID(start[len(PREFIX) : BOX_START - 1])


class _Key:
    """A subject's key at hand.  `cipher` None: destroyed.  `start` begins its boxes, `bound` says what they authenticate."""

    __slots__ = ("_context", "cipher", "contexts", "start", "until")

    def __init__(self, org_id: UUID, subject: UUID, cipher: AESGCM | None, until: float) -> None:
        self.cipher = cipher
        self.until = until
        self.start = f"{DARK_PREFIX if cipher is None else PREFIX}{subject.hex}:"
        self._context = org_id.bytes + subject.bytes
        self.contexts: dict[str, bytes] = {}

    def bound(self, event_type: str) -> bytes:
        """What a box of this subject in an event of that type authenticates beside its text."""
        context = self.contexts.get(event_type)
        if context is None:
            context = self.contexts[event_type] = self._context + event_type.encode()
        return context


def _nonce_source() -> Callable[[], bytes]:
    """Random nonces, fetched from the system many at a time: a system call per box costs as much as encrypting it."""
    waiting: list[bytes] = []
    os.register_at_fork(after_in_child=waiting.clear)  # two processes must never use the same ones

    def take() -> bytes:
        if not waiting:
            raw = os.urandom(NONCE_BYTES * NONCES_FETCHED)
            waiting.extend(raw[at : at + NONCE_BYTES] for at in range(0, len(raw), NONCE_BYTES))
        return waiting.pop()

    return take


_nonces = _nonce_source()


class KeyRing(ABC):
    """Seals and opens with keys it holds for at most `CACHE_S` seconds.  Keys are fetched first, crypto is synchronous.

    A key that another process destroyed is dropped by the first fetch `RECHECK_S` later: no message has to arrive for that.
    """

    def __init__(self, master: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        if len(master) != KEY_BYTES:
            raise ValueError(f"the master key must have {KEY_BYTES} bytes")
        self._master = AESGCM(master)
        self._clock = clock
        self._rechecked_at = clock()
        # By the integers of organization and subject: hashing a UUID object costs more than sealing a name.
        self._keys: dict[tuple[int, int], _Key] = {}

    def seal(self, org_id: UUID, event_type: str, sealed: Sealed) -> str:
        """The box for `sealed.text`; what is already boxed stays as it is.

        Raises:
            KeyNotReadyError: `prepare` was not called for the subject, or too long ago.
        """
        if sealed.box is not None:
            return sealed.box
        key = self._key(org_id, sealed.subject)
        if key.cipher is None:
            return key.start
        nonce = _nonces()
        cipher = key.cipher.encrypt(nonce, (sealed.text or "").encode(), key.bound(event_type))
        return key.start + b2a_base64(nonce + cipher, newline=False).translate(_TO_URL_SAFE).decode()

    def open(self, org_id: UUID, event_type: str, sealed: Sealed) -> str | None:
        """The text, or None when the subject's key was destroyed.  `event_type` is the stored type of the event.

        Raises:
            KeyNotReadyError: `load` was not called for the subject, or too long ago.
            SealBrokenError: the box does not belong here.
        """
        if sealed.box is None:
            return sealed.text
        if sealed.box.startswith(DARK_PREFIX):
            return None
        key = self._key(org_id, sealed.subject)
        if key.cipher is None:
            return None
        try:
            raw = a2b_base64(sealed.box[BOX_START:].encode().translate(_FROM_URL_SAFE), strict_mode=True)
            return key.cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], key.bound(event_type)).decode()
        except (InvalidTag, ValueError) as error:
            raise SealBrokenError(f"a box of {event_type} does not open with its subject's key") from error

    async def open_many(self, org_id: UUID, boxes: Sequence[tuple[str, Sealed]]) -> list[str | None]:
        """Open `(event type, sealed)` pairs of one organization, fetching their keys in one query."""
        await self.load(org_id, {sealed.subject for _, sealed in boxes if sealed.box is not None})
        return [self.open(org_id, event_type, sealed) for event_type, sealed in boxes]

    async def prepare(self, org_id: UUID, subjects: Iterable[UUID]) -> None:
        """Have the keys of `subjects` at hand, making those that never existed."""
        await self._recheck()
        if wanted := self._unknown(org_id, subjects):
            fresh = {subject: self._wrap(org_id, subject, os.urandom(KEY_BYTES)) for subject in wanted}
            self._remember(org_id, await self._fetch_or_create(org_id, fresh), wanted)

    async def load(self, org_id: UUID, subjects: Iterable[UUID]) -> None:
        """Have the existing keys of `subjects` at hand; a key that never existed counts as destroyed."""
        await self._recheck()
        if wanted := self._unknown(org_id, subjects):
            self._remember(org_id, await self._fetch(org_id, wanted), wanted)

    async def destroy(self, org_id: UUID, subject: UUID) -> None:
        """Destroy the key for ever, also one that was never made.  Other processes drop it within `RECHECK_S`."""
        await self._destroy(org_id, subject)
        self._keys[org_id.int, subject.int] = _Key(org_id, subject, None, self._clock() + CACHE_S)

    def forget(self, org_id: UUID, subject: UUID) -> None:
        """Ask for the key again next time: somebody destroyed it."""
        self._keys.pop((org_id.int, subject.int), None)

    async def destroy_all(self, org_id: UUID) -> int:
        """Destroy every key an organization has, for ever; how many.  Other processes drop them within `RECHECK_S`."""
        gone = await self._destroy_all(org_id)
        for place in [place for place in self._keys if place[0] == org_id.int]:
            del self._keys[place]
        return gone

    async def _recheck(self) -> None:
        now, before = self._clock(), self._rechecked_at
        if not self._keys or now - before < RECHECK_S:
            return
        self._rechecked_at = now  # those who come meanwhile need not ask as well
        try:
            gone = await self._fetch_destroyed()
        except BaseException:
            self._rechecked_at = before
            raise
        if len(gone) > CACHE_KEYS_MAX:  # an organization was ended: not all of them were told
            self._keys.clear()
        for org_id, subject in gone:
            self.forget(org_id, subject)

    @abstractmethod
    async def _fetch_destroyed(self) -> list[tuple[UUID, UUID]]:
        """Organization and subject of keys destroyed in the last `RECHECK_WINDOW_S`; more than `CACHE_KEYS_MAX`: not all."""

    @abstractmethod
    async def _fetch(self, org_id: UUID, subjects: Sequence[UUID]) -> dict[UUID, bytes | None]:
        """Wrapped keys by subject; None for a destroyed one, no entry for one that never was."""

    @abstractmethod
    async def _fetch_or_create(self, org_id: UUID, fresh: dict[UUID, bytes]) -> dict[UUID, bytes | None]:
        """Store `fresh` where nothing is yet, then answer what is stored."""

    @abstractmethod
    async def _destroy(self, org_id: UUID, subject: UUID) -> None:
        """Remove the wrapped key and remember that it was destroyed."""

    @abstractmethod
    async def _destroy_all(self, org_id: UUID) -> int:
        """As `_destroy`, for every subject that has a key; how many."""

    def _unknown(self, org_id: UUID, subjects: Iterable[UUID]) -> list[UUID]:
        # Renewed when half of the time is over, so that a key cannot run out between `prepare` and `seal`.
        limit = self._clock() + CACHE_S / 2
        return sorted(
            {s for s in subjects if (key := self._keys.get((org_id.int, s.int))) is None or key.until < limit}
        )

    def _remember(self, org_id: UUID, wrapped: dict[UUID, bytes | None], wanted: Sequence[UUID]) -> None:
        until = self._clock() + CACHE_S
        for subject in wanted:
            raw = wrapped.get(subject)
            cipher = None if raw is None else AESGCM(self._unwrap(org_id, subject, raw))
            self._keys.pop((org_id.int, subject.int), None)  # the oldest stand first
            self._keys[org_id.int, subject.int] = _Key(org_id, subject, cipher, until)
        while len(self._keys) > max(CACHE_KEYS_MAX, len(wanted)):
            del self._keys[next(iter(self._keys))]

    def _key(self, org_id: UUID, subject: UUID) -> _Key:
        key = self._keys.get((org_id.int, subject.int))
        if key is None or key.until < self._clock():
            raise KeyNotReadyError(f"the key of subject {subject} is not loaded")
        return key

    def _wrap(self, org_id: UUID, subject: UUID, key: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return _WRAP_VERSION + nonce + self._master.encrypt(nonce, key, _WRAP_LABEL + org_id.bytes + subject.bytes)

    def _unwrap(self, org_id: UUID, subject: UUID, wrapped: bytes) -> bytes:
        nonce, cipher = wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :]
        try:
            return self._master.decrypt(nonce, cipher, _WRAP_LABEL + org_id.bytes + subject.bytes)
        except InvalidTag as error:
            raise SealBrokenError(f"the key of subject {subject} was wrapped by another master key") from error


class MemoryKeyRing(KeyRing):
    """Keys that live as long as the process, for tests."""

    def __init__(self, master: bytes | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(master or os.urandom(KEY_BYTES), clock)
        self.wrapped: dict[tuple[UUID, UUID], bytes | None] = {}

    async def _fetch_destroyed(self) -> list[tuple[UUID, UUID]]:
        return [place for place, raw in self.wrapped.items() if raw is None]

    async def _fetch(self, org_id: UUID, subjects: Sequence[UUID]) -> dict[UUID, bytes | None]:
        return {s: self.wrapped[org_id, s] for s in subjects if (org_id, s) in self.wrapped}

    async def _fetch_or_create(self, org_id: UUID, fresh: dict[UUID, bytes]) -> dict[UUID, bytes | None]:
        return {s: self.wrapped.setdefault((org_id, s), raw) for s, raw in fresh.items()}

    async def _destroy(self, org_id: UUID, subject: UUID) -> None:
        self.wrapped[org_id, subject] = None

    async def _destroy_all(self, org_id: UUID) -> int:
        gone = [place for place, raw in self.wrapped.items() if place[0] == org_id and raw is not None]
        self.wrapped |= dict.fromkeys(gone)
        return len(gone)


class PostgresKeyRing(KeyRing):
    """Keys in table `crewkit.subject_key`.  `pool` acts as `crewkit_api` or `crewkit_worker`."""

    def __init__(self, pool: Pool, master: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(master, clock)
        self._pool = pool

    async def _fetch_destroyed(self) -> list[tuple[UUID, UUID]]:
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(load("select_destroyed_keys"), RECHECK_WINDOW_S, CACHE_KEYS_MAX + 1)
        return [(row["org_id"], row["subject"]) for row in rows]

    async def _fetch(self, org_id: UUID, subjects: Sequence[UUID]) -> dict[UUID, bytes | None]:
        async with tenant(self._pool, org_id) as connection:
            rows = await connection.fetch(load("select_subject_keys"), org_id, subjects)
        return {row["subject"]: row["wrapped"] for row in rows}

    async def _fetch_or_create(self, org_id: UUID, fresh: dict[UUID, bytes]) -> dict[UUID, bytes | None]:
        async with tenant(self._pool, org_id) as connection:
            await connection.execute(load("insert_subject_keys"), org_id, list(fresh), list(fresh.values()))
            rows = await connection.fetch(load("select_subject_keys"), org_id, list(fresh))
        return {row["subject"]: row["wrapped"] for row in rows}

    async def _destroy(self, org_id: UUID, subject: UUID) -> None:
        async with tenant(self._pool, org_id) as connection:
            await connection.execute(load("destroy_subject_key"), org_id, subject)

    async def _destroy_all(self, org_id: UUID) -> int:
        async with tenant(self._pool, org_id) as connection:
            return int(await connection.fetchval(load("destroy_subject_keys"), org_id))
