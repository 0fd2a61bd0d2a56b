"""Read agents' own transcripts: find the files, take what is new in them, leave out what says nothing about the work.

Left out of Claude Code's files: attachments (listings, snapshots and instructions written by the vendor or the harness, hook
results; not the note that a limit of turns was reached), request shapes and blobs (vendor prompt text), queue, mode and tool bookkeeping, and all but the last of a run of
`cost-state` lines.  Left out of Codex's: reasoning, developer and system messages, world state and base instructions.  No
read model uses them, and vendor prompt text never leaves a laptop.  Kinds we do not know are sent, reduced like the rest.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from cli.capture.config import Config
from cli.capture.leave import leave
from cli.capture.quick import structure
from domain.sessions.bookkeeping import BOOKKEEPING
from domain.sessions.split import MARK

BLOCK_BYTES = 4 * 1024 * 1024
LINE_BYTES_MAX = 64 * 1024 * 1024  # a longer line is counted as bad
HEAD_BYTES = 256 * 1024
TAIL_BYTES = 1024
END_BYTES = 256 * 1024  # holds the last line of a transcript, if that is a session's total
CHUNK_LINES_MAX = 2_000
CHUNK_BYTES_MAX = 2 * 1024 * 1024

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_CLAUDE_LEFT_OUT = BOOKKEEPING | {"attachment"}
# The first bytes of most lines that are left out, as the agent writes them: then they need not be parsed.
_stays = re.compile(
    rb'\{"type":"(?:' + "|".join(sorted(_CLAUDE_LEFT_OUT)).encode() + rb')"|'
    rb'\{"parentUuid":(?:null|"[0-9a-f-]{36}"),"isSidechain":(?:true|false),"attachment":\{(?!"type":"max_turns_reached")'
).match
_KEPT_ATTACHMENT = b'"attachment":{"type":"max_turns_reached"'  # it alone tells why such a session ended
_SYSTEM_LEFT_OUT = frozenset({"stop_hook_summary", "turn_duration"})
_CODEX_LEFT_OUT = frozenset({"world_state"})
_CODEX_INSTRUCTIONS = frozenset({"base_instructions", "instructions", "developer_instructions", "user_instructions"})
_OTHER_FILES = frozenset({"history.jsonl", "hooks.jsonl", "otlp_logs.jsonl", "otlp_metrics.jsonl", "otlp_traces.jsonl"})


class Source(msgspec.Struct, frozen=True):
    """One transcript file.  `subagent_id`: it is a subagent's own."""

    path: str
    agent: str
    subagent_id: str | None = None


class Mark(msgspec.Struct, omit_defaults=True):
    """How far a file has been read: up to `offset`, which follows bytes that hash to `tail`.  `meta` names a subagent's meta."""

    path: str
    offset: int = 0
    inode: int = 0
    tail: str = ""
    meta: str = ""


class Chunk(msgspec.Struct):
    """Lines ready to leave, and where the file stands once they have been answered for."""

    session_id: str
    cwd: str | None
    level: str
    lines: list[bytes]
    mark: Mark
    meta: dict[str, Any] | None = None
    read: int = 0
    bad: int = 0
    left_out: int = 0


class _Head(msgspec.Struct):
    """Just enough of a line to decide about it; the rest is skipped without being built."""

    type: str | None = None
    subtype: str | None = None
    sessionId: str | None = None  # noqa: N815 - the vendor's name
    cwd: str | None = None
    timestamp: str | None = None


_head = msgspec.json.Decoder(_Head).decode
_whole = msgspec.json.Decoder(dict[str, Any]).decode


def discover(places: Iterable[Path], agent: str | None = None, since: datetime | None = None) -> list[Source]:
    """All transcripts below `places`, in order of path; `since` leaves out files not changed since then."""
    found: dict[str, Source] = {}
    for place in places:
        for path in sorted(place.rglob("*.jsonl")) if place.is_dir() else [place]:
            if path.name in _OTHER_FILES and path != place:
                continue
            if since is not None and path.stat().st_mtime < since.timestamp():
                continue
            kind = agent or ("codex" if path.name.startswith("rollout") else "claude")
            inner = path.stem.removeprefix("agent-") if kind == "claude" and path.stem.startswith("agent-") else None
            found[str(path.absolute())] = Source(str(path.absolute()), kind, inner)
    return list(found.values())


