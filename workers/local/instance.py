"""What is known about the crewkit that runs on a data directory: crewkit.json (for clients and people) and process records."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from workers.local.files import write_private
from workers.local.process import Identity, is_running

FILE = "crewkit.json"
_PROCESSES = "processes.json"
SUPERVISOR = "supervisor"


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """The content of DIR/crewkit.json, written (mode 0600) when everything is ready.

    `pids` maps process name to pid while it runs and is empty after a clean stop; `database_url` holds no password where
    the database is embedded.
    """

    url: str
    api_key: str
    organization: str
    pids: dict[str, int] = {}
    started_at: datetime | None = None
    version: str = ""
    database_url: str = ""
    nats_url: str = ""
    embedded: list[str] = []


class Processes(msgspec.Struct, frozen=True):
    """Every process that was started for a data directory, by name, written before anything depends on it."""

    known: dict[str, Identity] = {}
    ports: dict[str, int] = {}

    def running(self) -> dict[str, Identity]:
        """Those that still run."""
        return {name: identity for name, identity in self.known.items() if is_running(identity)}


def read_instance(data_dir: Path) -> Instance | None:
    """The last instance that became ready on `data_dir`; None where there was none or the file cannot be understood."""
    try:
        return msgspec.json.decode((data_dir / FILE).read_bytes(), type=Instance)
    except (OSError, msgspec.DecodeError):
        return None


def write_instance(data_dir: Path, instance: Instance) -> None:
    """Replace DIR/crewkit.json."""
    write_private(data_dir / FILE, _pretty(msgspec.json.encode(instance)))


def read_processes(data_dir: Path) -> Processes:
    """The record of processes, empty where there is none."""
    try:
        return msgspec.json.decode((data_dir / _PROCESSES).read_bytes(), type=Processes)
    except (OSError, msgspec.DecodeError):
        return Processes()


def write_processes(data_dir: Path, processes: Processes) -> None:
    """Replace the record of processes."""
    write_private(data_dir / _PROCESSES, _pretty(msgspec.json.encode(processes)))


def supervisor_of(data_dir: Path) -> Identity | None:
    """The `crewkit up` that runs on `data_dir` now."""
    return read_processes(data_dir).running().get(SUPERVISOR)


def _pretty(data: bytes) -> str:
    return msgspec.json.format(data, indent=2).decode() + "\n"
