"""How far the items of an agent conversation have got: inactive, streaming, consolidating, completed.

A conversation's items are consolidated in generations.  Each is a run of its stream that ends at a version fixed when the
generation is started, so a generation started again holds the same items.  What decides:

- `inactive`: there are no items yet.
- `streaming`: there are items after the last generation that was completed.
- `consolidating`: a generation was started and is not completed.  Items that arrive meanwhile do not change that (they are
  the next generation's), and neither does a failure: it is tried again.
- `completed`: every item is in a completed generation.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias

import msgspec

from domain.kernel import DomainError, Event, Stream
from domain.sessions.events import (
    ConsolidatedObject,
    LlmSessionConsolidated,
    LlmSessionConsolidationFailed,
    LlmSessionConsolidationStarted,
)

INACTIVE, STREAMING, CONSOLIDATING, COMPLETED = "inactive", "streaming", "consolidating", "completed"
STATUSES = (INACTIVE, STREAMING, CONSOLIDATING, COMPLETED)
ITEMS_MAX = 2_000  # items of one generation; more become the next one
RETRY_FIRST_S = 60
RETRY_MAX_S = 6 * 3600
DOUBLINGS_MAX = 16

ConsolidationEvent: TypeAlias = LlmSessionConsolidationStarted | LlmSessionConsolidated | LlmSessionConsolidationFailed


class NotConsolidatingError(DomainError):
    """The generation was not started, or another one is under way."""

    code = "conflict"


class Open(msgspec.Struct, frozen=True):
    """Everything up to stream version `upto` is consolidated, in `generations` generations; 0: nothing yet."""

    generations: int = 0
    upto: int = 0


class Consolidating(msgspec.Struct, frozen=True):
    """Generation `generation` holds the versions after `after` up to `upto`; it has failed `failures` times so far."""

    generation: int
    after: int
    upto: int
    failures: int = 0
    failed_at: datetime | None = None

    @property
    def due_at(self) -> datetime | None:
        """When to try again; None: now."""
        return retry_at(self.failures, self.failed_at)


Consolidation: TypeAlias = Open | Consolidating
INITIAL: Consolidation = Open()


def consolidation_stream(llm_session_id: str) -> Stream:
    """The stream that tells how far the items of a conversation are consolidated."""
    return Stream("Consolidation", llm_session_id)


def retry_at(failures: int, failed_at: datetime | None) -> datetime | None:
    """When a generation that failed `failures` times, last at `failed_at`, is due again; None: now."""
    if failed_at is None or failures < 1:
        return None
    pause_s = min(RETRY_FIRST_S * 2 ** min(failures - 1, DOUBLINGS_MAX), RETRY_MAX_S)
    return failed_at + timedelta(seconds=pause_s)


def status_of(*, last: int, upto: int, consolidating: bool) -> str:
    """The status by numbers that count the same thing (positions, or versions): the last item's, and the last consolidated."""
    if consolidating:
        return CONSOLIDATING
    if last <= 0:
        return INACTIVE
    return STREAMING if last > upto else COMPLETED


def status(consolidation: Consolidation, *, last_version: int) -> str:
    """The status of a conversation whose stream has come to `last_version`."""
    match consolidation:
        case Consolidating():
            return CONSOLIDATING
        case Open(upto=upto):
            return status_of(last=last_version, upto=upto, consolidating=False)


def evolve(consolidation: Consolidation, event: Event) -> Consolidation:
    """Apply one fact.  Never refuses: what happened, happened.  Facts of other kinds change nothing."""
    match event:
        case LlmSessionConsolidationStarted():
            return Consolidating(event.generation, event.after_version, event.to_version)
        case LlmSessionConsolidationFailed():
            if not isinstance(consolidation, Consolidating):
                return consolidation
            return msgspec.structs.replace(consolidation, failures=event.failures, failed_at=event.failed_at)
        case LlmSessionConsolidated():
            return Open(event.generation, event.to_version)
        case _:
            return consolidation


def start(
    consolidation: Consolidation, *, llm_session_id: str, last_version: int, at: datetime
) -> list[ConsolidationEvent]:
    """Begin the next generation of a stream that has come to `last_version`; nothing when one is under way or none is due."""
    match consolidation:
        case Consolidating():
            return []
        case Open(generations=generations, upto=upto):
            if last_version <= upto:
                return []
            return [
                LlmSessionConsolidationStarted(
                    llm_session_id=llm_session_id,
                    generation=generations + 1,
                    after_version=upto,
                    to_version=min(last_version, upto + ITEMS_MAX),
                    started_at=at,
                )
            ]


def complete(
    consolidation: Consolidation,
    *,
    llm_session_id: str,
    generation: int,
    from_position: int,
    to_position: int,
    objects: list[ConsolidatedObject],
    at: datetime,
) -> list[ConsolidationEvent]:
    """The generation's objects are stored.  Completing it twice changes nothing.

    Raises:
        NotConsolidatingError: this generation is not the one under way.
    """
    match consolidation:
        case Open(generations=generations) if generations >= generation:
            return []
        case Consolidating(generation=running, after=after, upto=upto) if running == generation:
            return [
                LlmSessionConsolidated(
                    llm_session_id=llm_session_id,
                    generation=generation,
                    after_version=after,
                    to_version=upto,
                    from_position=from_position,
                    to_position=to_position,
                    items=sum(one.items for one in objects),
                    bytes=sum(one.bytes for one in objects),
                    objects=objects,
                    completed_at=at,
                )
            ]
        case _:
            raise NotConsolidatingError(f"generation {generation} of {llm_session_id} is not being consolidated")


def fail(
    consolidation: Consolidation, *, llm_session_id: str, generation: int, reason: str, at: datetime
) -> list[ConsolidationEvent]:
    """The generation could not be stored; it stays under way and is tried again later.  One that was completed stays so."""
    match consolidation:
        case Consolidating(generation=running, failures=failures) if running == generation:
            return [
                LlmSessionConsolidationFailed(
                    llm_session_id=llm_session_id,
                    generation=generation,
                    reason=reason,
                    failures=failures + 1,
                    failed_at=at,
                )
            ]
        case _:
            return []
