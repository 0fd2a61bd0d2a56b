"""Recordings told again: every time moved by one span, nothing else touched, in the order in which it happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli._recordings import Recording, recordings_in

FOLDER = Path(__file__).resolve().parents[1] / "recordings"
BEGINS = 1_796_000_000.0  # 2026-11-30T00:53:20Z


@pytest.fixture(params=sorted(path.name for path in FOLDER.iterdir() if (path / "hooks.jsonl").exists()))
def recording(request: pytest.FixtureRequest) -> Recording:
    return Recording(FOLDER / str(request.param))


def test_every_recording_is_found() -> None:
    assert len({one.session_id for one in recordings_in(FOLDER)}) == 5


def test_each_step_comes_when_it_did_and_none_is_lost(recording: Recording) -> None:
    steps = recording.steps(BEGINS)
    assert [step.after_s for step in steps] == sorted(step.after_s for step in steps)
    assert 0 <= steps[0].after_s <= steps[-1].after_s <= recording.ended - recording.began + 1
    for door, name in (
        ("hook", "hooks"),
        ("logs", "otlp_logs"),
        ("metrics", "otlp_metrics"),
        ("traces", "otlp_traces"),
    ):
        path = recording.folder / f"{name}.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        assert sum(step.door == door for step in steps) == len(lines)


def test_only_times_change_and_all_by_the_same_span(recording: Recording) -> None:
    move = recording.mover(BEGINS)
    for path in recording.folder.rglob("*.jsonl"):
        text = path.read_text(encoding="utf-8")
        moved = move(text)
        assert moved.count("\n") == text.count("\n")
        for line in moved.splitlines():
            json.loads(line)
        if path.name != "hooks.jsonl":
            assert moved != text
    # No record keeps the old day, but for names of files and ids.
    day = "2026-11-20T21:"
    assert day not in move(recording.transcript.read_text(encoding="utf-8"))


def test_times_of_every_spelling_move_alike_and_other_dates_stay(recording: Recording) -> None:
    move = recording.mover(recording.began + 86_400)
    second = round(recording.began)
    assert move(f'"{second}000000001" {second}123 {second} {second}.5') == (
        f'"{second + 86_400}000000001" {second + 86_400}123 {second + 86_400} {second + 86_400}.500000'
    )
    assert move('"2026-11-20T21:13:12.935Z"' if recording.agent == "claude" else '"2026-11-20T21:44:52.866Z"') == (
        '"2026-11-21T21:13:12.935Z"' if recording.agent == "claude" else '"2026-11-21T21:44:52.866Z"'
    )
    untouched = '"2019-01-01T00:00:00Z" 1500000000 150 79520918458500000'
    assert move(untouched) == untouched


def test_the_transcript_lies_where_its_agent_keeps_it(recording: Recording, tmp_path: Path) -> None:
    root = recording.lay_out(tmp_path, BEGINS)
    found = list(root.rglob("*.jsonl"))
    assert len(found) == 1 + len(list((recording.folder / "subagents").glob("*.jsonl")))
    assert any(recording.session_id in path.name for path in found)
    assert "2026-11-30T00:53:2" in "".join(path.read_text(encoding="utf-8") for path in found)
