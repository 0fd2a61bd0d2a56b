"""`python -m tests.benchmarks [ROW ...] [--quick] [--list]`: print the table, write build/bench.json.

Exit code 0 also when a row misses what it should hold: a miss is a finding, and it is printed.  1 when something broke.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from types import FrameType

import click
from rich.console import Console

from domain.discover import collect
from tests.benchmarks import machine, rows, table
from tests.benchmarks.bench import Bench
from tests.benchmarks.table import Line, NotMeasuredError, Row

RESULTS = machine.ROOT / "build" / "bench.json"


def terminated(signum: int, frame: FrameType | None) -> None:
    """SIGTERM ends the bench like Ctrl-C does: everything it started is stopped."""
    raise KeyboardInterrupt


def measure(row: Row, bench: Bench) -> tuple[Line, bool]:
    """One row, and whether it broke."""
    load_before = os.getloadavg()[0]
    started = time.perf_counter()
    bench.console.print(f"[bold]{row.order}. {row.name}[/]: {row.what}", highlight=False)
    result, note, broke = None, "", False
    try:
        result = row.run(bench)
    except NotMeasuredError as error:
        note = f"not measured: {error}"
    except Exception as error:  # noqa: BLE001  one broken row must not take the others with it
        broke = True
        note = f"broke: {type(error).__name__}: {error}"
        bench.console.print(traceback.format_exc(), style="red", highlight=False, markup=False)
    return table.line(row, result, note, time.perf_counter() - started, round(load_before, 2)), broke


@click.command()
@click.argument("names", nargs=-1, metavar="[ROW ...]")
@click.option("--quick", is_flag=True, help="Shorter loads and smaller fills; each note says what was shortened.")
@click.option("--list", "only_list", is_flag=True, help="Name the rows and stop.")
def main(names: tuple[str, ...], quick: bool, only_list: bool) -> None:
    """Measure crewkit against its peers, in one run on this machine."""
    console = Console(width=None if sys.stdout.isatty() else 170)
    known = sorted(collect(rows, Row), key=lambda row: row.order)
    if only_list:
        for row in known:
            console.print(
                f"{row.order:>3} {row.name:<14} {row.what}; against {row.against}; hold {row.hold}", highlight=False
            )
        return
    if unknown := set(names) - {row.name for row in known} - {str(row.order) for row in known}:
        raise click.BadParameter(f"{', '.join(sorted(unknown))}; known: {', '.join(row.name for row in known)}")
    chosen = [row for row in known if not names or row.name in names or str(row.order) in names]
    for how in (signal.SIGTERM, signal.SIGINT):  # also where a shell in the background had SIGINT ignored
        signal.signal(how, terminated)
    bench = Bench(quick=quick, console=console)
    lines: list[Line] = []
    broken = 0
    try:
        for row in chosen:
            line, broke = measure(row, bench)
            broken += broke
            lines.append(line)
            table.write(lines, RESULTS)
    except KeyboardInterrupt:
        console.print("interrupted: stopping what was started", style="yellow")
        broken += 1
    finally:
        bench.close()
    title = f"{machine.describe()}, commit {machine.commit()}{', --quick' if quick else ''}"
    table.show(lines, title, console)
    console.print(f"written to {RESULTS}", highlight=False)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
