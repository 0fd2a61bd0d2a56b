"""The peer of the append row: `eventsourcing` 9.5.6, PostgresApplicationRecorder, safe (default) mode, psycopg binary.

Runs under an interpreter of its own (build/peers/eventsourcing), because the library's Postgres module needs psycopg_pool:
`python library.py < plan.json`
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any
from uuid import uuid4

STREAM_EVENTS = 10  # as in the library's own trial: fresh streams of ten versions


def main() -> int:
    """Append from `threads` callers for `seconds`; print the rate inside the window and the latencies."""
    from eventsourcing.persistence import StoredEvent  # noqa: PLC0415  not installed where the bench runs
    from eventsourcing.postgres import (  # noqa: PLC0415
        PostgresApplicationRecorder,
        PostgresDatastore,
    )

    plan: dict[str, Any] = json.load(sys.stdin)
    store = PostgresDatastore(
        plan["database"],
        plan["host"],
        plan["port"],
        plan["user"],
        plan["password"],
        pool_size=plan["pool"],
        max_overflow=0,
        max_waiting=plan["threads"] * 2,
        connect_timeout=30,
        pool_open_timeout=30,
    )
    recorder = PostgresApplicationRecorder(store, events_table_name="stored_events")
    recorder.create_table()
    state = (b'{"prompt":"' + b"x" * plan["state_bytes"])[: plan["state_bytes"] - 2] + b'"}'
    begin = time.perf_counter() + plan["warmup_s"]
    end = begin + plan["seconds"]
    latencies: list[float] = []

    def call() -> None:
        stream, version = uuid4(), 0
        while (sent := time.perf_counter()) < end:
            version += 1
            recorder.insert_events([StoredEvent(stream, version, "hook.recorded.v1", state)])
            now = time.perf_counter()
            if begin <= now < end:
                latencies.append((now - sent) * 1000)
            if version == STREAM_EVENTS:
                stream, version = uuid4(), 0

    threads = [threading.Thread(target=call) for _ in range(plan["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    latencies.sort()
    at = len(latencies)
    answer = {
        "rate": at / plan["seconds"],
        "p50_ms": latencies[at // 2] if at else 0,
        "p99_ms": latencies[int(at * 0.99)] if at else 0,
    }
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
