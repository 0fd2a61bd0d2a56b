"""Checkpoints as text that people and other programs can read: the transparency-log checkpoint inside a signed note.

    crewkit/6f0c…                                   the log's name
    1742                                            how many events it covers
    qoM3…=                                          root of the tree over them
    crewkit-checkpoint 1 number 12                  from here on ours, one fact per line
    crewkit-organizations 3 Yw2E…=                  root of the tree of organizations, and how many it has
    crewkit-time 2026-11-25T03:40:00.000000Z
    crewkit-previous 4f7c…                          SHA-256 of the text of the checkpoint before, `-` for the first
                                                    (an empty line, then one line per signature)
    — crewkit/6f0c… Az3grl…=

The signature (Ed25519) covers the text up to and including the line break before the empty line.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from datetime import UTC, datetime
from hashlib import sha256

import msgspec

from domain.proof.merkle import HASH_BYTES, ProofError

ED25519 = b"\x01"  # the algorithm's number in signed notes
SIGNATURES_MAX = 16  # witnesses may add theirs
NOTE_CHARS_MAX = 16_384
_NAME = re.compile(r"[^\s+]{1,200}")
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed: the log `origin` had `size` events with that `root`, of so many organizations, at that time."""

    origin: str
    number: int
    size: int
    root: bytes
    organizations: int
    organizations_root: bytes
    at: datetime
    previous: bytes | None

    def text(self) -> str:
        """The signed text."""
        moment = self.at.astimezone(UTC).strftime(_TIME)
        lines = (
            self.origin,
            str(self.size),
            b64encode(self.root).decode(),
            f"crewkit-checkpoint 1 number {self.number}",
            f"crewkit-organizations {self.organizations} {b64encode(self.organizations_root).decode()}",
            f"crewkit-time {moment}",
            f"crewkit-previous {'-' if self.previous is None else self.previous.hex()}",
        )
        return "\n".join(lines) + "\n"

    def digest(self) -> bytes:
        """How the next checkpoint names this one."""
        return sha256(self.text().encode()).digest()


class Signature(msgspec.Struct, frozen=True):
    """One signature under a note: who, the first four bytes of the key's hash, and the signature itself."""

    name: str
    hint: bytes
    signature: bytes


class PublicKey(msgspec.Struct, frozen=True):
    """Whose signature counts.  As text: `name+hint+base64(0x01 || 32 bytes)`, which other log tools read too."""

    name: str
    raw: bytes

    @property
    def hint(self) -> bytes:
        """The first four bytes of the key's hash."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.raw).digest()[:4]

    @property
    def fingerprint(self) -> str:
        """For people to compare: `sha256:` and the hash of the 32 bytes, hex."""
        return f"sha256:{sha256(self.raw).hexdigest()}"

    def text(self) -> str:
        """One line that holds all of it."""
        return f"{self.name}+{self.hint.hex()}+{b64encode(ED25519 + self.raw).decode()}"


def parse_key(text: str) -> PublicKey:
    """Read `name+hint+key`.

    Raises:
        ProofError: it is something else.
    """
    name, _, rest = text.strip().partition("+")
    hint, _, encoded = rest.partition("+")
    try:
        raw = b64decode(encoded, validate=True)
    except Base64Error as error:
        raise ProofError("expected a public key as name+hint+base64") from error
    if not _NAME.fullmatch(name) or raw[:1] != ED25519 or len(raw) != 1 + HASH_BYTES:
        raise ProofError("expected a public key as name+hint+base64")
    found = PublicKey(name, raw[1:])
    if found.text() != text.strip():
        raise ProofError(f"the key of {name} does not fit its hint {hint}")
    return found


def signed(text: str, signatures: list[Signature]) -> str:
    """The note: text, empty line, signatures."""
    lines = [f"— {one.name} {b64encode(one.hint + one.signature).decode()}\n" for one in signatures]
    return f"{text}\n{''.join(lines)}"


def parse_signed(note: str) -> tuple[str, list[Signature]]:
    """The signed text of any note, and its signatures.

    Raises:
        ProofError: it is no note, or spelled in another way than it is written.
    """
    text, gap, tail = note.partition("\n\n")
    lines = tail.splitlines()
    if not gap or not 0 < len(lines) <= SIGNATURES_MAX:
        raise ProofError(f"a note is text, an empty line and 1 to {SIGNATURES_MAX} signatures")
    signatures = [_signature(line) for line in lines]
    if signed(text + "\n", signatures) != note:
        raise ProofError("the signatures are not spelled as they are written")
    return text + "\n", signatures


def parse_note(note: str) -> tuple[Checkpoint, list[Signature]]:
    """Read a note that must hold exactly what our checkpoints hold.

    Raises:
        ProofError: a line is missing, too much or not what it should be.
    """
    if len(note) > NOTE_CHARS_MAX:
        raise ProofError("the note is too long for a checkpoint")
    text, signatures = parse_signed(note)
    checkpoint = _checkpoint(text.removesuffix("\n").split("\n"))
    if checkpoint.text() != text:
        raise ProofError("the checkpoint is not spelled as it would be signed")
    return checkpoint, signatures


def _checkpoint(lines: list[str]) -> Checkpoint:
    try:
        origin, size, root, number, organizations, moment, previous = lines
        named = number.removeprefix("crewkit-checkpoint 1 number ")
        count, org_root = organizations.removeprefix("crewkit-organizations ").split(" ")
        before = previous.removeprefix("crewkit-previous ")
        return Checkpoint(
            origin=origin,
            number=int(named),
            size=int(size),
            root=_hash(b64decode(root, validate=True)),
            organizations=int(count),
            organizations_root=_hash(b64decode(org_root, validate=True)),
            at=datetime.strptime(moment.removeprefix("crewkit-time "), _TIME).replace(tzinfo=UTC),
            previous=None if before == "-" else _hash(bytes.fromhex(before)),
        )
    except ValueError as error:
        raise ProofError("the checkpoint's text cannot be read") from error


def _hash(value: bytes) -> bytes:
    if len(value) != HASH_BYTES:
        raise ValueError("not a hash")
    return value


def _signature(line: str) -> Signature:
    dash, name, encoded = (*line.split(" "), "", "")[:3]
    try:
        raw = b64decode(encoded, validate=True)
    except Base64Error:
        raw = b""
    if dash != "—" or not _NAME.fullmatch(name) or len(raw) <= 4:
        raise ProofError("a signature's line cannot be read")
    return Signature(name, raw[:4], raw[4:])
