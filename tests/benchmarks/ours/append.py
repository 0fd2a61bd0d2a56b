"""Our store, driven directly: many callers, each appending one hook fact at a time to sessions of its own.

`python -m tests.benchmarks.ours.append < plan.json`.  Everything a caller gets in production is in it: sealing of the
content, deduplication by event id, stream versions, group commit, fsync.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from uuid import UUID, uuid4, uuid5

import msgspec
import uvloop

from domain.kernel import Sealed, Stream, fact_id
from domain.sessions.events import Context, HookRecorded
from eventstore.database import API_ROLE, connect_pool
from eventstore.mapper import Mapper
from eventstore.port import Append, NewEvent, Status
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing
from tests.benchmarks import hooks
from tests.benchmarks.table import percentile

STREAM_EVENTS = 10  # fresh streams of ten versions, as the peer has them
NAMESPACE = UUID("b0b5c7d2-4d5e-4f6a-8b7c-9d8e7f6a5b4c")


class Plan(msgspec.Struct, kw_only=True):
    """`callers` append at the same time, one event per append."""

    dsn: str
    callers: int = 64
    seconds: float = 5.0
    warmup_s: float = 1.0


class Report(msgspec.Struct, kw_only=True):
    """Appends per second inside the window, how long one took, and how many were acknowledged altogether."""

    rate: float
    p50_ms: float
    p99_ms: float
    acknowledged: int
    batch: float


async def execute(plan: Plan) -> Report:
    """Append for the plan's time and count what is stored afterwards.

    Raises:
        RuntimeError: an append was not stored, or the database holds another number than was acknowledged.
    """
    texts = [payload.encode() for payload in hooks.script()]
    pool = await connect_pool(plan.dsn, API_ROLE, max_size=4)
    store = PostgresStore(plan.dsn, Mapper(PostgresKeyRing(pool, os.urandom(32))), pool=pool)
    await store.start()
    org = uuid5(NAMESPACE, "organization")
    before = await store.head()
    begin = time.perf_counter() + plan.warmup_s
    end = begin + plan.seconds
    latencies: list[float] = []
    acknowledged = 0

    async def call() -> None:
        nonlocal acknowledged
        person = uuid4()
        number = 0
        ident, stream_id = "", UUID(int=0)
        while (sent := time.perf_counter()) < end:
            if number % STREAM_EVENTS == 0:
                ident = str(uuid4())
                stream_id = Stream("LlmSession", ident).uuid(org)
            text = texts[number % len(texts)].decode()
            number += 1
            event = HookRecorded(
                agent="claude",
                llm_session_id=ident,
                kind="PreToolUse",
                occurred_at=datetime.now(UTC),
                person_id=person,
                attrs={"hook_event_name": "PreToolUse", "tool_use_id": f"toolu_{number}", "tool_name": "Bash"},
                content=Sealed(person, text),
                context=Context(repo="acme/shop", branch="main"),
            )
            wish = Append(
                org_id=org,
                stream=Stream("LlmSession", ident),
                events=[NewEvent(event, fact_id(stream_id, str(number)))],
                facts=True,
            )
            outcome = await store.append(wish)
            now = time.perf_counter()
            if outcome.status is not Status.OK:
                raise RuntimeError(f"a new fact was answered with {outcome}")
            acknowledged += 1
            if begin <= now < end:
                latencies.append((now - sent) * 1000)

    await asyncio.gather(*(call() for _ in range(plan.callers)))
    stored = await store.head() - before
    batch = store.stats.events / max(1, store.stats.batches)
    await store.close()
    await pool.close()
    if stored != acknowledged:
        raise RuntimeError(f"{acknowledged} appends were acknowledged, {stored} are stored")
    latencies.sort()
    return Report(
        rate=len(latencies) / plan.seconds,
        p50_ms=percentile(latencies, 0.5),
        p99_ms=percentile(latencies, 0.99),
        acknowledged=acknowledged,
        batch=batch,
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
