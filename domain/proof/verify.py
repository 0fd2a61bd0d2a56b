"""Does an export prove itself?  Reads it once, from its first line to its last, in little memory.

It proves that the events are exactly those of the organization up to the last checkpoint: none changed, none missing, none
added, in this order.  What it takes on trust is one public key; its owner cannot have signed another history without that
showing wherever two exports, or two checkpoints, meet.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from uuid import UUID

import msgspec

from domain.kernel import Stream
from domain.proof.leaf import event_leaf, microseconds, organization_hash
from domain.proof.lines import FORMAT, End, Head, Line, Shown, Skipped, read_line
from domain.proof.merkle import ProofError, Range, leaf_hash, root_of_inclusion, split
from domain.proof.note import Checkpoint, PublicKey, Signature, parse_key, parse_note

CHANGED_MAX = 100  # changed events that are named one by one
CHECKPOINTS_MAX = 10_000  # in one export

CheckSignature = Callable[[PublicKey, str, list[Signature]], bool]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What does not hold, and where: the line of the file and the position in the log, as far as they are known."""

    message: str
    line: int | None = None
    position: int | None = None


class Report(msgspec.Struct, kw_only=True):
    """What was found.  `problems` empty: everything holds, up to `checkpoints[-1]`.

    `pinned` says whether the key was one the caller named; without that, the file vouches for itself with a key of its own.
    """

    problems: list[Problem] = []
    organization_id: UUID | None = None
    log: str = ""
    events: int = 0
    events_before: int = 0
    first_position: int | None = None
    last_position: int | None = None
    first_recorded_at: datetime | None = None
    last_recorded_at: datetime | None = None
    checkpoints: list[Checkpoint] = []
    fingerprints: list[str] = []
    pinned: bool = False
    organization_root: bytes = b""
    organization_roots: dict[int, bytes] = {}

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems


def verify(
    lines: Iterable[bytes],
    check_signature: CheckSignature,
    *,
    trusted: Collection[str] = (),
    watch: Collection[int] = (),
) -> Report:
    """Verify an export, given as raw lines.

    `trusted` are fingerprints, one of which must have signed the last checkpoint.  `watch` are numbers of events at which the
    root of the organization's own tree shall be noted.
    """
    report = Report()
    number = 0
    try:
        walk = None
        for number, raw in enumerate(lines, 1):
            line = read_line(raw)
            if walk is None:
                walk = _Walk(line, report, check_signature, trusted, watch)
            else:
                walk.take(line, number)
        if walk is None:
            report.problems.append(Problem(message="the file is empty"))
        else:
            walk.ended()
    except ProofError as error:
        report.problems.append(Problem(message=str(error), line=number or None))
    return report


class _Walk:
    """Where we are between the first line and the last."""

    def __init__(
        self,
        head: Line,
        report: Report,
        check_signature: CheckSignature,
        trusted: Collection[str],
        watch: Collection[int],
    ) -> None:
        if not isinstance(head, Head) or head.format != FORMAT:
            raise ProofError(f"expected the head of an export of format {FORMAT}")
        self._report = report
        self._org_id = report.organization_id = head.organization_id
        _read_checkpoints(head, report, check_signature, trusted)
        self._log = Range(head.start_size, split(head.start_peaks))
        self._own = Range(head.start_events, split(head.start_organization_peaks))
        report.events_before = head.start_events
        self._watch = frozenset(watch)
        self._marks = {one.size: one for one in report.checkpoints}
        self._last = report.checkpoints[-1]
        self._skipped = False
        self._end: End | None = None
        sizes = sorted(self._marks)
        if head.start_size not in {0, sizes[0]}:
            raise ProofError("the export begins at no checkpoint")
        self._ahead: Iterator[int] = iter(size for size in sizes if size > head.start_size)
        self._next = next(self._ahead, None)
        if head.start_size:
            self._arrive(self._log.size)
        self._note()

    def take(self, line: Line, number: int) -> None:
        """Go on by one line."""
        if self._end is not None:
            raise ProofError("something follows the end")
        match line:
            case Shown():
                self._show(line, number)
            case Skipped():
                self._skip(line)
            case End():
                self._end = line
            case Head():
                raise ProofError("a second head")

    def _show(self, line: Shown, number: int) -> None:
        report = self._report
        if line.position != self._log.size + 1:
            raise ProofError(f"expected position {self._log.size + 1}, found the event of {line.position}")
        found = self._hash(line)
        if found != line.hash:
            # Going on with the hash that the file claims shows whether everything else holds.
            problem = Problem(message="this event was changed", line=number, position=line.position)
            if len(report.problems) < CHANGED_MAX:
                report.problems.append(problem)
        for _ in self._log.append(line.hash if len(line.hash) == len(found) else found):
            pass
        self._own.extend([line.hash if len(line.hash) == len(found) else found])
        report.events += 1
        report.first_position = report.first_position or line.position
        report.first_recorded_at = report.first_recorded_at or line.recorded_at
        report.last_position, report.last_recorded_at = line.position, line.recorded_at
        self._skipped = False
        self._note()
        self._arrive(self._log.size)

    def _hash(self, line: Shown) -> bytes:
        try:
            stream_id = Stream.parse(line.stream).uuid(self._org_id)
            leaf = event_leaf(
                line.position,
                self._org_id,
                stream_id,
                line.version,
                line.type,
                line.event_id,
                microseconds(line.recorded_at),
                line.data.encode(),
                line.meta.encode(),
            )
        except (ValueError, TypeError, OverflowError, struct.error) as error:
            raise ProofError(f"this is no stored event: {error}") from error
        return leaf_hash(leaf)

    def _skip(self, line: Skipped) -> None:
        if line.until <= self._log.size or line.until > self._last.size:
            raise ProofError(f"cannot skip from {self._log.size} to {line.until}")
        if self._skipped and self._log.size not in self._marks:
            raise ProofError("events of others are told in one line up to the next checkpoint")
        self._log.fill(line.until, split(line.hashes))
        self._skipped = True
        self._arrive(line.until)

    def _arrive(self, size: int) -> None:
        """The walk has reached a size: where a checkpoint stands there, the roots must be equal; none may be passed by."""
        if (mark := self._marks.get(size)) is not None and mark.root != self._log.root():
            raise ProofError(f"up to checkpoint {mark.number} the log is not the one that was signed")
        if self._next is not None and size > self._next:
            raise ProofError(f"the walk passed checkpoint {self._marks[self._next].number} without meeting it")
        while self._next is not None and size >= self._next:
            self._next = next(self._ahead, None)

    def _note(self) -> None:
        if self._own.size in self._watch:
            self._report.organization_roots[self._own.size] = self._own.root()

    def ended(self) -> None:
        """Make sure, after the last line, that this was all of it."""
        end = self._end
        if end is None:
            raise ProofError("the export was cut: its end is missing")
        if self._log.size != self._last.size:
            raise ProofError(f"the export ends at {self._log.size}, before checkpoint {self._last.number}")
        if end.events != self._own.size:
            raise ProofError(f"{end.events} events are committed to, {self._own.size} are here")
        self._report.organization_root = self._own.root()
        leaf = organization_hash(self._org_id, self._own.size, self._own.root())
        root = root_of_inclusion(end.ordinal, self._last.organizations, leaf, split(end.path))
        if root != self._last.organizations_root:
            raise ProofError(
                "these are not exactly the events that the checkpoint commits to for this organization: "
                "some were left out, added or exchanged"
            )


