"""People and their erasure, as requests and answers."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class PersonView(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody the organization has met.  E-mail and name are null where they were never told, or the person was erased."""

    person_id: UUID
    email: str | None
    name: str | None
    observed_at: datetime | None
    erased_at: datetime | None
    links: dict[str, str] = msgspec.field(name="_links")


class PeoplePage(msgspec.Struct, frozen=True, kw_only=True):
    """By id.  `next_after` None: these were the last."""

    items: list[PersonView]
    next_after: UUID | None
    links: dict[str, str] = msgspec.field(name="_links")


class EraseWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`reason` is a fixed phrase; `confirm` repeats the id of the person, because an erasure cannot be undone."""

    reason: str
    confirm: str | None = None


class ErasedSubjectView(msgspec.Struct, frozen=True, kw_only=True):
    """One key: the SHA-256 of its wrapped form (null: there never was one), when it went, and who was told where."""

    organization_id: UUID
    subject: UUID
    key_sha256: str | None
    key_destroyed_at: datetime
    position: int


class CertificateView(msgspec.Struct, frozen=True, kw_only=True):
    """That a person was erased.  `note` is the signed text; `public_key` whose signature it bears."""

    erasure_id: UUID
    status: str
    reason: str
    requested_by: str
    requested_at: datetime
    certified_at: datetime | None
    subjects: list[ErasedSubjectView]
    note: str | None
    public_key: str | None
    links: dict[str, str] = msgspec.field(name="_links")


class ErasureView(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure in a list.  `status` is `requested` until every key is destroyed, then `certified`."""

    erasure_id: UUID
    status: str
    subjects: int
    reason: str
    requested_by: str
    requested_at: datetime
    certified_at: datetime | None
    links: dict[str, str] = msgspec.field(name="_links")


class ErasurePage(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first."""

    items: list[ErasureView]
    links: dict[str, str] = msgspec.field(name="_links")
