"""The read models as they must be: the whole log, read page by page and folded in this process, without the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from eventstore import settings as configuration
from eventstore.port import Recorded
from projections.base import Projection, Rows
from projections.tables import describe_all
from workers.local.places import complete
from workers.projector.host import Workshop, found_projections, workshop

PAGE_EVENTS = 2_000


class Truth(msgspec.Struct):
    """`positions` as read, `ids` the event ids, `folded` rows by table name and `stored` what the tables hold."""

    positions: list[int]
    ids: list[str]
    folded: dict[str, dict[Any, Any]]
    stored: dict[str, dict[Any, Any]]


async def establish(environ: Mapping[str, str]) -> Truth:
    """Read the log and the tables of the instance that `environ` names."""
    settings = complete(configuration.load(environ))
    truth = Truth([], [], {}, {})
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(workshop(settings, 1))
        bound = [(projection, projection.bound(shop.texts), Rows()) for projection in found_projections()]
        after = 0
        while page := (await shop.source().read(after, PAGE_EVENTS)).items:
            events = [item for item in page if isinstance(item, Recorded)]
            assert len(events) == len(page), "an event of an unknown type"
            await shop.texts.prepare(events)
            for recorded in events:
                truth.positions.append(recorded.position)
                truth.ids.append(str(recorded.event_id))
                for _, projection, rows in bound:
                    projection.fold(rows, recorded)
            after = events[-1].position
        for projection, _, rows in bound:
            await _compare(shop, projection, rows, truth)
    return truth


async def _compare(shop: Workshop, projection: Projection, rows: Rows, truth: Truth) -> None:
    async with shop.pool.acquire() as connection:
        generation = await connection.fetchval(
            "SELECT active_generation FROM crewkit.projection WHERE name = $1", projection.name
        )
        for name, stored in (await describe_all(connection, projection, generation)).items():
            table = stored.table
            keys = ", ".join(f'"{part}"' for part in table.key)
            found = await connection.fetch(f"SELECT {keys} FROM crewkit.{stored.name}")
            have = await stored.load(connection, [tuple(record) for record in found])
            truth.folded[name] = {table.key_of(row): row for row in rows.all(table)}
            truth.stored[name] = {table.key_of(row): row for row in have}
