"""Checkpoints of projections that had nothing to fold: moved together, one statement for all of them."""

from __future__ import annotations

import asyncio
import math
import time

from eventstore.database import Pool

PASS_S = 0.01  # between two statements: most projections of a process are about few of the events
_MOVE = """
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[]) AS w (name, generation, old, new)
), held AS (
    SELECT c.projection, c.generation, w.new
      FROM crewkit.checkpoint c JOIN wanted w ON c.projection = w.name AND c.generation = w.generation
     WHERE c.position = w.old AND c.status IN ('running', 'filling')
     ORDER BY c.projection, c.generation  -- two processes must not lock them in different orders
       FOR NO KEY UPDATE OF c
)
UPDATE crewkit.checkpoint c SET position = held.new, error = NULL, updated_at = clock_timestamp()
  FROM held WHERE c.projection = held.projection AND c.generation = held.generation
RETURNING c.projection, c.generation
"""
_Move = tuple[str, int, int, int]


class Passing:
    """At rest a checkpoint moves at once; under load those that wait share the next statement."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: list[tuple[_Move, asyncio.Future[bool]]] = []
        self._mover: asyncio.Task[None] | None = None
        self._moved_s = -math.inf

    async def move(self, name: str, generation: int, old: int, new: int) -> bool:
        """Compare and set one checkpoint; False when it is not at `old` any more, or stopped or retired.

        Raises:
            whatever the database answers: the checkpoint may then be at either place.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(((name, generation, old, new), future))
        if self._mover is None or self._mover.done():
            self._mover = asyncio.create_task(self._run(), name="passing")
        return await future

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(max(0.0, self._moved_s + PASS_S - time.monotonic()))
            batch, self._waiting = self._waiting, []
            try:
                records = await self._pool.fetch(_MOVE, *map(list, zip(*(move for move, _ in batch), strict=True)))
            except Exception as error:  # noqa: BLE001  told to everybody who waits
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            finally:
                self._moved_s = time.monotonic()
            moved = {(name, generation) for name, generation in records}
            for (name, generation, _, _), future in batch:
                if not future.done():
                    future.set_result((name, generation) in moved)

    async def close(self) -> None:
        """Finish what waits."""
        if self._mover is not None:
            await asyncio.wait({self._mover})
