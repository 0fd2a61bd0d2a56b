"""The sealer: signs a checkpoint over the log when enough is new, or some seconds after something is.

One sealer is active at a time: it holds a session-level advisory lock on its only connection.  A checkpoint is one transaction
whose number is a compare-and-set, so a kill loses nothing and two sealers cannot write two histories.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from domain.proof.merkle import ProofError
from eventstore.database import WORKER_ROLE, Connection, connect_pool
from eventstore.proof import SEAL_EVENTS_MAX, Signer, last_seal, log_name, seal
from eventstore.settings import Settings
from eventstore.sql import load
from workers.keys import master_key
from workers.lifecycle import (
    DATABASE_FAILURES,
    Backoff,
    close_pool,
    database_url,
    retry_forever,
    until_cancelled,
    wait_any,
)

log = structlog.get_logger("sealer")

LOCK_KEY = 0x637265776B690005  # "crewki", job 5
STANDBY_S = 5.0
POLL_S = 0.5

FAILURES = (*DATABASE_FAILURES, LookupError, ProofError)


async def run_sealer(settings: Settings) -> None:
    """Seal until cancelled; then finish the checkpoint in hand and leave office."""
    sealer = Sealer(settings)
    await until_cancelled(sealer.run)


class Sealer:
    """One candidate for the office."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._backoff = Backoff()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve one term after the other until `stop` is set."""

        def on_failure(error: BaseException, pause_s: float) -> None:
            # The first failure is a change of state; the following ones are the same state.
            tell = log.warning if self._backoff.tries == 1 else log.debug
            tell("sealer.interrupted", error=f"{type(error).__name__}: {error}", retry_s=round(pause_s, 2))

        await retry_forever(lambda: self._term(stop), stop, FAILURES, on_failure, self._backoff)

    async def _term(self, stop: asyncio.Event) -> None:
        pool = await connect_pool(database_url(self._settings), WORKER_ROLE, min_size=1, max_size=1)
        connection = await pool.acquire()
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
                await wait_any(STANDBY_S, stop)
                if stop.is_set():
                    return
            await self._serve(connection, stop)
        finally:
            await close_pool(pool, connection)

    async def _serve(self, connection: Connection, stop: asyncio.Event) -> None:
        signer = Signer(master_key(self._settings), await log_name(connection))
        last = await last_seal(connection)
        size = last.checkpoint.size if last else 0
        log.info("sealer.active", position=size, key=signer.public.fingerprint)
        sealed_at = -self._settings.seal_every_s
        while not stop.is_set():
            fresh = int(await connection.fetchval(load("select_head"))) - size
            due = fresh > 0 and time.monotonic() - sealed_at >= self._settings.seal_every_s
            if not due and fresh < self._settings.seal_every_events:
                self._backoff.reset()
                await wait_any(POLL_S, stop)
                continue
            started_s = time.monotonic()
            made = await seal(connection, signer)
            if made is not None:
                events, size = made.checkpoint.size - size, made.checkpoint.size
                ms = round((time.monotonic() - started_s) * 1000, 1)
                log.info("sealer.sealed", number=made.checkpoint.number, position=size, events=events, ms=ms)
            if fresh <= SEAL_EVENTS_MAX:  # else there is a backlog: go on at once
                sealed_at = time.monotonic()
