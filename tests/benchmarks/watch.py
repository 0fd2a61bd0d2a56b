"""Looking at a running system from outside while load runs: how far behind its projections are, when events are readable."""

from __future__ import annotations

import asyncio
import bisect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

import asyncpg

from tests.benchmarks.system import lag

LAG_EVERY_S = 0.25
POSITION_EVERY_S = 0.002
READABLE = """
SELECT min(c.position) FROM crewkit.checkpoint c
JOIN crewkit.projection p ON p.name = c.projection AND p.active_generation = c.generation
"""


class Watch:
    """Calls `look` again and again on a connection of its own, in a thread, while the `with` block runs."""

    def __init__(self, database_url: str, look: Callable[[Any], Awaitable[int]], every_s: float) -> None:
        self._url = database_url
        self._look = look
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._error: BaseException | None = None
        self.samples: list[tuple[float, int]] = []  # wall-clock seconds, figure

    async def _run(self) -> None:
        try:
            connection: asyncpg.Connection[Any] = await asyncpg.connect(self._url)
            try:
                while not self._over.is_set():
                    figure = await self._look(connection)
                    self.samples.append((time.time(), figure))
                    await asyncio.sleep(self._every_s)
            finally:
                await connection.close()
        except BaseException as error:  # noqa: BLE001  handed to whoever started the watch
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


async def events_behind(connection: asyncpg.Connection[Any]) -> int:
    """Events between the head and the slowest part.

    Raises:
        RuntimeError: a projection stopped.
    """
    behind, failed = await lag(connection)
    if failed:
        raise RuntimeError(f"a projection stopped: {failed}")
    return behind


async def readable_position(connection: asyncpg.Connection[Any]) -> int:
    """The position that every active projection has passed and committed."""
    return int(await connection.fetchval(READABLE) or 0)


def climb(samples: list[tuple[float, int]], first: float, last: float) -> tuple[float, float]:
    """How many events the lag grew by between two times (least-squares line), and its mean in that time."""
    inside = [(at, figure) for at, figure in samples if first <= at <= last]
    if len(inside) < 8:
        raise RuntimeError("too few looks at the lag: the machine is overloaded")
    middle_x = sum(at for at, _ in inside) / len(inside)
    middle_y = sum(figure for _, figure in inside) / len(inside)
    spread = sum((at - middle_x) ** 2 for at, _ in inside)
    slope = sum((at - middle_x) * (figure - middle_y) for at, figure in inside) / spread
    return slope * (last - first), middle_y


def delays_ms(samples: list[tuple[float, int]], events: list[tuple[int, float]]) -> list[float]:
    """Per event, milliseconds from its `recorded_at` (before the commit) to the first look that found it readable; sorted."""
    positions = [position for _, position in samples]
    found: list[float] = []
    for position, recorded_at in events:
        at = bisect.bisect_left(positions, position)
        if at < len(samples):
            found.append(max(0.0, (samples[at][0] - recorded_at) * 1000))
    return sorted(found)
