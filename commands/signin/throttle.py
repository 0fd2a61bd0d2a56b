"""Count tries in the log, so that the brake holds across processes and restarts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from domain.kernel import PLATFORM, Event
from domain.signin import throttle
from eventstore.port import Append, EventStore, Meta, NewEvent, Status

NEWEST_EVENTS = 20  # more than tries in a window
TRIES_MAX = 10
_META = Meta(actor="system:sign-in")


async def attempt(store: EventStore, purpose: str, account: str) -> None:
    """Count one try for `account` (a keyed hash of an address).

    Raises:
        TooManyAttemptsError: wait.
    """
    await _append(
        store, purpose, account, lambda newest, at: throttle.attempt(newest, account=account, purpose=purpose, at=at)
    )


async def clear(store: EventStore, purpose: str, account: str) -> None:
    """Forget earlier tries: the right one came."""
    await _append(
        store, purpose, account, lambda newest, at: throttle.clear(newest, account=account, purpose=purpose, at=at)
    )


async def _append(
    store: EventStore, purpose: str, account: str, decide: Callable[[Sequence[Event], datetime], Sequence[Event]]
) -> None:
    stream = throttle.throttle_stream(purpose, account)
    for _ in range(TRIES_MAX):
        newest = await store.read_stream(PLATFORM, stream, limit=NEWEST_EVENTS, newest_first=True)
        events = decide([recorded.event for recorded in newest], datetime.now(UTC))
        if not events:
            return
        version = newest[0].version if newest else 0
        wish = Append(
            org_id=PLATFORM, stream=stream, events=[NewEvent(event) for event in events], expected=version, meta=_META
        )
        if (await store.append(wish)).status is Status.OK:
            return
    raise throttle.TooManyAttemptsError("too many tries at once; wait", retry_after_s=1)
