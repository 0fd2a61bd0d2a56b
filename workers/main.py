"""How processes of crewkit are started: the command line of a child, and the frame a worker runs in."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from eventstore.observe import configure
from eventstore.settings import Settings

WORKERS = ("relay", "projector", "scheduler", "sealer", "reactor", "analytics")
NEEDS = {"analytics": "duckdb"}  # packages of optional extras, without which a worker is not started
SUPERVISOR_VARIABLE = "CREWKIT_SUPERVISOR_PID"  # set for children only; not a setting
PARENT_POLL_S = 1.0

Run = Callable[[Settings], Awaitable[None]]


def launcher() -> Path:
    """The crewkit.py that starts us: at the root of a checkout, or beside the wheel's `_crewkit`."""
    layers = Path(__file__).resolve().parent.parent
    inside = layers / "crewkit.py"
    return inside if inside.exists() else layers.parent / "crewkit.py"


def command(*words: str) -> list[str]:
    """Command line that runs `crewkit WORDS` with this interpreter, deaf to PYTHONPATH and the current folder."""
    return [sys.executable, "-I", str(launcher()), *words]


def available_workers() -> tuple[str, ...]:
    """The workers whose packages are installed."""
    return tuple(name for name in WORKERS if name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None)


def run_worker(name: str, settings: Settings) -> None:
    """Run `workers.<name>.run_<name>(settings)` until SIGTERM or SIGINT.

    Raises:
        ValueError: there is no such worker.
    """
    if name not in WORKERS:
        raise ValueError(f"unknown worker {name!r}; there are: {', '.join(WORKERS)}")
    if name not in available_workers():
        raise ValueError(f"worker {name!r} needs the package {NEEDS[name]!r}: install crewkit[{name}]")
    configure(settings.log_format, settings.log_level, process=name)
    follow_supervisor()
    run: Run = getattr(importlib.import_module(f"workers.{name}"), f"run_{name}")
    run_until_signal(lambda: run(settings))


def run_until_signal(work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` on uvloop where there is one; the first SIGTERM or SIGINT cancels it, and it may clean up."""

    async def main() -> None:
        task = asyncio.ensure_future(work())
        loop = asyncio.get_running_loop()
        for how in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(how, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ModuleNotFoundError:
        return None
    return factory


def follow_supervisor() -> None:
    """End with the supervisor that started us, where the kernel does not see to it (anything but Linux)."""
    supervisor = int(os.environ.get(SUPERVISOR_VARIABLE, "0"))
    if supervisor and not sys.platform.startswith("linux"):
        threading.Thread(target=_watch, args=(supervisor,), daemon=True).start()


def _watch(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(PARENT_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
