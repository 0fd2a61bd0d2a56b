"""What left: a bounded local log of every batch, with its exact bytes, for `crewkit sent`."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from cli.capture.paths import PRIVATE_FILE, ClientDir, write_atomically

FILE_BYTES_MAX = 8 * 1024 * 1024
LOG_BYTES_MAX = 128 * 1024 * 1024


class Sent(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One request.  `outcome`: `acknowledged`, `refused` (with `status`), or `unknown` (sent, but no answer came)."""

    at: datetime
    to: str
    outcome: str
    status: int = 0
    records: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    bytes: int = 0
    sha256: str = ""
    body: msgspec.Raw = msgspec.Raw(b"null")


class Pruned(msgspec.Struct, omit_defaults=True):
    """What the log no longer shows: files and bytes removed, up to the time `until`."""

    files: int = 0
    bytes: int = 0
    until: datetime | None = None


class Journal:
    """Appends are one write under a lock, so a flusher and an import may log at the same time."""

    def __init__(
        self, paths: ClientDir, *, bytes_max: int = LOG_BYTES_MAX, file_bytes_max: int = FILE_BYTES_MAX
    ) -> None:
        self._folder = paths.sent
        self._bytes_max = bytes_max
        self._file_bytes_max = file_bytes_max

    @contextmanager
    def _locked(self) -> Generator[None]:
        handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def files(self) -> list[Path]:
        """The log's files, oldest first."""
        return sorted(self._folder.glob("*.jsonl"))

    def add(
        self, to: str, body: bytes, outcome: str, records: int, status: int = 0, *, sha256: str = "", **counts: int
    ) -> None:
        """Log one request.  `sha256`: the body's, if known.  `counts`: accepted, duplicate, rejected."""
        now = datetime.now(UTC)
        entry = Sent(
            at=now, to=to, outcome=outcome, status=status, records=records, bytes=len(body),
            sha256=sha256 or hashlib.sha256(body).hexdigest(), body=msgspec.Raw(body), **counts,
        )  # fmt: skip
        line = msgspec.json.encode(entry) + b"\n"
        with self._locked():
            files = self.files()
            current = files[-1] if files else None
            if current is None or current.stat().st_size + len(line) > self._file_bytes_max:
                current = self._folder / f"{now:%Y%m%dT%H%M%S.%f}.jsonl"
                self._prune(len(line))
            handle = os.open(current, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)

    def _prune(self, coming: int) -> None:
        files = self.files()
        total = sum(path.stat().st_size for path in files) + max(coming, self._file_bytes_max)
        pruned = self.pruned()
        before = pruned.files
        for path in files:
            if total <= self._bytes_max:
                break
            size = path.stat().st_size
            pruned.files += 1
            pruned.bytes += size
            pruned.until = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            path.unlink()
            total -= size
        if pruned.files != before:
            write_atomically(self._folder / "pruned.json", msgspec.json.encode(pruned))

    def pruned(self) -> Pruned:
        """What has been removed from the log so far."""
        try:
            return msgspec.json.decode((self._folder / "pruned.json").read_bytes(), type=Pruned)
        except (OSError, msgspec.MsgspecError):
            return Pruned()

    def read(self) -> Iterator[Sent]:
        """All entries, oldest first.  A line cut by a crash is left out."""
        decoder = msgspec.json.Decoder(Sent)
        for path in self.files():
            with path.open("rb") as file:
                for line in file:
                    try:
                        yield decoder.decode(line)
                    except msgspec.MsgspecError:
                        continue


def records_of(entry: Sent, session: str | None = None) -> list[dict[str, Any]]:
    """The records in a body: hook envelopes or transcript items.  `session`: of a body for many, only that one's."""
    try:
        body = msgspec.json.decode(entry.body)
    except msgspec.MsgspecError:
        return []
    if batches := body.get("batches"):
        return [
            item
            for batch in batches
            if session in {None, batch.get("llm_session_id")}
            for item in batch.get("items", ())
        ]
    return body.get("events") or body.get("items") or []
