"""Objects in S3, or in what speaks like it (MinIO, Ceph, R2, …), through obstore (the object_store crate of Apache Arrow).

Credentials, region and endpoint come from the environment, as everywhere: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, or the role of the machine.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Generator
from datetime import timedelta
from typing import BinaryIO

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from eventstore.objects.port import (
    CHUNK_BYTES,
    KEYS_MAX,
    ObjectMissingError,
    ObjectRefusedError,
    ObjectsUnavailableError,
    checked_key,
)

PART_BYTES = 8 * 1024 * 1024  # larger objects travel in parts of this size
PARTS_AT_ONCE_MAX = 4
RETRIES_MAX = 3
RETRY_S_MAX = 20
REQUEST_S_MAX = 30


class S3Objects:
    """Implements `eventstore.objects.port.Objects` in a bucket, below `prefix`."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
        self._name = f"s3://{bucket}/{prefix}".rstrip("/")
        self._store = S3Store(
            bucket,
            prefix=prefix or None,
            client_options={"allow_http": endpoint.startswith("http://"), "timeout": timedelta(seconds=REQUEST_S_MAX)},
            retry_config={"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=RETRY_S_MAX)},
        )

    async def put(self, key: str, content: BinaryIO) -> None:
        """See the port."""
        with self._translated():
            await obstore.put_async(
                self._store, checked_key(key), content, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE_MAX
            )

    async def read(self, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """See the port."""
        try:
            with self._translated():
                options: obstore.GetOptions = {"range": {"offset": start}} if start else {}
                found = await obstore.get_async(self._store, checked_key(key), options=options)
                async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                    yield bytes(chunk)
        except FileNotFoundError as error:
            raise ObjectMissingError(key) from error

    async def size(self, key: str) -> int | None:
        """See the port."""
        try:
            with self._translated():
                return (await obstore.head_async(self._store, checked_key(key)))["size"]
        except FileNotFoundError:
            return None

    async def delete(self, key: str) -> None:
        """See the port."""
        with contextlib.suppress(FileNotFoundError), self._translated():
            await obstore.delete_async(self._store, checked_key(key))

    async def keys(self, prefix: str) -> list[str]:
        """See the port."""
        found: list[str] = []
        with self._translated():
            async for page in obstore.list(self._store, checked_key(prefix)):
                found += [one["path"] for one in page]
                if len(found) >= KEYS_MAX:
                    break
        return sorted(found)[:KEYS_MAX]

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        """The library's errors as ours; what is missing stays FileNotFoundError.  Its texts name keys and codes, no secrets."""
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise ObjectRefusedError(f"{self._name}: there is no such bucket") from error
            raise
        except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
            raise ObjectRefusedError(f"{self._name}: access denied") from error
        except (BaseError, OSError) as error:
            raise ObjectsUnavailableError(f"{self._name}: {type(error).__name__}") from error
