"""Put pieces of many transcripts into one request, and account for each of them as if it had travelled alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from cli.capture.journal import Journal
from cli.capture.shipping import HALVE, Reject, Tally, account, complete, ship
from cli.capture.transcripts import Chunk
from cli.client import Client, UnreachableError, refusal
from schemas.ingest import BatchesAnswer

PACK_LINES_MAX = 1_500  # a single piece may be longer
PACK_BYTES_MAX = 1536 * 1024
PACK_PIECES_MAX = 500
_ANSWER = msgspec.json.Decoder(BatchesAnswer)


class Piece(msgspec.Struct):
    """A chunk on its way.  `path`: where it would go alone; `head`: what is said about all of its lines, as JSON fields.

    `advance`: bytes of the file that are dealt with once it is answered for.
    """

    chunk: Chunk
    path: str
    head: bytes
    advance: int = 0

    def wrap(self, lines: Sequence[bytes]) -> bytes:
        """The body in which lines of it travel alone."""
        return b'{"items":[' + b",".join(lines) + b"]," + self.head + b"}"


class Pack:
    """Pieces that travel together, in the order of their files."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.lines = self._bytes = 0

    def takes(self, piece: Piece) -> bool:
        """Whether one more piece keeps it within its limits."""
        chunk = piece.chunk
        return not self.pieces or (
            len(self.pieces) < PACK_PIECES_MAX
            and self.lines + len(chunk.lines) <= PACK_LINES_MAX
            and self._bytes + sum(map(len, chunk.lines)) <= PACK_BYTES_MAX
        )

    def add(self, piece: Piece) -> None:
        """Take it along."""
        self.pieces.append(piece)
        self.lines += len(piece.chunk.lines)
        self._bytes += sum(map(len, piece.chunk.lines)) + len(piece.head)


Answered = Callable[[Piece, Tally], None]


def ship_pieces(
    client: Client, journal: Journal, path: str, pieces: Sequence[Piece], reject: Reject, answered: Answered
) -> None:
    """Send pieces as one request, in halves where the service does not take it; a single one goes the way of `ship`.

    `answered` hears of every piece, in order, as soon as all of its lines have been answered for.

    Raises:
        UnreachableError, RefusedError: as `ship`; pieces that `answered` did not hear of must be sent again.
    """
    speaking = [piece for piece in pieces if piece.chunk.lines or piece.chunk.meta]
    tallies: list[Tally] = []
    if len(speaking) == 1:
        (piece,) = speaking
        tallies.append(ship(client, journal, piece.path, piece.chunk.lines, piece.wrap, reject))
    if len(speaking) <= 1:
        _tell(pieces, tallies, answered)
        return
    body = b'{"batches":[' + b",".join(map(_batch, speaking)) + b"]}"
    digest = hashlib.sha256(body).hexdigest()
    lines = sum(len(piece.chunk.lines) for piece in speaking)
    try:
        answer = client.ask("POST", path, body, {"Idempotency-Key": digest[:32]})
    except UnreachableError:
        journal.add(path, body, "unknown", lines, sha256=digest)
        raise
    if not 200 <= answer.status < 300:
        journal.add(path, body, "refused", lines, answer.status, sha256=digest)
        if answer.status not in HALVE:
            raise refusal(answer)
        middle = len(pieces) // 2
        ship_pieces(client, journal, path, pieces[:middle], reject, answered)
        ship_pieces(client, journal, path, pieces[middle:], reject, answered)
        return
    told = complete(_ANSWER, answer, client).answers
    if len(told) != len(speaking):
        raise UnreachableError(f"{client.connection.url} accounted for {len(told)} of {len(speaking)} batches")
    whole = Tally()
    for piece, result in zip(speaking, told, strict=True):
        tallies.append(account(result, piece.chunk.lines, client, reject))
        whole += tallies[-1]
    journal.add(
        path, body, "acknowledged", lines, answer.status, sha256=digest,
        accepted=whole.accepted, duplicate=whole.duplicate, rejected=whole.rejected,
    )  # fmt: skip
    _tell(pieces, tallies, answered)


def _tell(pieces: Sequence[Piece], tallies: Sequence[Tally], answered: Answered) -> None:
    """In the order of the files: pieces that say nothing only move their file's mark."""
    left = iter(tallies)
    for piece in pieces:
        answered(piece, next(left) if piece.chunk.lines or piece.chunk.meta else Tally())


def _batch(piece: Piece) -> bytes:
    return (
        b'{"llm_session_id":' + msgspec.json.encode(piece.chunk.session_id) + b"," + piece.wrap(piece.chunk.lines)[1:]
    )
