"""When API keys were last used, told to the log now and then: coarse, so that use costs almost nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from datetime import UTC, datetime
from uuid import UUID

import structlog

from api.auth import Authenticator
from commands.organizations import note_key_used
from eventstore.port import EventStore

EVERY_S = 60.0
TOLD_MAX = 10_000
LAST_WORDS_S = 2.0

_log = structlog.get_logger("api")


class KeyUse:
    """Empties `Authenticator.used` every minute; each key is told at most once an hour and process."""

    def __init__(self, auth: Authenticator, store: EventStore) -> None:
        self._auth = auth
        self._store = store
        self._told: OrderedDict[UUID, datetime] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> KeyUse:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run(), name="key use")
        return self

    async def close(self) -> None:
        """Tell what is left, if that is quick."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.tell(), LAST_WORDS_S)

    async def tell(self) -> None:
        """Note the keys that were used since the last time.  What fails is told when the key is used again."""
        used, self._auth.used = self._auth.used, {}
        now = datetime.now(UTC)
        hour = now.replace(minute=0, second=0, microsecond=0)
        for key_id, org_id in used.items():
            if self._told.get(key_id) == hour:
                continue
            try:
                await note_key_used(self._store, org_id, key_id, now)
            except Exception as error:  # noqa: BLE001  a note about a key is worth no failure
                _log.warning("key_use.untold", error=type(error).__name__)
                return
            self._told.pop(key_id, None)
            self._told[key_id] = hour
            if len(self._told) > TOLD_MAX:
                self._told.popitem(last=False)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.tell()
