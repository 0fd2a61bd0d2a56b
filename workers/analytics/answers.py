"""Answering questions beside ingestion: threads of their own, few at a time, each cut off at its deadline."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from projections.analytics.asking import REPLY_BYTES_MAX, Answer, Ask, packed
from projections.analytics.questions import found_questions
from projections.analytics.questions.base import QuestionError
from workers.analytics.file import AnalyticsFile
from workers.lifecycle import CLOSE_S

log = structlog.get_logger("analytics")

RUNNING_MAX = 2  # questions that run at once
WAITING_MAX = 64  # that wait for their turn; the next one is told to come back
DEADLINE_S_MAX = 30.0
LATENCIES_MAX = 1_000  # newest ones kept for the percentiles that are shown
POLL_S = 0.02
INTERRUPT_S = 0.1

_decode = msgspec.json.Decoder(Ask).decode
_encode = msgspec.json.Encoder().encode


class Tally:
    """What became of questions since the process started."""

    def __init__(self) -> None:
        self.asked = 0
        self.failed = 0
        self._seconds: deque[float] = deque(maxlen=LATENCIES_MAX)

    def note(self, seconds: float, *, failed: bool) -> None:
        """Count one question."""
        self.asked += 1
        self.failed += failed
        self._seconds.append(seconds)

    def seconds(self, share: float) -> float:
        """The latency that a share of the newest questions did not exceed."""
        found = sorted(self._seconds)
        return found[min(len(found) - 1, int(share * len(found)))] if found else 0.0


class Question:
    """The connections of one question, interrupted and closed together."""

    def __init__(self, first: Any) -> None:
        self._all = [first]

    def execute(self, query: str, parameters: Any = None) -> Any:
        """Run a statement on the first."""
        return self._all[0].execute(query, parameters)

    def cursor(self) -> Any:
        """One more."""
        more = self._all[0].cursor()
        self._all.append(more)
        return more

    def interrupt(self) -> None:
        """End what runs."""
        for one in list(self._all):
            one.interrupt()

    def close(self) -> None:
        """Give all of them up."""
        for one in self._all:
            one.close()


class Answerer:
    """Answers from the file that is in use; `use` gives it another one."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RUNNING_MAX, thread_name_prefix="question")
        self._turns = asyncio.Semaphore(RUNNING_MAX)
        self._waiting = 0
        self._file: AnalyticsFile | None = None
        self.invalid: AnalyticsFile | None = None  # no question can be answered from it until it is opened again
        self._running: dict[Question, AnalyticsFile] = {}  # and what it reads
        self._open = asyncio.Event()  # questions may begin
        self._open.set()
        self._questions = found_questions()
        self.asked = asyncio.Event()
        self.awaited = asyncio.Event()  # somebody waits for rows that are not in yet, or for a file that can be read
        self.position = 0
        self.as_of: datetime | None = None
        self.tally = Tally()

    def use(self, file: AnalyticsFile | None) -> AnalyticsFile | None:
        """Answer from another file from now on; the one before, which running questions may still read."""
        before, self._file = self._file, file
        return before

    def reached(self, position: int) -> None:
        """Rows go up to `position` now."""
        self.position, self.as_of = position, datetime.now(UTC)

    async def idle(self, file: AnalyticsFile) -> None:
        """Wait until no question reads `file` any more; deadlines bound that."""
        while file in self._running.values():  # noqa: ASYNC110  bounded by the deadlines, and rare
            await asyncio.sleep(POLL_S)

    async def end(self, file: AnalyticsFile) -> None:
        """End the questions that read `file`, of which DuckDB wants no more: they come to no answer that one could trust."""
        self.invalid = file
        await self._end(file)

    async def _end(self, file: AnalyticsFile | None = None) -> None:
        """End what runs, or only what reads `file`: again and again, as what begins just then would run on."""
        while found := [question for question, reads in self._running.items() if file in {None, reads}]:
            for question in found:
                question.interrupt()
            await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def quiet(self) -> AsyncGenerator[None]:
        """Nothing is answered inside: questions that run are ended, and new ones wait.  For rows that need the memory."""
        self._open.clear()
        try:
            await self._end()
            yield
        finally:
            self._open.set()

    async def answer(self, payload: bytes) -> bytes:
        """The reply to a request."""
        started_s = time.monotonic()
        self.asked.set()
        try:
            ask = _decode(payload)
        except msgspec.DecodeError as error:
            return _encode(Answer(error="invalid", message=str(error)))
        found = await self._answer(ask, started_s)
        spent_s = time.monotonic() - started_s
        failed = found.error not in {None, "invalid", "behind", "busy", "starting"}
        self.tally.note(spent_s, failed=failed)
        if failed:
            log.warning("analytics.question_failed", question=ask.question, error=found.error, message=found.message)
        if len(bytes(found.answer)) <= REPLY_BYTES_MAX:
            return packed(found)
        return await asyncio.get_running_loop().run_in_executor(self._threads, packed, found)

    async def _answer(self, ask: Ask, started_s: float) -> Answer:
        question = self._questions.get(ask.question)
        if question is None:
            return Answer(error="unknown", message=f"there is no question {ask.question!r}")
        try:
            params = msgspec.json.decode(ask.params, type=question.params)
        except msgspec.DecodeError as error:
            return Answer(error="invalid", message=str(error))
        until_s = started_s + min(ask.deadline_s, DEADLINE_S_MAX)
        while self.position < ask.after or self._file is None:
            self.awaited.set()
            if time.monotonic() >= min(until_s, started_s + ask.wait_s):
                behind = self._file is not None
                return Answer(error="behind" if behind else "starting", position=self.position)
            await asyncio.sleep(POLL_S)
        if self._waiting >= WAITING_MAX:
            return Answer(error="busy", message=f"{WAITING_MAX} questions are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(until_s - time.monotonic()):
                await self._turns.acquire()
                await self._free()
        except TimeoutError:
            return Answer(error="busy", message="other questions took until the deadline")
        finally:
            self._waiting -= 1
        try:
            return await self._run(lambda cursor: question.ask(cursor, ask.org_id, params), until_s)
        finally:
            self._turns.release()

    async def _free(self) -> None:
        """Wait, with one's turn, until questions may begin; the turn is given back where that takes too long."""
        try:
            await self._open.wait()
        except BaseException:
            self._turns.release()
            raise

    async def _run(self, work: Callable[[Any], Any], until_s: float) -> Answer:
        file = self._file
        if file is None:
            return Answer(error="starting")
        position, as_of = self.position, self.as_of
        try:
            cursor = Question(file.cursor())
        except Exception as error:  # noqa: BLE001  told to who asked
            return self._failed(error, file, late=False)
        loop = asyncio.get_running_loop()
        self._running[cursor] = file
        late: asyncio.TimerHandle | None = None

        def end() -> None:
            """Interrupt, and again: what begins just then would run on."""
            nonlocal late
            cursor.interrupt()
            late = loop.call_later(INTERRUPT_S, end)

        late = loop.call_later(max(0.0, until_s - time.monotonic()), end)
        try:
            encoded: bytes = await loop.run_in_executor(self._threads, lambda: _encode(work(cursor)))
        except QuestionError as error:
            return Answer(error="invalid", message=str(error), field=error.field)
        except Exception as error:  # noqa: BLE001  a question that fails must not reach ingestion
            if not self._open.is_set():
                return Answer(error="busy", message="new rows need the memory; ask again")
            return self._failed(error, file, late=time.monotonic() >= until_s)
        finally:
            late.cancel()
            del self._running[cursor]
            cursor.close()
        return Answer(position=position, as_of=as_of, answer=msgspec.Raw(encoded))

    def _failed(self, error: Exception, file: AnalyticsFile, *, late: bool) -> Answer:
        if file is self.invalid:
            return Answer(error="starting", message="the file is being opened again; ask again")
        if unusable(error):
            self.invalid = file
            if self._file is file:
                self.use(None)  # the next ones wait until it is opened again
            self.awaited.set()
        return _failure(error, late=late)

    async def close(self) -> None:
        """End what runs, and let threads end; of one that does not notice, the end is not waited for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._end()
        self._threads.shutdown(wait=False, cancel_futures=True)


def out_of_memory(error: Exception) -> bool:
    """Whether DuckDB had no memory left."""
    import duckdb  # noqa: PLC0415  loaded by whoever opened the file

    return isinstance(error, duckdb.OutOfMemoryException)


def unusable(error: Exception) -> bool:
    """Whether DuckDB has declared the open file invalid: it refuses all further work until the file is opened again."""
    import duckdb  # noqa: PLC0415  loaded by whoever opened the file

    return isinstance(error, (duckdb.FatalException, duckdb.InternalException))


def _failure(error: Exception, *, late: bool) -> Answer:
    import duckdb  # noqa: PLC0415  loaded by whoever opened the file

    if late or isinstance(error, duckdb.InterruptException):
        return Answer(error="deadline", message="the answer took too long; ask for a shorter range")
    if isinstance(error, duckdb.OutOfMemoryException):
        return Answer(error="memory", message="the answer needs too much memory; ask for a shorter range")
    return Answer(error="failed", message=f"{type(error).__name__}: {error}")
