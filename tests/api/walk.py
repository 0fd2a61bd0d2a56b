"""The walk: every route of an application, tried by everybody, against the table that says who may call it.

What must happen is said here a second time, in its own words and without the guard's code: a mistake in the guard is then a
difference, as is a mistake in the table of the running application.  The guard is watched, not replaced: right after it let
somebody in, the request ends with `PASSED`, so that no handler runs and nothing that the walk does changes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from litestar.enums import ScopeType
from litestar.exceptions import WebSocketException

import api.app
import api.auth
from api import hot, permissions
from api.errors import ApiError
from api.permissions import Access
from api.upgrade import REFUSED
from commands.bus import Principal, transact
from commands.members import remove_member
from commands.organizations import issue, new_key, revoke_key
from commands.tokens import Pair, revoke_family
from domain.kernel import PLATFORM
from domain.users import decide
from domain.users.state import NOBODY, evolve, user_stream
from eventstore.port import Meta
from tests.api.house import EVERY_SCOPE, House, knock
from tests.api.signing_in import bearer, join, signed_in

PASSED = 418  # an answer that nothing of ours gives: the guard let the request through
SOME_ID = "00000000-0000-4000-8000-000000000000"
FROM_MOST_TO_LEAST = ("owner", "admin", "manager", "developer", "viewer")
FROM_HIGH_TO_LOW = ("crewkit_owner", "crewkit_staff", "org_user")

Routes = Sequence[tuple[str, str]]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who tries.  `scopes` for keys, `rank` for users; with neither, nobody who could be let in anywhere.

    `at_home`: the key, or the membership, belongs to the organization that is named.
    """

    name: str
    headers: dict[str, str]
    scopes: frozenset[str] | None = None
    rank: str | None = None
    permission: str | None = None
    at_home: bool = False


class Walk(msgspec.Struct, kw_only=True):
    """What came of it."""

    routes: int
    identities: int
    tried: int = 0
    surprises: list[str] = []

    def __str__(self) -> str:
        return (
            f"{self.routes} routes × {self.identities} identities = {self.tried} tries, {len(self.surprises)} surprises"
        )


def watch(monkeypatch: Any) -> None:
    """From now on, applications end a request with `PASSED` as soon as the guard has let it in."""

    async def watched(connection: Any, handler: Any) -> None:
        await api.auth.guard(connection, handler)
        if connection.scope["type"] == ScopeType.WEBSOCKET:
            raise WebSocketException(code=REFUSED + PASSED, detail="passed")
        raise ApiError(PASSED, "passed")

    async def watched_fast_lane(connection: Any) -> None:
        await api.auth.admit(connection)
        raise ApiError(PASSED, "passed")

    monkeypatch.setattr(api.app, "guard", watched)
    monkeypatch.setattr(hot, "admit", watched_fast_lane)


def filled(template: str, organization: str) -> str:
    """A concrete URL for a route's template."""
    parts = [
        organization if part == "{organization_id}" else SOME_ID if part.startswith("{") else part
        for part in template.split("/")
    ]
    return "/".join(parts)


def must(who: Identity, access: Access) -> int:  # noqa: PLR0911  one return per sentence of the rule
    """What has to happen to somebody who names our organization, in the path or in `X-Organization`."""
    if not (access.scopes or access.permission or access.platform or access.user):
        return PASSED
    if who.scopes is not None:
        if not who.at_home:
            return 404
        return PASSED if who.scopes & access.scopes else 403
    if who.rank is None:
        return 401
    if access.platform and FROM_HIGH_TO_LOW.index(who.rank) <= FROM_HIGH_TO_LOW.index(access.platform):
        return PASSED
    if access.permission:
        if who.permission is None:
            return 404
        able = FROM_MOST_TO_LEAST.index(who.permission) <= FROM_MOST_TO_LEAST.index(access.permission)
        return PASSED if able else 403
    return PASSED if access.user and not access.platform else 403


async def walk(
    client: Any,
    app: Any,
    house: House,
    people: Sequence[Identity],
    table: dict[tuple[str, str], Access],
    routes: Routes | None = None,
) -> Walk:
    """Try `routes` (else every route of the running application) as each of `people`, and compare with `table`."""
    served = permissions.operations(app.routes)
    chosen = served if routes is None else routes
    done = Walk(routes=len(chosen), identities=len(people))
    done.surprises += [f"{method} {path} has no entry" for method, path in served if (method, path) not in table]
    done.surprises += [f"{method} {path} is not served" for method, path in sorted(set(table) - set(served))]
    for method, template in chosen:
        access = table.get((method, template), Access(frozenset({"nobody"})))
        path = filled(template, house.ours.slug)
        for who in people:
            headers = dict(who.headers)
            if "{organization_id}" not in template:
                headers["X-Organization"] = house.ours.slug
            if method == "WS":
                status = knock(client, path, headers)
            else:
                status = (await client.request(method, path, headers=headers)).status_code
            done.tried += 1
            if status != (expected := must(who, access)):
                done.surprises.append(f"{who.name}: {method} {template}: {status}, not {expected}")
    return done


