"""One file filled and asked, timed from the inside: `python -m tests.benchmarks.analytics.run < plan.json`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from projections.analytics.asking import Ask, unpacked
from tests.benchmarks.analytics import generate
from workers.analytics.answers import Answerer
from workers.analytics.file import AnalyticsFile, Batch, Stand
from workers.analytics.host import PAUSE_PER_WORK, PAUSE_S_MAX, step_back

MEMORY_MB = 1024
STEP_SESSIONS = 50  # per transaction while questions are asked
PAGES_AHEAD = 60  # of them made before that: making them would hold the interpreter, which the worker's COPY does not


class Plan(msgspec.Struct, kw_only=True):
    """How much to fill in, and how often each question is asked while ingestion goes on."""

    folder: str
    sessions: int
    calls: int
    seed: int = 7
    asked: int = 300


class Report(msgspec.Struct, kw_only=True):
    """`ingest_rate`: model calls per second of the worker's writing alone.  Latencies in ms by question: p50 and p99."""

    calls: int
    sessions: int
    usage_rows: int
    ingest_rate: float
    generate_s: float
    file_mb: float
    p50_ms: dict[str, float]
    p99_ms: dict[str, float]
    ingested_meanwhile: int
    step_ms: float
    peak_mb: float
    total_cost_usd_micros: int
    true_cost_usd_micros: int


def questions() -> dict[str, Ask]:
    """What is asked: everything KPI, 90 days, and everything per person."""
    end = generate.END + timedelta(days=1)
    # The longest sessions go on for weeks.
    scope = {"since": generate.END - timedelta(days=200), "until": end + timedelta(days=180)}
    quarter = {"since": end - timedelta(days=90), "until": end}
    encode = msgspec.json.encode

    def ask(question: str, **params: Any) -> Ask:
        return Ask(question=question, org_id=generate.ORG, params=msgspec.Raw(encode(params)), deadline_s=30)

    return {
        "summary": ask("summary", scope=scope),
        "summary-90d": ask("summary", scope=quarter),
        "daily-90d": ask("timeseries", scope=quarter, length="daily", zone="Europe/Berlin"),
        "by-user": ask("grouped", scope=scope, by="person_id"),
    }


def fill(file: AnalyticsFile, plan: Plan, scratch: Path) -> tuple[float, float]:
    """Write everything; seconds spent writing, and making what is written."""
    wrote = made = 0.0
    started = time.perf_counter()
    for number, (place, idents) in enumerate(generate.pages(plan.seed, plan.sessions, plan.calls, scratch)):
        made += time.perf_counter() - started
        started = time.perf_counter()
        batch = Batch(place, Stand(1, 1, number + 1), fresh=True)
        batch.llm_sessions[generate.ORG] = idents
        file.write(batch)
        wrote += time.perf_counter() - started
        shutil.rmtree(place)
        started = time.perf_counter()
    started = time.perf_counter()
    file.write(Batch(scratch / "nothing", Stand(1, 1, 1), fresh=True, whole=True))
    return wrote + time.perf_counter() - started, made


class Ingestion(threading.Thread):
    """New sessions, one transaction after the other, corrections included: every batch is written twice."""

    def __init__(self, file: AnalyticsFile, plan: Plan, scratch: Path) -> None:
        super().__init__(daemon=True)
        self._file, self._plan = file, plan
        self.stop = threading.Event()
        self.calls = 0
        self.spent_s = 0.0
        self.failed: BaseException | None = None
        per = max(1, plan.calls // plan.sessions)
        more = generate.pages(plan.seed + 1, 10**5, 10**5 * per, scratch, per_page=STEP_SESSIONS, first=10**7, days=1)
        self._pages = list(itertools.islice(more, PAGES_AHEAD))

    def run(self) -> None:
        step_back()
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001  told to the main thread
            self.failed = error

    def _run(self) -> None:
        per = max(1, self._plan.calls // self._plan.sessions)
        position = 10**6
        for place, idents in self._pages:
            started = time.perf_counter()
            for _ in range(2):
                position += 1
                batch = Batch(place, Stand(1, 1, position))
                batch.sessions[generate.ORG] = batch.llm_sessions[generate.ORG] = idents
                self._file.write(batch)
            self.calls += STEP_SESSIONS * per
            shutil.rmtree(place)
            self.spent_s += (took := time.perf_counter() - started)
            if self.stop.wait(min(took * PAUSE_PER_WORK, PAUSE_S_MAX)):  # as the worker does while it keeps up
                return
        raise RuntimeError("there were not enough pages to write until the last question")


async def ask_all(file: AnalyticsFile, plan: Plan) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """Each question in turn, one caller; p50, p99 and the first summary."""
    answers = Answerer()
    answers.use(file)
    encoded = {name: msgspec.json.encode(ask) for name, ask in questions().items()}
    took: dict[str, list[float]] = {name: [] for name in encoded}
    first: dict[str, Any] = {}
    for _ in range(plan.asked):
        for name, payload in encoded.items():
            started = time.perf_counter()
            reply = unpacked(await answers.answer(payload))
            took[name].append((time.perf_counter() - started) * 1000)
            if reply.error is not None:
                raise RuntimeError(f"{name}: {reply.error} {reply.message}")
            first.setdefault(name, msgspec.json.decode(reply.answer))
    await answers.close()
    p50 = {name: sorted(ms)[len(ms) // 2] for name, ms in took.items()}
    p99 = {name: sorted(ms)[min(len(ms) - 1, int(len(ms) * 0.99))] for name, ms in took.items()}
    return p50, p99, first["summary"]


def peak_mb() -> float:
    """The most memory this process had resident."""
    with contextlib.suppress(FileNotFoundError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def execute(plan: Plan) -> Report:
    """Fill, then ask with ingestion running."""
    folder = Path(plan.folder)
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    path = folder / "1.duckdb"
    file = AnalyticsFile(path, memory_mb=MEMORY_MB)
    file.create()
    wrote, made = fill(file, plan, scratch)
    file.settle()
    _, _, told = asyncio.run(ask_all(file, msgspec.structs.replace(plan, asked=1)))
    usage = file.rows()["agg_usage"]
    ingestion = Ingestion(file, plan, scratch)
    ingestion.start()
    p50, p99, _ = asyncio.run(ask_all(file, plan))
    ingestion.stop.set()
    ingestion.join()
    if ingestion.failed is not None:
        raise ingestion.failed
    truth = (
        file.cursor()
        .execute("SELECT sum(cost_usd_micros) FROM fact_session WHERE session_id LIKE ?", [f"{plan.seed:04x}-%"])
        .fetchone()
    )
    file.close()
    return Report(
        calls=plan.calls,
        sessions=plan.sessions,
        usage_rows=usage,
        ingest_rate=plan.calls / wrote,
        generate_s=made,
        file_mb=path.stat().st_size / 1e6,
        p50_ms=p50,
        p99_ms=p99,
        ingested_meanwhile=ingestion.calls,
        step_ms=1000
        * ingestion.spent_s
        / max(1, 2 * ingestion.calls // (STEP_SESSIONS * (plan.calls // plan.sessions))),
        peak_mb=peak_mb(),
        total_cost_usd_micros=told["total_cost_usd_micros"],
        true_cost_usd_micros=int(truth[0]) if truth else 0,
    )


def main() -> int:
    """Read the plan from standard input, print the report."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    report = execute(plan)
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(report) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
