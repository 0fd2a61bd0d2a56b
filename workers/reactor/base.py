"""What a reaction is: which events cause it, what it does, how often it is tried.

A reaction is told of its event at least once and may be told again after a crash, so it makes its effect idempotent where
the other side allows it: an appended event gets an id derived from the causing event, a mail its Message-ID.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from domain.kernel import Event
from eventstore.database import Pool
from eventstore.port import Recorded
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing
from eventstore.settings import Settings

TRIES_MAX = 8
TIMEOUT_S = 60.0
DAY_S = 24 * 3600.0


class On(msgspec.Struct, frozen=True):
    """Events of this class; where `mark` is given, only those whose stored JSON contains it (compact, as msgspec writes)."""

    event: type[Event]
    mark: str = ""


class Done(msgspec.Struct, frozen=True):
    """The effect is there."""


class Skipped(msgspec.Struct, frozen=True):
    """Nothing had to be done; `reason` says why, and holds nothing personal."""

    reason: str


class Later(msgspec.Struct, frozen=True):
    """Not yet: come back in `after_s` seconds.  Does not count as a try; ends with the reaction's `valid_s`."""

    after_s: float


Result: TypeAlias = Done | Skipped | Later


class RetryError(Exception):
    """It did not work, and may work later; not before `after_s` seconds where the other side said so."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class GiveUpError(Exception):
    """It cannot work however often it is tried: a dead letter, for an operator to look at."""


class Tools(msgspec.Struct, frozen=True):
    """What reactions work with.  `pool` and `store` act as worker; `busy` names what a reaction has in hand, for those that
    must not meet.
    """

    settings: Settings
    pool: Pool
    store: PostgresStore
    ring: PostgresKeyRing
    busy: set[str]


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of effect.  `kind` is stored, so it stays; kinds of one `lane` share its `lane_max` places.

    `given_up` is told the reason before the last word is written down.  `enabled` looks at the settings: events that pass while it is off cause nothing, also later.  `delay_s` is the time
    between event and first try, `valid_s` the age of the event after which the effect is of no use.
    """

    kind: str
    lane: str
    on: tuple[On, ...]
    run: Callable[[Tools, Recorded], Awaitable[Result]]
    given_up: Callable[[Tools, Recorded, str], Awaitable[None]] | None = None
    enabled: Callable[[Settings], bool] = lambda _: True
    delay_s: Callable[[Settings], float] = lambda _: 0.0
    valid_s: float = DAY_S
    timeout_s: float = TIMEOUT_S
    tries_max: int = TRIES_MAX
    lane_max: int = 4
