"""Put a payload into the spool from Python, as the hook script does from a shell, and see to it that a flusher runs."""

from __future__ import annotations

import os
import subprocess
import time

from cli.capture.hook_script import program
from cli.capture.paths import PRIVATE_FILE, ClientDir

NUMBER_MAX = 9_999  # captures of one process that wait at the same time
STARTING_S = 60.0  # a mark left by a start that was killed counts for so long


def put(paths: ClientDir, payload: bytes, agent: str) -> None:
    """Keep what an agent said; it is in the spool when this returns.  A capture that exists is never written to.

    Raises:
        OSError: it cannot be written (no space, no right, too many wait).
    """
    for number in range(NUMBER_MAX):
        name = f"{agent}.{os.getpid()}" + (f".{number}" if number else "")
        try:
            handle = os.open(paths.incoming / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        except FileExistsError:
            continue
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
        return
    raise OSError(f"{NUMBER_MAX} captures of this process wait in {paths.incoming}")


def ensure_flusher(paths: ClientDir) -> None:
    """Start a flusher in the background unless one lives or is being started.

    Raises:
        OSError: it cannot be started.
    """
    if _alive(paths):
        return
    try:
        if time.time() - paths.starting.stat().st_mtime > STARTING_S:
            paths.starting.unlink(missing_ok=True)
    except FileNotFoundError:
        pass
    try:
        os.close(os.open(paths.starting, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    except FileExistsError:
        return
    subprocess.Popen(
        [*program(), "flush", "--background"],
        cwd="/",
        env={**os.environ, "CREWKIT_HOME": str(paths.home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _alive(paths: ClientDir) -> bool:
    """Whether a flusher says that it lives: see `Flusher`."""
    try:
        if paths.beat.stat().st_mtime < time.time():
            return False
        os.kill(int(paths.beat.read_text()), 0)
    except (OSError, ValueError):
        return False
    return True
