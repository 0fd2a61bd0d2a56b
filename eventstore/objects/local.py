"""Objects as files of a folder.  A file appears whole and after its bytes are on disk, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from eventstore.objects.port import CHUNK_BYTES, KEYS_MAX, ObjectMissingError, ObjectsUnavailableError, checked_key

INCOMING = ".incoming"  # no key begins with a dot
LEFT_OVER_S = 24 * 3600.0  # older files of writers that were killed are cleared away


class LocalObjects:
    """Implements `eventstore.objects.port.Objects` below `root`, which is made when something is first stored."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cleared = False

    async def put(self, key: str, content: BinaryIO) -> None:
        """See the port."""
        target = self.root / checked_key(key)
        try:
            await asyncio.to_thread(self._put, target, content)
        except OSError as error:
            raise ObjectsUnavailableError(f"{self.root}: {error.strerror or error}") from error

    async def read(self, key: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """See the port."""
        path = self.root / checked_key(key)
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ObjectMissingError(key) from error
        except OSError as error:
            raise ObjectsUnavailableError(f"{self.root}: {error.strerror or error}") from error
        with file:
            file.seek(start)
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk

    async def size(self, key: str) -> int | None:
        """See the port."""
        path = self.root / checked_key(key)
        try:
            found = await asyncio.to_thread(path.stat)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ObjectsUnavailableError(f"{self.root}: {error.strerror or error}") from error
        return found.st_size if path.is_file() else None

    async def delete(self, key: str) -> None:
        """See the port.  Folders that are empty afterwards stay: another writer may be about to use them."""
        path = self.root / checked_key(key)
        try:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except (NotADirectoryError, IsADirectoryError):
            return
        except OSError as error:
            raise ObjectsUnavailableError(f"{self.root}: {error.strerror or error}") from error

    async def keys(self, prefix: str) -> list[str]:
        """See the port."""
        try:
            return await asyncio.to_thread(self._keys, self.root / checked_key(prefix))
        except OSError as error:
            raise ObjectsUnavailableError(f"{self.root}: {error.strerror or error}") from error

    def _put(self, target: Path, content: BinaryIO) -> None:
        incoming = self.root / INCOMING
        incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clear(incoming)
        fresh = incoming / secrets.token_hex(16)
        try:
            with fresh.open("xb") as file:
                shutil.copyfileobj(content, file, CHUNK_BYTES)
                file.flush()
                os.fsync(file.fileno())
            for made in self._make(target.parent):
                _sync_folder(made.parent)
            fresh.replace(target)
            _sync_folder(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise

    @staticmethod
    def _make(folder: Path) -> list[Path]:
        """Create a folder with those above it; the ones that were missing, outermost first."""
        missing = [folder]
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        made = [one for one in reversed(missing) if not one.exists()]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return made

    def _clear(self, incoming: Path) -> None:
        if self._cleared:
            return
        self._cleared = True
        before = time.time() - LEFT_OVER_S
        for left in incoming.iterdir():
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < before:
                    left.unlink()

    def _keys(self, folder: Path) -> list[str]:
        found = sorted(path.relative_to(self.root).as_posix() for path in folder.rglob("*") if path.is_file())
        return found[:KEYS_MAX]


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
