"""The load generator: `python -m tests.benchmarks.load < plan.json`, a process of its own, answers with one JSON line.

Raw asyncio protocols write prepared HTTP/1.1 requests on keep-alive connections.  Closed loop: a connection sends its next
request when the last is answered.  Paced (`rate_per_s`): requests have due times, and latency counts from the due time, so
that a stalled server cannot hide its stall.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections import Counter
from typing import cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from tests.benchmarks import hooks
from tests.benchmarks.table import percentile

DRAIN_MAX_S = 30.0  # wait for the last answers after the load ended


class Plan(msgspec.Struct, kw_only=True):
    """What to send.  `events` per request; 0 means GET of `path` without a body.  `salt` keeps ids of two runs apart.

    `posts`: bodies to POST as they are instead; each connection sends one of them over and over.
    """

    url: str
    path: str
    headers: dict[str, str] = {}
    connections: int = 8
    seconds: float = 5.0
    warmup_s: float = 1.0
    events: int = 100
    rate_per_s: float | None = None  # events (or GETs) per second over all connections
    salt: int = 0
    posts: list[str] = []


class Report(msgspec.Struct, kw_only=True):
    """What was acknowledged.  `rate` counts answers inside the window; `accepted` everything the server said it stored."""

    rate: float
    p50_ms: float
    p99_ms: float
    requests: int
    accepted: int
    duplicate: int
    rejected: int
    position: int
    statuses: dict[str, int]
    first_bad: str | None
    behind_s: float  # paced: how late the last request was sent
    cpu_s: float


class Answer(msgspec.Struct):
    """The counts of an ingest answer; the per-event results are skipped."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    position: int = 0


ANSWER = msgspec.json.Decoder(Answer)


class Run:
    """One execution of a plan: shared by its connections."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.parts = urlsplit(plan.url)
        self.bodies = hooks.bodies(plan.events) if plan.events else []
        extra = "".join(f"{name}: {value}\r\n" for name, value in plan.headers.items())
        self.posts = [body.encode() for body in plan.posts]
        sends = bool(plan.events or plan.posts)
        method = "POST" if sends else "GET"
        self.head = (
            f"{method} {plan.path} HTTP/1.1\r\nHost: {self.parts.netloc}\r\n{extra}"
            + ("Content-Type: application/json\r\n" if sends else "")
        ).encode()
        self.sessions = plan.salt << 32
        self.latencies: list[float] = []
        self.counted = 0
        self.totals = Answer()
        self.statuses: Counter[str] = Counter()
        self.first_bad: str | None = None
        self.requests = 0
        self.behind_s = 0.0
        self.open = 0
        self.done = asyncio.Event()
        self.begin = self.end = 0.0

    def start_clock(self) -> None:
        """The measured window begins after the warm-up."""
        now = time.perf_counter()
        self.started = now
        self.begin = now + self.plan.warmup_s
        self.end = self.begin + self.plan.seconds

    def answered(self, status: bytes, body: bytes, sent: float) -> None:
        """Book one answer."""
        now = time.perf_counter()
        self.requests += 1
        code = status.decode()
        self.statuses[code] += 1
        if code[0] != "2":
            self.first_bad = self.first_bad or f"{code}: {body[:300].decode(errors='replace')}"
            return
        events = 1
        if self.plan.events:
            answer = ANSWER.decode(body)
            events = answer.accepted
            self.totals.accepted += answer.accepted
            self.totals.duplicate += answer.duplicate
            self.totals.rejected += answer.rejected
            self.totals.position = max(self.totals.position, answer.position)
        if self.begin <= now < self.end:
            self.counted += events
            self.latencies.append((now - sent) * 1000)

    def report(self) -> Report:
        """Sum up."""
        ordered = sorted(self.latencies)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Report(
            rate=self.counted / self.plan.seconds,
            p50_ms=percentile(ordered, 0.50),
            p99_ms=percentile(ordered, 0.99),
            requests=self.requests,
            accepted=self.totals.accepted,
            duplicate=self.totals.duplicate,
            rejected=self.totals.rejected,
            position=self.totals.position,
            statuses=dict(self.statuses),
            first_bad=self.first_bad,
            behind_s=self.behind_s,
            cpu_s=usage.ru_utime + usage.ru_stime,
        )


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, run: Run, number: int) -> None:
        self.run = run
        self.number = number
        self.received = bytearray()
        self.step = 0
        self.sent = 0.0
        self.session = 0
        self.transport: asyncio.Transport | None = None
        events = max(1, run.plan.events)
        rate = run.plan.rate_per_s
        self.interval = run.plan.connections * events / rate if rate else 0.0
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour, not by class
        self.run.open += 1

    def begin(self) -> None:
        """Start sending; paced connections spread their first requests over one interval."""
        self.due = self.run.started + self.interval * self.number / self.run.plan.connections
        self.next()

    def next(self) -> None:
        """Send the next request, now or when it is due; close when the plan's time is over."""
        now = time.perf_counter()
        if now >= self.run.end:
            self.close()
        elif self.interval and self.due > now:
            asyncio.get_running_loop().call_later(self.due - now, self.send)
        else:
            self.send()

    def send(self) -> None:
        """Write one request."""
        run = self.run
        now = time.perf_counter()
        self.sent = now
        if self.interval:
            self.sent = self.due
            run.behind_s = now - self.due
            self.due += self.interval
        if self.transport is None or self.transport.is_closing():
            return
        if run.posts:
            body = run.posts[self.number % len(run.posts)]
            self.transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (run.head, len(body), body))
            return
        if not run.bodies:
            self.transport.write(run.head + b"\r\n")
            return
        at = self.step % len(run.bodies)
        if at == 0:
            run.sessions += 1
            self.session = run.sessions
        self.step += 1
        body = hooks.fill(run.bodies[at], self.session, (self.session << 8 | at) & 0xFFFFFFFF, int(time.time()))
        self.transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (run.head, len(body), body))

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.received[:end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self.received) < end + 4 + length:
            return
        body = bytes(self.received[end + 4 : end + 4 + length])
        del self.received[: end + 4 + length]
        self.run.answered(head[9:12], body, self.sent)
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.transport is not None and time.perf_counter() < self.run.end:
            self.run.statuses["connection lost"] += 1
            self.run.first_bad = self.run.first_bad or f"connection lost: {exc}"
        self.close()

    def close(self) -> None:
        """Count this connection out."""
        if self.transport is not None:
            self.transport.close()
            self.transport = None
            self.run.open -= 1
            if self.run.open == 0:
                self.run.done.set()


async def execute(plan: Plan) -> Report:
    """Run a plan to its end."""
    run = Run(plan)
    loop = asyncio.get_running_loop()
    made: list[Connection] = []
    for number in range(plan.connections):
        _, connection = await loop.create_connection(
            lambda n=number: Connection(run, n), run.parts.hostname, run.parts.port
        )
        made.append(connection)
    run.start_clock()
    for connection in made:
        connection.begin()
    await asyncio.wait_for(run.done.wait(), plan.warmup_s + plan.seconds + DRAIN_MAX_S)
    return run.report()


def main() -> int:
    """Read the plan from standard input, print the report."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(execute(plan))
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
