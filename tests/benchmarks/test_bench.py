"""The bench's own parts: load and corpora are what the rows say they are, and a missed hold is never shown as held."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from domain.discover import collect
from tests.benchmarks import hooks, rows, transcripts, watch
from tests.benchmarks.table import Hold, Result, Row, line


def decoded(session: int, events: int) -> list[dict]:
    bodies = hooks.bodies(events)
    filled = [hooks.fill(body, session, session << 8 | at, 1_795_209_184) for at, body in enumerate(bodies)]
    return [envelope for body in filled for envelope in json.loads(body)["events"]]


@pytest.mark.parametrize("batch", [1, 100])
def test_a_session_of_load_has_one_session_id_and_no_event_twice(batch: int) -> None:
    events = decoded(7, batch)
    assert len(events) == hooks.SESSION_EVENTS
    assert len({event["payload"]["session_id"] for event in events}) == 1
    assert len({event["id"] for event in events}) == len(events)


def test_two_sessions_of_load_share_no_tool_call() -> None:
    calls = [{e["payload"].get("tool_use_id") for e in decoded(session, 100)} - {None} for session in (1, 2)]
    assert calls[0]
    assert not calls[0] & calls[1]


def test_a_corpus_is_the_same_for_a_seed_and_shares_nothing_with_another(tmp_path: Path) -> None:
    texts = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        corpus = transcripts.write(tmp_path / name, 5, seed)
        assert corpus.size == sum(path.stat().st_size for path in corpus.folder.rglob("*.jsonl"))
        texts[name] = {path.name: path.read_bytes() for path in corpus.folder.rglob("*.jsonl")}
    assert texts["a"] == texts["b"]
    assert not texts["a"].keys() & texts["c"].keys()


def test_lines_of_a_synthetic_transcript_follow_one_another(tmp_path: Path) -> None:
    corpus = transcripts.write(tmp_path, 3, 4)
    for path in corpus.folder.rglob("*.jsonl"):
        known: set[str] = set()
        for record in map(json.loads, path.read_text().splitlines()):
            if "uuid" in record:
                assert record["parentUuid"] is None or record["parentUuid"] in known
                assert record["uuid"] not in known
                known.add(record["uuid"])


def test_a_row_that_was_not_measured_is_neither_held_nor_missed() -> None:
    row = Row(
        order=1, name="x", what="", against="", hold=Hold("ratio", least=0.5), run=lambda _: Result(value=1, unit="")
    )
    assert line(row, None, "no tool", 0, 0).ok is None
    assert line(row, Result(value=4, unit="", peer=10), "", 0, 0).ok is False
    assert line(row, Result(value=5, unit="", peer=10), "", 0, 0).ok is True
    assert not Hold("value", most=100).met(101, None)


def test_every_row_of_the_design_is_there_once() -> None:
    found = sorted(collect(rows, Row), key=lambda row: row.order)
    assert [row.order for row in found] == list(range(1, 20))
    assert len({row.name for row in found}) == len(found)


def test_growing_lag_is_seen_and_steady_lag_is_not() -> None:
    growing = [(n / 4, n * 10) for n in range(40)]
    steady = [(n / 4, 50 + n % 3) for n in range(40)]
    assert watch.climb(growing, 0, 9.75)[0] > 350
    assert abs(watch.climb(steady, 0, 9.75)[0]) < 5
    assert all(b[0] > a[0] for a, b in pairwise(growing))


def test_an_event_is_readable_from_the_first_look_that_passed_it() -> None:
    looks = [(10.0, 3), (10.1, 5), (10.2, 9)]
    assert watch.delays_ms(looks, [(4, 10.05), (9, 10.0), (10, 10.0)]) == pytest.approx([50, 200])
