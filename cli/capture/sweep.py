"""The third channel by itself: transcripts of sessions that hooks told us about are read when the session is over.

A session that hooks announced is kept in `sweeps/open.json` until its transcript has been read after its end.  A session
that never ended (a killed agent) is read when a later one starts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cli.capture.config import Config
from cli.capture.paths import ClientDir, write_atomically
from cli.capture.sending import Sender
from cli.capture.shipping import Tally
from cli.capture.transcripts import Source, discover
from cli.client import Connection

SETTLE_S = (1.5, 5.0)  # agents write the last lines of a transcript (the session's cost) after SessionEnd
OPEN_MAX = 500


class Sweep(msgspec.Struct, omit_defaults=True):
    """A transcript to read.  `due`: epoch seconds of the next reading, 0 while the session goes on; `left`: readings to do."""

    path: str
    agent: str
    due: float = 0.0
    left: int = 0
    seen: float = 0.0


class Sweeps:
    """What is open and what is due; survives restarts."""

    def __init__(self, paths: ClientDir) -> None:
        self._paths = paths
        self._file = paths.sweeps / "open.json"
        try:
            self._open = msgspec.json.decode(self._file.read_bytes(), type=dict[str, Sweep])
        except (OSError, msgspec.MsgspecError):
            self._open = dict[str, Sweep]()

    def note(self, payload: Mapping[str, object], agent: str) -> None:
        """Learn from a captured payload which transcript there is, and whether its session is over."""
        path, kind = payload.get("transcript_path"), payload.get("hook_event_name")
        if (
            not isinstance(path, str)
            or not path
            or kind not in {"SessionStart", "SessionEnd", "Stop", "UserPromptSubmit"}
        ):
            return
        now = time.time()
        before = self._open.get(path)
        if kind == "SessionEnd":
            self._open[path] = Sweep(path, agent, now + SETTLE_S[0], len(SETTLE_S), now)
        elif before is None or before.due or kind == "SessionStart":
            self._open[path] = Sweep(path, agent, seen=now)
            if kind == "SessionStart":
                self._read_others(path, now)
        else:
            return
        while len(self._open) > OPEN_MAX:
            del self._open[min(self._open, key=lambda key: self._open[key].seen)]
        self._save()

    def _read_others(self, path: str, now: float) -> None:
        """Read what earlier sessions left, also of those that never said they were over (and go on watching these)."""
        for other, sweep in self._open.items():
            if other != path and not sweep.due:
                sweep.due, sweep.left = now, 1

    def due(self) -> list[Sweep]:
        """What should be read now."""
        now = time.time()
        return [sweep for sweep in self._open.values() if sweep.due and sweep.due <= now]

    def waiting(self) -> bool:
        """Whether something will be due."""
        return any(sweep.due for sweep in self._open.values())

    def hurry(self) -> None:
        """Make everything due that waits for its time: somebody asked for a flush."""
        now = time.time()
        for sweep in self._open.values():
            if sweep.due:
                sweep.due = now
                if now - sweep.seen > sum(SETTLE_S):
                    sweep.left = 1

    def run(self, sweep: Sweep, connection: Connection, config: Config) -> Tally:
        """Read and send what is new in a transcript and in those of its subagents.

        Raises:
            UnreachableError, RefusedError: as `shipping.ship`; the sweep stays due.
        """
        sender = Sender(self._paths, connection, config)
        sources = _sources(sweep)
        try:
            for source in sources:
                sender.send(source)
        finally:
            sender.close()
        sweep.left -= 1
        if sweep.left > 0:
            sweep.due = time.time() + SETTLE_S[-1]
        else:
            self._open.pop(sweep.path, None)
        self._save()
        report = sender.report
        return Tally(report.accepted, report.duplicate, report.rejected)

    def _save(self) -> None:
        write_atomically(self._file, msgspec.json.encode(self._open))


def _sources(sweep: Sweep) -> list[Source]:
    path = Path(sweep.path)
    own = discover([path], sweep.agent) if path.is_file() else []
    inner = path.with_suffix("") / "subagents"
    return own + (discover([inner], sweep.agent) if sweep.agent == "claude" and inner.is_dir() else [])
