"""Recorded agent sessions, told again as if they happened now: same records, same pace, another day."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

SIGNALS = ("logs", "metrics", "traces")
_NEAR_S = 3600.0  # a moment further from the recording than this is content (a date in a text), not a time of it
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")
_EPOCH = re.compile(r"(?<![\d.])1\d{9}(?:\.\d+|\d{3}|\d{9})?(?![\d.])")  # seconds, milliseconds or nanoseconds


class Step(msgspec.Struct, frozen=True):
    """One thing the agent did: a hook call, or a telemetry request to `/v1/SIGNAL`, `after_s` the recording began."""

    after_s: float
    door: str  # "hook", "logs", "metrics" or "traces"
    body: bytes


class Recording:
    """The files of one recorded session.  `began` and `ended` are Unix seconds, of the first and last record with a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.agent = "codex" if (folder / "rollout.jsonl").exists() else "claude"
        self.transcript = folder / ("rollout.jsonl" if self.agent == "codex" else "transcript.jsonl")
        self.session_id = _session_id(self.transcript, self.agent)
        told = sorted(moment for path in self._files() for moment in _moments(path.read_text(encoding="utf-8")))
        self.began, self.ended = told[0], told[-1]

    def _files(self) -> list[Path]:
        """What was recorded with times of its own; hooks have none, the recorder noted when they came."""
        return [self.transcript, *sorted(self.folder.glob("otlp_*.jsonl"))]

    def steps(self, begins: float) -> list[Step]:
        """Hook calls and telemetry in their order, with every time moved as if the session began at Unix second `begins`."""
        move = self.mover(begins)
        found = [*self._hooks(move), *self._telemetry(move)]
        return sorted(found, key=lambda step: step.after_s)

    def mover(self, begins: float) -> Callable[[str], str]:
        """Moves each time of the recording that stands in a text by the same span; leaves other dates as they are."""
        by_ms = round((begins - self.began) * 1000)
        low, high = self.began - _NEAR_S, self.ended + _NEAR_S

        def iso(found: re.Match[str]) -> str:
            moment = _seconds(found[0])
            return _iso(round(moment * 1000) + by_ms) if low <= moment <= high else found[0]

        def epoch(found: re.Match[str]) -> str:
            if not low <= _epoch(found[0]) <= high:
                return found[0]
            if len(found[0]) == 10 or "." in found[0]:
                return (
                    f"{float(found[0]) + by_ms / 1000:.6f}" if "." in found[0] else str(int(found[0]) + by_ms // 1000)
                )
            return str(int(found[0]) + by_ms * 10 ** (len(found[0]) - 13))

        return lambda text: _EPOCH.sub(epoch, _ISO.sub(iso, text))

    def _hooks(self, move: Callable[[str], str]) -> Iterator[Step]:
        lines = [json.loads(line) for line in (self.folder / "hooks.jsonl").read_bytes().splitlines()]
        for number, line in enumerate(lines):
            # Of Codex' hooks nobody noted when they came: they are spread over the session in their order.
            evenly = (self.ended - self.began) * number / max(1, len(lines) - 1)
            after_s = line["captured_at"] - self.began if "captured_at" in line else evenly
            yield Step(max(0.0, after_s), "hook", move(json.dumps(line.get("payload", line))).encode())

    def _telemetry(self, move: Callable[[str], str]) -> Iterator[Step]:
        for signal in SIGNALS:
            path = self.folder / f"otlp_{signal}.jsonl"
            for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
                # An agent sends a request when its last record is there.
                yield Step(max(_moments(line), default=self.began) - self.began, signal, move(line).encode())

    def lay_out(self, home: Path, begins: float) -> Path:
        """Put the transcript, its times moved, where its agent would have kept it; the folder to import."""
        move = self.mover(begins)
        if self.agent == "codex":
            day = datetime.fromtimestamp(begins, UTC)
            root = home / "codex" / "sessions"
            place = root / f"{day:%Y/%m/%d}" / f"rollout-{day:%Y-%m-%dT%H-%M-%S}-{self.session_id}.jsonl"
            _copy(self.transcript, place, move)
            return root
        root = home / "claude" / "projects"
        project = root / "-home-dev-proj"
        _copy(self.transcript, project / f"{self.session_id}.jsonl", move)
        for each in sorted((self.folder / "subagents").glob("*")):
            _copy(each, project / self.session_id / "subagents" / each.name, move)
        return root


def recordings_in(folder: Path) -> list[Recording]:
    """Every recording below `folder`, by name."""
    return [Recording(path) for path in sorted(folder.iterdir()) if (path / "hooks.jsonl").exists()]


def _session_id(transcript: Path, agent: str) -> str:
    lines: Iterator[dict[str, Any]] = (json.loads(line) for line in transcript.read_bytes().splitlines())
    if agent == "codex":
        return str(next(lines)["payload"]["id"])
    return str(next(line["sessionId"] for line in lines if "sessionId" in line))


def _moments(text: str) -> list[float]:
    """Unix seconds of every time in `text`."""
    return [*map(_epoch, _EPOCH.findall(text)), *map(_seconds, _ISO.findall(text))]


def _epoch(number: str) -> float:
    return float(number) if "." in number else int(number) / 10 ** (len(number) - 10)


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _copy(source: Path, target: Path, move: Callable[[str], str]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(move(source.read_text(encoding="utf-8")), encoding="utf-8")
