"""Facts about erasures.  Ids, times and hashes only: a certificate must not tell anything about the person."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from domain.kernel import Event


class Subject(msgspec.Struct, frozen=True, order=True):
    """Somebody's data in one organization: what one key seals."""

    org_id: UUID
    subject: UUID


class ErasedSubject(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one subject's key.

    `key_sha256` is the hash (hex) of the wrapped key that was destroyed, None where none had ever been made.  `position` is that
    of the `subject.shredded` that told every reader.
    """

    org_id: UUID
    subject: UUID
    key_sha256: str | None
    key_destroyed_at: datetime
    position: int


class ErasureRequested(Event, frozen=True, kw_only=True, tag="erasure.requested.v1"):
    """Somebody asked for a person to be erased.  From here on it is carried through, whatever fails on the way."""

    erasure_id: UUID
    subjects: list[Subject]
    reason: str
    requested_by: str
    requested_at: datetime


class ErasureCertified(Event, frozen=True, kw_only=True, tag="erasure.certified.v1"):
    """Every key is destroyed.  `note` is the signed certificate, `public_key` whose signature it bears."""

    erasure_id: UUID
    subjects: list[ErasedSubject]
    reason: str
    requested_by: str
    requested_at: datetime
    certified_at: datetime
    note: str
    public_key: str
