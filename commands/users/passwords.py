"""Password hashes: argon2id, a few at a time, because each takes memory and a processor."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from domain.kernel import DomainError

AT_ONCE_MAX = 2
WAITING_MAX = 64  # about two seconds of work; whoever comes then is told to come again
MEMORY_KIB = 19_456  # with two passes and one lane: the smallest that OWASP recommends
RETRY_AFTER_S = 2
P = ParamSpec("P")
T = TypeVar("T")
_hasher = PasswordHasher(time_cost=2, memory_cost=MEMORY_KIB, parallelism=1)
# What the password of nobody is compared with, so that it takes as long as anybody's.  Made from random bytes nobody kept.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$wh5AyjAQmg1KB1TuSH6OuA$Sy2OGWhJbUSyDqG6LaCVySAuRUOcPjlmQ1oChYOJjHg"


class BusyError(DomainError):
    """Too many passwords at once; `details["retry_after_s"]` says when to try again."""

    code = "rate_limited"


class Hashing:
    """Hashes and compares in threads."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """What is stored of a password.

        Raises:
            BusyError: too many wait.
        """
        return await self._turn(_hasher.hash, _normal(password))

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether it is the one; None takes as long and never is.

        Raises:
            BusyError: too many wait.
        """
        same = await self._turn(_verify, stored or _NOBODY, _normal(password))
        return same and stored is not None

    async def _turn(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._waiting >= WAITING_MAX:
            raise BusyError("too many people sign in right now; try again", retry_after_s=RETRY_AFTER_S)
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work, *args, **kwargs)
        finally:
            self._waiting -= 1


def _verify(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _normal(password: str) -> str:
    """The same letters typed on another keyboard are the same password."""
    return unicodedata.normalize("NFKC", password)
