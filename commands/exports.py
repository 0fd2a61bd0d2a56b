"""Export an organization's analytics rows: ask for a file, say that it is written or will not be, delete it in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec

from commands.bus import Once, Principal, load, transact
from domain.exports import decide
from domain.exports.decide import HELD_MAX, ExportState, Failed, Gone, Ready, Unasked, Waiting, export_stream
from domain.exports.events import Wishes
from domain.kernel import DomainError, Event, NotFoundError
from eventstore.ids import uuid7
from eventstore.objects import Objects
from eventstore.port import Claim, EventStore, Meta, NameTakenError, Outcome

FILE_NAMES = {"duckdb": "crewkit.duckdb", "parquet": "crewkit-parquet.zip", "csv": "crewkit-csv.zip"}
MANIFEST = "manifest.json"
_SLOT = "export.slot"

Found: TypeAlias = Waiting | Ready | Failed | Gone


class TooManyExportsError(DomainError):
    """The organization keeps as many files as it may."""

    code = "conflict"


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has made."""

    position: int
    rows: int
    files: int
    partial: bool
    size_bytes: int
    sha256: str


def status_of(found: Found) -> str:
    """`requested`, `ready`, `failed` or `expired`."""
    match found:
        case Waiting():
            return "requested"
        case Ready():
            return "ready"
        case Failed():
            return "failed"
        case Gone():
            return "expired"


def key_of(org_id: UUID, export_id: UUID, name: str) -> str:
    """Where an export's file, or its manifest, stands in the object store."""
    return f"exports/{org_id}/{export_id}/{name}"


async def request_file(
    store: EventStore, principal: Principal, wishes: Wishes, *, once: Once | None = None
) -> tuple[UUID, Outcome | None]:
    """Ask for a file that knows everything up to now; the id of the export, and what became of asking.

    Raises:
        WishesRefusedError: the wishes do not fit together, or the base had others.
        TooManyExportsError: `HELD_MAX` files are kept already.
    """
    org_id = principal.org_id
    decide.check(wishes)
    await _check_base(store, org_id, wishes)
    export_id = once.new_id() if once else uuid7()
    at, until = datetime.now(UTC), await store.head()

    def decided(slot: int) -> Callable[[ExportState], Sequence[Event]]:
        return lambda state: decide.request(
            state, export_id=export_id, wishes=wishes, until=until, slot=slot, requested_by=principal.actor, at=at
        )

    for slot in range(HELD_MAX):
        try:
            outcome = await transact(
                store,
                org_id,
                export_stream(export_id),
                decide.evolve,
                decide.UNASKED,
                decided(slot),
                meta=principal.meta(),
                claims=[_claim(org_id, slot)],
                once=once,
            )
        except NameTakenError:
            continue
        return export_id, outcome
    raise TooManyExportsError(f"{HELD_MAX} exports are kept; delete one, or wait until one expires")


async def _check_base(store: EventStore, org_id: UUID, wishes: Wishes) -> None:
    if wishes.base is None:
        return
    try:
        found = await find_file(store, org_id, wishes.base)
    except NotFoundError:
        raise decide.WishesRefusedError("base: there is no such export", field="base") from None
    if msgspec.structs.replace(found.request.wishes, base=None) != msgspec.structs.replace(wishes, base=None):
        raise decide.WishesRefusedError("base: that export was asked for with other wishes", field="base")


async def find_file(store: EventStore, org_id: UUID, export_id: UUID) -> Found:
    """One export.

    Raises:
        NotFoundError: there never was one of that id.
    """
    state, _, _ = await load(store, org_id, export_stream(export_id), decide.evolve, decide.UNASKED)
    if isinstance(state, Unasked):
        raise NotFoundError("no such export")
    return state


async def complete_file(
    store: EventStore, org_id: UUID, export_id: UUID, written: Written, *, keep: timedelta, meta: Meta
) -> bool:
    """Say that the file is stored; False where it was given up meanwhile."""
    at = datetime.now(UTC)
    told = msgspec.structs.asdict(written)
    outcome = await _decide(
        store, org_id, export_id, lambda state: decide.complete(state, **told, at=at, keep=keep), meta=meta
    )
    return outcome is not None


async def fail_file(store: EventStore, org_id: UUID, export_id: UUID, reason: str, *, meta: Meta) -> None:
    """Say that there will be no file."""
    at, found = datetime.now(UTC), await find_file(store, org_id, export_id)
    release = _claim(org_id, found.request.slot)
    await _decide(
        store, org_id, export_id, lambda state: decide.fail(state, reason=reason, at=at), meta=meta, releases=[release]
    )


async def expire_file(
    store: EventStore, objects: Objects, org_id: UUID, export_id: UUID, *, reason: str, meta: Meta
) -> Outcome | None:
    """Delete a file, or give it up before it is written.  Bytes go first: cut off here, the next run tells of it.

    None: it was over already.

    Raises:
        NotFoundError: there never was such an export.
        ObjectsUnavailableError, ObjectRefusedError: the bytes may still be there.
    """
    found = await find_file(store, org_id, export_id)
    if isinstance(found, Gone | Failed):
        return None
    await drop_file(objects, org_id, export_id, found.request.wishes.format)
    at, release = datetime.now(UTC), _claim(org_id, found.request.slot)
    return await _decide(
        store,
        org_id,
        export_id,
        lambda state: decide.expire(state, reason=reason, at=at),
        meta=meta,
        releases=[release],
    )


async def drop_file(objects: Objects, org_id: UUID, export_id: UUID, file_format: str) -> None:
    """Delete whatever is stored of an export."""
    for name in (FILE_NAMES[file_format], MANIFEST):
        await objects.delete(key_of(org_id, export_id, name))


async def _decide(
    store: EventStore,
    org_id: UUID,
    export_id: UUID,
    decided: Callable[[ExportState], Sequence[Event]],
    *,
    meta: Meta,
    releases: Sequence[Claim] = (),
) -> Outcome | None:
    """None: nothing happened."""
    return await transact(
        store,
        org_id,
        export_stream(export_id),
        decide.evolve,
        decide.UNASKED,
        decided,
        meta=meta,
        releases=releases,
    )


def _claim(org_id: UUID, slot: int) -> Claim:
    return Claim(_SLOT, f"{org_id}:{slot}")
