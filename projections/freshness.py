"""Waiting until a projection has passed a position, for readers who want to see what they have just written."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TypeAlias

import asyncpg

POLL_FIRST_S = 0.002
POLL_MAX_S = 0.05
WAITERS_MAX = 10_000

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_POSITIONS = """
SELECT c.projection, c.position, c.status
  FROM crewkit.checkpoint c
  JOIN crewkit.projection p ON p.name = c.projection AND p.active_generation = c.generation
 WHERE c.projection = ANY ($1::text[])
"""


class _Watch:
    """One poller per pool: it runs only while somebody waits, and one query serves everybody."""

    def __init__(self) -> None:
        self.waiting: dict[asyncio.Future[bool], tuple[str, int]] = {}
        self.poller: asyncio.Task[None] | None = None
        self.pause_s = POLL_FIRST_S

    async def poll(self, pool: Pool) -> None:
        try:
            await self._poll(pool)
        finally:
            if _watches.get(pool) is self:
                del _watches[pool]

    async def _poll(self, pool: Pool) -> None:
        while self.waiting:
            wanted = list({projection for projection, _ in self.waiting.values()})
            try:
                found = await pool.fetch(_POSITIONS, wanted)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                found = []  # the waiters' own time limits decide; the next round may reach the database again
            at = {record["projection"]: (record["position"], record["status"]) for record in found}
            for future, (projection, position) in list(self.waiting.items()):
                reached, status = at.get(projection, (-1, ""))
                if not future.done() and (reached >= position or status == "failed"):
                    future.set_result(reached >= position)
            await asyncio.sleep(self.pause_s)
            self.pause_s = min(self.pause_s * 2, POLL_MAX_S)


_watches: dict[Pool, _Watch] = {}  # an entry lives as long as its poller


async def wait_for(pool: Pool, projection: str, position: int, timeout_s: float) -> bool:
    """Whether the projection's active generation has passed `position` within `timeout_s`.

    False at once when the projection has failed or when `WAITERS_MAX` already wait.
    """
    watch = _watches.setdefault(pool, _Watch())
    if len(watch.waiting) >= WAITERS_MAX:
        return False
    future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    watch.waiting[future] = (projection, position)
    watch.pause_s = POLL_FIRST_S  # a newcomer most likely waits for a commit of milliseconds ago
    if watch.poller is None or watch.poller.done():
        watch.poller = asyncio.create_task(watch.poll(pool), name="freshness")
    try:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(future, timeout_s)
        return False
    finally:
        watch.waiting.pop(future, None)
