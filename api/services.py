"""What the process holds open while it serves: settings, database pool, store, key ring, NATS, counters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from litestar.connection import ASGIConnection

from projections import members, users
from projections.analytics.asking import SUBJECT
from projections.freshness import wait_for

if TYPE_CHECKING:
    from api.auth import Authenticator
    from api.bus import Bus
    from api.limits import RateLimiter
    from api.metrics import Metrics
    from api.people import People
    from api.streams import Hub
    from commands.signin.devices import Pace
    from commands.tokens import Tools
    from commands.users.passwords import Hashing
    from eventstore.database import Pool
    from eventstore.port import Recorded
    from eventstore.postgres import PostgresStore
    from eventstore.proof import Signer
    from eventstore.sealing import KeyRing
    from eventstore.settings import Settings


class Services:
    """Opened by the application's lifespan, reached through `services_of`."""

    __slots__ = (
        "analytics_subject",
        "auth",
        "bus",
        "hashing",
        "hub",
        "keyring",
        "limiter",
        "metrics",
        "notice",
        "pace",
        "people",
        "person_secret",
        "pool",
        "settings",
        "sign_in_limiter",
        "signer",
        "store",
        "tools",
    )

    def __init__(
        self,
        *,
        settings: Settings,
        pool: Pool,
        store: PostgresStore,
        keyring: KeyRing,
        bus: Bus,
        hub: Hub,
        auth: Authenticator,
        limiter: RateLimiter,
        metrics: Metrics,
        notice: Callable[[Recorded], dict[str, Any] | None],
        person_secret: bytes,
        people: People,
        sign_in_limiter: RateLimiter,
        tools: Tools,
        signer: Signer,
        hashing: Hashing,
        pace: Pace,
    ) -> None:
        """`notice` says what the sessions projection announces about an event; `person_secret` keys the ids of people;
        `tools` is what the commands of signing in work with.
        """
        self.settings = settings
        self.analytics_subject = SUBJECT
        self.pool = pool
        self.store = store
        self.keyring = keyring
        self.bus = bus
        self.hub = hub
        self.auth = auth
        self.limiter = limiter
        self.metrics = metrics
        self.notice = notice
        self.person_secret = person_secret
        self.people = people
        self.sign_in_limiter = sign_in_limiter
        self.tools = tools
        self.signer = signer
        self.hashing = hashing
        self.pace = pace

    async def settle_users(self, position: int | None) -> None:
        """Wait until the read model knows what happened to a user, then ask it again for everybody.

        Processes that this one does not reach ask again after a few seconds: the read model must know by then.
        """
        if position is not None:
            await wait_for(self.pool, users.PROJECTION.name, position, self.settings.read_after_wait_s)
        self.people.forget()

    async def settle_members(self, position: int | None) -> None:
        """The same for what happened to members of an organization."""
        if position is not None:
            await wait_for(self.pool, members.PROJECTION.name, position, self.settings.read_after_wait_s)
        self.people.forget()


def services_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """The services of the application that serves this request."""
    return cast("Services", connection.app.state.services)
