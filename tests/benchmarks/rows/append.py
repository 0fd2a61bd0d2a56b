"""The store itself: against the library it replaces, and against its own younger self."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from typing import Any

import asyncpg
import msgspec

from eventstore.migrate import migrate
from tests.benchmarks import hooks, machine
from tests.benchmarks.bench import PASSWORD, Bench
from tests.benchmarks.ours import append
from tests.benchmarks.peers.install import library_python
from tests.benchmarks.table import Hold, NotMeasuredError, Result, Row, median
from workers.local.postgres import USER, Postgres

CALLERS = 64
MARGIN_S = 90.0
LIBRARY_POOLS = (1, 16)  # connections; the better one counts
SMALL_EVENTS = 10_000
FULL_EVENTS = 10_000_000
QUICK_EVENTS = 500_000
FILL_STEP = 250_000  # events per INSERT
SESSION_EVENTS = 200
DISK_BYTES_PER_EVENT = 2_500  # with indexes and write-ahead log; the fill is refused where it would not fit


def run_ours(database_url: str, seconds: float) -> append.Report:
    """One load of 64 callers on our store, in a process of its own."""
    text = msgspec.json.encode(append.Plan(dsn=database_url, callers=CALLERS, seconds=seconds)).decode()
    answer = machine.run_module("tests.benchmarks.ours.append", text, timeout_s=seconds + MARGIN_S)
    return msgspec.json.decode(answer, type=append.Report)


def create(server: Postgres, name: str) -> str:
    """A fresh migrated database on the server; its URL."""

    async def run() -> None:
        connection = await asyncpg.connect(server.url("postgres"))
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()
        await migrate(server.url(name))

    asyncio.run(run())
    return server.url(name)


def library(bench: Bench) -> Result:
    """Row 3: both on the same server, one after the other, round by round."""
    python = library_python()
    seconds = bench.seconds(6, 3)
    with bench.postgres("append") as server:
        url = create(server, "ours")

        def theirs() -> float:
            rates: list[float] = []
            for pool in LIBRARY_POOLS:
                plan = {
                    "host": server.host,
                    "port": server.port,
                    "user": USER,
                    "password": PASSWORD,
                    "database": "postgres",
                    "threads": CALLERS,
                    "pool": pool,
                    "seconds": seconds,
                    "warmup_s": 1.0,
                    "state_bytes": int(hooks.payload_bytes()),
                }
                program = machine.ROOT / "tests" / "benchmarks" / "peers" / "library.py"
                answer = machine.run_json([python, program], json.dumps(plan), timeout_s=seconds + MARGIN_S)
                rates.append(float(json.loads(answer)["rate"]))
            return max(rates)

        mine, peers = bench.alternate(lambda: run_ours(url, seconds), theirs)
    return Result(
        value=median(report.rate for report in mine),
        unit="appends/s",
        peer=median(peers),
        p50_ms=median(report.p50_ms for report in mine),
        p99_ms=median(report.p99_ms for report in mine),
        note=f"64 callers, one event each, fresh streams of 10; ours seals the content, deduplicates and keeps positions "
        f"gapless ({median(report.batch for report in mine):.0f} events per commit); acknowledged equals stored. Peer: "
        "eventsourcing 9.5.6, PostgresApplicationRecorder, default (table lock) mode, psycopg binary, 64 threads, the better "
        f"of {' and '.join(map(str, LIBRARY_POOLS))} connections; its events have no organization, time, meta, id or sealing.",
    )


def growth(bench: Bench) -> Result:
    """Row 9: two databases on one server, one small, one large, round by round."""
    events = QUICK_EVENTS if bench.quick else FULL_EVENTS
    free = shutil.disk_usage(bench.folder).free
    if free < events * DISK_BYTES_PER_EVENT:
        raise NotMeasuredError(
            f"{events:,} events need about {events * DISK_BYTES_PER_EVENT / 1e9:.0f} GB in {bench.folder}"
        )
    seconds = bench.seconds(8, 4)
    with bench.postgres("growth") as server:
        small, large = create(server, "small"), create(server, "large")
        asyncio.run(fill(small, SMALL_EVENTS))
        started = time.perf_counter()
        asyncio.run(fill(large, events))
        filled_s = time.perf_counter() - started
        bench.say(f"filled {events:,} events in {filled_s:.0f} s")
        size = asyncio.run(_size(large))
        mine, peers = bench.alternate(lambda: run_ours(large, seconds), lambda: run_ours(small, seconds))
    return Result(
        value=median(report.rate for report in mine),
        unit="appends/s",
        peer=median(report.rate for report in peers),
        p50_ms=median(report.p50_ms for report in mine),
        p99_ms=median(report.p99_ms for report in mine),
        note=f"64 callers on a log of {events:,} events ({size / 1e9:.1f} GB, filled in {filled_s:.0f} s)"
        f"{' (--quick; the full row has 10,000,000)' if bench.quick else ''}, alternating with one of {SMALL_EVENTS:,} on the "
        "same server; shared_buffers as `crewkit up` sets it. Both grow by what the rounds append.",
    )


async def fill(url: str, events: int) -> None:
    """Write events and stream heads with set-based SQL, the way the append function leaves them; then look after it.

    The ids have the form of real ones: eight bytes of the stream, eight of the fact, so that indexes get the same shape.
    """
    connection: asyncpg.Connection[Any] = await asyncpg.connect(url, server_settings={"synchronous_commit": "off"})
    payload = hooks.script()[10]
    try:
        await connection.execute("SELECT crewkit.make_room($1)", events)
        first = 1
        while first <= events:
            last = min(events, first + FILL_STEP - 1)
            await connection.execute(FILL_EVENTS, first, last, SESSION_EVENTS, payload, timeout=600)
            first = last + 1
        await connection.execute(FILL_STREAMS, events, SESSION_EVENTS, timeout=600)
        await connection.execute("VACUUM ANALYZE crewkit.event, crewkit.stream", timeout=1_800)
        await connection.execute("CHECKPOINT", timeout=600)
    finally:
        await connection.close()


async def _size(url: str) -> int:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT pg_database_size(current_database())"))
    finally:
        await connection.close()


_SESSION = "md5('session ' || ((i - 1) / $3))"
FILL_EVENTS = f"""
INSERT INTO crewkit.event (position, org_id, stream_id, version, type, event_id, recorded_at, data, meta)
SELECT i, '6f9619ff-8b86-5011-b42d-00c04fc964ff', {_SESSION}::uuid, (i - 1) % $3 + 1, 'hook.recorded.v1',
    (left({_SESSION}, 16) || left(md5('fact ' || i), 16))::uuid, timestamptz '2026-01-01' + i * interval '1 ms',
    ('{{"type":"hook.recorded.v1","n":' || i || ',"content":' || $4::text || '}}')::json,
    '{{"actor":"key:00000000-0000-7000-8000-000000000000"}}'
FROM generate_series($1::bigint, $2::bigint) i
"""
FILL_STREAMS = """
INSERT INTO crewkit.stream (stream_id, org_id, kind, id, version, first_position, last_position)
SELECT md5('session ' || s)::uuid, '6f9619ff-8b86-5011-b42d-00c04fc964ff', 'LlmSession', md5('session ' || s)::uuid::text,
    least($2, $1 - s * $2), s * $2 + 1, least($1, (s + 1) * $2)
FROM generate_series(0::bigint, ($1::bigint - 1) / $2::bigint) s
"""

LIBRARY = Row(
    order=3,
    name="append",
    what="append, 64 concurrent single-event callers",
    against="eventsourcing 9.5.6 Postgres recorder, safe mode",
    hold=Hold("ratio", least=10),
    run=library,
)
GROWTH = Row(
    order=9,
    name="growth",
    what="append at 10 M stored events",
    against="append at 10 k",
    hold=Hold("ratio", least=0.8),
    run=growth,
)
