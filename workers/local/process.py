"""Operating-system processes: who is who, under which account they run, and how they end.

A process is known by pid *and* start time, so that a reused pid never counts as ours, and a zombie (dead, not yet reaped
by its parent) never counts as running.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

STOP_POLL_S = 0.01
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ")
_SERVICE_ACCOUNTS = ("crewkit", "postgres", "nobody")
_LINUX = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if _LINUX else None


class Account(msgspec.Struct, frozen=True):
    """An unprivileged account that servers run under when we are root (Postgres refuses to run as root)."""

    name: str
    uid: int
    gid: int


class Identity(msgspec.Struct, frozen=True):
    """A process that cannot be confused with a later one.  `started` is an opaque token made of boot and start time."""

    pid: int
    started: str


def service_account() -> Account | None:
    """The account for servers: None when we are not root, else the first existing of crewkit, postgres, nobody.

    Raises:
        RuntimeError: we are root and none of them exists.
    """
    if os.geteuid() != 0:
        return None
    for name in _SERVICE_ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise RuntimeError(f"running as root needs an unprivileged account, one of: {', '.join(_SERVICE_ACCOUNTS)}")


def identify(pid: int) -> Identity | None:
    """The identity of a running process; None when there is none with this pid, or only a zombie."""
    if pid <= 0:
        return None
    started = _started_linux(pid) if _LINUX else _started_ps(pid)
    return None if started is None else Identity(pid, started)


def is_running(identity: Identity) -> bool:
    """Whether exactly this process still runs."""
    return identify(identity.pid) == identity


def _started_linux(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name may hold spaces and brackets: the fields start after the last bracket.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in {"Z", "X"}:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return f"{boot}-{fields[19]}"


def _started_ps(pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if len(answer) < 2 or answer[0].startswith("Z") else answer[1].strip()


def command_line(pid: int) -> str:
    """The words a process was started with, joined by blanks; empty when they cannot be read."""
    if _LINUX:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return ""
    return subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()


def memory_kib(pid: int, apart_from: Collection[int] = ()) -> int:
    """Memory of a process and its descendants in KiB, shared pages counted by their share (PSS) where the system tells.

    Descendants in `apart_from`, with theirs, are left out.  0: unknown.
    """
    return sum(_memory_kib(each) for each in (pid, *descendants(pid, apart_from)))


def descendants(pid: int, apart_from: Collection[int] = ()) -> list[int]:
    """Children, their children and so on; empty where the system has no /proc."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if int(folder.name) not in apart_from:
                children.setdefault(parent, []).append(int(folder.name))
    found, ahead = list[int](), children.get(pid, [])
    while ahead:
        found += ahead
        ahead = [child for parent in ahead for child in children.get(parent, [])]
    return found


def _memory_kib(pid: int) -> int:
    for file, title in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
                if line.startswith(title):
                    return int(line.split()[1])
    return 0


def stop(identity: Identity, how: signal.Signals, wait_s: float) -> bool:
    """Signal a process (ours or an orphan) and wait for its end; after `wait_s` seconds kill it.  False: it had to be killed."""
    if not is_running(identity):
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(identity.pid, how)
    if _gone(identity, wait_s):
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(identity.pid, signal.SIGKILL)
    _gone(identity, wait_s)
    return False


def _gone(identity: Identity, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while is_running(identity):
        if time.monotonic() > deadline:
            return False
        time.sleep(STOP_POLL_S)
    return True


def server_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a foreign server may see: no PG*, no CREWKIT_*, no secrets of the person who typed the command."""
    kept = {name: environ[name] for name in _KEPT_VARIABLES if name in environ}
    return kept | {"LC_ALL": "C.UTF-8"}


def die_with_parent(how: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel send `how` when the starting thread ends; None where the kernel cannot.

    Start such processes from the main thread only: Linux watches the thread, not the process.
    """
    if _LIBC is None:
        return None
    parent, prctl = os.getpid(), _LIBC.prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(how), 0, 0, 0)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)

    return ask


def account_options(account: Account | None) -> dict[str, Any]:
    """Keyword arguments for `subprocess` that drop root's rights."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


def spawn(
    words: Sequence[str],
    *,
    log: Path | None,
    cwd: Path,
    env: Mapping[str, str],
    death_signal: signal.Signals,
    account: Account | None = None,
    handles: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own (Ctrl-C reaches us alone), its output appended to `log` (None: ours).

    When the starting thread ends, it gets `death_signal`.  `handles` are open files it inherits.
    """
    with contextlib.ExitStack() as stack:
        output = None if log is None else stack.enter_context(log.open("ab"))
        return subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
            preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509  it only calls prctl
            pass_fds=tuple(handles),
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )


def can_enter(path: Path, account: Account | None) -> bool:
    """Whether `account` can walk down to `path`: every folder above it must let others through."""
    if account is None:
        return True
    for folder in path.resolve().parents:
        with contextlib.suppress(FileNotFoundError):
            status = folder.stat()
            allowed = status.st_mode & (0o100 if status.st_uid == account.uid else 0o001)
            if not allowed:
                return False
    return True