async def everybody(house: House) -> list[Identity]:
    """Whoever can knock: without a name, with papers that do not work, from elsewhere, and with each right there is."""
    ours, theirs = house.ours, house.theirs
    found = [
        Identity(name="nobody", headers={}),
        Identity(name="a malformed key", headers={"X-API-Key": "ck_bad"}),
        Identity(name="an unknown key", headers={"X-API-Key": new_key(uuid4())}),
        *await _ended_keys(house),
        Identity(name="a key of elsewhere", headers=theirs.headers("all"), scopes=frozenset(EVERY_SCOPE)),
    ]
    for name, scopes in (*((scope, {scope}) for scope in EVERY_SCOPE), ("all", EVERY_SCOPE)):
        found.append(
            Identity(name=f"a key of scope {name}", headers=ours.headers(name), scopes=frozenset(scopes), at_home=True)
        )
    stranger = await signed_in(house)
    await join(house, theirs, stranger.user_id, "owner")
    found.append(_user("the owner of elsewhere", stranger))
    for permission in FROM_MOST_TO_LEAST:
        pair = await signed_in(house)
        await join(house, ours, pair.user_id, permission)
        found.append(_user(f"a member: {permission}", pair, permission=permission))
    found += [_user("a user of nowhere", await signed_in(house)), await _former_member(house)]
    for rank in ("crewkit_staff", "crewkit_owner"):
        found.append(_user(f"a stranger: {rank}", await signed_in(house, platform_role=rank), rank=rank))
    both = await signed_in(house, platform_role="crewkit_staff")
    await join(house, ours, both.user_id, "viewer")
    found.append(_user("a viewer who is staff", both, rank="crewkit_staff", permission="viewer"))
    found += await _ended_logins(house)
    await house.project()
    return found


def _user(name: str, pair: Pair, *, rank: str = "org_user", permission: str | None = None) -> Identity:
    return Identity(name=name, headers=bearer(pair), rank=rank, permission=permission, at_home=permission is not None)


async def _ended_keys(house: House) -> Iterable[Identity]:
    ours = house.ours
    revoked = await issue(house.store, ours.org_id, ours.owner_id, "revoked", EVERY_SCOPE)
    await revoke_key(house.store, ours.org_id, revoked.key_id)
    soon = datetime.now(UTC) + timedelta(seconds=1)  # a busy machine takes a while until the key is issued
    expired = await issue(house.store, ours.org_id, ours.owner_id, "expired", EVERY_SCOPE, expires_at=soon)
    while datetime.now(UTC) < soon:
        pass
    return (
        Identity(name="a revoked key", headers={"X-API-Key": revoked.key}),
        Identity(name="an expired key", headers={"X-API-Key": expired.key}),
    )


async def _former_member(house: House) -> Identity:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "admin")
    by = Principal(actor="system:test", org_id=house.ours.org_id, person_id=pair.user_id, scopes=frozenset())
    await remove_member(house.store, by, pair.user_id)
    return _user("a former admin", pair)


async def _ended_logins(house: House) -> list[Identity]:
    """Owners of our organization, all of them, whose access tokens must not work (any more)."""
    pairs = {name: await signed_in(house) for name in ("expired", "forged", "logged out", "disabled")}
    for pair in pairs.values():
        await join(house, house.ours, pair.user_id, "owner")
    signer = await house.tools.tokens.keys.signer()
    claims = {name: jwt.decode(pair.access_token, options={"verify_signature": False}) for name, pair in pairs.items()}
    past = int(datetime.now(UTC).timestamp()) - 1
    expired = jwt.encode(
        {**claims["expired"], "exp": past}, signer.private_key, algorithm="EdDSA", headers={"kid": signer.kid}
    )
    forged = jwt.encode(claims["forged"], Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": signer.kid})
    await revoke_family(house.tools, pairs["logged out"].family_id, reason="logout", meta=Meta())
    disabled = pairs["disabled"].user_id
    await transact(
        house.store,
        PLATFORM,
        user_stream(disabled),
        evolve,
        NOBODY,
        lambda state: decide.disable(state, at=datetime.now(UTC)),
        meta=Meta(),
    )
    tokens = {
        "an expired token": expired,
        "a forged token": forged,
        "a token of a login that ended": pairs["logged out"].access_token,
        "a disabled owner": pairs["disabled"].access_token,
    }
    return [Identity(name=name, headers={"Authorization": f"Bearer {text}"}) for name, text in tokens.items()]
