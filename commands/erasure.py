"""Erase a person: destroy the keys of all their subjects, tell every reader, certify.

Each step can be repeated, and the request is stored before the first key goes: whatever is cut off is finished by the scheduler.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from commands.bus import Principal, load, transact
from commands.sessions.facts import person_id_of
from commands.users.accounts import close_account
from domain.erasure import decide
from domain.erasure.decide import Done, NotConfirmedError, Wanted, erasure_id_of, erasure_stream
from domain.erasure.events import ErasedSubject, ErasureCertified, Subject
from domain.kernel import PLATFORM, NotFoundError, Stream, fact_id
from domain.organizations.events import SubjectShredded
from eventstore.database import Pool
from eventstore.erasure import destroy_key, is_known
from eventstore.port import Append, EventStore, Meta, NewEvent
from eventstore.proof import Signer
from eventstore.sealing import KeyRing

Tell = Callable[[UUID, UUID], Awaitable[None]]


async def nobody(_: UUID, __: UUID) -> None:
    """Nobody to tell: other processes forget a destroyed key by themselves, within `eventstore.sealing.RECHECK_S`."""


class Eraser(msgspec.Struct, frozen=True):
    """What erasing works with.  `tell(organization, subject)` lets other processes forget a key at once."""

    store: EventStore
    pool: Pool
    ring: KeyRing
    signer: Signer
    tell: Tell = nobody


async def erase_person(
    eraser: Eraser, principal: Principal, person_id: UUID, *, reason: str, confirm: str | None
) -> ErasureCertified:
    """Erase a person of the principal's organization; the certificate.  Erasing again answers the first certificate.

    Raises:
        NotConfirmedError: `confirm` is not the person's id.
        NotFoundError: nothing was ever sealed for such a person here.
        ErasureRefusedError: the reason is not one of `decide.REASONS`.
    """
    if confirm != str(person_id):
        raise NotConfirmedError("this cannot be undone: confirm must repeat the id of the person", field="confirm")
    org_id = principal.org_id
    if not await is_known(eraser.pool, org_id, person_id):
        raise NotFoundError("no such person")
    subjects = [Subject(org_id, person_id)]
    return await erase(eraser, org_id, erasure_id_of(org_id, person_id), subjects, reason=reason, meta=principal.meta())


async def erase_user(
    eraser: Eraser,
    user_id: UUID,
    *,
    emails: Iterable[str],
    organizations: Iterable[UUID],
    secret: bytes,
    reason: str,
    meta: Meta,
) -> ErasureCertified:
    """Close an account and erase its user everywhere: the account itself, and in each organization what their token and their
    e-mail stand for.

    `emails` are all addresses the user ever had here; `secret` keys the ids of people (the application's `person_secret`).
    """
    subjects = subjects_of_user(user_id, emails=emails, organizations=organizations, secret=secret)
    return await erase(eraser, PLATFORM, erasure_id_of(PLATFORM, user_id), subjects, reason=reason, meta=meta)


def subjects_of_user(
    user_id: UUID, *, emails: Iterable[str], organizations: Iterable[UUID], secret: bytes
) -> list[Subject]:
    """Every subject that one user's data is sealed for."""
    addresses = list(emails)
    found = {Subject(PLATFORM, user_id)}
    for org_id in organizations:
        found.add(Subject(org_id, user_id))
        found.update(Subject(org_id, person_id_of(secret, org_id, address)) for address in addresses)
    return sorted(found)


async def erase(
    eraser: Eraser, org_id: UUID, erasure_id: UUID, subjects: Sequence[Subject], *, reason: str, meta: Meta
) -> ErasureCertified:
    """Note the wish, then carry it out.

    Raises:
        ErasureRefusedError: the reason or the subjects cannot be accepted.
    """
    at = datetime.now(UTC)
    await transact(
        eraser.store,
        org_id,
        erasure_stream(erasure_id),
        decide.evolve,
        decide.UNASKED,
        lambda state: decide.request(
            state, erasure_id=erasure_id, subjects=subjects, reason=reason, requested_by=meta.actor, at=at
        ),
        meta=meta,
    )
    return await finish(eraser, org_id, erasure_id, meta=meta)


async def finish(eraser: Eraser, org_id: UUID, erasure_id: UUID, *, meta: Meta) -> ErasureCertified:
    """Carry out a noted wish from wherever it stands.

    Raises:
        NotFoundError: nobody asked for it.
    """
    stream = erasure_stream(erasure_id)
    state, _, _ = await load(eraser.store, org_id, stream, decide.evolve, decide.UNASKED)
    if isinstance(state, Wanted):
        for one in state.request.subjects:
            if one.org_id == PLATFORM:  # nobody may sign in to an account that has no name and no password any more
                await _close_account(eraser.store, one.subject, meta)
        erased = [await _erase_subject(eraser, erasure_id, one, meta) for one in state.request.subjects]
        at = datetime.now(UTC)
        await transact(
            eraser.store,
            org_id,
            stream,
            decide.evolve,
            decide.UNASKED,
            lambda state: decide.certify(
                state,
                erased=erased,
                log=eraser.signer.public.name,
                at=at,
                sign=eraser.signer.note,
                public_key=eraser.signer.public.text(),
            ),
            meta=meta,
        )
        state, _, _ = await load(eraser.store, org_id, stream, decide.evolve, decide.UNASKED)
    if not isinstance(state, Done):
        raise NotFoundError("no such erasure")
    return state.certificate


async def _close_account(store: EventStore, user_id: UUID, meta: Meta) -> None:
    with contextlib.suppress(NotFoundError):
        await close_account(store, user_id, meta=meta)


async def _erase_subject(eraser: Eraser, erasure_id: UUID, one: Subject, meta: Meta) -> ErasedSubject:
    """The key first, then everybody who may hold a copy of it, then the fact: who reads that finds the key gone."""
    destroyed = await destroy_key(eraser.pool, one.org_id, one.subject)
    await eraser.ring.destroy(one.org_id, one.subject)
    await eraser.tell(one.org_id, one.subject)
    stream = Stream("Person", str(one.subject))
    event_id = fact_id(stream.uuid(one.org_id), f"shredded|{erasure_id}")
    event = SubjectShredded(person_id=one.subject, shredded_at=destroyed.at)
    await eraser.store.append(
        Append(org_id=one.org_id, stream=stream, events=[NewEvent(event, event_id)], facts=True, meta=meta)
    )
    told = await eraser.store.read_one(one.org_id, event_id)
    if told is None:
        raise LookupError("a fact that was stored is not there")
    return ErasedSubject(
        org_id=one.org_id,
        subject=one.subject,
        key_sha256=destroyed.fingerprint.hex() if destroyed.fingerprint else None,
        key_destroyed_at=destroyed.at,
        position=told.position,
    )
