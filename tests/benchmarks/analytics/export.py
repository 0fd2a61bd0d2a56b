"""One export written by the worker's own writer, timed from the inside: `python -m tests.benchmarks.analytics.export < plan.json`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from uuid import UUID

import msgspec

from domain.exports.events import Wishes
from tests.benchmarks.analytics import generate
from tests.benchmarks.analytics.run import MEMORY_MB, peak_mb
from workers.analytics.export import write
from workers.analytics.export.job import Job, Order
from workers.analytics.file import AnalyticsFile

EXPORT_MEMORY_MB = 256  # as CREWKIT_EXPORT_MEMORY_MB is by default
BYTES_MAX = 64 * 2**30


class Plan(msgspec.Struct, kw_only=True):
    """`path` is a filled analytics file, `folder` an empty folder for what is written."""

    path: str
    folder: str
    format: str


class Report(msgspec.Struct, kw_only=True):
    """`seconds` from the first row to the checksum, `cpu_s` of them on a processor; `peak_mb` of the whole process, reading the analytics file included."""

    format: str
    rows: int
    seconds: float
    cpu_s: float
    size_mb: float
    peak_mb: float


def execute(plan: Plan) -> Report:
    """Export everything the generator's organization has."""
    folder = Path(plan.folder)
    partition = "day" if plan.format == "parquet" else "none"
    order = Order(
        org_id=generate.ORG,
        export_id=UUID(int=1),
        wishes=Wishes(format=plan.format, partition=partition),
        since=None,
        folder=folder,
        memory_mb=EXPORT_MEMORY_MB,
        bytes_max=BYTES_MAX,
    )
    file = AnalyticsFile(Path(plan.path), memory_mb=MEMORY_MB)
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    written, _ = write(Job(order), file, None, folder / "export")
    spent_s = time.perf_counter() - started_s
    file.close()
    return Report(
        format=plan.format,
        rows=written.rows,
        seconds=spent_s,
        cpu_s=time.process_time() - started_cpu_s,
        size_mb=written.size_bytes / 1e6,
        peak_mb=peak_mb(),
    )


def main() -> int:
    """Read the plan from standard input, print the report."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(execute(plan)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
