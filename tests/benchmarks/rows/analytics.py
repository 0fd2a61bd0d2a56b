"""Analytics at scale: what questions cost with ingestion running, what ingestion costs, and how both grow."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import msgspec

from tests.benchmarks import machine
from tests.benchmarks.analytics.export import Plan as ExportPlan
from tests.benchmarks.analytics.export import Report as Exported
from tests.benchmarks.analytics.run import Plan, Report
from tests.benchmarks.bench import Bench
from tests.benchmarks.peers.install import arrow_python
from tests.benchmarks.table import Hold, Result, Row, median

SIZES = (100_000, 1_000_000, 10_000_000)
QUICK_SIZES = (20_000, 100_000, 500_000)
CALLS_PER_SESSION = 100
FORMATS = ("duckdb", "parquet", "csv")
RUN_MAX_S = 3_600.0
ARROW_MAX_S = 600.0
_KEPT: dict[int, Report] = {}  # runs are long: one serves every row


def _run(bench: Bench, calls: int) -> Report:
    if calls not in _KEPT:
        folder = bench.path(f"analytics-{calls}")
        plan = Plan(folder=str(folder), sessions=calls // CALLS_PER_SESSION, calls=calls)
        text = msgspec.json.encode(plan).decode()
        answer = machine.run_module("tests.benchmarks.analytics.run", text, timeout_s=RUN_MAX_S)
        report = _KEPT[calls] = msgspec.json.decode(answer, type=Report)
        if report.total_cost_usd_micros != report.true_cost_usd_micros:
            raise RuntimeError(
                f"the summary says {report.total_cost_usd_micros}, sessions cost {report.true_cost_usd_micros}"
            )
        bench.kept[f"analytics-folder-{calls}"] = bench.salt
        told = ", ".join(f"{name} {report.p50_ms[name]:.0f}/{ms:.0f} ms" for name, ms in report.p99_ms.items())
        bench.say(f"{calls:,} calls: {told}; wrote {report.ingest_rate:,.0f}/s, peak {report.peak_mb:.0f} MB")
    return _KEPT[calls]


def _sizes(bench: Bench) -> tuple[int, ...]:
    return QUICK_SIZES if bench.quick else SIZES


def questions(bench: Bench) -> Result:
    """KPI summary, 90 days and people, asked one after the other while new sessions are written."""
    report = _run(bench, _sizes(bench)[-1])
    worst = max(report.p99_ms, key=report.p99_ms.__getitem__)
    told = "; ".join(
        f"{name}: p50 {report.p50_ms[name]:.1f}, p99 {report.p99_ms[name]:.1f} ms" for name in report.p99_ms
    )
    return Result(
        value=report.p99_ms[worst],
        unit="ms",
        p50_ms=median(report.p50_ms.values()),
        p99_ms=report.p99_ms[worst],
        memory_mb=report.peak_mb,
        note=f"{report.calls:,} model calls in {report.sessions:,} sessions of one organization ({report.usage_rows:,} rows of usage, "
        f"{report.file_mb:,.0f} MB), through the worker's answerer, JSON included, without NATS. {told}. Meanwhile "
        f"{report.ingested_meanwhile:,} calls were written and corrected, {report.step_ms:.0f} ms per transaction, with the worker's pauses.",
    )


def memory(bench: Bench) -> Result:
    """The most memory of the process that filled, wrote and answered."""
    report = _run(bench, _sizes(bench)[-1])
    return Result(
        value=report.peak_mb,
        unit="MB",
        memory_mb=report.peak_mb,
        note=f"peak RSS of the process that wrote {report.calls:,} calls and answered, the generator included.",
    )


def ingestion(bench: Bench) -> Result:
    """Rows as the read model hands them over, to DuckDB, against DuckDB's own append of the same rows from Arrow."""
    calls = _sizes(bench)[1]
    report = _run(bench, calls)
    (file,) = list(bench.folder.glob(f"*-analytics-{calls}/1.duckdb"))
    python = arrow_python()
    peers: list[float] = []
    for number in range(bench.rounds):
        done = subprocess.run(
            [
                python,
                machine.ROOT / "tests" / "benchmarks" / "peers" / "arrow.py",
                file,
                bench.folder / f"arrow-{number}.duckdb",
            ],
            capture_output=True,
            text=True,
            timeout=ARROW_MAX_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-800:])
        peers.append(float(done.stdout))
        Path(bench.folder / f"arrow-{number}.duckdb").unlink(missing_ok=True)
    return Result(
        value=report.ingest_rate,
        unit="calls/s",
        peer=median(peers),
        note=f"{calls:,} calls with their sessions, conversations, sums and checkpoints, in one transaction, 4,000 sessions at a time, from CSV as "
        "Postgres' COPY writes it. Peer: the call rows alone from one Arrow table in memory, one transaction.",
    )


