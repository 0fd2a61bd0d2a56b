"""The third channel by itself: transcripts of sessions that hooks told us about are read when the session is over.

A session that hooks announced is kept in `sweeps/open.json` until its transcript has been read after its end.  A session
that never ended (a killed agent) is read when a later one starts.

Agents write the last lines of a transcript (the session's cost) after they have told that the session is over.  So the
transcript of an ended session is read once it has settled: it ends with the running total, or nobody has written to it for
a while.  A flush waits for that (`Sweeps.unsettled`), also while another process does the reading.
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
from cli.capture.transcripts import Source, discover, total_is_told
from cli.client import Connection

QUIET_S = 3.0  # without a total: as long as this nobody has written to the transcript of an ended session
SETTLE_MAX_S = 15.0  # longer nobody waits, even if the transcript goes on growing
LATE_S = 20.0  # one that had no total is looked at once more, by whoever is at work then
OPEN_MAX = 500


class Sweep(msgspec.Struct, omit_defaults=True):
    """A transcript to read, with moments as epoch seconds.

    `due`: from when on it may be read, 0 while the session goes on; `ended`: its end was told then; `began`: its start was;
    `late`: it has been read, and is read again only in case somebody wrote to it after all.
    """

    path: str
    agent: str
    due: float = 0.0
    seen: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    late: bool = False


class Sweeps:
    """What is open and what is due; survives restarts."""

    def __init__(self, paths: ClientDir) -> None:
        self._paths = paths
        self._file = paths.sweeps / "open.json"
        try:
            self._open = msgspec.json.decode(self._file.read_bytes(), type=dict[str, Sweep])
        except (OSError, msgspec.MsgspecError):
            self._open = dict[str, Sweep]()

    def note(self, payload: Mapping[str, object], agent: str, at: float) -> None:
        """Learn from a payload captured `at` (epoch seconds) which transcript there is, and whether its session is over."""
        path, kind = payload.get("transcript_path"), payload.get("hook_event_name")
        if (
            not isinstance(path, str)
            or not path
            or kind not in {"SessionStart", "SessionEnd", "Stop", "UserPromptSubmit"}
        ):
            return
        now = time.time()
        at = min(at, now)
        before = self._open.get(path)
        began = before.began if before else 0.0
        if kind == "SessionEnd":
            self._open[path] = Sweep(path, agent, now, now, began, at)
        elif kind == "SessionStart":
            self._open[path] = Sweep(path, agent, seen=now, began=at)
            self._read_others(path, now)
        elif before is None or before.due:
            self._open[path] = Sweep(path, agent, seen=now, began=began)
        else:
            return
        while len(self._open) > OPEN_MAX:
            del self._open[min(self._open, key=lambda key: self._open[key].seen)]
        self._save()

    def _read_others(self, path: str, now: float) -> None:
        """Read what earlier sessions left, also of those that never said they were over."""
        for other, sweep in self._open.items():
            if other != path and not sweep.due:
                sweep.due = now

    def due(self) -> list[Sweep]:
        """What should be read now."""
        now = time.time()
        return [sweep for sweep in self._open.values() if sweep.due and sweep.due <= now and settled(sweep, now)]

    def waiting(self) -> bool:
        """Whether something will be due."""
        return any(sweep.due for sweep in self._open.values())

    def unsettled(self) -> bool:
        """Whether an ended session's transcript has not been read yet."""
        return any(sweep.due and not sweep.late for sweep in self._open.values())

    def run(self, sweep: Sweep, connection: Connection, config: Config) -> Tally:
        """Read and send what is new in a transcript and in those of its subagents.

        Raises:
            UnreachableError, RefusedError: as `shipping.ship`; the sweep stays due.
        """
        told = total_is_told(sweep.path)  # asked before reading: what is written meanwhile may be missed
        sender = Sender(self._paths, connection, config)
        try:
            for source in _sources(sweep):
                sender.send(source)
        finally:
            sender.close()
        if sweep.ended and not sweep.late and not told and Path(sweep.path).is_file():
            sweep.due, sweep.late = time.time() + LATE_S, True
        else:
            self._open.pop(sweep.path, None)
        self._save()
        report = sender.report
        return Tally(report.accepted, report.duplicate, report.rejected)

    def _save(self) -> None:
        write_atomically(self._file, msgspec.json.encode(self._open))


def settled(sweep: Sweep, now: float) -> bool:
    """Whether a due transcript can be read as a whole.

    Of a session that never told its end, nothing more can be waited for.  A total that was there when the session began is
    that of an earlier run.
    """
    if not sweep.ended or sweep.late or now - sweep.ended >= SETTLE_MAX_S:
        return True
    try:
        written = Path(sweep.path).stat().st_mtime
    except OSError:
        return True
    if written > sweep.began and total_is_told(sweep.path):
        return True
    return now - max(sweep.ended, written) >= QUIET_S


def _sources(sweep: Sweep) -> list[Source]:
    path = Path(sweep.path)
    own = discover([path], sweep.agent) if path.is_file() else []
    inner = path.with_suffix("") / "subagents"
    return own + (discover([inner], sweep.agent) if sweep.agent == "claude" and inner.is_dir() else [])
