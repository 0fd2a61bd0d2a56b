"""Rules of erasing, and the text of a certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID, uuid5

import msgspec

from domain.erasure.events import ErasedSubject, ErasureCertified, ErasureRequested, Subject
from domain.kernel import DomainError, Event, NotFoundError, Stream

SUBJECTS_MAX = 10_000  # organizations of one person
# Fixed phrases: what somebody types freely may name the very person.
REASONS = ("subject_request", "consent_withdrawn", "legal_obligation", "no_longer_needed", "collected_by_mistake")
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class ErasureRefusedError(DomainError):
    """The reason is not one of ours, or there is nobody to erase; `details["field"]` names what is wrong."""

    code = "validation_failed"


class NotConfirmedError(DomainError):
    """An erasure cannot be undone: `confirm` must repeat the id of the person."""

    code = "confirmation_required"


class Unasked(msgspec.Struct, frozen=True):
    """Nobody has asked for it."""


class Wanted(msgspec.Struct, frozen=True):
    """Asked for, and not certified yet."""

    request: ErasureRequested


class Done(msgspec.Struct, frozen=True):
    """Certified."""

    certificate: ErasureCertified


ErasureState: TypeAlias = Unasked | Wanted | Done
UNASKED: ErasureState = Unasked()


def erasure_stream(erasure_id: UUID) -> Stream:
    """Where one erasure's facts live, in the organization that asked (or the platform)."""
    return Stream("Erasure", str(erasure_id))


def erasure_id_of(org_id: UUID, person_id: UUID) -> UUID:
    """One person is erased once per organization: asking again means the same erasure."""
    return uuid5(org_id, f"erasure {person_id}")


def evolve(state: ErasureState, event: Event) -> ErasureState:
    """Apply one fact; facts of other kinds change nothing."""
    match event:
        case ErasureRequested() if isinstance(state, Unasked):
            return Wanted(event)
        case ErasureCertified():
            return Done(event)
        case _:
            return state


def check_reason(reason: str, field: str = "reason") -> None:
    """Whether a certificate may tell that reason; `field` is where it was given.

    Raises:
        ErasureRefusedError: it is none of `REASONS`.
    """
    if reason not in REASONS:
        raise ErasureRefusedError(f"{field} must be one of {', '.join(REASONS)}", field=field)


def request(
    state: ErasureState,
    *,
    erasure_id: UUID,
    subjects: Sequence[Subject],
    reason: str,
    requested_by: str,
    at: datetime,
) -> list[Event]:
    """Ask for it.  Asking again changes nothing: the first request stands.

    Raises:
        ErasureRefusedError: an unknown reason, no subject, or more than `SUBJECTS_MAX`.
    """
    if not isinstance(state, Unasked):
        return []
    check_reason(reason)
    wanted = sorted(set(subjects))
    if not 0 < len(wanted) <= SUBJECTS_MAX:
        raise ErasureRefusedError(f"an erasure has 1 to {SUBJECTS_MAX} subjects", field="subjects")
    return [
        ErasureRequested(
            erasure_id=erasure_id, subjects=wanted, reason=reason, requested_by=requested_by, requested_at=at
        )
    ]


def certify(
    state: ErasureState,
    *,
    erased: Sequence[ErasedSubject],
    log: str,
    at: datetime,
    sign: Callable[[str], str],
    public_key: str,
) -> list[Event]:
    """Say that it is done.  Saying it again changes nothing.

    Raises:
        NotFoundError: nobody asked for it.
        ErasureRefusedError: it is not done for every subject.
    """
    match state:
        case Done():
            return []
        case Unasked():
            raise NotFoundError("no such erasure")
        case Wanted(request=asked):
            pass
    if [Subject(one.org_id, one.subject) for one in erased] != asked.subjects:
        raise ErasureRefusedError("not every subject is erased", field="subjects")
    return [
        ErasureCertified(
            erasure_id=asked.erasure_id,
            subjects=list(erased),
            reason=asked.reason,
            requested_by=asked.requested_by,
            requested_at=asked.requested_at,
            certified_at=at,
            note=sign(certificate_text(asked, erased, log=log, at=at)),
            public_key=public_key,
        )
    ]


def certificate_text(asked: ErasureRequested, erased: Sequence[ErasedSubject], *, log: str, at: datetime) -> str:
    """What a certificate says, and its signature covers: one fact per line (docs/reference/proof.md)."""
    lines = [
        log,
        f"crewkit-erasure 1 {asked.erasure_id}",
        f"requested {_moment(asked.requested_at)} by {asked.requested_by} because {asked.reason}",
        f"certified {_moment(at)}",
        *(
            f"subject {one.org_id} {one.subject} key {one.key_sha256 or 'none'} "
            f"destroyed {_moment(one.key_destroyed_at)} told {one.position}"
            for one in erased
        ),
    ]
    return "\n".join(lines) + "\n"


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime(_TIME)