def growth(bench: Bench) -> Result:
    """How the slowest question grows when rows grow tenfold."""
    reports = [_run(bench, calls) for calls in _sizes(bench)]
    worst = 0.0
    parts: list[str] = []
    for name in reports[0].p50_ms:
        times = [report.p50_ms[name] for report in reports]
        grown = [
            (after / before) / (larger.usage_rows / smaller.usage_rows)
            for before, after, smaller, larger in zip(times, times[1:], reports, reports[1:], strict=False)
        ]
        worst = max(worst, *grown)
        parts.append(f"{name} " + " → ".join(f"{ms:.1f}" for ms in times) + " ms")
    sizes = ", ".join(f"{report.calls:,}" for report in reports)
    return Result(
        value=worst,
        unit="×",
        note=f"p50 at {sizes} calls: {'; '.join(parts)}. The figure is the largest growth of a question divided by that of the rows.",
    )


def export(bench: Bench) -> Result:
    """Everything the organization has, in each format: seconds, size, and the most memory."""
    calls = _sizes(bench)[-1]
    _run(bench, calls)
    (file,) = list(bench.folder.glob(f"*-analytics-{calls}/1.duckdb"))
    reports: list[Exported] = []
    for form in FORMATS:
        folder = bench.path(f"export-{form}")
        folder.mkdir()
        plan = ExportPlan(path=str(file), folder=str(folder), format=form)
        text = msgspec.json.encode(plan).decode()
        answer = machine.run_module("tests.benchmarks.analytics.export", text, timeout_s=RUN_MAX_S)
        reports.append(msgspec.json.decode(answer, type=Exported))
        shutil.rmtree(folder)
    told = "; ".join(
        f"{one.format}: {one.seconds:.1f} s ({one.cpu_s:.1f} s of a processor), {one.size_mb:,.0f} MB, peak {one.peak_mb:,.0f} MB"
        for one in reports
    )
    peak = max(one.peak_mb for one in reports)
    return Result(
        value=peak,
        unit="MB",
        memory_mb=peak,
        note=f"{calls:,} model calls and the rest of the organization, {reports[0].rows:,} rows, as the worker writes them, checksum included, each in "
        f"a process of its own: {told}.",
    )


QUESTIONS = Row(
    order=15,
    name="analytics",
    what="KPI summary, 90-day daily series and by-user at 10 M model calls, p99, ingestion running",
    against="-",
    hold=Hold("value", most=50, unit="ms"),
    run=questions,
)
MEMORY = Row(
    order=16,
    name="analytics-memory",
    what="analytics worker at 10 M model calls, peak memory",
    against="-",
    hold=Hold("value", most=1_500, unit="MB"),
    run=memory,
)
INGESTION = Row(
    order=17,
    name="analytics-ingest",
    what="model calls into DuckDB",
    against="DuckDB's own Arrow append of the same rows",
    hold=Hold("ratio", least=0.3),
    run=ingestion,
)
GROWTH = Row(
    order=18,
    name="analytics-growth",
    what="cost of a question from 0.1 to 1 to 10 M calls, against the rows it reads",
    against="-",
    hold=Hold("value", most=1, unit="×"),
    run=growth,
)
EXPORT = Row(
    order=19,
    name="export",
    what="everything an organization has, as DuckDB, Parquet by day and CSV: peak memory, seconds and size in the note",
    against="-",
    hold=Hold("value", most=1_500, unit="MB"),
    run=export,
)
