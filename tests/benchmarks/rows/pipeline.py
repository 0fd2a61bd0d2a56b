"""Behind the commit: what relay and projectors keep up with, how soon it can be read, how fast a read model is made anew."""

from __future__ import annotations

import time

import msgspec

from tests.benchmarks import load, machine, watch
from tests.benchmarks.bench import Bench
from tests.benchmarks.limits import raw_rates
from tests.benchmarks.ours import rebuild as our_rebuild
from tests.benchmarks.peers import read
from tests.benchmarks.system import System
from tests.benchmarks.table import Hold, Result, Row, median, percentile

BATCH_EVENTS = 100
CONNECTIONS = 8
PROBE_S = 8.0
START_AT = 0.9  # of the closed loop's rate
LOOK_S = 8.0
STEP_DOWN = 0.9
TRIES_MAX = 8
GROWTH_MAX_S = 0.25  # the lag may grow by this much work over the whole window before we say that it grows
LAG_MAX_S = 2.0  # and must on average be shorter than this
SUSTAINED = "sustained rate"  # kept for the next row of the same run


class Held(msgspec.Struct, frozen=True):
    """A rate that was held for the whole window."""

    rate: float
    full_rate: float  # closed loop, whatever the lag does
    lag_s: float
    p50_ms: float
    p99_ms: float
    tries: int


def paced(bench: Bench, system: System, rate: float, seconds: float) -> tuple[load.Report, float, float]:
    """Offer `rate`; what was answered, by how many events the lag grew, and its mean."""
    plan = system.plan(events=BATCH_EVENTS, connections=CONNECTIONS, seconds=seconds, warmup_s=3.0, rate_per_s=rate)
    with watch.Watch(system.database_url(), watch.events_behind, watch.LAG_EVERY_S) as looks:
        report = bench.load(plan)
    last = looks.samples[-1][0] - 0.5
    growth, mean = watch.climb(looks.samples, last - seconds, last)
    return report, growth, mean


def sustained(bench: Bench, system: System, seconds: float) -> Held:
    """The highest rate of a short search that holds for `seconds`: offered, answered, and the lag does not grow.

    Raises:
        RuntimeError: no rate was held.
    """
    before = system.stored()
    full = bench.load(system.plan(events=BATCH_EVENTS, connections=CONNECTIONS, seconds=PROBE_S, warmup_s=2.0))
    system.catch_up()
    system.verify(before, full.accepted)
    # A closed loop starves the projections, so what they read meanwhile says little: search downwards from its rate.
    rate = full.rate * START_AT
    bench.say(f"closed loop {full.rate:,.0f}/s")
    for number in range(1, TRIES_MAX + 1):
        # A short look first: a rate that fails within seconds need not be offered for a minute.
        for window_s in sorted({min(LOOK_S, seconds), seconds}):
            report, growth, mean = paced(bench, system, rate, window_s)
            system.catch_up()
            kept_pace = report.rate >= rate * 0.98
            kept_up = growth <= rate * GROWTH_MAX_S and mean <= rate * LAG_MAX_S
            bench.say(
                f"offered {rate:,.0f}/s for {window_s:.0f} s: answered {report.rate:,.0f}/s, lag {mean:,.0f} events, "
                f"grew by {growth:,.0f}"
            )
            if not (kept_pace and kept_up):
                break
        else:
            return Held(report.rate, full.rate, mean / rate, report.p50_ms, report.p99_ms, number)
        rate *= STEP_DOWN
    raise RuntimeError(f"no rate down to {rate:,.0f}/s was held")


def keep_up(bench: Bench) -> Result:
    """Row 4: search, then hold for a minute; the raw rate before and after."""
    seconds = bench.seconds(60, 10)
    raw_s = bench.seconds(5, 3)
    raws = [raw_rates(bench, raw_s, ("plain-1",))["plain-1"] for _ in range(2)]
    system = System(bench, "keep-up")
    system.start()
    held = sustained(bench, system, seconds)
    memory = system.memory()
    system.stop()
    raws.append(raw_rates(bench, raw_s, ("plain-1",))["plain-1"])
    bench.kept[SUSTAINED] = held.rate
    return Result(
        value=held.rate,
        unit="events/s",
        peer=median(raws),
        p50_ms=held.p50_ms,
        p99_ms=held.p99_ms,
        memory_mb=memory.pss_mb,
        note=f"batches of 100 offered at a steady rate for {seconds:.0f} s; the lag of the slowest of relay and projections was "
        f"{held.lag_s * 1000:.0f} ms of work on average and did not grow (least-squares line). Closed loop, lag allowed: "
        f"{held.full_rate:,.0f}/s. Found in {held.tries} tries, {STEP_DOWN} of the rate after each. Peer: raw asyncpg as in row "
        "batches, median of runs before and after. p50 and p99 are of the answers, counted from when a request was due. "
        f"Memory by part: {memory}.",
    )


