"""Keep processes running: start in order, restart what ends (with back-off), stop everything and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from workers.local.files import trim_log
from workers.local.process import Account, Identity, identify, spawn

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 10.0
STABLE_AFTER_S = 30.0  # a process that ran this long starts its back-off from the beginning
EARLY_ENDS_MAX = 4  # ends of one process before everything was ready, after which the start is given up
LOOK_S = 1.0  # longest time until an end is noticed when its signal was lost
READY_POLL_S = 0.01
LOG_TAIL_CHARS = 1_500
LOG_TRIM_EVERY_S = 60.0

_LOG = structlog.stdlib.get_logger(__name__)


class StartError(Exception):
    """A process would not start; the message holds the end of its log."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and how it ends.  `is_ready` may block for a second; None: ready when started."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_max_s: float = 15.0
    handles: tuple[int, ...] = ()
    is_ready: Callable[[], bool] | None = None
    ready_max_s: float = 60.0


class _Child:
    __slots__ = ("ends", "identity", "log_start", "next_start", "process", "program", "restarts", "started", "wanted")

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.identity: Identity | None = None
        self.wanted = True
        self.log_start = 0  # bytes that an earlier run had logged
        self.started = 0.0
        self.next_start = 0.0
        self.ends = 0  # in a row, without a stable time between them
        self.restarts = 0


