"""What the agent's process used: sums, counts and peaks of its measurements, kept as tallies, because all three commute."""

from __future__ import annotations

from collections.abc import Mapping

from domain.sessions.observations import ProcessMeasured
from projections.base import Key
from projections.sessions.merge import BYTES_MAX, bounded, summed
from projections.sessions.tables import TALLY, TallyRow
from projections.sessions.work import HOOK, Work
from schemas.sessions import ProcessUse

CPU, MEMORY = "process_cpu_millicores", "process_memory_bytes"
COUNT, SUM, PEAK = "n", "sum", "peak"


def touched(org_lid: tuple[object, str], seen: ProcessMeasured) -> list[Key]:
    """The tallies that a measurement changes."""
    told = ((CPU, seen.cpu_millicores), (MEMORY, seen.memory_bytes))
    return [
        (*org_lid, f"{name}_{what}", HOOK) for name, value in told if value is not None for what in (COUNT, SUM, PEAK)
    ]


def fold_process(work: Work, seen: ProcessMeasured) -> None:
    """Add one measurement."""
    for name, told in ((CPU, seen.cpu_millicores), (MEMORY, seen.memory_bytes)):
        if (value := bounded(told, BYTES_MAX)) is None:
            continue
        for what in (COUNT, SUM, PEAK):
            key = (work.org, work.lid, f"{name}_{what}", HOOK)
            row = work.rows.get(TALLY, key) or TallyRow(*key)
            row.n = max(row.n, value) if what == PEAK else summed(row.n, 1 if what == COUNT else value)
            work.rows.put(TALLY, row)


def use_of(tally: Mapping[str, int]) -> ProcessUse | None:
    """Peaks and means out of a conversation's tallies; None where nothing was measured."""
    cpu_n, memory_n = tally.get(f"{CPU}_{COUNT}", 0), tally.get(f"{MEMORY}_{COUNT}", 0)
    if not cpu_n and not memory_n:
        return None
    return ProcessUse(
        measurements=max(cpu_n, memory_n),
        cpu_peak_percent=tally[f"{CPU}_{PEAK}"] / 10 if cpu_n else None,
        cpu_mean_percent=round(tally[f"{CPU}_{SUM}"] / cpu_n / 10, 1) if cpu_n else None,
        memory_peak_bytes=tally[f"{MEMORY}_{PEAK}"] if memory_n else None,
        memory_mean_bytes=round(tally[f"{MEMORY}_{SUM}"] / memory_n) if memory_n else None,
    )
