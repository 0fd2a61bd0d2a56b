"""What named batches of facts stand for.  Facts are stored once by their own names; this only tells misuse of a batch's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from uuid import UUID

import asyncpg

from eventstore.database import Pool
from eventstore.port import StoreUnavailableError

_REUSED = "SELECT * FROM crewkit.reused_batches($1, $2, $3)"
_NOTE = "SELECT * FROM crewkit.note_batches($1, $2, $3)"


class Batches(Protocol):
    """Implementations: `PostgresBatches`, `MemoryBatches`.  `named` maps batch ids to what they stand for."""

    async def reused(self, org_id: UUID, named: Mapping[str, bytes]) -> set[str]:
        """Those that stood for something else before.

        Raises:
            StoreUnavailableError: it cannot be known now.
        """
        ...

    async def note(self, org_id: UUID, named: Mapping[str, bytes]) -> set[str]:
        """Remember, for some days; those that stand for something else since a moment ago.

        Raises:
            StoreUnavailableError: it cannot be noted now.
        """
        ...


class PostgresBatches:
    """Names in table `crewkit.ingest_batch`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def reused(self, org_id: UUID, named: Mapping[str, bytes]) -> set[str]:
        """See the port."""
        return await self._ask(_REUSED, org_id, named)

    async def note(self, org_id: UUID, named: Mapping[str, bytes]) -> set[str]:
        """See the port."""
        return await self._ask(_NOTE, org_id, named)

    async def _ask(self, sql: str, org_id: UUID, named: Mapping[str, bytes]) -> set[str]:
        try:
            rows = await self._pool.fetch(sql, org_id, list(named), list(named.values()))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StoreUnavailableError("the names of batches cannot be looked up now") from error
        return {row[0] for row in rows}


class MemoryBatches:
    """Names that live as long as the process, for tests."""

    def __init__(self) -> None:
        self._known: dict[tuple[UUID, str], bytes] = {}

    async def reused(self, org_id: UUID, named: Mapping[str, bytes]) -> set[str]:
        """See the port."""
        return {name for name, digest in named.items() if self._known.get((org_id, name), digest) != digest}

    async def note(self, org_id: UUID, named: Mapping[str, bytes]) -> set[str]:
        """See the port."""
        for name, digest in named.items():
            self._known.setdefault((org_id, name), digest)
        return await self.reused(org_id, named)
