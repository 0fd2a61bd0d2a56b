"""Password hashes: argon2id, a few at a time, because each takes memory and a processor."""

from __future__ import annotations

import asyncio
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

AT_ONCE_MAX = 2
MEMORY_KIB = 19_456  # with two passes and one lane: the smallest that OWASP recommends
_hasher = PasswordHasher(time_cost=2, memory_cost=MEMORY_KIB, parallelism=1)
# What the password of nobody is compared with, so that it takes as long as anybody's.  Made from random bytes nobody kept.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$wh5AyjAQmg1KB1TuSH6OuA$Sy2OGWhJbUSyDqG6LaCVySAuRUOcPjlmQ1oChYOJjHg"


class Hashing:
    """Hashes and compares in threads."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def hash(self, password: str) -> str:
        """What is stored of a password."""
        async with self._turns:
            return await asyncio.to_thread(_hasher.hash, _normal(password))

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether it is the one; None takes as long and never is."""
        async with self._turns:
            same = await asyncio.to_thread(_verify, stored or _NOBODY, _normal(password))
        return same and stored is not None


def _verify(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _normal(password: str) -> str:
    """The same letters typed on another keyboard are the same password."""
    return unicodedata.normalize("NFKC", password)
