"""The flusher: one process that turns captures into segments and ships them, in order, for as long as there is work.

Only one runs at a time (a lock on a file, released by the kernel when it dies).  It may be killed at any moment: captures go
after their segment exists, segments after the service has answered for every event, and both have ids that repeat.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec

from cli.capture import spool
from cli.capture.config import Config, ConfigError, load
from cli.capture.journal import Journal
from cli.capture.paths import PRIVATE_FILE, ClientDir, write_atomically
from cli.capture.shipping import BATCH_EVENTS_MAX, Tally, backoff_s, is_final, ship
from cli.capture.sweep import Sweeps
from cli.client import Client, Connection, RefusedError, UnreachableError

BEAT_S = 20.0  # how far the flusher says ahead that it lives
POLL_S = 0.2
POLL_IDLE_S = 0.5
IDLE_EXIT_S = 60.0
HOLD_S = 300.0  # after a refusal that only a person can lift, hooks start no flusher for so long
BATCH_WAIT_S = 30.0  # while the service is away, captures wait this long for company before they become a segment
REJECTED_NOTES_MAX = 5


class State(msgspec.Struct, omit_defaults=True):
    """What the flusher did last.  `problem` is empty while all is well; `stopped` says that only a person can help."""

    at: datetime
    pid: int
    problem: str = ""
    stopped: bool = False
    failures: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    waiting: int = 0


class BusyError(Exception):
    """Another flusher runs."""


@contextmanager
def only_one(paths: ClientDir) -> Generator[None]:
    """Be the one flusher.

    Raises:
        BusyError: there is one.
    """
    handle = os.open(paths.lock, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError from error
        yield
    finally:
        os.close(handle)


def unread(paths: ClientDir, sweeps: Sweeps) -> bool:
    """Whether the transcript of an ended session waits to be read, by a flusher that may do so.

    Raises:
        ConfigError: the configuration does not say.
    """
    return load(paths).sweep != "off" and sweeps.unsettled()


class Flusher:
    """`connect` finds the service anew each time it is called, because addresses and keys change.  Not thread-safe."""

    def __init__(
        self, paths: ClientDir, connect: Callable[[], Connection], *, spool_bytes_max: int, background: bool
    ) -> None:
        self._paths = paths
        self._connect = connect
        self._bytes_max = spool_bytes_max
        self._background = background
        self._journal = Journal(paths)
        self._sweeps = Sweeps(paths)
        self._intake = spool.Intake(paths, self._seen)
        self._client: Client | None = None
        self._ending = False
        self._busy_at = time.monotonic()
        self.total = Tally()
        self.notes: list[str] = []
        self.lost: list[spool.Lost] = []
        self.failures = 0
        self.problem = ""
        self.error: RefusedError | UnreachableError | None = None

    # -- one round ---------------------------------------------------------------------------------------------------

    def round(self) -> bool:
        """Take in, make room, ship and sweep once; whether anything was done.

        Raises:
            UnreachableError, RefusedError: shipping met it.
            ConfigError, OSError: nothing may or can be taken in.
        """
        config = load(self._paths)
        moved = self._take_in(config)
        self.lost += spool.make_room(self._paths, self._bytes_max)
        for path in spool.segments(self._paths):
            self._ship(path)
            moved = True
            if self._ending:
                return moved
            self._beat()
        return self._sweep(config) or moved

    def _take_in(self, config: Config) -> bool:
        moved = False
        for _ in range(1_000):
            entries = spool.scan(self._paths)
            if not entries or (self.failures and not self._worth_it(entries)):
                break
            if not self._intake.take(config, entries):
                break
            moved = True
            self._beat()
        return moved

    def _worth_it(self, entries: list[spool.Entry]) -> bool:
        """While the service is away, wait for a segment's worth, so that days offline are not a million files."""
        return len(entries) >= BATCH_EVENTS_MAX or time.time() - entries[0].mtime_ns / 1e9 > BATCH_WAIT_S

    def _ship(self, path: Path) -> None:
        lines = [line for line in path.read_bytes().split(b"\n") if line]
        if lines:
            client = self._dial()
            target = client.path("/observability/events")
            self.total += ship(client, self._journal, target, lines, spool.wrap, self._reject)
        path.unlink(missing_ok=True)
        self.failures, self.problem, self.error = 0, "", None
        self._busy_at = time.monotonic()

    def _sweep(self, config: Config) -> bool:
        due = self._sweeps.due() if config.sweep != "off" else []
        for sweep in due:
            self.total += self._sweeps.run(sweep, self._dial().connection, config)
            self._beat()
        return bool(due)

    def _dial(self) -> Client:
        connection = self._connect()
        if self._client is None or self._client.connection != connection:
            if self._client is not None:
                self._client.close()
            self._client = Client(connection)
        return self._client

    def _reject(self, line: bytes, reason: str) -> None:
        spool.keep(self._paths, line, reason)
        if len(self.notes) < REJECTED_NOTES_MAX:
            self.notes.append(reason)

    def _seen(self, payload: dict[str, object], agent: str, at: float) -> None:
        self._sweeps.note(payload, agent, at)

    # -- until there is nothing left ---------------------------------------------------------------------------------

    def drain(self, wait_s: float) -> None:
        """Ship everything that is there now, and what ended sessions still write; on trouble try again for `wait_s` seconds.

        Raises:
            UnreachableError, RefusedError: it did not work out in that time, or never will.
        """
        end = time.monotonic() + wait_s
        spool.forget_doubles(self._paths)
        while not self._ending:
            try:
                if self.round():
                    continue
                if not unread(self._paths, self._sweeps):
                    return
                time.sleep(POLL_S)
            except (RefusedError, UnreachableError) as error:
                self._trouble(error)
                pause = backoff_s(self.failures, getattr(error, "retry_after_s", None))
                if (isinstance(error, RefusedError) and is_final(error)) or time.monotonic() + pause > end:
                    raise
                time.sleep(pause)
            finally:
                self._tell()

    def stay(self) -> int:
        """Work in the background until nothing has happened for a while; the exit code."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        with contextlib.suppress(OSError):
            os.setsid()
        self._beat()
        self._paths.starting.unlink(missing_ok=True)
        spool.forget_doubles(self._paths)
        while not self._ending and self._paths.spool.is_dir():
            pause = POLL_S
            try:
                if self.round():
                    self._busy_at = time.monotonic()
                    self._tell()
            except RefusedError as error:
                self._trouble(error)
                if is_final(error):
                    return self._stop()
                pause = backoff_s(self.failures, error.retry_after_s)
            except (UnreachableError, ConfigError, OSError) as error:
                self._trouble(error)
                pause = backoff_s(self.failures)
            idle = time.monotonic() - self._busy_at
            if idle > POLL_IDLE_S and not self.failures:
                pause = POLL_IDLE_S
            if idle > IDLE_EXIT_S and not self._sweeps.waiting() and self._leave():
                return 0
            self._sleep(pause)
        self._leave()
        return 0

    def _leave(self) -> bool:
        """Stop saying that we live, then look once more: a hook may have relied on us a moment ago."""
        self._paths.beat.unlink(missing_ok=True)
        if self._ending or self.failures or not spool.scan(self._paths):
            return True
        self._beat()
        self._busy_at = time.monotonic()
        return False

    def _stop(self) -> int:
        """Only a person can help: say so, and let hooks start nobody for a while (process 0 is always alive to a shell)."""
        self._tell(stopped=True)
        write_atomically(self._paths.beat, b"0\n")
        until = time.time() + HOLD_S
        os.utime(self._paths.beat, (until, until))
        return 1

    def _sleep(self, seconds: float) -> None:
        """Wait, but stay visible; a signal or a wish to hurry ends it."""
        end = time.monotonic() + seconds
        while not self._ending and (left := end - time.monotonic()) > 0:
            self._beat()
            time.sleep(min(left, POLL_IDLE_S))
            if self._paths.wake.exists():
                self._paths.wake.unlink(missing_ok=True)
                return

    def _beat(self) -> None:
        """Tell hooks that a flusher lives, until a moment ahead of now."""
        if not self._background:
            return
        if not self._paths.spool.is_dir():  # somebody removed the client folder: do not bring it back
            self._ending = True
            return
        until = time.time() + BEAT_S
        try:
            if self._paths.beat.read_text().strip() != str(os.getpid()):
                raise FileNotFoundError
            os.utime(self._paths.beat, (until, until))
        except (OSError, UnicodeError):
            with contextlib.suppress(OSError):
                write_atomically(self._paths.beat, f"{os.getpid()}\n".encode())
                os.utime(self._paths.beat, (until, until))

    def _trouble(self, error: Exception) -> None:
        self.failures += 1
        self.problem = str(error) if not isinstance(error, RefusedError | UnreachableError) else error.message
        if isinstance(error, RefusedError | UnreachableError):
            self.error = error
        self._tell()

    def _tell(self, *, stopped: bool = False) -> None:
        if not self._paths.spool.is_dir():
            return
        state = State(
            datetime.now(UTC), os.getpid(), self.problem, stopped, self.failures,
            self.total.accepted, self.total.duplicate, self.total.rejected, len(spool.segments(self._paths)),
        )  # fmt: skip
        with contextlib.suppress(OSError):
            write_atomically(self._paths.state, msgspec.json.encode(state))

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        self._ending = True
