"""The limit of a rebuild: read every event with asyncpg, page by page, and decode its JSON into its type; nothing else.

`python -m tests.benchmarks.peers.read < plan.json`.  Decoded are the event classes of the domain, with sealed text left
closed; no folding, no opening of sealed text, no writing.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import asyncpg
import msgspec
import uvloop

from domain.kernel import Event
from eventstore.database import prepare_connection
from eventstore.mapper import decode_hook, released_events

PAGE_EVENTS = 5_000
SELECT = """
SELECT position, org_id, stream_id, version, type, event_id, recorded_at, data, meta FROM crewkit.event
WHERE position > $1 ORDER BY position LIMIT $2
"""


class Plan(msgspec.Struct, kw_only=True):
    """Where to read from."""

    dsn: str


class Report(msgspec.Struct, kw_only=True):
    """How many events, and the seconds they took."""

    events: int
    seconds: float


async def execute(plan: Plan) -> Report:
    """Read everything once."""
    decoders: dict[str, msgspec.json.Decoder[Event]] = {
        tag: msgspec.json.Decoder(kind, dec_hook=decode_hook) for tag, kind in released_events().items()
    }
    connection: asyncpg.Connection[Any] = await asyncpg.connect(plan.dsn)
    await prepare_connection(connection)
    statement = await connection.prepare(SELECT)
    position = events = 0
    started = time.perf_counter()
    while rows := await statement.fetch(position, PAGE_EVENTS):
        for row in rows:
            decoders[row[4]].decode(row[7])
        events += len(rows)
        position = rows[-1][0]
    seconds = time.perf_counter() - started
    await connection.close()
    return Report(events=events, seconds=seconds)


def main() -> int:
    """Read the plan from standard input, print the report."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(execute(plan))
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
