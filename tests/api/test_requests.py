"""The log of requests stays readable, whatever the load."""

from __future__ import annotations

from typing import Any

from api.requests import LINES_MAX, WINDOW_S, Kind, RequestLog

INGESTED: Kind = ("POST", "/events", 202, "key:1", "org")
FAILED: Kind = ("POST", "/events", 503, "key:1", "org")


class Book:
    """Lines written, and a clock that stands still until it is told."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.now = 100.0
        self.log = RequestLog(self.write, lambda: self.now)

    def write(self, event: str, **fields: Any) -> None:
        """As a logger would."""
        self.lines.append({"event": event, **fields})


async def test_few_requests_are_a_line_each() -> None:
    book = Book()
    for number in range(LINES_MAX):
        book.log.note(INGESTED, 0.002, f"r{number}")
    assert [line["request_id"] for line in book.lines] == [f"r{number}" for number in range(LINES_MAX)]
    assert book.lines[0] == {
        "event": "request.handled",
        "method": "POST",
        "route": "/events",
        "status": 202,
        "ms": 2.0,
        "request_id": "r0",
        "actor": "key:1",
        "org": "org",
    }


async def test_what_comes_beyond_is_told_together_and_nothing_is_left_out() -> None:
    book = Book()
    for number in range(LINES_MAX + 500):
        book.log.note(INGESTED, 0.001 * (1 + number % 2), f"r{number}")
    assert len(book.lines) == LINES_MAX
    book.now += WINDOW_S
    book.log.note(INGESTED, 0.002, "later")
    told, own = book.lines[LINES_MAX:]
    assert (told["event"], told["count"], told["ms_max"], told["ms_mean"]) == ("requests.handled", 500, 2.0, 1.5)
    assert told["request_id"] == f"r{LINES_MAX + 499}"
    assert own["request_id"] == "later"


async def test_the_end_of_the_process_tells_what_was_not_told_yet_once() -> None:
    book = Book()
    for number in range(LINES_MAX + 3):
        book.log.note(INGESTED, 0.001, f"r{number}")
    book.log.flush()
    book.log.flush()
    assert [line["count"] for line in book.lines if line["event"] == "requests.handled"] == [3]


async def test_failures_are_always_a_line_each() -> None:
    book = Book()
    for number in range(LINES_MAX * 3):
        book.log.note(FAILED, 0.001, f"r{number}")
    assert len(book.lines) == LINES_MAX * 3
