"""The limit for appends: asyncpg, one `INSERT … SELECT unnest` of many rows per autocommit call, under the store's lock.

A table with the columns of `crewkit.event` and its primary key (`plain`), or with all of its indexes too (`indexed`).
What it does not do: HTTP, authentication, decoding, sealing, deduplication, stream versions, receipts, relay, projections.
`python -m tests.benchmarks.peers.raw < plan.json`
"""

from __future__ import annotations

import asyncio
import sys
import time
from uuid import UUID, uuid4

import asyncpg
import msgspec
import uvloop

from eventstore.database import prepare_connection
from tests.benchmarks import hooks
from tests.benchmarks.table import percentile

SETUP = """
DROP SCHEMA IF EXISTS raw CASCADE;
CREATE SCHEMA raw;
CREATE SEQUENCE raw.position CACHE 1;
CREATE TABLE raw.plain (LIKE crewkit.event INCLUDING STORAGE, PRIMARY KEY (position));
CREATE TABLE raw.indexed (LIKE crewkit.event INCLUDING STORAGE, PRIMARY KEY (position), UNIQUE (event_id),
    UNIQUE (stream_id, version));
CREATE INDEX ON raw.indexed (org_id, position);
CREATE INDEX ON raw.indexed USING brin (recorded_at);
"""
FUNCTION = """
CREATE FUNCTION raw.append_{table}(org uuid, stream uuid, first bigint, ids uuid[], data json[]) RETURNS void
LANGUAGE plpgsql AS $fn$
BEGIN
    PERFORM pg_advisory_xact_lock(7166181837);
    INSERT INTO raw.{table} (position, org_id, stream_id, version, type, event_id, recorded_at, data, meta)
        SELECT nextval('raw.position'), org, stream, first + u.i, 'hook.recorded.v1', u.id, clock_timestamp(), u.data, '{{}}'
        FROM unnest(ids, data) WITH ORDINALITY u (id, data, i);
END
$fn$
"""


class Plan(msgspec.Struct, kw_only=True):
    """`table` is `plain` or `indexed`; `connections` call at the same time, each `rows` per commit."""

    dsn: str
    table: str = "plain"
    connections: int = 1
    rows: int = 100
    seconds: float = 5.0
    warmup_s: float = 1.0


class Report(msgspec.Struct, kw_only=True):
    """Rows per second inside the window, and how long one call took."""

    rate: float
    p50_ms: float
    p99_ms: float


async def execute(plan: Plan) -> Report:
    """Fill the table for the plan's time."""
    payloads = [payload.encode() for payload in hooks.script()]
    data = [payloads[i % len(payloads)] for i in range(plan.rows)]
    setup = await asyncpg.connect(plan.dsn)
    await setup.execute(SETUP + FUNCTION.format(table=plan.table))
    await setup.close()
    begin = time.perf_counter() + plan.warmup_s
    end = begin + plan.seconds
    latencies: list[float] = []

    async def call(org: UUID) -> None:
        connection = await asyncpg.connect(plan.dsn)
        await prepare_connection(connection)
        statement = await connection.prepare(f"SELECT raw.append_{plan.table}($1, $2, $3, $4, $5)")
        while (sent := time.perf_counter()) < end:
            # A batch is half a session, as in the load of our side.
            base = uuid4().int
            ids = [UUID(int=(base + i) & ((1 << 128) - 1)) for i in range(plan.rows)]
            await statement.fetch(org, UUID(int=base), 0, ids, data)
            now = time.perf_counter()
            if begin <= now < end:
                latencies.append((now - sent) * 1000)
        await connection.close()

    org = uuid4()
    await asyncio.gather(*(call(org) for _ in range(plan.connections)))
    latencies.sort()
    return Report(
        rate=len(latencies) * plan.rows / plan.seconds,
        p50_ms=percentile(latencies, 0.5),
        p99_ms=percentile(latencies, 0.99),
    )


def main() -> int:
    """Read the plan from standard input, print the report."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(execute(plan))
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
