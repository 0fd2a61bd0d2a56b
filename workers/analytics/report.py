"""What a replica tells Postgres about itself every few seconds, for health, metrics, status and doctor."""

from __future__ import annotations

import time
from pathlib import Path

import asyncpg
import structlog

from eventstore.database import Pool
from workers.analytics.answers import Answerer
from workers.analytics.file import AnalyticsFile, Stand

log = structlog.get_logger("analytics")

EVERY_S = 5.0
FORGET_AFTER_S = 3600  # a replica that has not been heard of for so long is forgotten

_TELL = """
INSERT INTO crewkit.analytics_replica AS r
    (replica, position, lag, rows, file_bytes, written, rebuilds, asked, failed, p50_s, p99_s, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, clock_timestamp())
ON CONFLICT (replica) DO UPDATE SET
    position = $2, lag = $3, rows = $4, file_bytes = $5, written = $6, rebuilds = $7, asked = $8, failed = $9, p50_s = $10,
    p99_s = $11, updated_at = clock_timestamp()
"""
_FORGET = "DELETE FROM crewkit.analytics_replica WHERE updated_at < clock_timestamp() - make_interval(secs => $1)"


class Report:
    """Counts, and writes them down at most every `EVERY_S`."""

    def __init__(self, pool: Pool, folder: Path, answers: Answerer) -> None:
        self._pool = pool
        self._answers = answers
        self._name = replica_name(folder)
        self._told_s = -EVERY_S
        self._written = 0
        self._rebuilds = 0

    def wrote(self, rows: int, seconds: float) -> None:
        """Note a transaction."""
        self._written += rows
        log.debug("analytics.wrote", rows=rows, ms=round(seconds * 1000, 1))

    def rebuilt(self) -> None:
        """Note a rebuild."""
        self._rebuilds += 1
        self._told_s = -EVERY_S

    async def tell(self, head: int, stand: Stand, file: AnalyticsFile) -> None:
        """Write it down when it is time.  Failing is fine: rows matter more."""
        if time.monotonic() - self._told_s < EVERY_S:
            return
        self._told_s = time.monotonic()
        tally = self._answers.tally
        try:
            await self._pool.execute(
                _TELL,
                self._name,
                stand.position,
                max(0, head - stand.position),
                sum(file.rows().values()),
                file.path.stat().st_size,
                self._written,
                self._rebuilds,
                tally.asked,
                tally.failed,
                tally.seconds(0.5),
                tally.seconds(0.99),
            )
            await self._pool.execute(_FORGET, FORGET_AFTER_S)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.debug("analytics.report_lost", error=str(error))


def replica_name(folder: Path) -> str:
    """Machine and folder: what stays the same over restarts."""
    import socket  # noqa: PLC0415

    return f"{socket.gethostname()}:{folder}"