def readable(bench: Bench) -> Result:
    """Row 5: every event of the window counts, not a sample."""
    seconds = bench.seconds(30, 10)
    system = System(bench, "readable")
    system.start()
    if SUSTAINED not in bench.kept:
        bench.kept[SUSTAINED] = sustained(bench, system, bench.seconds(20, 10)).rate
    rate = bench.kept[SUSTAINED] / 2
    found: list[float] = []
    reports: list[load.Report] = []
    for _ in range(bench.rounds):
        before = system.head()
        plan = system.plan(
            events=BATCH_EVENTS, connections=CONNECTIONS, seconds=seconds / bench.rounds, rate_per_s=rate
        )
        with watch.Watch(system.database_url(), watch.readable_position, watch.POSITION_EVERY_S) as looks:
            report = bench.load(plan)
            system.catch_up()
            time.sleep(0.1)
        reports.append(report)
        # The first second is warm-up: the load starts at once, the projector wakes up.
        first = before + int(rate * plan.warmup_s)
        events = system.query(
            lambda c, first=first: c.fetch(
                "SELECT position, extract(epoch FROM recorded_at)::float8 FROM crewkit.event WHERE position > $1 "
                "ORDER BY position",
                first,
            )
        )
        found += watch.delays_ms(looks.samples, [(row[0], row[1]) for row in events])
    system.stop()
    found.sort()
    return Result(
        value=percentile(found, 0.99),
        unit="ms",
        p50_ms=percentile(found, 0.5),
        p99_ms=percentile(found, 0.99),
        note=f"{len(found):,} events at {median(report.rate for report in reports):,.0f}/s (half of row keep-up), batches of 100. "
        "From recorded_at, taken just before the commit, to the first look (every 2 ms) at which all projections had committed "
        f"the event; slowest {found[-1] if found else 0:.0f} ms.",
    )


def rebuild(bench: Bench) -> Result:
    """Row 6: the same log, read by the peer and rebuilt by us, in turns, while `crewkit up` idles."""
    wanted = 100_000 if bench.quick else 300_000
    system = System(bench, "rebuild")
    system.start()
    while (missing := wanted - system.head()) > 0:
        seconds = max(2.0, min(30.0, missing / 8_000))
        bench.load(system.plan(events=BATCH_EVENTS, connections=CONNECTIONS, seconds=seconds, warmup_s=0.0))
    system.catch_up()
    head = system.head()
    plan = msgspec.json.encode(our_rebuild.Plan(data_dir=str(system.folder))).decode()
    peer_plan = msgspec.json.encode(read.Plan(dsn=system.database_url())).decode()

    def ours() -> float:
        answer = machine.run_module("tests.benchmarks.ours.rebuild", plan, timeout_s=900)
        return head / msgspec.json.decode(answer, type=our_rebuild.Report).seconds

    def theirs() -> float:
        report = msgspec.json.decode(
            machine.run_module("tests.benchmarks.peers.read", peer_plan, timeout_s=300), type=read.Report
        )
        return report.events / report.seconds

    mine, peers = bench.alternate(ours, theirs)
    system.verify(system.stored(), 0)
    system.stop()
    return Result(
        value=median(mine),
        unit="events/s",
        peer=median(peers),
        note=f"projection `sessions`, {head:,} hook events of sessions of 200, from the call to the flip: read, decode, open sealed "
        "text where the fold needs it, fold, write 8 tables, switch readers over; the read model was checked afterwards. "
        "Peer: asyncpg pages of 5,000 and msgspec into the event classes, one process, nothing folded, opened or written.",
    )


KEEP_UP = Row(
    order=4,
    name="keep-up",
    what="events per second that relay and projectors keep up with, lag not growing",
    against="raw asyncpg unnest of 100 rows under the same lock",
    hold=Hold("ratio", least=0.4),
    run=keep_up,
)
READABLE = Row(
    order=5,
    name="readable",
    what="commit to readable, p99, at half of that rate",
    against="-",
    hold=Hold("value", most=100, unit="ms"),
    run=readable,
)
REBUILD = Row(
    order=6,
    name="rebuild",
    what="projection rebuild",
    against="raw read and decode of the same rows",
    hold=Hold("ratio", least=0.3),
    run=rebuild,
)
