"""The consolidation run: find conversations that are over, start their next generation, write what is due.

The search walks through all conversations a few thousand at a time, run after run, because an index by time would have to be
moved with every fact.  Whatever a run does not reach, the next one does; a run that was cut off is simply repeated.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from commands.bus import Principal
from commands.sessions import begin_consolidation, consolidate_session, note_defect
from commands.sessions.consolidation import Unwritten
from domain.kernel import DomainError
from domain.sessions.streaming import Consolidating
from eventstore.database import Pool
from eventstore.objects import Objects
from eventstore.port import EventStore, StoreUnavailableError
from eventstore.settings import Settings
from projections.consolidation import Place, sweep, under_way

log = structlog.get_logger("scheduler")

ACTOR = "system:consolidation"
NOBODY = UUID(int=0)
START = Place(UUID(int=0), "")
SWEEP_ROWS = 2_000  # conversations looked at by one query
SWEEP_ROWS_MAX = 20_000  # by one run
STARTED_MAX = 500  # generations started by one run
RUN_S_MAX = 20.0  # a run begins nothing new after this, so that the scheduler's other jobs get their turn


class Consolidator:
    """Runs of consolidation; remembers where the search goes on."""

    def __init__(self, settings: Settings, pool: Pool, store: EventStore, objects: Objects) -> None:
        self._settings = settings
        self._pool = pool
        self._store = store
        self._objects = objects
        self._after = START

    async def run(self) -> int:
        """One run; the number of conversations whose items were written."""
        async with self._pool.acquire() as connection:
            ready = await connection.fetchval(
                "SELECT to_regclass('crewkit.consolidation') IS NOT NULL"
                " AND to_regclass('crewkit.llm_session') IS NOT NULL"
            )
            if not ready:
                return 0  # no projector has run yet
            now: datetime = await connection.fetchval("SELECT clock_timestamp()")
            waiting = await under_way(connection, now)
        until = time.monotonic() + RUN_S_MAX
        places = dict.fromkeys([*waiting, *await self._start(now, until)])
        written = 0
        for place in list(places)[: self._settings.consolidate_batch_max]:
            if time.monotonic() > until:
                break
            outcome = await self._write(place, now, until)
            if isinstance(outcome, Unwritten):
                break  # the others would fare no better now, and each failure is an event
            written += outcome > 0
        return written

    async def _start(self, now: datetime, until: float) -> list[Place]:
        """Start generations of settled conversations, and answer of which."""
        heard_before = now - timedelta(seconds=self._settings.consolidate_after_s)
        started: list[Place] = []
        rows = 0
        while rows < SWEEP_ROWS_MAX and len(started) < STARTED_MAX and time.monotonic() < until:
            async with self._pool.acquire() as connection:
                seen = await sweep(connection, self._after, heard_before=heard_before, rows=SWEEP_ROWS)
            rows += SWEEP_ROWS
            for place in seen.settled:
                try:
                    state = await begin_consolidation(self._store, _system(place), place.llm_session_id, at=now)
                except DomainError as refused:  # somebody was faster: the next run sees what became of it
                    log.info("consolidation.not_started", session=place.llm_session_id, code=refused.code)
                    continue
                if isinstance(state, Consolidating):
                    started.append(place)
            self._after = seen.last or START
            if seen.last is None:
                break
        return started

    async def _write(self, place: Place, now: datetime, until: float) -> int | Unwritten:
        """Write the generation under way and those that follow; `Unwritten` when the object store is to blame."""
        principal, session = _system(place), place.llm_session_id
        written = 0
        try:
            while outcome := await consolidate_session(self._store, self._objects, principal, session, at=now):
                if isinstance(outcome, Unwritten):
                    log.warning("consolidation.failed", reason=outcome.reason, error=outcome.message)
                    return outcome
                written += outcome
                if time.monotonic() > until:
                    break
                await begin_consolidation(self._store, principal, session, at=now)
        except StoreUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001  one conversation's defect must not keep the others from being written
            log.error(  # noqa: TRY400
                "consolidation.defect", session=session, error=f"{type(error).__name__}: {error}"
            )
            await note_defect(self._store, principal, session, at=now)
        return written


def _system(place: Place) -> Principal:
    return Principal(actor=ACTOR, org_id=place.org_id, person_id=NOBODY, scopes=frozenset())
