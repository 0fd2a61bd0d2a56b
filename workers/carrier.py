"""Connections to NATS that end when they are lost, so that their owner starts over from what Postgres says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import nats
import nats.errors
import structlog
from nats.aio.client import Client

from eventstore.settings import Settings
from workers.lifecycle import nats_url

log = structlog.get_logger("nats")

CONNECT_S = 2


@asynccontextmanager
async def connected(settings: Settings, name: str, lost: asyncio.Event) -> AsyncGenerator[Client]:
    """A connection called `name`; `lost` is set when it is gone.  It does not come back by itself.

    Raises:
        OSError | nats.errors.Error: no server, or it refused us.
    """

    async def on_lost() -> None:
        lost.set()

    async def on_error(error: Exception) -> None:
        log.debug("nats.error", name=name, error=f"{type(error).__name__}: {error}")

    client = await nats.connect(
        nats_url(settings),
        name=name,
        allow_reconnect=False,
        # The client tries a server this many times more before it says so, with this pause between.
        max_reconnect_attempts=1,
        reconnect_time_wait=0,
        connect_timeout=CONNECT_S,
        closed_cb=on_lost,
        disconnected_cb=on_lost,
        error_cb=on_error,
    )
    try:
        yield client
    finally:
        with suppress(nats.errors.Error, OSError, TimeoutError):
            await client.close()