def tail_hash(path: str, offset: int) -> str:
    """Names the bytes before `offset`, so that a file that was replaced is not taken for one that grew."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - once per piece of a file
        file.seek(max(0, offset - TAIL_BYTES))
        return hashlib.blake2b(file.read(min(TAIL_BYTES, offset)), digest_size=12).hexdigest()


def total_is_told(path: str) -> bool:
    """Whether the last line of a transcript is the session's total, which Claude Code writes when all is over."""
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - END_BYTES))
            lines = file.read(END_BYTES).rstrip().rsplit(b"\n", 1)
        return _head(lines[-1]).type == "cost-state"
    except (OSError, msgspec.MsgspecError):
        return False


def resume_at(source: Source, known: Mark | None) -> Mark:
    """Where to go on: at the known offset if the file only grew since, else at its beginning."""
    stat = os.stat(source.path)  # noqa: PTH116 - thousands of files
    if (
        known is not None
        and known.inode == stat.st_ino
        and known.offset <= stat.st_size
        and tail_hash(source.path, known.offset) == known.tail
    ):
        return known
    return Mark(source.path, 0, stat.st_ino)


def chunks(source: Source, known: Mark | None, config: Config) -> Iterator[Chunk]:
    """What is new in a file, in pieces of bounded size, in order.

    A last line without its newline is taken only if it is complete.  Yields nothing when there is nothing to tell.

    Raises:
        OSError: the file cannot be read.
    """
    start = resume_at(source, known)
    meta = _meta(source)
    digest = hashlib.blake2b(msgspec.json.encode(meta), digest_size=8).hexdigest() if meta else ""
    size = os.stat(source.path).st_size  # noqa: PTH116 - as above
    if start.offset >= size and digest == start.meta:
        return
    session_id, cwd = _identity(source)
    if session_id is None:
        return
    level = config.level(cwd)
    reader = _Reader(source, level)
    about = leave(meta, "transcript", source.agent, level) if meta else None
    if about:
        about.pop(MARK, None)
    offset = start.offset
    for piece, end in _pieces(source.path, offset):
        lines = reader.take(piece)
        mark = Mark(source.path, end, start.inode, tail_hash(source.path, end), digest)
        counts = reader.counts()
        yield Chunk(session_id, cwd, level, lines, mark, about, *counts)
        offset = end
    if offset == start.offset and digest != start.meta:
        mark = Mark(source.path, offset, start.inode, tail_hash(source.path, offset), digest)
        yield Chunk(session_id, cwd, level, [], mark, about)


