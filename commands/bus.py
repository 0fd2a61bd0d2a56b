"""How a wish becomes facts: load, fold, decide, append; try again when somebody else was faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

import msgspec

from domain.kernel import Event, Stream
from eventstore.port import (
    Append,
    Claim,
    EventStore,
    Meta,
    NameTakenError,
    NewEvent,
    Outcome,
    Status,
    StreamMovedError,
)

TRIES_MAX = 3
PAGE_EVENTS = 1_000

StateT = TypeVar("StateT")


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks.  `actor` is `key:<id>`, `user:<id>` or `system:<name>`; `person_id` whom the deed and the data belong to.

    `permission` is the user's in organization `org_id`; `platform_role` is their rank in the whole installation.
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
) -> Outcome | None:
    """Load `stream`, decide, append; up to three times.  None: the decision was that nothing needs to happen.

    Raises:
        StreamMovedError: three others were faster.
        NameTakenError: one of `claims` belongs to another stream.
        DomainError: the decision refused.
    """
    for _ in range(TRIES_MAX):
        state, version = initial, 0
        while page := await store.read_stream(org_id, stream, after=version, limit=PAGE_EVENTS):
            for recorded in page:
                state = evolve(state, recorded.event)
            version = page[-1].version
            if len(page) < PAGE_EVENTS:
                break
        events = decide(state)
        if not events:
            return None
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
            names = ", ".join(f"{claim.scope} {claim.key!r}" for claim in claims)
            raise NameTakenError(f"already taken: {names}")
        if outcome.status is not Status.CONFLICT:
            return outcome
    raise StreamMovedError(f"{stream} kept changing; try again")
