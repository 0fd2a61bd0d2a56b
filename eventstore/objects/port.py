"""The port every object store implements."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import BinaryIO, Protocol

KEY_CHARS_MAX = 500
KEYS_MAX = 10_000  # keys listed at once
CHUNK_BYTES = 1024 * 1024
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")


class ObjectMissingError(LookupError):
    """There is no object of that key."""


class ObjectsUnavailableError(Exception):
    """The store cannot be reached, has no room, or failed by itself; the same call may work later."""


class ObjectRefusedError(Exception):
    """The store refuses: no such bucket, no right.  Somebody must change something before trying again helps."""


class Objects(Protocol):
    """Implementations: `eventstore.objects.local.LocalObjects`, `eventstore.objects.s3.S3Objects`."""

    async def put(self, key: str, content: BinaryIO) -> None:
        """Store everything that `content` still holds under `key`, durably: all of it is there afterwards, or nothing new.

        An object of that key is replaced; its readers see the old bytes or the new ones.

        Raises:
            ValueError: the key is not one of ours.
            ObjectsUnavailableError, ObjectRefusedError: it was not stored.
        """
        ...

    def read(self, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """The object's bytes from number `start` on, in pieces.

        Raises:
            ObjectMissingError: there is none.
            ObjectsUnavailableError, ObjectRefusedError: it cannot be read.
        """
        ...

    async def size(self, key: str) -> int | None:
        """The object's size in bytes; None where there is none.

        Raises:
            ObjectsUnavailableError, ObjectRefusedError: it cannot be known.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error.  Whoever reads it at that moment may be cut off.

        Raises:
            ObjectsUnavailableError, ObjectRefusedError: it may still be there.
        """
        ...

    async def keys(self, prefix: str) -> list[str]:
        """Keys below the folder `prefix`, in order, at most `KEYS_MAX`.

        Raises:
            ObjectsUnavailableError, ObjectRefusedError: it cannot be known.
        """
        ...


def checked_key(key: str) -> str:
    """The key, when it is one: names of letters, digits, `.`, `_` and `-`, divided by `/`, none of them hidden.

    Raises:
        ValueError: it is not.
    """
    if len(key) > KEY_CHARS_MAX or not _KEY.fullmatch(key):
        raise ValueError(f"not a key of an object: {key!r}")
    return key
