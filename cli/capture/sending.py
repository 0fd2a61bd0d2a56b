"""Send transcripts: many files at once, each in order, and remember how far each one got."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Self, cast
from urllib.parse import quote

import msgspec

from cli.capture import spool
from cli.capture.config import Config
from cli.capture.journal import Journal
from cli.capture.packing import Pack, Piece, ship_pieces
from cli.capture.paths import ClientDir, write_atomically
from cli.capture.place import Places, git_person
from cli.capture.shipping import Tally
from cli.capture.transcripts import Chunk, Mark, Source, chunks
from cli.client import Client, Connection
from schemas.ingest import ItemBatch, Person

REQUESTS_IN_FLIGHT_MAX = 3
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


class _Flight:
    """Requests under way, a bounded number at once."""

    def __init__(self, pool: ThreadPoolExecutor, ship: Callable[[Sequence[Piece]], None]) -> None:
        self._pool = pool
        self._ship = ship
        self._waiting: set[Future[None]] = set()

    def leave(self, pieces: Sequence[Piece]) -> Future[None]:
        """Send one more; waits while too many are under way, and raises what one of those met."""
        if len(self._waiting) >= REQUESTS_IN_FLIGHT_MAX:
            done, self._waiting = wait(self._waiting, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
        future = self._pool.submit(self._ship, pieces)
        self._waiting.add(future)
        return future

    def land(self) -> None:
        """Wait for all; raises what one of them met."""
        for future in self._waiting:
            future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for future in self._waiting:
            future.cancel()


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
        """Send every file, many in one request and some requests at once; each file in order.

        Raises:
            UnreachableError, RefusedError: the first that any request met; what was acknowledged until then is remembered.
        """
        with ThreadPoolExecutor(REQUESTS_IN_FLIGHT_MAX) as pool, _Flight(pool, self._ship) as flight:
            pack = Pack()
            for source in sources:
                last: Future[None] | None = None  # the request with the piece of this file that left last
                mine = False  # the pack holds a piece of this file
                for piece in self._pieces(source):
                    if not pack.takes(piece):
                        left = flight.leave(pack.pieces)
                        last, mine = (left if mine else last), False
                        pack = Pack()
                    if last is not None:  # one after the other: a mark says that all before it is known
                        last.result()
                        last = None
                    pack.add(piece)
                    mine = True
            if pack.pieces:
                flight.leave(pack.pieces)
            flight.land()
        self.close()
        return self.report

    def send(self, source: Source) -> None:
        """Send what is new in one file.

        Raises:
            UnreachableError, RefusedError: as `shipping.ship`.
        """
        for piece in self._pieces(source):
            self._ship([piece])

    def _pieces(self, source: Source) -> Iterator[Piece]:
        """What is new in one file; a file that cannot be read is a problem of the report."""
        done = 0
        told = False
        try:
            known = None if self._again else self._marks.of(source.path)
            for chunk in chunks(source, known, self._config):
                told = True
                yield Piece(chunk, *self._address(source, chunk), max(0, chunk.mark.offset - done))
                done = chunk.mark.offset
        except OSError as error:
            with self._lock:
                self.report.problems.append(f"{source.path}: {error}")
            return
        with self._lock:
            self.report.files += 1
            self.report.unchanged += not told

    def _ship(self, pieces: Sequence[Piece]) -> None:
        """Send pieces, and remember each one that was answered for."""
        if self._dry_run:
            for piece in pieces:
                self._answered(piece, Tally())
            return
        client = self._client()
        path = client.path("/observability/items")
        ship_pieces(client, self._journal, path, pieces, self._reject, self._answered)

    def _answered(self, piece: Piece, tally: Tally) -> None:
        if not self._dry_run:
            self._marks.put(piece.chunk.mark)
        with self._lock:
            self._count(piece.chunk, tally)
        self.progress(piece.advance)

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

    def _address(self, source: Source, chunk: Chunk) -> tuple[str, bytes]:
        """Where a chunk would go alone, and what is said about all of its lines."""
        where = f"/observability/llm_sessions/{quote(chunk.session_id, safe='')}/items"
        organization = quote(self._connection.organization, safe="")
        head = msgspec.json.encode(self._about(source, chunk))[1:-1]
        return f"/api/v1/{organization}{where}", head.partition(b'"items":[],')[2]

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
