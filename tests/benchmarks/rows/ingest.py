"""What arrives over HTTP: batches against raw inserts, single events against Litestar's hello-world."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from tests.benchmarks import hooks, load, machine
from tests.benchmarks.bench import Bench
from tests.benchmarks.limits import raw_rates
from tests.benchmarks.system import System
from tests.benchmarks.table import Hold, Result, Row, median
from workers.local.ports import free_port

BATCH_EVENTS = 100
BATCH_CONNECTIONS = 8
SINGLE_CONNECTIONS = 64


def batches(bench: Bench) -> Result:
    """Row 1: relay and projectors run on the same cores; the peer has the machine for itself."""
    system = System(bench, "batches")
    seconds = bench.seconds(8, 4)
    memory: list[float] = []
    late: list[float] = []

    def ours() -> load.Report:
        system.start()
        before = system.stored()
        plan = system.plan(events=BATCH_EVENTS, connections=BATCH_CONNECTIONS, seconds=seconds)
        report = bench.load(plan)
        memory.append(system.memory().pss_mb)
        late.append(system.verify(before, report.accepted))
        system.stop()
        return report

    mine, peers = bench.alternate(ours, lambda: raw_rates(bench, seconds, ("plain-1", "plain-4", "indexed-1")))
    plain, four, indexed = (median(peer[name] for peer in peers) for name in ("plain-1", "plain-4", "indexed-1"))
    value = median(report.rate for report in mine)
    return Result(
        value=value,
        unit="events/s",
        peer=plain,
        p50_ms=median(report.p50_ms for report in mine),
        p99_ms=median(report.p99_ms for report in mine),
        memory_mb=max(memory),
        note=f"{BATCH_CONNECTIONS} keep-alive connections, payloads of {hooks.payload_bytes():.0f} B on average; every "
        f"acknowledged event counted in Postgres, projections caught up {median(late):.1f} s after the load. Peer: one "
        "asyncpg connection (like our one writer), no HTTP, auth, sealing, deduplication, versions, relay or projections, "
        f"a table with the event table's columns and primary key. The same table with all our indexes: {indexed:,.0f}/s "
        f"(ratio {value / indexed:.2f}); four connections into the plain table: {four:,.0f}/s (ratio {value / four:.2f}).",
    )


@contextlib.contextmanager
def hello_server(bench: Bench) -> Iterator[str]:
    """The peer of row 2, running."""
    port = free_port()
    process = machine.spawn(
        [sys.executable, "-m", "tests.benchmarks.peers.hello", str(port)], bench.folder / "hello.log"
    )
    try:
        deadline = time.perf_counter() + 30
        while not machine.answers(port):
            if process.poll() is not None or time.perf_counter() > deadline:
                raise RuntimeError(f"hello-world did not start: {(bench.folder / 'hello.log').read_text()[-800:]}")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        machine.stop(process)


def singles(bench: Bench) -> Result:
    """Row 2: one event per request, 64 callers."""
    system = System(bench, "singles")
    seconds = bench.seconds(8, 4)
    memory: list[float] = []

    def ours() -> load.Report:
        system.start()
        before = system.stored()
        report = bench.load(system.plan(events=1, connections=SINGLE_CONNECTIONS, seconds=seconds))
        memory.append(system.memory().pss_mb)
        system.verify(before, report.accepted)
        system.stop()
        return report

    def theirs() -> load.Report:
        with hello_server(bench) as url:
            return bench.load(load.Plan(url=url, path="/", events=0, connections=SINGLE_CONNECTIONS, seconds=seconds))

    mine, peers = bench.alternate(ours, theirs)
    return Result(
        value=median(report.rate for report in mine),
        unit="requests/s",
        peer=median(report.rate for report in peers),
        p50_ms=median(report.p50_ms for report in mine),
        p99_ms=median(report.p99_ms for report in mine),
        memory_mb=max(memory),
        note="64 callers, one event each, answered after the commit is on disk, all workers running. Peer: GET answered with "
        "'hello, world', no body, no database, the same uvicorn settings and the same load generator (p99 "
        f"{median(report.p99_ms for report in peers):.0f} ms).",
    )


BATCHES = Row(
    order=1,
    name="batches",
    what="hook events through HTTP, batches of 100, auth, dedupe, durable ack, all workers running",
    against="raw asyncpg unnest of 100 rows under the same lock, nothing else running",
    hold=Hold("ratio", least=0.5),
    run=batches,
)
SINGLES = Row(
    order=2,
    name="singles",
    what="single-event POST, the same guarantees, 64 callers",
    against="Litestar hello-world, same server settings",
    hold=Hold("ratio", least=0.4),
    run=singles,
)
