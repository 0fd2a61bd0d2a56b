"""The projector process: hosts every projection, and what operators can do about them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from eventstore.database import WORKER_ROLE, connect_pool
from eventstore.settings import Settings
from projections.base import Projection
from workers.blocks import Names
from workers.lifecycle import Backoff, database_url, rare_collections, retry_forever, until_cancelled
from workers.projector import control
from workers.projector.control import ProjectionStatus, Refused
from workers.projector.host import fill, found_projections, log, make_host, named, workshop
from workers.projector.runner import StoppedError

__all__ = [
    "ProjectionStatus",
    "RebuildReport",
    "Refused",
    "StoppedError",
    "rebuild",
    "retry",
    "run_projector",
    "skip",
    "status",
]

OPERATOR = "system:operator"


class RebuildReport(msgspec.Struct, frozen=True):
    """What a rebuild did: the generation readers now see, up to which position, in how many seconds."""

    name: str
    generation: int
    position: int
    seconds: float


async def run_projector(
    settings: Settings, *, names: Names | None = None, wanted: Sequence[Projection] | None = None
) -> None:
    """Host `wanted` (default: every projection found) until cancelled; then finish the batches in flight."""
    chosen = list(found_projections() if wanted is None else wanted)

    async def work(stop: asyncio.Event) -> None:
        backoff = Backoff()

        def on_failure(error: BaseException, pause_s: float) -> None:
            log.warning("projector.no_database", error=f"{type(error).__name__}: {error}", retry_s=round(pause_s, 2))

        async def attempt() -> None:
            async with workshop(settings, len(chosen)) as shop:
                await make_host(shop, settings, names or Names(), chosen).run(stop)

        await retry_forever(attempt, stop, (Exception,), on_failure, backoff)

    with rare_collections():
        await until_cancelled(work)


async def rebuild(settings: Settings, name: str, *, wanted: Projection | None = None) -> RebuildReport:
    """Fill a new generation of a projection from position 0 and let readers see it; live projectors move over to it.

    Raises:
        Refused: there is no such projection, or another process is filling it.
        StoppedError: an event cannot be folded; the generation that is read stays as it was.
    """
    projection = wanted or named(name)
    started_s = time.monotonic()
    async with workshop(settings, 1) as shop:
        await control.register(shop.pool, projection)
        bound = projection.bound(shop.texts)
        with rare_collections():
            runner = await fill(shop, bound, asyncio.Event(), resume=False)
        if runner is None:
            raise Refused(f"another process is already filling projection {name!r}")
        return RebuildReport(name, runner.generation, runner.position, time.monotonic() - started_s)


async def status(settings: Settings) -> list[ProjectionStatus]:
    """Every generation of every projection that was ever registered, by name."""
    pool = await connect_pool(database_url(settings), WORKER_ROLE, max_size=1)
    try:
        return await control.read_status(pool)
    finally:
        await pool.close()


async def retry(settings: Settings, name: str) -> int:
    """Let a failed projection try again; the position of the event it failed at.

    Raises:
        Refused: there is nothing to retry.
    """
    pool = await connect_pool(database_url(settings), WORKER_ROLE, max_size=1)
    try:
        return await control.clear_failure(pool, name)
    finally:
        await pool.close()


async def skip(settings: Settings, name: str, position: int, reason: str, *, actor: str = OPERATOR) -> None:
    """Let a failed projection go past exactly the event it failed at; reason and actor are kept with the checkpoint.

    Raises:
        Refused: it failed elsewhere or not at all, or no reason is given.
    """
    pool = await connect_pool(database_url(settings), WORKER_ROLE, max_size=1)
    try:
        await control.skip_event(pool, name, position, reason, actor)
    finally:
        await pool.close()
