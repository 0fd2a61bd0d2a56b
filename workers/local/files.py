"""Files of a data directory: locks the kernel releases when their holder dies, and small files written all or nothing."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from pathlib import Path

from workers.local.process import Account, can_enter

SECRET_BYTES = 24
LOG_BYTES_MAX = 16 * 1024 * 1024  # per process; one older part is kept
_OWNER_SUFFIX = ".owner"
ROOT_STATE = Path("/var/lib/crewkit")  # for root, whose home no unprivileged server may enter


class AlreadyLockedError(Exception):
    """Another process holds the lock."""


class FileLock:
    """An exclusive lock on a file, held until `release` or the end of the process, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock now or not at all.

        Raises:
            AlreadyLockedError: somebody else has it.
        """
        if self._handle is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise AlreadyLockedError(str(self.path)) from error
        self._handle = handle

    def release(self) -> None:
        """Give it back.  The file stays: removing it would let two processes lock two different files."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Write a file of mode 0600 all or nothing; `account` becomes its owner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if account is not None:
        os.chown(draft, account.uid, account.gid)
    draft.replace(path)


def secret(path: Path) -> str:
    """The secret kept in `path`, made up (32 URL-safe characters) when the file does not exist."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        write_private(path, secrets.token_urlsafe(SECRET_BYTES))
        return path.read_text(encoding="utf-8").strip()


def trim_log(path: Path) -> None:
    """Keep a log that another process appends to below `LOG_BYTES_MAX`: its content moves to `<name>.1`, then it is emptied."""
    try:
        if path.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)
    except FileNotFoundError:
        return


def own_folder(path: Path, account: Account | None) -> Path:
    """Make a private folder that a server can use, and return where it really lies.

    As root the server runs under another account.  Where that account cannot reach `path` (say, below /root), the folder
    is made below /var/lib/crewkit and `path` becomes a link to it; nobody's home directory is opened up.
    """
    if not path.exists():
        path.unlink(missing_ok=True)  # a link whose target is gone
        path.parent.mkdir(parents=True, exist_ok=True)
        if account is not None and not can_enter(path, account):
            place = _root_state() / secrets.token_hex(8)
            place.mkdir(mode=0o700)
            write_private(place.with_suffix(_OWNER_SUFFIX), str(path))
            path.symlink_to(place, target_is_directory=True)
        else:
            path.mkdir(mode=0o700)
    real = path.resolve()
    if account is not None and real.stat().st_uid != account.uid:
        os.chown(real, account.uid, account.gid)
    return real


def forsaken_places() -> list[Path]:
    """Folders below /var/lib/crewkit whose data directory no longer points to them.

    They are never removed by us: the disk with the data directory may only be away.
    """
    found: list[Path] = []
    for note in sorted(ROOT_STATE.glob(f"*{_OWNER_SUFFIX}")):
        place = note.with_suffix("")
        try:
            link = Path(note.read_text(encoding="utf-8"))
        except OSError:
            continue
        if place.exists() and link.resolve() != place.resolve():
            found.append(place)
    return found


def within_reach(root: Path, parts: list[str], name: str, account: Account | None) -> Path:
    """`root`, or a copy of its `parts` below /var/lib/crewkit/programs/`name` where `account` cannot reach them."""
    if all(can_enter(root / part / "x", account) for part in parts):
        return root
    target = _root_state() / "programs" / name
    if not target.exists():
        draft = target.with_name(f".{name}.{os.getpid()}")
        for part in parts:
            (draft / part).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if (root / part).is_dir():
                shutil.copytree(root / part, draft / part)
            else:
                shutil.copy2(root / part, draft / part)
        draft.rename(target)
    return target


def _root_state() -> Path:
    ROOT_STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    return ROOT_STATE
