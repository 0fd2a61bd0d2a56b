"""A row of the table: what is measured, against what, what must hold, and what came out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from tests.benchmarks.bench import Bench


class NotMeasuredError(Exception):
    """A row cannot run here (a peer cannot be installed, a tool is missing); the message says why."""


class Hold(msgspec.Struct, frozen=True):
    """The promise: `figure` is `ratio` (ours to the peer's) or `value`; it must be at `least` or at `most` the bound."""

    figure: str
    least: float | None = None
    most: float | None = None
    unit: str = "×"

    def __str__(self) -> str:
        sign, bound = ("≥", self.least) if self.least is not None else ("≤", self.most)
        return f"{sign} {bound:g} {self.unit}".strip()

    def met(self, value: float | None, ratio: float | None) -> bool:
        """Whether the measured figure keeps the promise."""
        figure = ratio if self.figure == "ratio" else value
        if figure is None:
            return False
        if self.least is not None:
            return figure >= self.least
        return self.most is not None and figure <= self.most


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one row's run gave.  `ratio` is value / peer in the same unit; `note` says what was and was not compared."""

    value: float
    unit: str
    peer: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    memory_mb: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over theirs, None where there is no peer."""
        return self.value / self.peer if self.peer else None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of DESIGN section 8.  `run` measures it; `order` is its place in the table."""

    order: int
    name: str
    what: str
    against: str
    hold: Hold
    run: Callable[[Bench], Result]


class Line(msgspec.Struct, kw_only=True):
    """A row of build/bench.json.  `ok` is None when the row was not measured."""

    name: str
    what: str
    value: float | None
    unit: str
    against: str
    peer: float | None
    ratio: float | None
    hold: str
    ok: bool | None
    p50_ms: float | None
    p99_ms: float | None
    memory_mb: float | None
    note: str
    seconds: float
    load_before: float  # 1-minute load average of the machine when the row started


def line(row: Row, result: Result | None, note: str, seconds: float, load: float) -> Line:
    """A finished (or not measurable) row as it is written down."""
    shown = result or Result(value=0, unit="")
    return Line(
        name=row.name,
        what=row.what,
        value=rounded(shown.value) if result else None,
        unit=shown.unit,
        against=row.against,
        peer=rounded(shown.peer),
        ratio=rounded(shown.ratio),
        hold=str(row.hold),
        ok=row.hold.met(shown.value, shown.ratio) if result else None,
        p50_ms=rounded(shown.p50_ms),
        p99_ms=rounded(shown.p99_ms),
        memory_mb=rounded(shown.memory_mb),
        note=note or shown.note,
        seconds=round(seconds, 1),
        load_before=load,
    )


def rounded(value: float | None) -> float | None:
    """Four significant digits: more would pretend to be exact."""
    return None if value is None else float(f"{value:.4g}")


def median(values: Iterable[float]) -> float:
    """The middle one: a single disturbed round does not decide a row."""
    return float(statistics.median(values))


def percentile(ordered: list[float], share: float) -> float:
    """Nearest-rank percentile of a sorted list; 0 for an empty one."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def show(lines: list[Line], machine: str, console: Console) -> None:
    """The table for people; the notes follow it, because they say what the peers do not do."""
    table = Table(title=f"crewkit bench · {machine}", title_justify="left", header_style="bold")
    for heading in ("row", "ours", "against", "theirs", "ratio", "hold", "", "p50 ms", "p99 ms", "MB"):
        table.add_column(heading, justify="left" if heading in {"row", "against"} else "right", overflow="fold")
    for item in lines:
        verdict = {True: "[green]held[/]", False: "[red]missed[/]", None: "[yellow]not measured[/]"}[item.ok]
        cells = (item.value, item.peer, item.ratio, item.p50_ms, item.p99_ms, item.memory_mb)
        value, peer, ratio, p50, p99, memory = ("" if cell is None else f"{cell:,g}" for cell in cells)
        ours = f"{value} {item.unit}" if value else ""
        table.add_row(item.name, ours, item.against, peer, ratio, item.hold, verdict, p50, p99, memory)
    console.print(table)
    for item in lines:
        console.print(f"[bold]{item.name}[/]: {item.note}", highlight=False)


def write(lines: list[Line], path: Path) -> None:
    """build/bench.json: a list of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(lines)) + b"\n")
