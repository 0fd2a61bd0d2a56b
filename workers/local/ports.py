"""TCP ports: a free one, whether one is free, and who sits on a busy one."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import msgspec

from workers.local.process import command_line

NEXT_PORTS_MAX = 100  # ports tried by `--next-free-port`
_LISTEN = "0A"


class Owner(msgspec.Struct, frozen=True):
    """The process that listens on a port, as far as we may see it (`pid` 0: another user's)."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})" if self.pid else self.command


def free_port(host: str = "127.0.0.1", preferred: int = 0) -> int:
    """`preferred` when it is free, else any free port."""
    if preferred and is_free(host, preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Whether we could listen there now."""
    try:
        listen(host, port).close()
    except OSError:
        return False
    return True


def listen(host: str, port: int, backlog: int = 1024) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the port is taken, or the address is not ours.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    server = socket.socket(family, kind, protocol)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(backlog)
    except OSError:
        server.close()
        raise
    return server


def owner(port: int) -> Owner | None:
    """Who listens on `port` of this machine; None when it cannot be told."""
    if not Path("/proc/net/tcp").exists():
        return _owner_lsof(port)
    nodes = _listening_nodes(port)
    if not nodes:
        return None
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and _holds(folder, nodes):
            return Owner(int(folder.name), command_line(int(folder.name))[:200])
    return Owner(0, "a process of another user")


def _listening_nodes(port: int) -> set[str]:
    nodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                nodes.add(f"socket:[{fields[9]}]")
    return nodes


def _holds(process: Path, nodes: set[str]) -> bool:
    try:
        return any(str(link.readlink()) in nodes for link in (process / "fd").iterdir())
    except OSError:
        return False  # it ended meanwhile, or it is not ours to look at


def _owner_lsof(port: int) -> Owner | None:
    try:
        answer = subprocess.run(
            ["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return None
    fields = {line[:1]: line[1:] for line in answer.splitlines()}
    return Owner(int(fields["p"]), fields.get("c", "?")) if "p" in fields else None
