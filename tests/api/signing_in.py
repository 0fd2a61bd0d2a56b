"""Users of the API tests: registered and signed in by the same commands that the routes use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
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


async def signed_in(house: House, *, platform_role: str = "org_user", email: str | None = None) -> Pair:
    """A new user with a login that just began, and an address that nobody verified."""
    tools, user_id = house.tools, uuid4()
    at = datetime.now(UTC)
    registered = UserRegistered(
        user_id=user_id,
        email=Sealed(user_id, email or f"{user_id.hex}@example.com"),
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
        tools,
        user_id,
        uuid4(),
        method="password",
        platform_role=platform_role,
        at=at,
        meta=Meta(actor=f"user:{user_id}"),
    )


def bearer(pair: Pair, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair.access_token}", **more}


AGENT = {"User-Agent": "test browser 1"}
PASSWORD = "correct horse battery staple"


async def told_in(house: House, kind: str, field: str = "token") -> str:
    """What the newest event of that type tells its mail: the sealed `field`, opened."""
    (newest,) = await house.store.find(PLATFORM, type=kind, newest_first=True, limit=1)
    (text,) = await house.ring.open_many(PLATFORM, [(newest.type, getattr(newest.event, field))])
    assert text is not None
    return text


async def registered(http: Any, house: House, email: str, *, verified: bool = True) -> None:
    """An account with `PASSWORD`, as people get one."""
    answer = await http.post(
        "/api/v1/auth/register", json={"email": email, "password": PASSWORD, "name": "Ada"}, headers=AGENT
    )
    assert answer.status_code == 202, answer.text
    if verified:
        token = await told_in(house, "user.registered.v1")
        verified_answer = await http.post("/api/v1/auth/email/verify", json={"token": token})
        assert verified_answer.status_code == 200, verified_answer.text
    await house.project()


async def logged_in(http: Any, email: str, password: str = PASSWORD, **headers: str) -> dict[str, Any]:
    """The pair that a password brings."""
    answer = await http.post("/api/v1/auth/login", json={"email": email, "password": password}, headers=AGENT | headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def carrying(pair: dict[str, Any]) -> dict[str, str]:
    """The header of a pair from an answer."""
    return {"Authorization": f"Bearer {pair['access_token']}", **AGENT}
