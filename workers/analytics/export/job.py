"""One export on its way through a thread: what others may see of it, and how they stop it."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from domain.exports.events import Wishes

if TYPE_CHECKING:
    import duckdb

    from workers.analytics.file import AnalyticsFile

STOPPING = "stopping"  # the worker ends: the export is begun again by its next start
LEFT = "left"  # the file it was to read is given up, or was replaced: the export is begun again with the next one


class StoppedError(Exception):
    """The job was told to end; the message is the reason."""


class Order(msgspec.Struct, frozen=True):
    """What is to be written, for whom, and where there is room for it."""

    org_id: UUID
    export_id: UUID
    wishes: Wishes
    since: datetime | None  # UTC without a zone, as the columns hold it
    folder: Path
    memory_mb: int
    bytes_max: int


class Job:
    """Written by the thread that works, read and stopped by the loop."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.stage = "copying"
        self.done = 0
        self.total = 0
        self.rows = 0
        self.reads: AnalyticsFile | None = None  # the worker's file, while it is copied from
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._running: duckdb.DuckDBPyConnection | None = None

    def begin(self, stage: str, total: int) -> None:
        """The next stage, with so many tables."""
        self.check()
        self.stage, self.done, self.total = stage, 0, total

    def step(self, rows: int = 0) -> None:
        """One more table is through."""
        self.check()
        self.done += 1
        self.rows += rows

    def check(self) -> None:
        """Go on where nobody said stop.

        Raises:
            StoppedError: somebody did.
        """
        if self._reason is not None:
            raise StoppedError(self._reason)

    def uses(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Which connection the thread waits for from now on."""
        with self._lock:
            self._running = connection
        self.check()

    def uses_none(self) -> None:
        """The thread waits for none any more."""
        with self._lock:
            self._running = None

    def stop(self, reason: str) -> None:
        """End soon; the first reason counts."""
        with self._lock:
            self._reason = self._reason or reason
            if self._running is not None:
                self._running.interrupt()

    @property
    def reason(self) -> str | None:
        """Why it was stopped; None where it was not."""
        return self._reason
