"""Users and signing keys, as operators and the schedule work on them: directly on the database."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from commands.bus import Principal
from commands.members import add_member
from commands.organizations import SLUG_CLAIM
from commands.signin import devices
from commands.tokens import AccessTokens, SigningKeys, Tools, make_signing_key, withdraw_signing_key
from commands.users import accounts
from commands.users.passwords import Hashing
from domain.kernel import NotFoundError
from domain.tokens.decide import KEY_LIFE, SigningKey
from eventstore.database import WORKER_ROLE, Pool, connect_pool
from eventstore.mapper import Mapper
from eventstore.port import EventStore
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing, person_secret
from eventstore.settings import Settings, public_url
from projections.users.queries import due_devices
from workers.keys import master_key

OWNER = "owner"
PLATFORM_OWNER = "crewkit_owner"
NOBODY = UUID(int=0)
DEVICES_BATCH_MAX = 200


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A user that an operator made."""

    user_id: UUID
    organization_id: UUID | None


def tools_of(settings: Settings, store: PostgresStore) -> Tools:
    """What the commands of signing in work with, in a process that is not the API."""
    ring = store.mapper.ring
    tokens = AccessTokens(SigningKeys(store, ring), public_url(settings))
    return Tools(store, ring, person_secret(master_key(settings)), tokens)


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[tuple[Pool, Tools]]:
    """A pool and the tools, for one command."""
    url = settings.database_url or ""
    pool = await connect_pool(url, WORKER_ROLE, max_size=2)
    try:
        mapper = Mapper(PostgresKeyRing(pool, master_key(settings)))
        store = PostgresStore(url, mapper, role=WORKER_ROLE, pool=pool)
        await store.start()
        try:
            yield pool, tools_of(settings, store)
        finally:
            await store.close()
    finally:
        await pool.close()


async def create_user(
    settings: Settings, *, email: str, name: str | None, password: str | None, owner_of: str | None
) -> Made:
    """Open an account whose address counts as verified.

    `owner_of` is the slug of an organization that the user owns from now on; the user then also owns the installation.

    Raises:
        InvalidFieldError: address, name or password cannot be accepted.
        NameTakenError: the address has an account.
        NotFoundError: there is no such organization.
    """
    async with opened(settings) as (pool, tools):
        org_id = None if owner_of is None else await _organization(pool, owner_of)
        user_id = await accounts.create(
            tools,
            Hashing(),
            email=email,
            password=password,
            name=name,
            platform_role=PLATFORM_OWNER if org_id else "org_user",
        )
        if org_id is not None:
            operator = Principal(actor="system:operator", org_id=org_id, person_id=NOBODY, scopes=frozenset())
            await add_member(tools.store, operator, user_id, permission=OWNER, email=email, name=name)
        return Made(user_id=user_id, organization_id=org_id)


async def _organization(pool: Pool, slug: str) -> UUID:
    found: UUID | None = await pool.fetchval(
        "SELECT org_id FROM crewkit.claim WHERE scope = $1 AND key = $2", SLUG_CLAIM, slug
    )
    if found is None:
        raise NotFoundError(f"there is no organization {slug!r}")
    return found


async def rotate_signing_keys(store: EventStore) -> int:
    """Make the next key when the newest is old; how many were made."""
    kid = await make_signing_key(store, older_than=datetime.now(UTC) - KEY_LIFE)
    return int(kid is not None)


async def expire_devices(settings: Settings, pool: Pool, store: PostgresStore) -> int:
    """Give up on device authorizations that nobody decided about or fetched; their user codes become free."""
    async with pool.acquire() as connection:
        if await connection.fetchval("SELECT to_regclass('crewkit.device_authorization')") is None:
            return 0  # no projector has run yet
    due = await due_devices(pool, DEVICES_BATCH_MAX)
    if not due:
        return 0
    tools = tools_of(settings, store)
    return sum([await devices.expire(tools, device_id) for device_id in due])


async def signing_keys_of(settings: Settings) -> list[SigningKey]:
    """The keys whose signatures count, oldest first."""
    async with opened(settings) as (_, tools):
        return await tools.tokens.keys.trusted()


async def rotate_now(settings: Settings) -> str | None:
    """Make the next key, whatever the age of the newest; its id, or None where one was made a moment ago."""
    async with opened(settings) as (_, tools):
        return await make_signing_key(tools.store)


async def withdraw(settings: Settings, kid: str) -> bool:
    """Stop believing a key; whether there was such a key."""
    async with opened(settings) as (_, tools):
        return await withdraw_signing_key(tools.store, kid)
