"""From captured payloads to segments that are ready to leave; nothing is deleted before it exists somewhere else.

`incoming/` holds one file per hook call.  `segments/` holds batches: JSON lines, each a finished HookEnvelope, in files
whose names sort by capture time.  A segment appears in one step (rename) before its incoming files go, and it goes after
the service has answered for every line; a crash in between only repeats work, because ids are derived from the capture.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from cli.capture.config import Config
from cli.capture.leave import leave
from cli.capture.paths import PRIVATE_FILE, ClientDir, write_atomically
from cli.capture.place import Places, git_person
from cli.capture.shipping import BATCH_BYTES_MAX, BATCH_EVENTS_MAX
from schemas.ingest import HookEnvelope, Person

IN_FLIGHT_S = 5.0  # a younger incomplete file is still being written
WRITER_S = 600.0  # an older one is not, even if its process id is in use
RAW_BYTES_MAX = 8 * 1024 * 1024  # payload bytes read for one segment; one larger payload makes a segment of its own
REJECTED_BYTES_MAX = 16 * 1024 * 1024
OVERFLOW_ENTRIES_MAX = 200
PEOPLE_MAX = 256
# A capture that is no JSON object, or of a shape nobody thought of: it must not stop the rest.
_DEFECTS = (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OSError)


class Entry(msgspec.Struct, frozen=True, order=True):
    """A captured payload.  Order: capture time, then process id and number, which settle what the clock cannot."""

    mtime_ns: int
    pid: int
    number: int
    name: str
    inode: int
    size: int

    @property
    def id(self) -> str:
        """The event's id: the same for the same capture, whoever asks and however often."""
        digest = hashlib.blake2b(f"{self.name}|{self.inode}|{self.mtime_ns}".encode(), digest_size=16).digest()
        value = int.from_bytes(digest) & ~(0xF << 76) | 8 << 76
        return str(UUID(int=value & ~(0x3 << 62) | 0x2 << 62))

    @property
    def agent(self) -> str:
        """The agent, as the hook was told."""
        return self.name.partition(".")[0]


def scan(paths: ClientDir) -> list[Entry]:
    """What waits in `incoming/`, oldest first."""
    found: list[Entry] = []
    try:
        with os.scandir(paths.incoming) as items:
            for item in items:
                try:
                    stat = item.stat(follow_symlinks=False)
                except OSError:
                    continue
                parts = item.name.split(".")
                pid = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
                number = int(parts[2]) if len(parts) > 2 and parts[2].isdigit() else 0
                found.append(Entry(stat.st_mtime_ns, pid, number, item.name, stat.st_ino, stat.st_size))
    except FileNotFoundError:
        return []
    return sorted(found)


