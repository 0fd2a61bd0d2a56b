"""What it takes to have crewkit on a laptop: memory when nothing happens, seconds until it is ready."""

from __future__ import annotations

import time

from tests.benchmarks import machine
from tests.benchmarks.bench import Bench
from tests.benchmarks.system import System
from tests.benchmarks.table import Hold, Result, Row, median

IDLE_S = 15.0  # after the last request, so that start-up garbage and start-up work are over
LOOKS = 3


def memory(bench: Bench) -> Result:
    """Row 10: every process below `crewkit up`, Postgres and NATS included."""
    system = System(bench, "memory")
    system.start()
    time.sleep(bench.seconds(IDLE_S, IDLE_S))
    looks: list[machine.Memory] = []
    for _ in range(LOOKS):
        looks.append(system.memory())
        time.sleep(1)
    idle_cpu = _cpu_share(system, bench.seconds(10, 5))
    system.stop()
    middle = sorted(looks, key=lambda look: look.pss_mb)[LOOKS // 2]
    return Result(
        value=middle.pss_mb,
        unit="MB",
        memory_mb=middle.pss_mb,
        note=f"sum of PSS (pages shared by processes are divided among them), {IDLE_S:.0f} s after ready; sum of RSS, which "
        f"counts Postgres' shared buffers and shared libraries once per process: {middle.rss_mb:.0f} MB. "
        f"By part: {middle}. Idle CPU: {idle_cpu:.1f} % of one core.",
    )


def _cpu_share(system: System, seconds: float) -> float:
    def total() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in system.processes())

    before = total()
    time.sleep(seconds)
    return (total() - before) / seconds * 100


def cold(bench: Bench) -> Result:
    """Row 11a: an empty data directory: initdb, migrations, keys, everything."""
    return _ready(bench, warm=False)


def warm(bench: Bench) -> Result:
    """Row 11b: the same data directory again, after a clean stop."""
    return _ready(bench, warm=True)


def _ready(bench: Bench, *, warm: bool) -> Result:
    took: list[float] = []
    stops: list[float] = []
    for number in range(bench.rounds):
        system = System(bench, f"ready-{number}")
        first = system.start()
        if warm:
            system.stop()
            first = system.start()
        took.append(first)
        started = time.perf_counter()
        system.stop()
        stops.append(time.perf_counter() - started)
        bench.say(f"round {number + 1}/{bench.rounds}: ready after {took[-1]:.2f} s, stopped in {stops[-1]:.2f} s")
    return Result(
        value=median(took),
        unit="s",
        note=f"from starting the command to crewkit.json written and GET /health answering 200 for every part; median of "
        f"{bench.rounds}, slowest {max(took):.2f} s; stops in {median(stops):.2f} s. Bytecode was compiled before.",
    )


MEMORY = Row(
    order=10,
    name="memory",
    what="crewkit up, idle memory of all processes",
    against="-",
    hold=Hold("value", most=450, unit="MB"),
    run=memory,
)
COLD = Row(
    order=11,
    name="ready-cold",
    what="crewkit up ready, cold",
    against="-",
    hold=Hold("value", most=10, unit="s"),
    run=cold,
)
WARM = Row(
    order=12,
    name="ready-warm",
    what="crewkit up ready, warm",
    against="-",
    hold=Hold("value", most=4, unit="s"),
    run=warm,
)
