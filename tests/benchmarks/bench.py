"""What a row gets to work with: a folder, rounds, a fresh Postgres for peers, the system under test, load."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from tests.benchmarks import load, machine
from workers.local.postgres import Postgres

LOAD_MARGIN_S = 90.0  # beyond the plan's own time, before the load generator is given up
PASSWORD = "bench-only"


class Bench:
    """One execution of the bench.  Everything it starts ends with `close`."""

    def __init__(self, *, quick: bool, console: Console) -> None:
        self.quick = quick
        self.console = console
        self.cleanup = contextlib.ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="crewkit-bench-", dir="/tmp"))
        self.folder.chmod(0o755)  # servers run under another account when we are root
        self.cleanup.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.salt = 0
        self.rounds = 3
        self.kept: dict[str, float] = {}  # figures of one row that a later row starts from

    def close(self) -> None:
        """Stop processes and remove files, last started first."""
        self.cleanup.close()

    def seconds(self, full: float, quick: float) -> float:
        """How long a load lasts."""
        return quick if self.quick else full

    def say(self, text: str) -> None:
        """Progress for whoever watches."""
        self.console.print(f"  [dim]{text}[/]", highlight=False)

    def path(self, name: str) -> Path:
        """A new folder inside the bench's own."""
        self.salt += 1
        return self.folder / f"{self.salt:03d}-{name}"

    def load(self, plan: load.Plan) -> load.Report:
        """Run the load generator as a process of its own.

        Raises:
            RuntimeError: answers other than 2xx came back, or events were rejected or taken for duplicates.
        """
        self.salt += 1
        plan = msgspec.structs.replace(plan, salt=self.salt)
        text = msgspec.json.encode(plan).decode()
        limit = plan.warmup_s + plan.seconds + LOAD_MARGIN_S
        answer = machine.run_module("tests.benchmarks.load", text, timeout_s=limit)
        report = msgspec.json.decode(answer, type=load.Report)
        if report.first_bad or report.rejected or report.duplicate:
            raise RuntimeError(
                f"load got {report.statuses}, {report.rejected} rejected, {report.duplicate} duplicate; "
                f"first: {report.first_bad}"
            )
        return report

    @contextlib.contextmanager
    def postgres(self, name: str = "raw") -> Iterator[Postgres]:
        """A fresh Postgres with the binaries and settings of `crewkit up`, fsync on."""
        folder = self.path(f"postgres-{name}")
        folder.mkdir()
        folder.chmod(0o755)
        server = Postgres(folder / "pg", PASSWORD)
        server.prepare()
        try:
            server.start(folder / "postgres.log")
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)

    def alternate(self, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[list[Any], list[Any]]:
        """A B A B …: both sides meet the same disturbances of the machine."""
        mine: list[Any] = []
        peers: list[Any] = []
        for number in range(self.rounds):
            mine.append(ours())
            peers.append(theirs())
            self.say(f"round {number + 1}/{self.rounds}: ours {shown(mine[-1])}, theirs {shown(peers[-1])}")
        return mine, peers


def shown(value: Any) -> str:
    """A round's figure for the progress line."""
    if isinstance(value, load.Report):
        return f"{value.rate:,.0f}/s (p99 {value.p99_ms:.0f} ms, generator {value.cpu_s:.1f} s CPU)"
    rate = getattr(value, "rate", value)
    if isinstance(rate, dict):
        return ", ".join(f"{name} {figure:,.0f}/s" for name, figure in rate.items())
    return f"{rate:,.0f}/s"
