"""Erasing on a real database: certified once, whatever was cut off on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from commands.erasure import Eraser, erase, erase_person, erase_user, finish, subjects_of_user
from commands.sessions.facts import person_id_of
from domain.erasure.decide import NotConfirmedError, erasure_stream
from domain.erasure.events import ErasureCertified, ErasureRequested, Subject
from domain.kernel import PLATFORM, NotFoundError, Sealed, Stream
from domain.organizations.events import PersonObserved, SubjectShredded
from domain.proof.note import parse_key, parse_signed
from eventstore.database import WORKER_ROLE, Pool
from eventstore.mapper import Mapper
from eventstore.port import Append, Meta, NewEvent
from eventstore.postgres import PostgresStore
from eventstore.proof import Signer, is_signed_by
from eventstore.sealing import PostgresKeyRing
from tests.eventstore.doubles import ORG, OTHER_ORG, pooled

ADA, BOB = UUID(int=0xADA), UUID(int=0xB0B)
ERASURE = UUID(int=0xE)
META = Meta(actor="key:1")
SUBJECTS = [Subject(ORG, ADA), Subject(OTHER_ORG, ADA)]


class CutOffError(Exception):
    """The process was killed here."""


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with pooled(postgres_url, WORKER_ROLE) as pool:
        yield pool


@pytest.fixture
async def eraser(pool: Pool, postgres_url: str) -> AsyncIterator[Eraser]:
    ring = PostgresKeyRing(pool, b"m" * 32)
    store = PostgresStore(postgres_url, Mapper(ring), role=WORKER_ROLE, pool=pool)
    await store.start()
    yield Eraser(store, pool, ring, Signer(b"m" * 32, "crewkit/test"))
    await store.close()


async def meet(eraser: Eraser, org_id: UUID, person_id: UUID, name: str) -> Sealed:
    """Tell something about a person; the sealed name as stored."""
    event = PersonObserved(person_id=person_id, name=Sealed(person_id, name))
    stream = Stream("Person", str(person_id))
    await eraser.store.append(Append(org_id=org_id, stream=stream, events=[NewEvent(event)]))
    (told,) = await eraser.store.read_stream(org_id, stream, newest_first=True, limit=1)
    assert isinstance(told.event, PersonObserved)
    assert told.event.name is not None
    return told.event.name


async def text(ring: Any, org_id: UUID, sealed: Sealed) -> str | None:
    return (await ring.open_many(org_id, [("person.observed.v1", sealed)]))[0]


async def history(eraser: Eraser) -> list[Any]:
    found = await eraser.store.read_all(0, 1_000)
    kinds = (ErasureRequested, SubjectShredded, ErasureCertified)
    return [one.event for one in found if isinstance(one.event, kinds)]


async def test_every_key_is_gone_every_reader_is_told_and_a_signed_certificate_says_so(eraser: Eraser) -> None:
    ours, theirs = await meet(eraser, ORG, ADA, "Ada"), await meet(eraser, OTHER_ORG, ADA, "Ada L.")
    bob = await meet(eraser, ORG, BOB, "Bob")
    fingerprints = await eraser.pool.fetch(
        "SELECT encode(sha256(wrapped), 'hex') FROM crewkit.subject_key WHERE subject = $1 ORDER BY org_id", ADA
    )
    found = await erase(eraser, ORG, ERASURE, SUBJECTS, reason="subject_request", meta=META)
    fresh = PostgresKeyRing(eraser.pool, b"m" * 32)
    for ring in (eraser.ring, fresh):
        assert [await text(ring, ORG, ours), await text(ring, OTHER_ORG, theirs)] == [None, None]
        assert await text(ring, ORG, bob) == "Bob"
    assert [one.key_sha256 for one in found.subjects] == [row[0] for row in fingerprints]
    signed, signatures = parse_signed(found.note)
    assert is_signed_by(parse_key(found.public_key), signed, signatures)
    assert "Ada" not in found.note
    for one in found.subjects:
        (told,) = await eraser.store.read_all(one.position - 1, 1)
        assert (told.org_id, told.event) == (
            one.org_id,
            SubjectShredded(person_id=one.subject, shredded_at=one.key_destroyed_at),
        )
    assert await erase(eraser, ORG, ERASURE, SUBJECTS, reason="legal_obligation", meta=META) == found
    assert [type(event) for event in await history(eraser)] == [
        ErasureRequested,
        SubjectShredded,
        SubjectShredded,
        ErasureCertified,
    ]


class Fragile:
    """A store that is cut off before or after its n-th append."""

    def __init__(self, store: PostgresStore, survives: int) -> None:
        self._store = store
        self._left = survives

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _step(self) -> None:
        if self._left == 0:
            raise CutOffError
        self._left -= 1

    async def append(self, wish: Append) -> Any:
        self._step()
        outcome = await self._store.append(wish)
        self._step()
        return outcome


@pytest.mark.parametrize("survives", range(9))
async def test_an_erasure_that_was_cut_off_anywhere_is_finished_as_if_it_had_not_been(
    eraser: Eraser, survives: int
) -> None:
    ours = await meet(eraser, ORG, ADA, "Ada")
    await meet(eraser, OTHER_ORG, ADA, "Ada L.")
    fragile: Any = Fragile(eraser.store, survives)  # type: ignore[arg-type]
    broken = msgspec.structs.replace(eraser, store=fragile)
    try:
        await erase(broken, ORG, ERASURE, SUBJECTS, reason="subject_request", meta=META)
    except CutOffError:
        assert survives < 8
    else:
        assert survives == 8
    if survives == 0:
        with pytest.raises(NotFoundError):
            await finish(eraser, ORG, ERASURE, meta=META)
        assert await text(eraser.ring, ORG, ours) == "Ada"
        return
    found = await finish(eraser, ORG, ERASURE, meta=Meta(actor="system:scheduler"))
    assert await text(PostgresKeyRing(eraser.pool, b"m" * 32), ORG, ours) is None
    assert [type(event) for event in await history(eraser)] == [
        ErasureRequested,
        SubjectShredded,
        SubjectShredded,
        ErasureCertified,
    ]
    assert all(one.key_sha256 for one in found.subjects)
    assert found.requested_by == "key:1"


async def test_only_somebody_known_is_erased_and_only_when_confirmed(eraser: Eraser) -> None:
    from commands.bus import Principal  # noqa: PLC0415

    me = Principal(actor="key:1", org_id=ORG, person_id=BOB, scopes=frozenset({"admin"}))
    await meet(eraser, ORG, ADA, "Ada")
    for wrong in (None, "", str(BOB)):
        with pytest.raises(NotConfirmedError):
            await erase_person(eraser, me, ADA, reason="subject_request", confirm=wrong)
    with pytest.raises(NotFoundError):
        await erase_person(eraser, me, BOB, reason="subject_request", confirm=str(BOB))
    elsewhere = msgspec.structs.replace(me, org_id=OTHER_ORG)
    with pytest.raises(NotFoundError):
        await erase_person(eraser, elsewhere, ADA, reason="subject_request", confirm=str(ADA))
    assert await history(eraser) == []
    await erase_person(eraser, me, ADA, reason="subject_request", confirm=str(ADA))
    assert len(await history(eraser)) == 3


async def test_a_user_is_erased_in_every_place(eraser: Eraser) -> None:
    secret, mails = b"s" * 32, ["ada@example.com", "Old@Example.com"]
    ids = {(PLATFORM, ADA), (ORG, ADA), (OTHER_ORG, ADA)}
    ids |= {(org, person_id_of(secret, org, mail)) for org in (ORG, OTHER_ORG) for mail in mails}
    assert len(ids) == 7
    subjects = subjects_of_user(ADA, emails=mails, organizations=[ORG, OTHER_ORG], secret=secret)
    assert {(one.org_id, one.subject) for one in subjects} == ids
    boxes = {(org, person): await meet(eraser, org, person, "Ada") for org, person in ids}
    found = await erase_user(
        eraser,
        ADA,
        emails=mails,
        organizations=[ORG, OTHER_ORG],
        secret=secret,
        reason="subject_request",
        meta=Meta(actor=f"user:{ADA}"),
    )
    assert {(one.org_id, one.subject) for one in found.subjects} == ids
    fresh = PostgresKeyRing(eraser.pool, b"m" * 32)
    assert {await text(fresh, org, box) for (org, _), box in boxes.items()} == {None}
    stream = erasure_stream(found.erasure_id)
    assert len(await eraser.store.read_stream(PLATFORM, stream)) == 2


async def test_what_is_told_about_an_erased_person_later_is_never_kept(eraser: Eraser) -> None:
    await meet(eraser, ORG, ADA, "Ada")
    await erase(eraser, ORG, ERASURE, SUBJECTS[:1], reason="subject_request", meta=META)
    late = await meet(eraser, ORG, ADA, "Ada again")
    assert late.box is not None
    assert late.box.startswith("sealed:0:")
    assert await text(PostgresKeyRing(eraser.pool, b"m" * 32), ORG, late) is None


async def test_other_processes_are_told_before_the_fact_is_stored(eraser: Eraser) -> None:
    await meet(eraser, ORG, ADA, "Ada")
    told: list[tuple[UUID, UUID, int]] = []

    async def tell(org_id: UUID, subject: UUID) -> None:
        told.append((org_id, subject, len(await history(eraser))))

    listening = msgspec.structs.replace(eraser, tell=tell)
    await erase(listening, ORG, ERASURE, SUBJECTS[:1], reason="subject_request", meta=META)
    assert told == [(ORG, ADA, 1)]
