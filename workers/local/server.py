"""What the embedded servers have in common: a folder under a lock, an account, a port, a start and an end."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Protocol

from workers.local.files import FileLock
from workers.local.process import Account, server_environment, service_account, spawn

POLL_S = 0.005
LOG_TAIL_CHARS = 800


class ServerError(Exception):
    """A server could not be found, prepared or started; the message says what to do."""


class Server(Protocol):
    """A server that a supervisor can run: `prepare` once, then `command` under `account` until `stop_signal`."""

    name: str
    stop_signal: signal.Signals
    stop_max_s: float
    start_max_s: float
    port: int
    home: Path
    account: Account | None

    def prepare(self, preferred_port: int = 0) -> None:
        """Take the lock, stop a server that a dead owner left behind, make what is missing, choose a port."""
        ...

    def command(self) -> list[str]:
        """The server's command line; `prepare` comes first."""
        ...

    def is_ready(self) -> bool:
        """Whether it takes connections; blocks for at most a second."""
        ...

    def release(self) -> None:
        """Let other processes use the folder."""
        ...


class LocalServer:
    """A folder beside whose name lies the lock, and the process on it where `start` started one."""

    name = "server"
    stop_signal = signal.SIGTERM
    stop_max_s = 20.0
    start_max_s = 60.0

    def __init__(self, directory: Path, password: str, *, host: str = "127.0.0.1") -> None:
        self.directory = directory
        self.password = password
        self.host = host
        self.port = 0
        self.account: Account | None = service_account()
        self.home = directory
        self.lock = FileLock(directory.with_name(f"{directory.name}.lock"))
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The server's command line; `prepare` comes first."""
        raise ServerError(f"{self.name}: prepare() comes before command()")

    def is_ready(self) -> bool:
        """Whether it takes connections; blocks for at most a second."""
        return False

    def start(self, log: Path) -> None:
        """Start the server as a child of this thread and wait until it takes connections (for tests and tools).

        Raises:
            ServerError: it ended, or was not ready in time; the message holds the end of its log.
        """
        process = self._process = spawn(
            self.command(),
            log=log,
            cwd=self.home,
            env=server_environment(),
            account=self.account,
            death_signal=self.stop_signal,
        )
        deadline = time.monotonic() + self.start_max_s
        while not self.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = log.read_text(errors="replace")[-LOG_TAIL_CHARS:]
                raise ServerError(f"{self.name} did not start; its log ends with: {tail}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Stop what `start` started and release the folder."""
        if (process := self._process) is not None:
            if process.poll() is None:
                process.send_signal(self.stop_signal)
            try:
                process.wait(self.stop_max_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._process = None
        self.release()

    def release(self) -> None:
        """Let other processes use the folder."""
        self.lock.release()
