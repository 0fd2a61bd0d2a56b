"""A rebuild of one projection, timed from the inside: `python -m tests.benchmarks.ours.rebuild < plan.json`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec
import uvloop

from eventstore.settings import Settings
from workers.local.places import complete
from workers.projector import rebuild


class Plan(msgspec.Struct, kw_only=True):
    """The data directory of a running `crewkit up`, and what to rebuild."""

    data_dir: str
    projection: str = "sessions"


class Report(msgspec.Struct, kw_only=True):
    """Seconds from the first event to the flip."""

    seconds: float


async def execute(plan: Plan) -> Report:
    """Rebuild."""
    settings = complete(Settings(data_dir=str(Path(plan.data_dir))))
    started = time.perf_counter()
    await rebuild(settings, plan.projection)
    return Report(seconds=time.perf_counter() - started)


def main() -> int:
    """Read the plan from standard input, print the report."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(execute(plan))
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(report) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
