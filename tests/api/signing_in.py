"""Users of the API tests: registered and signed in by the same commands that the routes use."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from commands.bus import Principal, transact
from commands.members import add_member, change_member
from commands.tokens import Pair, open_login
from domain.kernel import PLATFORM, Sealed
from domain.users import decide
from domain.users.events import UserRegistered
from domain.users.state import NOBODY, evolve, user_stream
from eventstore.port import Meta
from tests.api.house import House, Place


async def join(house: House, place: Place, user_id: UUID, permission: str) -> None:
    """Make the user a member, folded into the read models."""
    principal = Principal(actor="system:test", org_id=place.org_id, person_id=user_id, scopes=frozenset())
    if await add_member(house.store, principal, user_id, permission=permission) is None:
        await change_member(house.store, principal, user_id, permission=permission)
    await house.project()


async def signed_in(house: House, *, platform_role: str = "org_user") -> Pair:
    """A new user with a login that just began."""
    tools, user_id = house.tools, uuid4()
    at = datetime.now(UTC)
    registered = UserRegistered(
        user_id=user_id,
        email=Sealed(user_id, f"{user_id.hex}@example.com"),
        email_key=user_id.hex,
        platform_role=platform_role,
        registered_at=at,
    )
    await transact(
        tools.store,
        PLATFORM,
        user_stream(user_id),
        evolve,
        NOBODY,
        lambda state: decide.register(state, registered),
        meta=Meta(),
    )
    return await open_login(
        tools, user_id, uuid4(), method="password", platform_role=platform_role, meta=Meta(actor=f"user:{user_id}")
    )


def bearer(pair: Pair, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair.access_token}", **more}
