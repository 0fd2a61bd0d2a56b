"""Where the developer's side keeps its files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

PRIVATE_DIR = 0o700
PRIVATE_FILE = 0o600


def client_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`$CREWKIT_HOME`, else `~/.crewkit`."""
    chosen = environ.get("CREWKIT_HOME")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".crewkit"


class ClientDir(msgspec.Struct, frozen=True):
    """The client folder and the names in it.  Everything in it is private to its owner."""

    home: Path

    @property
    def hook(self) -> Path:
        """The script that agents call."""
        return self.home / "hook.sh"

    @property
    def headers_helper(self) -> Path:
        """The script that prints the OTLP headers."""
        return self.home / "otel-headers.sh"

    @property
    def config(self) -> Path:
        """Content levels and switches."""
        return self.home / "config.json"

    @property
    def connection(self) -> Path:
        """The connection that `init` was given through the environment, if any."""
        return self.home / "connection.json"

    @property
    def spool(self) -> Path:
        """What has not been acknowledged yet."""
        return self.home / "spool"

    @property
    def incoming(self) -> Path:
        """One file per hook call, as the agent wrote it."""
        return self.spool / "incoming"

    @property
    def segments(self) -> Path:
        """Batches ready to leave, in order of their names."""
        return self.spool / "segments"

    @property
    def rejected(self) -> Path:
        """Events that the service refused, and captures that are no JSON."""
        return self.spool / "rejected"

    @property
    def sweeps(self) -> Path:
        """Transcripts that wait to be read."""
        return self.spool / "sweeps"

    @property
    def overflow(self) -> Path:
        """What had to be given up because the spool was full."""
        return self.spool / "overflow.json"

    @property
    def state(self) -> Path:
        """What the flusher did last, for people and for `crewkit status`."""
        return self.spool / "state.json"

    @property
    def beat(self) -> Path:
        """Holds the flusher's pid; its mtime is the time until which hooks may take the flusher for alive."""
        return self.spool / "flusher"

    @property
    def starting(self) -> Path:
        """Exists while a hook starts a flusher."""
        return self.spool / "starting"

    @property
    def lock(self) -> Path:
        """Locked by the one flusher that may run."""
        return self.spool / "lock"

    @property
    def wake(self) -> Path:
        """Its appearance ends the flusher's back-off."""
        return self.spool / "wake"

    @property
    def sent(self) -> Path:
        """The log of what left."""
        return self.home / "sent"

    @property
    def imports(self) -> Path:
        """How far each transcript has been read."""
        return self.home / "import"

    def make(self) -> ClientDir:
        """Create the folders, private to their owner."""
        for folder in (
            self.home, self.spool, self.incoming, self.segments, self.rejected, self.sweeps, self.sent, self.imports,
        ):  # fmt: skip
            folder.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
        return self


def here(environ: Mapping[str, str] = os.environ) -> ClientDir:
    """The client folder of this environment."""
    return ClientDir(client_dir(environ))


def write_atomically(path: Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
    """Replace `path` in one step: readers see the old bytes or the new ones, also after a crash.

    A symbolic link is followed, so that settings kept in a dotfiles repository stay linked.
    """
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