def _pieces(path: str, offset: int) -> Iterator[tuple[list[bytes], int]]:
    """Runs of whole lines and the offset after them."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - thousands of files
        file.seek(offset)
        rest = b""
        while block := file.read(BLOCK_BYTES):
            rest = rest + block if rest else block
            end = rest.rfind(b"\n") + 1
            if not end:
                if len(rest) > LINE_BYTES_MAX:  # nobody's transcript; the reader will count it
                    offset += len(rest)
                    yield [rest], offset
                    rest = b""
                continue
            lines, rest = rest[:end].split(b"\n"), rest[end:]
            for run, length in _runs(lines[:-1]):
                offset += length
                yield run, offset
        if rest:
            try:
                _head(rest)
            except msgspec.MsgspecError:
                return
            yield [rest], offset + len(rest)


def _runs(lines: list[bytes]) -> Iterator[tuple[list[bytes], int]]:
    if len(lines) < CHUNK_LINES_MAX and (length := sum(map(len, lines)) + len(lines)) < CHUNK_BYTES_MAX:
        if lines:
            yield lines, length
        return
    run: list[bytes] = []
    length = 0
    for line in lines:
        run.append(line)
        length += len(line) + 1
        if len(run) >= CHUNK_LINES_MAX or length >= CHUNK_BYTES_MAX:
            yield run, length
            run, length = [], 0
    if run:
        yield run, length


def _identity(source: Source) -> tuple[str | None, str | None]:
    """The agent session a file belongs to and its working directory, from its name and its first lines."""
    path = Path(source.path)
    named = _UUID.search(path.stem)
    session_id = named.group() if named and source.subagent_id is None else None
    cwd: str | None = None
    for line in _first_lines(source.path):
        try:
            if source.agent == "codex":
                record = _whole(line)
                payload = record.get("payload")
                if record.get("type") == "session_meta" and isinstance(payload, dict):
                    told = cast("dict[str, Any]", payload)
                    session_id, cwd = session_id or told.get("id"), told.get("cwd")
                    break
                continue
            found = _head(line)
        except msgspec.MsgspecError:
            continue
        session_id, cwd = session_id or found.sessionId, cwd or found.cwd
        if session_id and cwd:
            break
    if session_id is None and source.subagent_id is not None and path.parent.name == "subagents":
        session_id = path.parent.parent.name
    return session_id, cwd


def _first_lines(path: str) -> Iterator[bytes]:
    """The lines of the beginning of a file."""
    with open(path, "rb") as file:  # noqa: PTH123 - thousands of files
        left = HEAD_BYTES
        while left > 0 and (line := file.readline(left)):
            left -= len(line)
            yield line


def _meta(source: Source) -> dict[str, Any] | None:
    if source.subagent_id is None:
        return None
    try:
        return _whole(Path(source.path).with_suffix(".meta.json").read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None


class _Reader:
    """Decides line by line what leaves."""

    def __init__(self, source: Source, level: str) -> None:
        self._agent = source.agent
        self._level = level
        self._quick = source.agent == "claude" and level == "structure"
        self._read = self._bad = self._left_out = 0

    def counts(self) -> tuple[int, int, int]:
        """(read, bad, left out) since the last call."""
        told = (self._read, self._bad, self._left_out)
        self._read = self._bad = self._left_out = 0
        return told

    def take(self, lines: Sequence[bytes]) -> list[bytes]:
        """The lines that leave, in the form in which they do."""
        out: list[bytes] = []
        state: bytes | None = None
        stays = _stays if self._agent == "claude" else None
        for line in lines:
            if not line or line.isspace():
                continue
            self._read += 1
            if stays is not None and stays(line):
                self._left_out += 1
                continue
            try:
                kept = self._one(line)
            except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
                self._bad += 1
                continue
            if kept is None:
                self._left_out += 1
            elif kept[1]:
                self._left_out += state is not None
                state = kept[0]
            else:
                out.append(kept[0])
        if state is not None:
            out.append(state)
        return out

    def _one(self, line: bytes) -> tuple[bytes, bool] | None:
        """The line as it leaves and whether it is a running total; None: it stays."""
        if self._quick and (short := structure(line)) is not None:
            return short, False
        try:
            head = _head(line)
            kind = head.type
        except msgspec.ValidationError:  # a field has a type we did not expect
            head, kind = None, None
        if self._agent == "claude" and head is not None:
            left_out = kind in _CLAUDE_LEFT_OUT and _KEPT_ATTACHMENT not in line
            if left_out or (kind == "system" and head.subtype in _SYSTEM_LEFT_OUT):
                return None
        elif self._agent == "codex" and kind in _CODEX_LEFT_OUT:
            return None
        record = _whole(line)
        if self._agent == "codex" and not _codex(record):
            return None
        record = leave(record, "transcript", self._agent, self._level)
        return msgspec.json.encode(record), kind == "cost-state"


def _codex(record: dict[str, Any]) -> bool:
    """Whether a Codex line leaves; takes the vendor's instructions out of it."""
    payload = record.get("payload")
    if not isinstance(payload, dict):
        return True
    inner = cast("dict[str, Any]", payload)
    for name in _CODEX_INSTRUCTIONS & inner.keys():
        del inner[name]
    if record.get("type") != "response_item":
        return True
    return inner.get("type") != "reasoning" and inner.get("role") not in {"developer", "system"}