def _read_checkpoints(head: Head, report: Report, check_signature: CheckSignature, trusted: Collection[str]) -> None:
    if not 0 < len(head.checkpoints) <= CHECKPOINTS_MAX:
        raise ProofError(f"an export has 1 to {CHECKPOINTS_MAX} checkpoints")
    keys = [parse_key(text) for text in head.keys]
    used: set[str] = set()
    before: Checkpoint | None = None
    last_signers: set[str] = set()
    for note in head.checkpoints:
        found, signatures = parse_note(note)
        signers = {
            key.fingerprint
            for key in keys
            if key.name == found.origin and check_signature(key, found.text(), signatures)
        }
        if not signers:
            raise ProofError(f"checkpoint {found.number} is not signed by a key of this log")
        if before is not None:
            _check_order(before, found)
        before, last_signers = found, signers
        used |= signers
        report.checkpoints.append(found)
    report.log = report.checkpoints[-1].origin
    report.fingerprints = sorted(used)
    if len(keys) != len(used):
        raise ProofError("the export names a key that signed nothing")
    report.pinned = bool(last_signers.intersection(trusted))
    if trusted and not report.pinned:
        raise ProofError(f"the last checkpoint is signed by {', '.join(sorted(last_signers))}, not by the given key")


def _check_order(before: Checkpoint, after: Checkpoint) -> None:
    if before.origin != after.origin:
        raise ProofError("the checkpoints are of different logs")
    if not (before.number < after.number and before.size < after.size and before.at <= after.at):
        raise ProofError(f"checkpoint {after.number} does not come after {before.number}")
    if after.number == before.number + 1 and after.previous != before.digest():
        raise ProofError(f"checkpoint {after.number} names another checkpoint {before.number} than the one here")


class Comparison(msgspec.Struct, kw_only=True):
    """What two exports say about each other.  `log_shown`: the older one's last checkpoint is met in the newer one."""

    problems: list[Problem] = []
    log_shown: bool = False
    comparable: bool = True


def compare(old: Report, new: Report) -> Comparison:
    """Is the newer export a continuation of the older one?  Both must hold by themselves first.

    `new` must have been verified with `watch={old.events_before + old.events}`.
    """
    found = Comparison()
    if old.organization_id != new.organization_id or old.log != new.log:
        return Comparison(
            comparable=False, problems=[Problem(message="the exports are of different organizations or logs")]
        )
    had = old.events_before + old.events
    last_old, last_new = old.checkpoints[-1], new.checkpoints[-1]
    if last_new.number < last_old.number:
        message = (
            f"the second export (checkpoint {last_new.number}) is older than the first ({last_old.number}): "
            "they are the wrong way round, or the log was cut back"
        )
        return Comparison(comparable=False, problems=[Problem(message=message)])
    theirs = {one.number: one for one in old.checkpoints}
    for one in new.checkpoints:
        if (same := theirs.get(one.number)) is not None and same != one:
            found.problems.append(Problem(message=f"two different checkpoints {one.number} were signed"))
    found.log_shown = any(one == last_old for one in new.checkpoints)
    if new.events_before > had:
        message = "the second export begins after the end of the first; export without --after, or from its checkpoint"
        return Comparison(comparable=False, problems=[*found.problems, Problem(message=message)])
    if new.events_before + new.events < had:
        found.problems.append(Problem(message=f"{had} events were there, now there are fewer"))
    elif new.organization_roots.get(had) != old.organization_root:
        found.problems.append(Problem(message=f"the first {had} events are not those of the older export"))
    return found
