"""Synthetic Claude Code transcripts: the recorded session's lines, repeated with other ids, times and tool outputs.

Deterministic by seed.  3,000 of them hold about 237,000 lines and 240 MB, the corpus of reference figures for ccusage.
"""

from __future__ import annotations

import json
import random
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec

RECORDING = Path(__file__).resolve().parents[1] / "recordings" / "claude-0447534f" / "transcript.jsonl"
TEMPLATES = 64  # distinct shapes; the rest differ in ids, dates and project
WORK_LINES = (12, 102)  # lines after the opening, drawn evenly: 79 lines per transcript on average
OUTPUT_BYTES = (500, 7_400)  # text of a tool result; recordings have them elided
PROJECTS = 40
DAYS = 60
SESSION = "S" * 12
UNIQUE = "B" * 8
DAY = "2026-11-20"
_IDS = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?:toolu|msg|req)_[0-9a-z]{24}|\ba[0-9a-f]{16}\b"
)
_TIME = re.compile(r"T21:13:")


class Corpus(msgspec.Struct, frozen=True):
    """What was written.  `api_calls` are distinct message ids, `facts` lines that name a session."""

    folder: Path
    files: int
    lines: int
    size: int
    api_calls: int


class Template(msgspec.Struct, frozen=True):
    """One transcript with tokens in the places that differ."""

    text: bytes
    lines: int
    api_calls: int


def write(folder: Path, transcripts: int, seed: int) -> Corpus:
    """Fill `folder/projects` as a Claude configuration folder."""
    randomness = random.Random(seed)
    templates = [_template(randomness) for _ in range(TEMPLATES)]
    lines = size = calls = 0
    first = date(2026, 9, 15)
    for number in range(transcripts):
        template = templates[number % TEMPLATES]
        session = f"{seed & 0xFFFF:04x}{number:08x}"
        day = (first + timedelta(days=randomness.randrange(DAYS))).isoformat()
        text = (
            template.text.replace(SESSION.encode(), session.encode())
            .replace(UNIQUE.encode(), b"%02x%06x" % (seed & 0xFF, number))
            .replace(DAY.encode(), day.encode())
        )
        place = folder / "projects" / f"-home-dev-project-{number % PROJECTS:02d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"0447534f-4168-45f3-a089-{session}.jsonl").write_bytes(text)
        lines += template.lines
        size += len(text)
        calls += template.api_calls
    return Corpus(folder, transcripts, lines, size, calls)


def _template(randomness: random.Random) -> Template:
    recorded: list[dict[str, Any]] = [json.loads(text) for text in RECORDING.read_text().splitlines()]
    start = next(i for i, row in enumerate(recorded) if row["type"] == "assistant")
    # The closing total would have to be recomputed per transcript; a killed session has none either.
    work = [row for row in recorded[start:] if row["type"] != "cost-state"]
    opening_last = next(row["uuid"] for row in reversed(recorded[:start]) if "uuid" in row)
    work_last = next(row["uuid"] for row in reversed(work) if "uuid" in row)
    session = next(row["sessionId"] for row in recorded if "sessionId" in row)
    chosen = [(row, 0) for row in recorded[:start]]
    chosen += [(work[i % len(work)], i // len(work)) for i in range(randomness.randint(*WORK_LINES))]
    texts: list[str] = []
    calls: set[str] = set()
    for row, cycle in chosen:
        text = json.dumps(_with_output(row, randomness), separators=(",", ":"))  # as the agent writes it

        def vary(match: re.Match[str], cycle: int = cycle) -> str:
            known = match[0]
            if known == session:
                return known[:-12] + SESSION
            if cycle and known == opening_last:  # the next round of work follows the last one
                known, cycle = work_last, cycle - 1
            return f"{known[:-12]}{UNIQUE}{cycle:04x}"

        text = _IDS.sub(vary, text)
        texts.append(_TIME.sub(f"T{10 + cycle // 60:02d}:{cycle % 60:02d}:", text))
        if row["type"] == "assistant":
            calls.add(f"{row['message']['id']}{cycle}")
    return Template(("\n".join(texts) + "\n").encode(), len(texts), len(calls))


def _with_output(row: dict[str, Any], randomness: random.Random) -> dict[str, Any]:
    """A tool result as long as real ones are."""
    content = row.get("message", {}).get("content") if row["type"] == "user" else None
    if not isinstance(content, list):
        return row
    words = [f"{randomness.choice(_WORDS)}" for _ in range(randomness.randint(*OUTPUT_BYTES) // 8)]
    output = " ".join(words)
    parts = [dict(part, content=output) if part.get("type") == "tool_result" else part for part in content]
    return dict(row, message=dict(row["message"], content=parts))


_WORDS = (
    "return",
    "import",
    "const",
    "=>",
    "self.events",
    "\n",
    "def",
    "(line)",
    "async",
    "{",
    "}",
    "assert",
    "value:",
    "7f",
)
