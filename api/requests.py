"""The log of requests: a line for each one, until there are so many that nobody could read them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

_log = structlog.get_logger("api")
LINES_MAX = 20  # lines per kind and window; what comes after them is told together
WINDOW_S = 1.0
KINDS_MAX = 1_000  # kinds watched at a time; more get a line each

Kind = tuple[str, str, int, str | None, str | None]  # method, route, status, actor, organization


class _Window:
    """What was seen of one kind since `began`."""

    __slots__ = ("began", "lines", "more", "request_id", "slowest_s", "spent_s")

    def __init__(self, began: float) -> None:
        self.began = began
        self.lines = 0
        self.more = 0  # not told yet
        self.spent_s = self.slowest_s = 0.0
        self.request_id = ""


class RequestLog:
    """Successful requests of one kind beyond `LINES_MAX` in a window become one line with their count; failures never do.

    An agent's hooks can be thousands of requests per second: a line for each would cost more than storing the event, and
    fill a disk with what the metrics tell better.
    """

    def __init__(self, write: Callable[..., Any] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write or _log.info
        self._clock = clock
        self._windows: dict[Kind, _Window] = {}

    def note(self, kind: Kind, seconds: float, request_id: str) -> None:
        """Tell of one answered request, now or within `WINDOW_S`."""
        if kind[2] >= 400:
            self._line(kind, seconds, request_id)
            return
        now = self._clock()
        window = self._windows.get(kind)
        if window is None or now - window.began >= WINDOW_S:
            if window is not None:
                self._tell(kind, window)
            elif len(self._windows) >= KINDS_MAX:
                self.flush()
            window = self._windows[kind] = _Window(now)
        if window.lines < LINES_MAX:
            window.lines += 1
            self._line(kind, seconds, request_id)
            return
        if window.more == 0:
            asyncio.get_running_loop().call_later(WINDOW_S, self._tell, kind, window)
        window.more += 1
        window.spent_s += seconds
        window.slowest_s = max(window.slowest_s, seconds)
        window.request_id = request_id

    def flush(self) -> None:
        """Tell what was not told yet and forget all kinds."""
        for kind, window in self._windows.items():
            self._tell(kind, window)
        self._windows.clear()

    def _line(self, kind: Kind, seconds: float, request_id: str) -> None:
        method, route, status, actor, org = kind
        self._write(
            "request.handled",
            method=method,
            route=route,
            status=status,
            ms=round(seconds * 1000, 2),
            request_id=request_id,
            actor=actor,
            org=org,
        )

    def _tell(self, kind: Kind, window: _Window) -> None:
        if window.more == 0:
            return
        method, route, status, actor, org = kind
        self._write(
            "requests.handled",
            method=method,
            route=route,
            status=status,
            count=window.more,
            ms_mean=round(window.spent_s / window.more * 1000, 2),
            ms_max=round(window.slowest_s * 1000, 2),
            request_id=window.request_id,  # of the last one
            actor=actor,
            org=org,
        )
        window.more = 0
        window.spent_s = window.slowest_s = 0.0
