"""Send transcripts: many files at once, each in order, and remember how far each one got."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, cast
from urllib.parse import quote

import msgspec

from cli.capture import spool
from cli.capture.config import Config
from cli.capture.journal import Journal
from cli.capture.paths import ClientDir, write_atomically
from cli.capture.place import Places, git_person
from cli.capture.shipping import Tally, ship
from cli.capture.transcripts import Chunk, Mark, Source, chunks
from cli.client import Client, Connection
from schemas.ingest import ItemBatch, Person

FILES_IN_FLIGHT_MAX = 12
QUEUED_FILES_MAX = 48
MARKS_COMPACT_LINES = 20_000


class Marks:
    """How far each file has been sent to one service with one key: an append-only file, the last word on a path counts.

    The name of that file depends on address, organization and key: another service knows nothing of what this one got.
    """

    def __init__(self, paths: ClientDir, connection: Connection) -> None:
        whose = f"{connection.url}|{connection.organization}|{connection.api_key}"
        self._path = paths.imports / f"{hashlib.blake2b(whose.encode(), digest_size=12).hexdigest()}.jsonl"
        self._lock = threading.Lock()
        self._known: dict[str, Mark] = {}
        decoder = msgspec.json.Decoder(Mark)
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        for line in lines:
            try:
                mark = decoder.decode(line)
            except msgspec.MsgspecError:
                continue  # cut by a crash: that piece is sent again
            self._known[mark.path] = mark
        if len(lines) > MARKS_COMPACT_LINES and len(lines) > 2 * len(self._known):
            write_atomically(self._path, b"".join(msgspec.json.encode(mark) + b"\n" for mark in self._known.values()))
        elif lines and not self._path.read_bytes().endswith(b"\n"):
            with self._path.open("ab") as file:
                file.write(b"\n")

    def of(self, path: str) -> Mark | None:
        """The last word on a file."""
        return self._known.get(path)

    def put(self, mark: Mark) -> None:
        """Remember that everything up to `mark` has been answered for."""
        with self._lock:
            self._known[mark.path] = mark
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(mark) + b"\n")


class Report(msgspec.Struct):
    """What an import did; `problems` are files that could not be read."""

    files: int = 0
    unchanged: int = 0
    sessions: set[str] = msgspec.field(default_factory=set)
    lines: int = 0
    bad: int = 0
    left_out: int = 0
    bytes: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    problems: list[str] = msgspec.field(default_factory=list)


class Sender:
    """Sends files of transcripts; thread-safe.  `progress` is told the bytes dealt with; `again` starts at the beginning."""

    def __init__(
        self,
        paths: ClientDir,
        connection: Connection,
        config: Config,
        *,
        dry_run: bool = False,
        again: bool = False,
    ) -> None:
        self._paths = paths
        self._connection = connection
        self._config = config
        self._dry_run = dry_run
        self._again = again
        self.progress: Callable[[int], None] = lambda _bytes: None
        self._journal = Journal(paths)
        self._marks = Marks(paths, connection)
        self._places = Places()
        self._people: dict[str | None, Person | None] = {}
        self._clients = threading.local()
        self._dialled: list[Client] = []
        self._lock = threading.Lock()
        self.report = Report()

    def send_all(self, sources: Iterable[Source]) -> Report:
        """Send every file; several at once, each in order.

        Raises:
            UnreachableError, RefusedError: the first that any file met; what was acknowledged until then is remembered.
        """
        waiting: set[Future[None]] = set()
        with ThreadPoolExecutor(FILES_IN_FLIGHT_MAX) as pool:
            try:
                for source in sources:
                    if len(waiting) >= QUEUED_FILES_MAX:
                        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                        for future in done:
                            future.result()
                    waiting.add(pool.submit(self.send, source))
                for future in waiting:
                    future.result()
            finally:
                for future in waiting:
                    future.cancel()
        self.close()
        return self.report

    def send(self, source: Source) -> None:
        """Send what is new in one file.

        Raises:
            UnreachableError, RefusedError: as `shipping.ship`.
        """
        told = False
        done = 0
        try:
            known = None if self._again else self._marks.of(source.path)
            for chunk in chunks(source, known, self._config):
                told = True
                tally = self._send(source, chunk)
                with self._lock:
                    self._count(chunk, tally)
                self.progress(chunk.mark.offset - done if chunk.mark.offset > done else 0)
                done = chunk.mark.offset
        except OSError as error:
            with self._lock:
                self.report.problems.append(f"{source.path}: {error}")
            return
        with self._lock:
            self.report.files += 1
            self.report.unchanged += not told

    def _count(self, chunk: Chunk, tally: Tally) -> None:
        report = self.report
        report.sessions.add(chunk.session_id)
        report.lines += chunk.read
        report.bad += chunk.bad
        report.left_out += chunk.left_out
        report.bytes += sum(map(len, chunk.lines))
        report.accepted += tally.accepted
        report.duplicate += tally.duplicate
        report.rejected += tally.rejected

    def _send(self, source: Source, chunk: Chunk) -> Tally:
        if self._dry_run:
            return Tally()
        tally = Tally()
        if chunk.lines or chunk.meta:
            client = self._client()
            path = client.path(f"/observability/llm_sessions/{quote(chunk.session_id, safe='')}/items")
            head = msgspec.json.encode(self._about(source, chunk))[1:-1]

            def wrap(lines: Any) -> bytes:
                return b'{"items":[' + b",".join(lines) + b"]," + head.partition(b'"items":[],')[2] + b"}"

            tally = ship(client, self._journal, path, chunk.lines, wrap, self._reject)
        self._marks.put(chunk.mark)
        return tally

    def _about(self, source: Source, chunk: Chunk) -> ItemBatch:
        named = chunk.level != "counts"
        place = self._places.at(chunk.cwd)
        return ItemBatch(
            items=[],
            agent=source.agent,
            subagent_id=source.subagent_id,
            meta=chunk.meta,
            repo=place.repo if named else None,
            project=place.project if named else None,
            user=self._person(chunk.cwd) if named and self._config.identity else None,
            content_level=chunk.level,
        )

    def _person(self, cwd: str | None) -> Person | None:
        where = cwd if cwd and self._places.at(cwd).repo else None
        with self._lock:
            if where not in self._people:
                if len(self._people) >= spool.PEOPLE_MAX:
                    self._people.clear()
                email, name = git_person(where)
                self._people[where] = Person(email, name) if email else None
            return self._people[where]

    def _client(self) -> Client:
        if not hasattr(self._clients, "client"):
            self._clients.client = client = Client(self._connection)
            with self._lock:
                self._dialled.append(client)
        return cast("Client", self._clients.client)

    def close(self) -> None:
        """Hang up."""
        for client in self._dialled:
            client.close()

    def _reject(self, line: bytes, reason: str) -> None:
        with self._lock:
            spool.keep(self._paths, line, reason)