def _writing(entry: Entry) -> bool:
    """Whether somebody may still be writing this file."""
    age_s = time.time() - entry.mtime_ns / 1e9
    if age_s < IN_FLIGHT_S:
        return True
    if age_s > WRITER_S or not entry.pid:
        return False
    try:
        os.kill(entry.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class _ChangedError(Exception):
    """A capture is not finished yet."""


class Intake:
    """Turns captures into segments.  `seen` is told every payload that went into one, its agent and its moment (for transcripts)."""

    def __init__(
        self, paths: ClientDir, seen: Callable[[dict[str, Any], str, float], None] = lambda _payload, _agent, _at: None
    ) -> None:
        self._paths = paths
        self._seen = seen
        self._places = Places()
        self._people: dict[str | None, Person | None] = {}

    def person(self, cwd: str | None) -> Person | None:
        """Who git says is working in a directory."""
        key = cwd if cwd and Path(cwd).is_dir() else None
        if key not in self._people:
            if len(self._people) >= PEOPLE_MAX:
                self._people.clear()
            email, name = git_person(key)
            self._people[key] = Person(email, name) if email else None
        return self._people[key]

    def envelope(self, entry: Entry, payload: dict[str, Any], config: Config) -> HookEnvelope:
        """The event as it will leave."""
        cwd = payload.get("cwd") if isinstance(payload.get("cwd"), str) else None
        level = config.level(cwd)
        place = self._places.at(cwd)
        named = level != "counts"
        return HookEnvelope(
            payload=leave(payload, "hook", entry.agent, level),
            id=entry.id,
            at=datetime.fromtimestamp(entry.mtime_ns // 1000 / 1e6, UTC),
            agent=entry.agent,
            repo=place.repo if named else None,
            branch=place.branch if named else None,
            commit=place.commit if named else None,
            project=place.project if named else None,
            user=self.person(cwd) if named and config.identity else None,
            content_level=level,
        )

    def take(self, config: Config, entries: list[Entry]) -> int:
        """Make one segment of the oldest entries and remove their files; returns how many files were dealt with.

        Raises:
            OSError: the segment cannot be written (no space); nothing is removed then.
        """
        lines: list[bytes] = []
        used: list[Entry] = []
        raw = size = handled = 0
        for entry in entries:
            if len(lines) >= BATCH_EVENTS_MAX or (lines and (raw + entry.size > RAW_BYTES_MAX)):
                break
            try:
                found = self._read(entry, config)
            except (FileNotFoundError, _ChangedError):
                continue
            except _DEFECTS as error:
                if not _writing(entry):
                    set_aside(self._paths, entry, f"{type(error).__name__}: {error}")
                    handled += 1
                continue
            payload, line = found
            if lines and size + len(line) > BATCH_BYTES_MAX:
                break
            self._seen(payload, entry.agent, entry.mtime_ns / 1e9)
            lines.append(line)
            used.append(entry)
            raw, size = raw + entry.size, size + len(line)
        if lines:
            name = f"{used[0].mtime_ns:020d}-{used[-1].mtime_ns:020d}-{len(lines)}-{used[0].id[:8]}.jsonl"
            write_atomically(self._paths.segments / name, b"\n".join(lines) + b"\n")
            for entry in used:
                (self._paths.incoming / entry.name).unlink(missing_ok=True)
        return handled + len(lines)

    def _read(self, entry: Entry, config: Config) -> tuple[dict[str, Any], bytes]:
        """The payload of a capture and the line in which it leaves.

        Raises:
            _ChangedError: it was written to after we looked, so its time, and with it its id, was not final.
        """
        path = self._paths.incoming / entry.name
        data = path.read_bytes()
        now = path.stat()
        if (now.st_mtime_ns, now.st_size, now.st_ino) != (entry.mtime_ns, entry.size, entry.inode):
            raise _ChangedError
        payload = msgspec.json.decode(data, type=dict[str, Any])
        return payload, msgspec.json.encode(self.envelope(entry, payload, config))


def segments(paths: ClientDir) -> list[Path]:
    """Batches ready to leave, oldest first."""
    return sorted(paths.segments.glob("*.jsonl"))


def forget_doubles(paths: ClientDir) -> int:
    """After a crash: remove captures that are in a segment already; returns how many.

    A segment whose writer was killed goes first: it has no name yet, and its captures are all still in `incoming/`.
    """
    for torn in paths.segments.glob(".*"):
        torn.unlink(missing_ok=True)
    waiting = scan(paths)
    if not waiting:
        return 0
    told = {line for path in segments(paths) for line in _ids(path)}
    removed = 0
    for entry in waiting:
        if entry.id in told:
            (paths.incoming / entry.name).unlink(missing_ok=True)
            removed += 1
    return removed


def _ids(path: Path) -> list[str]:
    decoder = msgspec.json.Decoder(_Id)
    return [decoder.decode(line).id for line in path.read_bytes().splitlines() if line]


class _Id(msgspec.Struct):
    id: str


def wrap(lines: list[bytes] | tuple[bytes, ...] | Any) -> bytes:
    """The request body of a batch of envelopes."""
    batch = hashlib.blake2b(b"\n".join(lines), digest_size=16).hexdigest()
    return b'{"batch_id":"' + batch.encode() + b'","events":[' + b",".join(lines) + b"]}"


# -- what could not be sent --------------------------------------------------------------------------------------------


class Kept(msgspec.Struct):
    """A record that was refused, with the reason and when."""

    at: datetime
    reason: str
    record: msgspec.Raw


def set_aside(paths: ClientDir, entry: Entry, reason: str) -> None:
    """Keep a capture that is no JSON object (its hook was killed, or the disk was full) where people can look at it."""
    reason = f"incomplete or invalid capture of {entry.size} bytes: {reason}"
    target = paths.rejected / f"{entry.mtime_ns:020d}-{entry.name}.capture"
    source = paths.incoming / entry.name
    keep(paths, msgspec.json.encode({"capture": target.name}), reason)
    if entry.size:
        source.replace(target)
    else:
        source.unlink(missing_ok=True)


def keep(paths: ClientDir, line: bytes, reason: str) -> None:
    """Append a refused record to today's file in `rejected/`, and make room there if needed."""
    now = datetime.now(UTC)
    path = paths.rejected / f"{now:%Y%m%d}.jsonl"
    data = msgspec.json.encode(Kept(now, reason[:2_000], msgspec.Raw(line))) + b"\n"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
    try:
        os.write(handle, data)
    finally:
        os.close(handle)
    _prune_rejected(paths)


def _prune_rejected(paths: ClientDir) -> None:
    files = sorted((path for path in paths.rejected.iterdir() if path.is_file()), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    for path in files[:-1]:
        if total <= REJECTED_BYTES_MAX:
            break
        size = path.stat().st_size
        lost = path.read_bytes().count(b"\n") if path.suffix == ".jsonl" else 1
        _report(paths, Lost(path.name, lost, size, datetime.now(UTC), "rejected events, no longer kept"))
        path.unlink()
        total -= size


class Lost(msgspec.Struct):
    """Events that had to go: `name` of their segment, how many, their bytes, when they went and why."""

    name: str
    events: int
    bytes: int
    at: datetime
    why: str


class Overflow(msgspec.Struct):
    """All that was ever given up, and the newest cases."""

    events: int = 0
    bytes: int = 0
    segments: int = 0
    newest: list[Lost] = msgspec.field(default_factory=list)


def overflow(paths: ClientDir) -> Overflow:
    """What was given up for lack of space so far."""
    try:
        return msgspec.json.decode(paths.overflow.read_bytes(), type=Overflow)
    except (OSError, msgspec.MsgspecError):
        return Overflow()


def _report(paths: ClientDir, lost: Lost) -> None:
    known = overflow(paths)
    if any(entry.name == lost.name for entry in known.newest):  # told before a crash
        return
    known.events += lost.events
    known.bytes += lost.bytes
    known.segments += 1
    known.newest = [*known.newest, lost][-OVERFLOW_ENTRIES_MAX:]
    write_atomically(paths.overflow, msgspec.json.encode(known))


def size_bytes(paths: ClientDir) -> int:
    """Bytes in the spool."""
    total = 0
    for folder in (paths.incoming, paths.segments, paths.rejected):
        for path in folder.glob("*"):
            try:
                total += path.stat().st_size
            except OSError:
                continue
    return total


def make_room(paths: ClientDir, bytes_max: int) -> list[Lost]:
    """While the spool is larger than `bytes_max`, give up the oldest segment.  Each is reported before it goes."""
    total = size_bytes(paths)
    gone: list[Lost] = []
    for path in segments(paths):
        if total <= bytes_max:
            break
        size = path.stat().st_size
        events = path.read_bytes().count(b"\n")
        lost = Lost(path.name, events, size, datetime.now(UTC), f"the spool is limited to {bytes_max} bytes")
        _report(paths, lost)
        path.unlink()
        gone.append(lost)
        total -= size
    return gone
