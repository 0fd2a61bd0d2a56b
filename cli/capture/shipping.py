"""Send lines in batches and account for every one of them: accepted, duplicate, or rejected and kept with its reason."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from cli.capture.journal import Journal
from cli.client import Answer, Client, RefusedError, UnreachableError, refusal
from schemas.ingest import IngestAnswer

BATCH_EVENTS_MAX = 500
BATCH_BYTES_MAX = 1024 * 1024
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 60.0
STOP = frozenset({401, 403, 404})  # asking again cannot help until somebody changes something
HALVE = frozenset({400, 413, 422})
_ANSWER = msgspec.json.Decoder(IngestAnswer)

Wrap = Callable[[Sequence[bytes]], bytes]
Reject = Callable[[bytes, str], None]
T = TypeVar("T")


class Tally(msgspec.Struct):
    """What became of a number of lines."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0

    def __iadd__(self, other: Tally) -> Tally:  # noqa: PYI034 - one class, no subclasses
        self.accepted += other.accepted
        self.duplicate += other.duplicate
        self.rejected += other.rejected
        return self


def ship(client: Client, journal: Journal, path: str, lines: Sequence[bytes], wrap: Wrap, reject: Reject) -> Tally:
    """Send `lines` as one batch, in halves where the service finds it too large or not well formed.

    Lines that the service will never take are given to `reject`; when this returns, every line has been answered for.

    Raises:
        UnreachableError: no answer, or none that says what became of the lines; they must be sent again.
        RefusedError: the service does not take anything now (429, 5xx) or from us (401, 403, 404).
    """
    body = wrap(lines)
    digest = hashlib.sha256(body).hexdigest()
    try:
        answer = client.ask("POST", path, body, {"Idempotency-Key": digest[:32]})
    except UnreachableError:
        journal.add(path, body, "unknown", len(lines), sha256=digest)
        raise
    if answer.status in HALVE:
        journal.add(path, body, "refused", len(lines), answer.status, sha256=digest)
        if len(lines) <= 1:
            reject(lines[0] if lines else b"null", refusal(answer).message)
            return Tally(rejected=len(lines))
        middle = len(lines) // 2
        tally = ship(client, journal, path, lines[:middle], wrap, reject)
        tally += ship(client, journal, path, lines[middle:], wrap, reject)
        return tally
    if not 200 <= answer.status < 300:
        journal.add(path, body, "refused", len(lines), answer.status, sha256=digest)
        raise refusal(answer)
    tally = account(complete(_ANSWER, answer, client), lines, client, reject)
    journal.add(
        path, body, "acknowledged", len(lines), answer.status, sha256=digest,
        accepted=tally.accepted, duplicate=tally.duplicate, rejected=tally.rejected,
    )  # fmt: skip
    return tally


def complete(decoder: msgspec.json.Decoder[T], answer: Answer, client: Client) -> T:
    """The service's account, if it is one: a proxy's friendly page must not delete anybody's events.

    Raises:
        UnreachableError: it is something else.
    """
    try:
        return decoder.decode(answer.body)
    except msgspec.MsgspecError as error:
        raise UnreachableError(
            f"{client.connection.url} answered {answer.status} with something else: {error}"
        ) from error


def account(result: IngestAnswer, lines: Sequence[bytes], client: Client, reject: Reject) -> Tally:
    """What became of `lines`; those that the service will never take are given to `reject`.

    Raises:
        UnreachableError: it does not say so of every line.
    """
    tally = Tally(result.accepted, result.duplicate, result.rejected)
    told = tally.accepted + tally.duplicate + tally.rejected
    if told < len(lines):  # more: a subagent's meta is a fact of its own
        raise UnreachableError(f"{client.connection.url} accounted for {told} of {len(lines)} records")
    if tally.rejected:
        for one in result.results:
            if one.status == "rejected" and 0 <= one.index < len(lines):
                reject(lines[one.index], one.reason or "rejected")
    return tally


def is_final(error: RefusedError) -> bool:
    """Whether only a person can help."""
    return error.status in STOP


def backoff_s(failures: int, told_s: float | None = None) -> float:
    """How long to wait after the n-th failure in a row (from 1): exponential, bounded, with jitter; or what we were told."""
    if told_s is not None:
        return min(max(told_s, BACKOFF_FIRST_S), BACKOFF_MAX_S)
    ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures - 1, 16))
    return float(ceiling * random.uniform(0.5, 1.0))  # noqa: S311 - spreads callers, guards nothing
