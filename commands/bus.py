"""How a wish becomes facts: load, fold, decide, append; try again when somebody else was faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID, uuid5

import msgspec

from domain.kernel import DomainError, Event, Stream
from eventstore.port import (
    Append,
    Claim,
    EventStore,
    Meta,
    NameTakenError,
    NewEvent,
    Outcome,
    Recorded,
    Status,
    StreamMovedError,
)

TRIES_MAX = 3
PAGE_EVENTS = 1_000

StateT = TypeVar("StateT")
_WISHES = UUID("0c5d7a52-4d0f-5f0b-8a43-7a8f9a4a6a10")


class KeyReusedError(DomainError):
    """The same `Idempotency-Key` came with another wish."""

    code = "conflict"


class Once(msgspec.Struct, frozen=True):
    """A wish that is granted at most once: `key` names it, `wish` is what it asks for.  Both are keyed hashes, hex."""

    key: str
    wish: str

    @property
    def command_id(self) -> str:
        """What the envelope of its events says."""
        return f"{self.key}:{self.wish}"

    def new_id(self) -> UUID:
        """The id of what it makes: a repeat means the same thing."""
        return uuid5(_WISHES, self.key)

    def granted(self, told: Meta) -> bool:
        """Whether an event was appended for this wish.

        Raises:
            KeyReusedError: it was appended for another wish of the same key.
        """
        if told.command_id is None or not told.command_id.startswith(f"{self.key}:"):
            return False
        if told.command_id != self.command_id:
            raise KeyReusedError("this Idempotency-Key was used for another request", field="Idempotency-Key")
        return True


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks.  `actor` is `key:<id>`, `user:<id>` or `system:<name>`; `person_id` whom the deed (and the data) is
    attributed to.

    `scopes` are a key's own, or what a member's permission amounts to.  `permission` is the signed-in user's in organization
    `org_id` (None where the path names none, which then is `PLATFORM`).  `ip` is personal: it goes into sealed fields only.
    """

    actor: str
    org_id: UUID
    person_id: UUID
    scopes: frozenset[str]
    request_id: str | None = None
    user_id: UUID | None = None
    permission: str | None = None
    platform_role: str = "org_user"
    ip: str | None = None

    def meta(self) -> Meta:
        """The envelope's note of who did it."""
        return Meta(actor=self.actor, request_id=self.request_id)


async def load(
    store: EventStore,
    org_id: UUID,
    stream: Stream,
    evolve: Callable[[StateT, Event], StateT],
    initial: StateT,
    once: Once | None = None,
) -> tuple[StateT, int, Recorded | None]:
    """Fold a stream: the state, its version, and the last event that was appended for `once`."""
    state, version, granted = initial, 0, None
    while page := await store.read_stream(org_id, stream, after=version, limit=PAGE_EVENTS):
        for recorded in page:
            state = evolve(state, recorded.event)
            if once is not None and once.granted(recorded.meta):
                granted = recorded
        version = page[-1].version
        if len(page) < PAGE_EVENTS:
            break
    return state, version, granted


async def transact(
    store: EventStore,
    org_id: UUID,
    stream: Stream,
    evolve: Callable[[StateT, Event], StateT],
    initial: StateT,
    decide: Callable[[StateT], Sequence[Event]],
    *,
    meta: Meta,
    command_id: str | None = None,
    claims: Sequence[Claim] = (),
    releases: Sequence[Claim] = (),
    names: Callable[[Sequence[Event]], tuple[Sequence[Claim], Sequence[Claim]]] | None = None,
    once: Once | None = None,
) -> Outcome | None:
    """Load `stream`, decide, append; up to three times.  None: the decision was that nothing needs to happen.

    `names` says which names the decided events claim and release, where that depends on the decision.  A repeat of `once`
    is a duplicate that answers what the first one was answered, without deciding again.

    Raises:
        StreamMovedError: three others were faster.
        NameTakenError: one of `claims` belongs to another stream.
        KeyReusedError: `once` was used for another wish.
        DomainError: the decision refused.
    """
    if once is not None:
        command_id = once.command_id
    for _ in range(TRIES_MAX):
        state, version, granted = await load(store, org_id, stream, evolve, initial, once)
        if granted is not None:
            return Outcome(Status.DUPLICATE, granted.version, granted.position)
        events = decide(state)
        if not events:
            return None
        if names is not None:
            claims, releases = names(events)
        outcome = await store.append(
            Append(
                org_id=org_id,
                stream=stream,
                events=[NewEvent(event) for event in events],
                expected=version,
                command_id=command_id,
                claims=claims,
                releases=releases,
                meta=meta,
            )
        )
        if outcome.status is Status.TAKEN:
            taken = ", ".join(f"{claim.scope} {claim.key!r}" for claim in claims)
            raise NameTakenError(f"already taken: {taken}")
        if outcome.status is not Status.CONFLICT:
            return outcome
    raise StreamMovedError(f"{stream} kept changing; try again")
