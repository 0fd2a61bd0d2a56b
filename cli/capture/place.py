"""Where work happens: repository, branch and commit of a directory, read from git's own files; person from its configuration."""

from __future__ import annotations

import configparser
import re
import subprocess
import time
from pathlib import Path

import msgspec

GIT_TIMEOUT_S = 5.0
PARENTS_MAX = 64
CACHE_ENTRIES_MAX = 512
CACHE_S = 2.0  # a commit made in a session should be seen by its next events
_SSH = re.compile(r"\A(?:[^@/\s]+@)?([^:/\s]+):(?!//)(.+)\Z")


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known about a directory; `project` is the name of the repository's folder, or of the directory."""

    repo: str | None = None
    branch: str | None = None
    commit: str | None = None
    project: str | None = None


class Places:
    """Places by directory, remembered for a moment."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Place]] = {}

    def at(self, cwd: str | None) -> Place:
        """The place of `cwd`; unknown parts are None.  Never raises: a strange repository is an unknown one."""
        if not cwd:
            return Place()
        now = time.monotonic()
        if (known := self._known.get(cwd)) and now - known[0] < CACHE_S:
            return known[1]
        if len(self._known) >= CACHE_ENTRIES_MAX:
            self._known.clear()
        try:
            place = _look(Path(cwd))
        except (OSError, ValueError, configparser.Error):
            place = Place()
        self._known[cwd] = (now, place)
        return place


def _look(cwd: Path) -> Place:
    for folder in (cwd, *list(cwd.parents)[:PARENTS_MAX]):
        dot = folder / ".git"
        if not dot.exists():
            continue
        own = dot
        if dot.is_file():  # a worktree or a submodule: `gitdir: <path>`
            own = (folder / dot.read_text().partition(":")[2].strip()).resolve()
        common = own
        if (pointer := own / "commondir").is_file():
            common = (own / pointer.read_text().strip()).resolve()
        branch, commit = _head(own, common)
        return Place(_remote(common), branch, commit, slug(folder.name))
    return Place(project=slug(cwd.name))


def slug(name: str) -> str | None:
    """A folder's name as a slug."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] or None


def _head(own: Path, common: Path) -> tuple[str | None, str | None]:
    head = (own / "HEAD").read_text().strip()
    if not head.startswith("ref:"):
        return None, head or None
    ref = head.partition(":")[2].strip()
    branch = ref.removeprefix("refs/heads/")
    for base in (own, common):
        if (loose := base / ref).is_file():
            return branch, loose.read_text().strip() or None
    packed = common / "packed-refs"
    for line in packed.read_text().splitlines() if packed.is_file() else ():
        if line.endswith(f" {ref}"):
            return branch, line.split(" ", 1)[0]
    return branch, None


def _remote(common: Path) -> str | None:
    """The remote `origin`, else the first one, as `owner/name`."""
    config = configparser.RawConfigParser(strict=False, allow_no_value=True, interpolation=None)
    text = (common / "config").read_text(errors="replace")
    config.read_string("\n".join(line.strip() for line in text.splitlines()))
    urls = {
        section[8:-1]: config.get(section, "url", fallback=None)
        for section in config.sections()
        if section.startswith('remote "') and section.endswith('"')
    }
    url = urls.get("origin") or next((value for value in urls.values() if value), None)
    return repo_of(url) if url else None


def repo_of(url: str) -> str | None:
    """`owner/name` of a remote's address, without host, user or password."""
    if match := _SSH.match(url):
        path = match.group(2)
    elif "://" in url:
        path = url.split("://", 1)[1].partition("/")[2]
    else:
        path = Path(url).name  # a local path says too much about a laptop
    return path.strip("/").removesuffix(".git") or None


def git_person(cwd: str | None) -> tuple[str | None, str | None]:
    """E-mail address and name as git knows them in `cwd`; None for what it does not know."""
    found: list[str | None] = []
    for key in ("user.email", "user.name"):
        try:
            done = subprocess.run(
                ["git", "config", "--get", key],
                cwd=cwd if cwd and Path(cwd).is_dir() else None,
                capture_output=True,
                text=True,
                check=False,
                timeout=GIT_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
            found.append(done.stdout.strip() or None)
        except (OSError, subprocess.SubprocessError, UnicodeError):
            found.append(None)
    return found[0], found[1]