class Supervisor:
    """Runs programs as children of the thread that called `watch`.

    Their output goes to files in `logs` (None: where ours goes); `changed` is called after every start.
    """

    def __init__(self, logs: Path | None, changed: Callable[[], None]) -> None:
        self._logs = logs
        self._changed = changed
        self._children: dict[str, _Child] = {}
        self._wake = asyncio.Event()
        self._settled = False
        self._failed: StartError | None = None

    def identities(self) -> dict[str, Identity]:
        """The processes that run now, by name."""
        return {name: child.identity for name, child in self._children.items() if child.identity is not None}

    def restarts(self) -> dict[str, int]:
        """How often each process was started again."""
        return {name: child.restarts for name, child in self._children.items()}

    def log_of(self, name: str) -> Path | None:
        """Where the output of a process goes; None: where ours goes."""
        return None if self._logs is None else self._logs / f"{name}.log"

    async def settle(self) -> None:
        """Wait until every process runs; from then on no end of one is a reason to give up.

        Raises:
            StartError: one keeps ending.
        """
        while any(child.process is None for child in self._children.values()):
            if self._failed is not None:
                raise self._failed
            await asyncio.sleep(READY_POLL_S)
        self._settled = True

    async def start(self, programs: Sequence[Program]) -> None:
        """Start `programs` side by side and wait until each is ready.

        Raises:
            StartError: one ended `EARLY_ENDS_MAX` times, or was not ready in time.
        """
        for program in programs:
            child = self._children[program.name] = _Child(program)
            self._spawn(child)
        self._changed()
        await asyncio.gather(*(self._until_ready(self._children[program.name]) for program in programs))

    async def run_once(self, program: Program, max_s: float) -> None:
        """Run a program to its end.

        Raises:
            StartError: it failed, or took longer than `max_s` seconds.
        """
        child = _Child(program)
        self._spawn(child)
        process = child.process
        deadline = time.monotonic() + max_s
        try:
            while process is not None and process.poll() is None:
                if time.monotonic() > deadline:
                    raise StartError(f"{program.name} took longer than {max_s:.0f} s")
                if self._failed is not None:
                    raise self._failed
                await asyncio.sleep(READY_POLL_S)
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        if process is not None and process.returncode != 0:
            raise StartError(self._tail(child) or f"{program.name} failed with code {process.returncode}")

    async def watch(self) -> None:
        """Restart what ends, until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._wake.set)
        trim_at = time.monotonic() + LOG_TRIM_EVERY_S
        while True:
            self._wake.clear()
            self._look()
            if time.monotonic() > trim_at:
                trim_at = time.monotonic() + LOG_TRIM_EVERY_S
                self._trim()
            due = [child.next_start for child in self._children.values() if child.wanted and child.process is None]
            pause = min([LOOK_S, *(max(0.0, at - time.monotonic()) for at in due)])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):  # wait_for may swallow a cancellation in Python 3.11
                    await self._wake.wait()

    async def stop(self, names: Sequence[str] | None = None) -> None:
        """Stop the named processes (all where None) side by side, and wait for their end; the deaf are killed."""
        children = [child for name, child in self._children.items() if names is None or name in names]
        for child in children:
            child.wanted = False
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(child.program.stop_signal)
        await asyncio.gather(*(self._until_gone(child) for child in children))

    def kill(self) -> None:
        """End everything at once, without asking."""
        for child in self._children.values():
            child.wanted = False
            if child.process is not None and child.process.poll() is None:
                child.process.kill()

    def _spawn(self, child: _Child) -> None:
        program = child.program
        if child.process is None and not child.restarts and not child.ends:
            child.log_start = self._log_bytes(program.name)
        child.process = spawn(
            program.command,
            log=self.log_of(program.name),
            cwd=program.cwd,
            env=program.env,
            account=program.account,
            death_signal=program.stop_signal,
            handles=program.handles,
        )
        child.identity = identify(child.process.pid)
        child.started = time.monotonic()

    def _look(self) -> None:
        """Note ends and start what is due."""
        started = False
        for child in self._children.values():
            if child.process is not None and child.process.poll() is not None:
                self._ended(child, child.process.returncode)
            if child.process is None and child.wanted and time.monotonic() >= child.next_start:
                self._spawn(child)
                child.restarts += 1
                started = True
        if started:
            self._changed()

    def _trim(self) -> None:
        for name in self._children:
            if (log := self.log_of(name)) is not None:
                trim_log(log)

    def _ended(self, child: _Child, code: int) -> None:
        name = child.program.name
        child.process, child.identity = None, None
        if not child.wanted:
            return
        child.ends = 1 if time.monotonic() - child.started > STABLE_AFTER_S else child.ends + 1
        pause = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (child.ends - 1))
        child.next_start = time.monotonic() + pause
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        _LOG.warning("process.ended", name=name, how=how, restart_in_s=pause, log=str(self.log_of(name)))
        if not self._settled and child.ends >= EARLY_ENDS_MAX:
            self._failed = StartError(f"{name} keeps ending ({how}); the end of its log:\n{self._tail(child)}")

    async def _until_ready(self, child: _Child) -> None:
        program = child.program
        if program.is_ready is None:
            return
        deadline = time.monotonic() + program.ready_max_s
        while not await asyncio.to_thread(program.is_ready):
            if self._failed is not None:
                raise self._failed
            if time.monotonic() > deadline:
                raise StartError(
                    f"{program.name} was not ready after {program.ready_max_s:.0f} s; "
                    f"the end of its log:\n{self._tail(child)}"
                )
            await asyncio.sleep(READY_POLL_S)

    async def _until_gone(self, child: _Child) -> None:
        process = child.process
        if process is None:
            return
        deadline = time.monotonic() + child.program.stop_max_s
        while process.poll() is None:
            if time.monotonic() > deadline:
                _LOG.warning("process.killed", name=child.program.name, after_s=child.program.stop_max_s)
                process.kill()
                deadline = float("inf")
            await asyncio.sleep(READY_POLL_S)
        child.process, child.identity = None, None

    def _log_bytes(self, name: str) -> int:
        log = self.log_of(name)
        return log.stat().st_size if log is not None and log.exists() else 0

    def _tail(self, child: _Child) -> str:
        """The end of what a program logged since we started it first."""
        try:
            log = self.log_of(child.program.name)
            if log is None:
                return ""
            said = log.read_bytes()
            start = child.log_start if child.log_start <= len(said) else 0  # it was trimmed meanwhile
            return said[start:].decode(errors="replace")[-LOG_TAIL_CHARS:].strip()
        except OSError:
            return ""
